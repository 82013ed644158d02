"""Faults upon faults, for every command that changes a checkpoint and every lineage: killed or refused at one of its
calls, then the recovery too, then again; with links and without. Each time nothing may be lost, every checkpoint that
was whole must be whole, and the same command, undisturbed, must end as if nothing had happened.

Three faults, chosen by chance (the same each time), run with the other tests; all pairs are slow.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faulty
import numpy as np
import pytest
from checkpoints import OF_EACH_LINEAGE, Sample, build_bundle, rewrite
from faulty import Fault, State

from ckpt_tools.errors import NotFoundError, UnsupportedError
from ckpt_tools.guard import restore
from ckpt_tools.operations.backfilling import Options, backfill
from ckpt_tools.operations.bulk_backfilling import backfill_all
from ckpt_tools.operations.migration import migrate
from ckpt_tools.operations.repairing import repair
from ckpt_tools.operations.workers import Done
from ckpt_tools.readers import Bundle
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

    ``exact`` is False where a refused look at a log may lead to another value.
    """

    folder: Path
    prefix: str
    command: Callable[[], object]
    ready: Callable[[], bool] | None = None
    exact: bool = True


def _backfill(folder: Path, prefix: str) -> Case:
    return Case(folder, prefix, lambda: backfill(prefix, Options(value=0.5, force=True)))


def _undo(folder: Path, prefix: str) -> Case:
    for value in (0.25, 0.75):
        rewrite(prefix, value)
    return Case(folder, prefix, lambda: undo(prefix))


def _drop(folder: Path, prefix: str) -> Case:
    rewrite(prefix, 0.25)

    def drop() -> None:
        with suppress(NotFoundError):
            drop_backups(prefix)

    return Case(folder, prefix, drop, lambda: not (Path(prefix).parent / ".ckpt-tools" / "backup").exists())


def _migrate(folder: Path, prefix: str) -> Case:
    def again() -> None:
        with suppress(UnsupportedError):  # it is in the layout already
            migrate(prefix)

    return Case(folder, prefix, again)


def _migrate_to(folder: Path, prefix: str) -> Case:
    out = folder / "out"
    return Case(folder, prefix, lambda: migrate(prefix, output=str(out)), lambda: (out / "checkpoint").exists())


def _repair(folder: Path, prefix: str) -> Case:
    directory = Path(prefix).parent
    for number in (901, 902):
        build_bundle(directory / f"ckpt-{number}", {"a": np.arange(30) + number})
    (directory / "ckpt-901.index").rename(directory / "other.index")
    (directory / "other.data-00000-of-00001").write_bytes((directory / "ckpt-901.data-00000-of-00001").read_bytes())
    (directory / "checkpoint").write_bytes(b"torn")
    (directory / "x_temp").mkdir()
    for path in (*directory.rglob("*"), directory):
        os.utime(path, (10**6, 10**6))
    return Case(folder, prefix, lambda: repair(str(directory), now=2e9))


def _all(folder: Path, prefix: str) -> Case:
    root = str(folder)
    options = Options(from_logs=True, force=False)
    return Case(folder, prefix, lambda: backfill_all(root, options, InThisProcess()), exact=False)


def _restore(folder: Path, prefix: str) -> Case:
    run, name = os.path.split(prefix)
    pin = Path(f"{run}.pins", "000001")
    pin.mkdir(parents=True)
    build_bundle(pin / name, {"a": np.arange(30)})
    metric = {"name": "auc", "mode": "max", "value": 0.5}
    said = {"name": name, "kind": "bundle", "source": name, "metric": metric, "written": 1.0}
    (pin / "pin.json").write_text(json.dumps(said))
    (pin.parent / "guard.json").write_text(json.dumps({"metric": metric}))
    return Case(folder, prefix, lambda: restore(run))


CASES: dict[str, Callable[[Path, str], Case]] = {
    "backfill": _backfill,
    "undo": _undo,
    "drop-backups": _drop,
    "migrate": _migrate,
    "migrate to a directory": _migrate_to,
    "repair": _repair,
    "restore a pin": _restore,
    "backfill --all": _all,
}


class Matrix:
    """One case, from its start to its goal, and whatever lies between."""

    def __init__(self, case: Case, monkeypatch: pytest.MonkeyPatch, links: str | None) -> None:
        self.case, self.monkeypatch, self.links = case, monkeypatch, links
        self.start = faulty.seen(case.folder)
        self.whole = self.whole_ones()
        done = self.run()
        assert done.finished, done.error
        self.calls = done.calls
        self.goal = faulty.seen(case.folder)
        self.originals = faulty.held(self.start, ending=".data-") & faulty.held(self.goal, ending=".data-")

    def run(self, fault: Fault | None = None) -> faulty.Outcome:
        return faulty.run(self.case.command, self.monkeypatch, fault, links=self.links)

    def whole_ones(self) -> set[str]:
        """The checkpoints that every byte vouches for."""
        found = [path.with_suffix("") for path in self.case.folder.rglob("*.index") if ".ckpt-tools" not in path.parts]
        return {str(prefix) for prefix in found if is_whole(str(prefix))}

    def beside(self, state: State) -> dict[str, str]:
        """All but what is kept: what was interrupted may have kept something twice."""
        found = {name: digest for name, digest in faulty.files(state).items() if ".ckpt-tools" not in name}
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
        assert self.originals <= faulty.held(state, ending=".data-"), f"{how}: data is gone"
        if not self.is_done():
            again = self.run()
            assert again.finished, (how, again.error)
        assert self.beside(faulty.seen(self.case.folder)) == self.beside(self.goal), f"{how}: the same command again"
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


@pytest.fixture
def place(sample: Sample, copy: Callable[..., Path]) -> tuple[Path, str]:
    """A copy of an experiment, with its logs, in a directory of its own."""
    prefix = sample.prefix_in(copy(sample))
    root = next(parent for parent in Path(prefix).parents if parent.name == "root")
    with Bundle(prefix):
        return root, prefix


@pytest.mark.parametrize("sample", OF_EACH_LINEAGE, ids=lambda sample: sample.id)
@pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())
def test_three_faults_one_after_the_other(
    place: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, make: Callable[[Path, str], Case], sample: Sample
) -> None:
    chance = random.Random(f"{make.__name__} {sample.id}")
    links = chance.choice([None, None, "EPERM", "EXDEV", "EMLINK"])
    matrix = Matrix(make(*place), monkeypatch, links)
    for _ in range(3):
        matrix.chain(chance, 3)


@pytest.mark.slow
@pytest.mark.parametrize("links", [None, "EPERM"])
@pytest.mark.parametrize("sample", OF_EACH_LINEAGE[:1], ids=lambda sample: sample.id)
@pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())
def test_all_pairs(
    place: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, make: Callable[[Path, str], Case], links: str | None
) -> None:
    """A fault at each call that changes something, and then one at each call of the run that recovers."""
    chance = random.Random(make.__name__)
    matrix = Matrix(make(*place), monkeypatch, links)
    for number, call in enumerate(matrix.calls):
        if call not in faulty.CHANGING:
            continue
        faulty.build(matrix.start, matrix.case.folder)
        first = matrix.fault(matrix.calls, number, chance)
        matrix.run(first)
        state = faulty.seen(matrix.case.folder)
        recovery = matrix.run().calls
        for second in range(len(recovery)):
            faulty.build(state, matrix.case.folder)
            then = matrix.fault(recovery, second, chance)
            if not matrix.is_done():
                matrix.run(then)
            matrix.check((first, then))
    shutil.rmtree(matrix.case.folder)
