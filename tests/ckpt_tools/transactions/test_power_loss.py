"""Power loss: what was not synced may be lost, in any order.

Every call that changes the file system is recorded. At each point between two of them the power may fail; then of the
calls that no sync has made durable any may be missing, also an earlier one while a later one is there, and a file that
was not synced may be empty or half. The states are built on disk; each must be the old or the new checkpoint, whole,
and the same command again must end as an undisturbed one does.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rewrite_worker
from checkpoints import build_bundle, contents, digests, pick, rewrite, stored_best
from power_loss import check

from ckpt_tools.errors import CkptError
from ckpt_tools.operations.repairing import repair
from ckpt_tools.readers import Bundle

OLD, NEW = 0.25, 0.5


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


def test_an_undo_of_a_repair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    (root / "ckpt-3_temp").mkdir(parents=True)
    (root / "ckpt-3_temp" / "part-00000-of-00001.index").write_bytes(b"unfinished")
    (root / "ckpt-3.index.tempstate123").write_bytes(b"unfinished too")
    build_bundle(root / "ckpt-2", {"a": np.arange(30)})
    (root / "checkpoint").write_bytes(b"torn")
    before = contents(root)
    repair(str(root), now=time.time() + 10**6)
    new = (root / "checkpoint").read_bytes()

    def undo_all(place: Path) -> None:
        assert rewrite_worker.main("undo-beside", str(place / "ckpt-2")) == 0

    def examine(work: Path, where: str) -> str:
        found = contents(work)
        assert set(before.values()) <= set(found.values()), f"{where}: a file is gone"
        state = (work / "checkpoint").read_bytes()
        assert state in (b"torn", new), where
        undo_all(work)
        again = contents(work)
        assert {name: again.get(name) for name in before} == before, where
        return str(state == new)

    outcomes = check(tmp_path, undo_all, examine, monkeypatch)
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
        monkeypatch.setattr("ckpt_tools.fs.durable.sync_directory", lambda _: None)
        rewrite(str(root / "x"), NEW)

    outcomes = check(tmp_path, without_sync, examine, monkeypatch)
    assert outcomes["lost"] > 0
