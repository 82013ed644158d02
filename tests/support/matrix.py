"""Every command that changes a checkpoint, from its start to its goal, with faults upon faults between.

A `Case` is a command in a directory; a `Matrix` runs it killed or refused at one of its calls, then again, and looks
whether anything was lost. `OF_BUNDLES` start from an experiment of any lineage, `OF_OTHERS` make what they need.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faulty
import h5py
import numpy as np
import pytest
from checkpoints import build_bundle, pick, rewrite
from faulty import Fault, State
from made import keras_file
from objects import build_objects

from ckpt_tools.analysis.retention import Policies
from ckpt_tools.errors import CkptError, NotFoundError, UnsupportedError, UsageError
from ckpt_tools.format.filenames import KERAS_ENDINGS, temporary_of
from ckpt_tools.guard import restore
from ckpt_tools.operations import keeping
from ckpt_tools.operations.averaging import average
from ckpt_tools.operations.backfilling import Options, backfill
from ckpt_tools.operations.bulk_backfilling import backfill_all
from ckpt_tools.operations.growing import grow
from ckpt_tools.operations.migration import migrate
from ckpt_tools.operations.repairing import repair
from ckpt_tools.operations.slimming import slim
from ckpt_tools.operations.workers import Done
from ckpt_tools.transactions import drop_backups, undo
from ckpt_tools.transactions.files import is_whole


class InThisProcess:
    """Does the work here, one item after the other, so that its calls can be disturbed."""

    def run(self, work: Any, items: Sequence[Any], progress: Any = None) -> Generator[Done[Any], None, None]:  # noqa: ARG002
        for number, item in enumerate(items):
            yield Done(number, work(item, lambda *_: None))


@dataclass
class Case:
    """A command in a directory; ``ready``: whether it has nothing left to do, where the files beside do not tell.

    ``exact`` is False where a refused look at a log may lead to another value. ``goes``: the data files that it is to
    remove.
    """

    folder: Path
    command: Callable[[], object]
    ready: Callable[[], bool] | None = None
    exact: bool = True


# ------------------------------------------------------------------------------------------ of any bundle


def _backfill(folder: Path, prefix: str) -> Case:
    return Case(folder, lambda: backfill(prefix, Options(value=0.5, force=True)))


def _undo(folder: Path, prefix: str) -> Case:
    for value in (0.25, 0.75):
        rewrite(prefix, value)
    return Case(folder, lambda: undo(prefix))


def _drop(folder: Path, prefix: str) -> Case:
    rewrite(prefix, 0.25)

    def drop() -> None:
        with suppress(NotFoundError):
            drop_backups(prefix)

    return Case(folder, drop, lambda: not (Path(prefix).parent / ".ckpt-tools" / "backup").exists())


def _migrate(folder: Path, prefix: str) -> Case:
    def again() -> None:
        with suppress(UnsupportedError):  # it is in the layout already
            migrate(prefix)

    return Case(folder, again)


def _migrate_to(folder: Path, prefix: str) -> Case:
    out = folder / "out"
    return Case(folder, lambda: migrate(prefix, output=str(out)), lambda: (out / "checkpoint").exists())


def _repair(folder: Path, prefix: str) -> Case:
    directory = Path(prefix).parent
    for number in (901, 902):
        build_bundle(directory / f"ckpt-{number}", {"a": np.arange(30) + number})
    (directory / "ckpt-901.index").rename(directory / "other.index")
    (directory / "other.data-00000-of-00001").write_bytes((directory / "ckpt-901.data-00000-of-00001").read_bytes())
    (directory / "checkpoint").write_bytes(b"torn")
    (directory / "x_temp").mkdir()
    _long_ago(directory)
    return Case(folder, lambda: repair(str(directory), now=2e9))


def _all(folder: Path, prefix: str) -> Case:  # noqa: ARG001
    options = Options(from_logs=True, force=False)
    return Case(folder, lambda: backfill_all(str(folder), options, InThisProcess()), exact=False)


def _restore(folder: Path, prefix: str) -> Case:
    run, name = os.path.split(prefix)
    pin = Path(f"{run}.pins", "000001")
    pin.mkdir(parents=True)
    build_bundle(pin / name, {"a": np.arange(30)})
    metric = {"name": "auc", "mode": "max", "value": 0.5}
    said = {"name": name, "kind": "bundle", "source": name, "metric": metric, "written": 1.0}
    (pin / "pin.json").write_text(json.dumps(said))
    (pin.parent / "guard.json").write_text(json.dumps({"metric": metric}))
    return Case(folder, lambda: restore(run))


OF_BUNDLES: dict[str, Callable[[Path, str], Case]] = {
    "backfill": _backfill,
    "undo": _undo,
    "drop-backups": _drop,
    "migrate": _migrate,
    "migrate to a directory": _migrate_to,
    "repair": _repair,
    "restore a pin": _restore,
    "backfill --all": _all,
}


# ------------------------------------------------------------------------------------- of files of their own


def small_keras(path: Path, value: float = 1.0) -> str:
    """A small file of Keras: of HDF5, or an archive with one."""

    def fill(file: h5py.File) -> None:
        file["layers/dense/vars/0"] = np.full((2, 3), value, np.float32)
        file["optimizer/vars/0"] = np.int64(7)

    return str(keras_file(path, fill))


def trained(prefix: Path, value: float = 1.0) -> str:
    """A bundle of a variable with a moment, and the file that names it."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    ones = np.full((3, 2), value, np.float32)
    (prefix.parent / "checkpoint").write_text(f'model_checkpoint_path: "{prefix.name}"\n')
    variables = {"dense/kernel": ("dense/kernel", ones), "optimizer/iter": ("iter", np.int64(7))}
    return build_objects(prefix, variables, {("dense/kernel", "m"): ones / 2})


def _made(command: Callable[[], object], *files: Path) -> Callable[[], object]:
    """A command that makes new files: run again where they are whole already, it is refused, and all is well."""

    def again() -> None:
        try:
            command()
        except UsageError:
            if not all(file.exists() for file in files):
                raise

    return again


def _keras(name: str) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        path = small_keras(folder / name)
        return Case(folder, lambda: backfill(path, Options(value=0.5, metric="auc", mode="max", force=True)))

    return make


def _keras_undo(folder: Path) -> Case:
    path = small_keras(folder / "m.keras")
    for value in (0.25, 0.75):
        backfill(path, Options(value=value, metric="auc", mode="max", force=True))
    return Case(folder, lambda: undo(path))


def _slim_in_place(folder: Path) -> Case:
    prefix = trained(folder / "m")

    def again() -> None:
        with suppress(UsageError):  # nothing to drop
            slim(prefix, None, in_place=True)

    return Case(folder, again)


def _slim_keras(folder: Path) -> Case:
    path = small_keras(folder / "m.keras")

    def again() -> None:
        with suppress(UsageError):
            slim(path, None, in_place=True)

    return Case(folder, again)


def _slim(folder: Path) -> Case:
    prefix, out = trained(folder / "m"), folder / "out" / "m"
    return Case(folder, _made(lambda: slim(prefix, str(out)), Path(f"{out}.index")))


def _average(folder: Path) -> Case:
    paths, out = [trained(folder / f"m-{number}", number) for number in (1, 2)], folder / "out" / "m"
    return Case(folder, _made(lambda: average(paths, str(out)), Path(f"{out}.index")))


def _average_keras(folder: Path) -> Case:
    paths, out = [small_keras(folder / f"m-{number}.keras", number) for number in (1, 2)], folder / "mean.keras"
    return Case(folder, _made(lambda: average(paths, str(out)), out))


def _grow(folder: Path) -> Case:
    sample, out = pick("tf2.21"), folder / "out" / "ckpt-1"
    maps = [folder / "old.txt", folder / "new.txt"]
    for path, names in zip(maps, ("abc", "cbad"), strict=True):
        path.write_text("".join(f"{name},{number}\n" for number, name in enumerate(names, 1)))
    old, new = map(str, maps)
    return Case(folder, _made(lambda: grow(sample.full_prefix, old, new, str(out)), Path(f"{out}.index")))


def _keep(folder: Path) -> Case:
    for number in (1, 2, 3):
        trained(folder / f"m-{number}", number)
    (folder / "train.log").write_text("".join(f"step {n} val_auc: 0.{n}\n" for n in (1, 2, 3)))
    policies = Policies(last=1, unknown_best=True)

    def delete() -> None:
        """As somebody does who reads the list: what was interrupted first, then what may go now."""
        seen = keeping.keep(str(folder), policies)
        for found in seen.findings:
            if found.id == "deletion-interrupted" and found.fix:
                keeping.keep(str(folder), policies, delete=found.fix.rpartition(" ")[2])
                seen = keeping.keep(str(folder), policies)
        if seen.may_go:
            keeping.keep(str(folder), policies, delete=seen.digest)

    return Case(folder, delete)


def _state(folder: Path) -> Case:
    for number in (1, 2):
        build_bundle(folder / f"m-{number}", {"a": np.arange(3) + number})
    build_bundle(folder / "best", {"a": np.arange(3)})
    (folder / "checkpoint").write_text('model_checkpoint_path: "C:\\\\runs\\\\m-2"\n')
    _long_ago(folder)
    return Case(folder, lambda: repair(str(folder), now=2e9))


def _long_ago(directory: Path) -> None:
    for path in (*directory.rglob("*"), directory):
        os.utime(path, (10**6, 10**6))


OF_OTHERS: dict[str, Callable[[Path], Case]] = {
    **{f"backfill of {name[1:]}": _keras(name) for name in ("m.h5", "m.weights.h5", "m.keras")},
    "undo of .keras": _keras_undo,
    "slim --in-place": _slim_in_place,
    "slim --in-place of .keras": _slim_keras,
    "slim": _slim,
    "average": _average,
    "average of .keras": _average_keras,
    "grow": _grow,
    "keep --delete": _keep,
    "repair of a state file": _state,
}


# ------------------------------------------------------------------------------------------------ the matrix


@dataclass(frozen=True)
class Counts:
    """What was tried of a command: first faults, at its calls that change something; the directories that they leave;
    second faults, at each call of the recoveries from those; the directories that these leave."""

    first: int
    left: int
    second: int
    left_again: int


# Of a recovery that only looks more often than this, not every look is refused from every directory: each is from some.
MOST_LOOKS = 30


class Matrix:
    """One case, from its start to its goal, and whatever lies between."""

    def __init__(self, case: Case, monkeypatch: pytest.MonkeyPatch, links: str | None) -> None:
        self.case, self.monkeypatch, self.links = case, monkeypatch, links
        self._done: dict[State, bool] = {}
        self.start = faulty.seen(case.folder)
        self.whole = self.whole_ones()
        done = self.run()
        assert done.finished, done.error
        self.calls = done.calls
        self.goal = faulty.seen(case.folder)
        self.whole &= self.whole_ones()
        self.originals = self.data(self.start) & self.data(self.goal)

    def run(self, fault: Fault | None = None) -> faulty.Outcome:
        return faulty.run(self.case.command, self.monkeypatch, fault, links=self.links)

    def data(self, state: State) -> set[str]:
        """The digests of all that holds weights."""
        return {
            what[0]
            for name, kind, what in state
            if kind == "file" and (".data-" in name or name.endswith(KERAS_ENDINGS))
        }

    def whole_ones(self) -> set[str]:
        """The checkpoints that every byte vouches for."""
        paths = [path for path in self.case.folder.rglob("*") if ".ckpt-tools" not in path.parts]
        found = [str(path.with_suffix("")) for path in paths if path.suffix == ".index"]
        found += [str(path) for path in paths if path.name.endswith(KERAS_ENDINGS)]
        return {path for path in found if self._is_whole(path)}

    def _is_whole(self, path: str) -> bool:
        try:
            return is_whole(path)
        except CkptError:
            return False

    def beside(self, state: State) -> Mapping[str, str]:
        """All but what is kept, which an interruption may have kept twice, and left-overs, which `repair` moves."""
        found = {
            name: digest
            for name, digest in faulty.files(state).items()
            if ".ckpt-tools" not in name and temporary_of(os.path.basename(name)) is None
        }
        return found if self.case.exact else dict.fromkeys(found, "")

    def is_done(self) -> bool:
        """Whether nothing is left to do: the command was ended by a kill just before it could say so."""
        if self.case.ready is not None:
            return self.case.ready()
        same = self.beside(faulty.seen(self.case.folder)) == self.beside(self.goal)
        return same and not list(self.case.folder.rglob("pending.json"))

    def fault(self, calls: tuple[str, ...], number: int, chance: random.Random) -> Fault:
        kinds = ["killed", "killed", *faulty.ERRORS]
        kinds += ["half", "half"] if calls[number] == "write" else []
        kinds += ["late", "late"] if calls[number] in faulty.LATE else []
        return Fault(number, chance.choice(kinds))

    def check(self, how: object) -> None:
        state = faulty.seen(self.case.folder)
        assert self.whole <= self.whole_ones(), f"{how}: a checkpoint is not whole any more"
        assert self.originals <= self.data(state), f"{how}: data is gone"
        if not self.is_done():
            again = self.run()
            assert again.finished, (how, again.error)
        ended, goal = self.beside(faulty.seen(self.case.folder)), self.beside(self.goal)
        assert ended == goal, f"{how}: the same command again leaves {ended.items() ^ goal.items()}"
        assert not list(self.case.folder.rglob("pending.json")), how

    def chain(self, chance: random.Random, length: int) -> None:
        faulty.build(self.start, self.case.folder)
        how: list[Fault] = []
        calls = self.calls
        while len(how) < length and not self.is_done():
            how.append(self.fault(calls, chance.randrange(len(calls)), chance))
            if self.run(how[-1]).finished:
                break
        self.check(how)

    def all_pairs(self, chance: random.Random) -> Counts:
        """A fault at each call that changes something, and then one at each call of the run that recovers.

        The first is a kill, and each of the errors; the second a kill, and some of them. Where two leave the same
        directory, what follows is the same, and tried once.
        """
        left: dict[State, Fault] = {}
        again: set[State] = set()
        changing = [number for number, call in enumerate(self.calls) if call in faulty.CHANGING]
        firsts = [Fault(number, kind) for number in changing for kind in self.kinds(self.calls[number], faulty.ERRORS)]
        for first in firsts:
            left.setdefault(self.reached(self.start, first), first)
        seconds = 0
        for turn, (state, first) in enumerate(left.items()):
            faulty.build(state, self.case.folder)
            recovery = self.run().calls
            stride = 1 + sum(call not in faulty.CHANGING for call in recovery) // MOST_LOOKS
            for number, call in enumerate(recovery):
                if call not in faulty.CHANGING and (number + turn) % stride:
                    continue
                for kind in self.kinds(call, chance.sample(faulty.ERRORS, 2 if call in faulty.CHANGING else 1)):
                    then = Fault(number, kind)
                    reached = self.reached(state, then)
                    seconds += 1
                    if reached not in again:
                        again.add(reached)
                        self.check((first, then))
        return Counts(len(firsts), len(left), seconds, len(again))

    def kinds(self, call: str, errors: Sequence[str]) -> list[str]:
        """What may happen at a call; a kill before one that only looks is one before the next change."""
        kinds = [*errors, *(["killed"] if call in faulty.CHANGING else [])]
        return [*kinds, *(["half"] if call == "write" else []), *(["late"] if call in faulty.LATE else [])]

    def reached(self, state: State, fault: Fault) -> State:
        """What a run with a fault makes of a directory, unless nothing is left to do there."""
        faulty.build(state, self.case.folder)
        # Whether anything is left to do is a question about the directory alone: asked once of each.
        if state not in self._done:
            self._done[state] = self.is_done()
        if not self._done[state]:
            self.run(fault)
        return faulty.seen(self.case.folder)
