"""Power loss: what was not synced may be lost, in any order.

Every call that changes the file system is recorded. At each point between two of them the power may fail; then of the
calls that no sync has made durable any may be missing, also an earlier one while a later one is there, and a file that
was not synced may be empty or half. The states are built on disk; each must be the old or the new checkpoint, whole,
and the same command again must end as an undisturbed one does.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rewrite_worker
from checkpoints import build_bundle, digests, pick, rewrite, stored_best

from ckpt_tools.errors import CkptError
from ckpt_tools.readers import Bundle
from ckpt_tools.repair import repair

OLD, NEW = 0.25, 0.5
SAMPLES = 12


@dataclass(frozen=True)
class Call:
    """A change: ``kind``, the name it makes or takes away, and the one it comes from; ``data`` of a write."""

    kind: str
    path: str
    source: str = ""
    data: bytes = b""
    size: int = 0


class Recorder:
    """Stands before the functions of ``os`` and keeps what they did below a directory."""

    def __init__(self, root: Path) -> None:
        self.calls: list[Call] = []
        self._root = str(root)
        self._open: dict[int, str] = {}
        self._originals = {
            name: getattr(os, name)
            for name in ("open", "write", "fsync", "link", "replace", "unlink", "mkdir", "rmdir", "ftruncate")
        }

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name, original in self._originals.items():
            patch.setattr(os, name, self._wrap(name, original))

    def _wrap(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            before = isinstance(arguments[0], (str, os.PathLike)) and os.path.lexists(arguments[0])
            result = original(*arguments, **options)
            self._record(name, arguments, result, before)
            return result

        return call

    def _record(self, name: str, arguments: tuple[Any, ...], result: Any, existed: bool) -> None:
        first = arguments[0]
        if name == "open":
            path = os.path.abspath(os.fspath(first))
            self._open[result] = path
            if arguments[1] & os.O_CREAT and not existed:
                self._add(Call("create", path))
        elif name in ("write", "fsync", "ftruncate"):
            path = self._open.get(first, "")
            if name == "fsync":
                self._add(Call("sync", path))
            elif name == "write":
                self._add(Call("write", path, data=bytes(arguments[1])[:result]))
            else:
                self._add(Call("truncate", path, size=arguments[1]))
        elif name in ("link", "replace"):
            self._add(Call(name, os.path.abspath(arguments[1]), os.path.abspath(first)))
        else:
            self._add(Call(name, os.path.abspath(first)))

    def _add(self, call: Call) -> None:
        if call.path.startswith(self._root):
            self.calls.append(call)


def durable(calls: list[Call], number: int) -> bool:
    """Whether a later sync made a call certain: of the file for its bytes, of the directories for its names."""
    call = calls[number]
    later = {other.path for other in calls[number + 1 :] if other.kind == "sync"}
    if call.kind in ("write", "truncate"):
        return call.path in later
    names = (call.path, call.source) if call.kind == "replace" else (call.path,)
    return {os.path.dirname(path) for path in names} <= later


def states(calls: list[Call], chance: random.Random) -> Iterator[list[Call]]:
    """What may have happened when the power fails after these calls: all, only what is certain, and mixtures."""
    certain = [number for number in range(len(calls)) if calls[number].kind == "sync" or durable(calls, number)]
    open_ones = [number for number in range(len(calls)) if number not in set(certain)]
    chosen: list[set[int]] = [set(open_ones), set()]
    for number in open_ones:  # each one alone lost, and each one alone kept
        chosen += [set(open_ones) - {number}, {number}]
    chosen += [{number for number in open_ones if chance.random() < 0.5} for _ in range(SAMPLES)]
    seen = set()
    for kept in chosen:
        numbers = tuple(sorted({*certain, *kept}))
        if numbers not in seen:
            seen.add(numbers)
            yield [calls[number] for number in numbers]


def build(calls: list[Call], before: Path, work: Path, root: Path) -> None:
    """The directory after these calls and no others."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(before, work, copy_function=shutil.copy2)

    def place(path: str) -> str:
        return str(work) + path.removeprefix(str(root))

    for call in calls:
        path, source = place(call.path), place(call.source)
        if not os.path.isdir(os.path.dirname(path)):
            continue  # the directory itself was lost
        if call.kind == "create":
            Path(path).touch()
        elif call.kind == "mkdir":
            os.makedirs(path, exist_ok=True)
        elif call.kind == "write" and os.path.exists(path):
            with open(path, "ab") as file:
                file.write(call.data)
        elif call.kind == "truncate" and os.path.exists(path):
            os.truncate(path, call.size)
        elif call.kind == "link" and os.path.exists(source) and not os.path.lexists(path):
            os.link(source, path)
        elif call.kind == "replace" and os.path.lexists(source):
            move(source, path)
        elif call.kind == "unlink" and os.path.lexists(path):
            os.unlink(path)
        elif call.kind == "rmdir" and os.path.isdir(path) and not os.listdir(path):
            os.rmdir(path)


def move(source: str, path: str) -> None:
    """As rename does, but that two names of one file become one."""
    if os.path.lexists(path) and os.path.samefile(source, path):
        os.unlink(source)
    else:
        os.replace(source, path)


def check(
    tmp_path: Path,
    work_on: Callable[[Path], object],
    examine: Callable[[Path, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Counter[str]:
    """Run ``work_on`` once, then look with ``examine`` at every state that a power loss could have left."""
    root, before, work = tmp_path / "root", tmp_path / "before", tmp_path / "work"
    shutil.copytree(root, before, copy_function=shutil.copy2)
    recorder = Recorder(root)
    with monkeypatch.context() as patch:
        recorder.install(patch)
        work_on(root)
    assert len(recorder.calls) > 15
    chance = random.Random(11)
    outcomes: Counter[str] = Counter()
    for end in range(len(recorder.calls) + 1):
        for state in states(recorder.calls[:end], chance):
            build(state, before, work, root)
            outcomes[examine(work, f"after {end} of {len(recorder.calls)} calls: {recorder.calls[:end][-3:]}")] += 1
    return outcomes


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    (tmp_path / "root").mkdir()
    made = build_bundle(tmp_path / "root" / "x", {"a": np.arange(3), "b": np.arange(500.0)})
    rewrite(made, OLD)
    return made


def test_a_rewrite(tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = digests(prefix)

    def examine(work: Path, where: str) -> str:
        found = stored_best(str(work / "x"))
        assert found in (OLD, NEW), where
        assert digests(str(work / "x")) == kept, where
        assert rewrite_worker.main("rewrite", str(work / "x"), str(NEW)) == 0, where
        assert stored_best(str(work / "x")) == NEW, where
        assert not (work / ".ckpt-tools" / "pending.json").exists(), where
        return str(found)

    outcomes = check(tmp_path, lambda root: rewrite(str(root / "x"), NEW), examine, monkeypatch)
    assert set(outcomes) == {str(OLD), str(NEW)}
    assert sum(outcomes.values()) > 100


def test_an_undo(tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(prefix, NEW)

    def examine(work: Path, where: str) -> str:
        found = stored_best(str(work / "x"))
        assert found in (OLD, NEW), where
        rewrite_worker.recover(str(work / "x"))
        assert stored_best(str(work / "x")) == found, where
        if found == NEW:
            assert rewrite_worker.main("undo", str(work / "x")) == 0, where
        assert stored_best(str(work / "x")) == OLD, where
        return str(found)

    outcomes = check(tmp_path, lambda root: rewrite_worker.undo(str(root / "x")), examine, monkeypatch)
    assert set(outcomes) == {str(OLD), str(NEW)}


@pytest.mark.parametrize("elsewhere", [False, True], ids=["in place", "to another directory"])
def test_a_migration(
    tmp_path: Path, copy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    sample = pick("tf2.10")
    source = os.path.relpath(sample.prefix_in(copy(sample, logs=False)), tmp_path / "root")
    target = "out/ckpt-1" if elsewhere else source

    def migrated(root: Path) -> None:
        command = ["migrate", str(root / source), *([str(root / "out")] if elsewhere else [])]
        assert rewrite_worker.main(*command) == 0

    trial = tmp_path / "trial"
    shutil.copytree(tmp_path / "root", trial)
    old = digests(str(trial / source))
    migrated(trial)
    new = digests(str(trial / target))

    def examine(work: Path, where: str) -> str:
        if elsewhere:
            assert digests(str(work / source)) == old, where
        made = (work / f"{target}.index").exists()
        found = digests(str(work / target)) if made else None
        assert found in ((None, new) if elsewhere else (old, new)), where
        if not (work / "out" / "checkpoint").exists():
            migrated(work)
        assert digests(str(work / target)) == new, where
        return str(found == new)

    outcomes = check(tmp_path, migrated, examine, monkeypatch)
    assert set(outcomes) == {"True", "False"}
    assert sum(outcomes.values()) > 100


def test_a_repair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for number in (2, 9, 10):
        build_bundle(root / f"ckpt-{number}", {"a": np.arange(30) + number, "b": np.arange(50.0) * number})
    data = bytearray((root / "ckpt-9.data-00000-of-00001").read_bytes())
    data[-20] ^= 1
    (root / "ckpt-9.data-00000-of-00001").write_bytes(data)
    (root / "checkpoint").write_bytes(b"torn")
    kept = {name: digests(str(root / name)) for name in ("ckpt-2", "ckpt-10")}

    def examine(work: Path, where: str) -> str:
        found = {name: digests(str(work / name)) for name in kept}
        assert found == kept, where
        salvaged = (work / "ckpt-9-salvaged.index").exists()
        if salvaged:
            assert whole(str(work / "ckpt-9-salvaged")), where
        assert (work / "checkpoint").read_bytes() in (b"torn", expected), where
        repair(str(work / "ckpt-9"))
        assert whole(str(work / "ckpt-9-salvaged")), where
        assert (work / "checkpoint").read_bytes() == expected, where
        assert repair(str(work / "ckpt-9")).actions == (), where
        return str(salvaged)

    trial = tmp_path / "trial"
    shutil.copytree(root, trial)
    repair(str(trial / "ckpt-9"))
    expected = (trial / "checkpoint").read_bytes()
    outcomes = check(tmp_path, lambda place: repair(str(place / "ckpt-9")), examine, monkeypatch)
    assert set(outcomes) == {"True", "False"}


def whole(prefix: str) -> bool:
    try:
        with Bundle(prefix) as bundle:
            return not [found for found in bundle.verify() if found.severity == "damage"]
    except CkptError:
        return False


def test_the_model_finds_a_missing_sync(tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any sync the same states lose the checkpoint: the model can fail."""
    kept = digests(prefix)

    def examine(work: Path, where: str) -> str:  # noqa: ARG001
        try:
            return str(digests(str(work / "x")) == kept)
        except (CkptError, AssertionError):
            return "lost"

    def without_sync(root: Path) -> None:
        monkeypatch.setattr("ckpt_tools.storage.sync_directory", lambda _: None)
        rewrite(str(root / "x"), NEW)

    outcomes = check(tmp_path, without_sync, examine, monkeypatch)
    assert outcomes["lost"] > 0
