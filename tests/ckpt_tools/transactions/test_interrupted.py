"""A rewrite or an undo that is killed, or refused by the system, before any of its system calls.

strace ends the process (or makes the call fail) before the N-th call of each kind, for every N that there is. The
checkpoint must then be exactly the old or exactly the new one, and running the same command again must bring about
what an undisturbed run does, and leave nothing else behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import OF_EACH_LINEAGE, Sample, build_bundle, contents, pick, rewrite, snapshot, stored_best
from strace import EACH_OR_SOME, Traced, nameless

from ckpt_tools.operations.slimming import slim

VALUE = 0.5


pytestmark = pytest.mark.tensorflow


@pytest.fixture
def two_shards(tmp_path: Path) -> str:
    """A bundle of two shards, one of them written by a rewrite before, with a foreign file in the next one's way."""
    (tmp_path / "original").mkdir()
    prefix = build_bundle(tmp_path / "original" / "x", {"a": np.arange(3), "b": np.arange(50.0)})
    rewrite(prefix, 0.25)
    Path(f"{prefix}.data-00001-of-00003").write_bytes(b"of another save")
    return prefix


def restored(prefix: str) -> dict[str, str]:
    """What TensorFlow restores from a checkpoint, bit for bit, the object graph that it goes by included."""
    from oracle import digest, read_all

    return {name: digest(value) for name, value in read_all(prefix).items()}


def check_kills(traced: Traced, log: Path, every: int = 1) -> Counter[str]:
    """Killed before its calls: TensorFlow restores the old or the new bits, and the same command ends the work."""
    calls = traced.calls(log, every)
    expected, new = nameless(contents(traced.folder)), restored(traced.prefix)
    traced.fresh()
    old = restored(traced.prefix)
    assert old != new
    outcomes: Counter[str] = Counter()
    for call, number in calls:
        done = traced.disturbed(call, number, "signal=KILL")
        where = f"{call} {number}"
        assert done.returncode == -signal.SIGKILL, where
        found = restored(traced.prefix)
        assert found in (old, new), where
        outcomes["new" if found == new else "old"] += 1
        traced.again()
        assert restored(traced.prefix) == new, where
        assert nameless(contents(traced.folder)) == expected, where
    assert set(outcomes) == {"old", "new"}
    return outcomes


def check_every_refusal(traced: Traced, log: Path, faults: dict[str, str], after: float | None) -> None:
    calls = [(call, number) for call, number in traced.calls(log) if call in faults]
    expected = nameless(contents(traced.folder))
    refused = 0
    for call, number in calls:
        traced.fresh()
        untouched = snapshot(traced.folder)
        folders = sorted(path for path, _, _ in os.walk(traced.folder))
        done = traced.run("-e", f"trace={call}", "-e", f"inject={call}:error={faults[call]}:when={number}")
        where = f"{call} {number}: {done.stderr}"
        if done.returncode == 0:  # the descriptor of a directory, or of what was only read
            assert call == "close", where
        else:
            assert done.returncode == 5, where
        if done.returncode == 0 or "the change is made" in done.stderr:
            assert stored_best(traced.prefix) == after, where
        else:
            assert snapshot(traced.folder) == untouched, where
            assert sorted(path for path, _, _ in os.walk(traced.folder)) == folders, where
            refused += 1
        traced.again()
        assert nameless(contents(traced.folder)) == expected, where
    assert refused > 3


@pytest.fixture
def traced_rewrite(two_shards: str) -> Traced:
    return Traced(Path(two_shards).parent, two_shards, "rewrite", str(VALUE))


@pytest.fixture
def traced_undo(two_shards: str) -> Traced:
    rewrite(two_shards, VALUE)
    return Traced(Path(two_shards).parent, two_shards, "undo")


@EACH_OR_SOME
def test_a_rewrite_killed_before_its_calls(traced_rewrite: Traced, every: int, tmp_path: Path) -> None:
    check_kills(traced_rewrite, tmp_path / "log", every)


@EACH_OR_SOME
def test_an_undo_killed_before_its_calls(traced_undo: Traced, every: int, tmp_path: Path) -> None:
    """The same command again ends it, wherever it was killed, and takes nothing back that it did not before."""
    calls = traced_undo.calls(tmp_path / "log", every)
    expected, old = nameless(contents(traced_undo.folder)), restored(traced_undo.prefix)
    traced_undo.fresh()
    new = restored(traced_undo.prefix)
    outcomes: Counter[float | None] = Counter()
    for call, number in calls:
        done = traced_undo.disturbed(call, number, "signal=KILL")
        where = f"{call} {number}"
        assert done.returncode == -signal.SIGKILL, where
        assert restored(traced_undo.prefix) in (old, new), where
        outcomes[stored_best(traced_undo.prefix)] += 1
        pending = traced_undo.folder / ".ckpt-tools" / "pending.json"
        if pending.exists() or stored_best(traced_undo.prefix) == VALUE:  # else it was killed as it ended
            traced_undo.again()
        assert nameless(contents(traced_undo.folder)) == expected, where
        assert not pending.exists(), where
    assert set(outcomes) == {0.25, VALUE}


@pytest.fixture
def with_slots(tmp_path: Path) -> str:
    """A bundle of two shards, of which one holds optimizer state too, and one nothing else."""
    (tmp_path / "original").mkdir()
    prefix = build_bundle(
        tmp_path / "original" / "x", {"w": np.arange(30.0), "w/Adam": np.ones(30), "b": np.arange(3.0)}
    )
    rewrite(prefix, 0.25)
    return prefix


@EACH_OR_SOME
def test_a_slimming_killed_before_its_calls(with_slots: str, every: int, tmp_path: Path) -> None:
    """One data file is linked, the other leaves without a second name."""
    check_kills(Traced(Path(with_slots).parent, with_slots, "slim"), tmp_path / "log", every)


@EACH_OR_SOME
def test_its_undo_killed_before_its_calls(with_slots: str, every: int, tmp_path: Path) -> None:
    old = restored(with_slots)
    slim(with_slots, None, in_place=True)
    traced = Traced(Path(with_slots).parent, with_slots, "undo")
    calls = traced.calls(tmp_path / "log", every)
    expected = nameless(contents(traced.folder))
    traced.fresh()
    new = restored(traced.prefix)
    assert restored(traced.prefix) != old
    outcomes: Counter[bool] = Counter()
    for call, number in calls:
        assert traced.disturbed(call, number, "signal=KILL").returncode == -signal.SIGKILL
        found = restored(traced.prefix)
        assert found in (old, new), (call, number)
        outcomes[found == new] += 1
        if (traced.folder / ".ckpt-tools" / "pending.json").exists() or found == new:
            traced.again()
        assert nameless(contents(traced.folder)) == expected, (call, number)
    assert set(outcomes) == {True, False}


@pytest.mark.parametrize("faults", [{"write": "ENOSPC", "fsync": "EIO"}, {"write": "EDQUOT", "close": "EIO"}])
def test_a_rewrite_refused_at_each_call(traced_rewrite: Traced, tmp_path: Path, faults: dict[str, str]) -> None:
    check_every_refusal(traced_rewrite, tmp_path / "log", faults, VALUE)


def test_an_undo_refused_at_each_write_and_fsync(traced_undo: Traced, tmp_path: Path) -> None:
    calls = [(c, n) for c, n in traced_undo.calls(tmp_path / "log") if c in ("write", "fsync")]
    expected = nameless(contents(traced_undo.folder))
    for call, number in calls:
        traced_undo.fresh()
        untouched = snapshot(traced_undo.folder)
        done = traced_undo.disturbed(call, number, "error=EIO")
        where = f"{call} {number}: {done.stderr}"
        assert done.returncode == 5, where
        if "the change is made" in done.stderr:
            assert "done, but" in done.stderr, where
            assert stored_best(traced_undo.prefix) == 0.25, where
            traced_undo.again()
            assert nameless(contents(traced_undo.folder)) == expected, where
        else:
            assert {n: row[1:] for n, row in snapshot(traced_undo.folder).items()} == {
                n: row[1:] for n, row in untouched.items()
            }, where


def traced_migration(sample: Sample, copy: Callable[..., Path]) -> Traced:
    prefix = sample.prefix_in(copy(sample, logs=False))
    # The whole root: the learning rate is in the name of the experiment's folder.
    root = next(parent for parent in Path(prefix).parents if parent.name == "root")
    return Traced(root, prefix, "migrate")


@EACH_OR_SOME
def test_a_migration_to_another_directory_killed_before_its_calls(
    copy: Callable[..., Path], every: int, tmp_path: Path
) -> None:
    """The source stays as it is; the output is whole or no checkpoint at all, and the next run makes it."""
    sample = pick("tf2.21")
    prefix = sample.prefix_in(copy(sample, logs=False))
    root = next(parent for parent in Path(prefix).parents if parent.name == "root")
    out = tmp_path / "work" / "out"
    traced = Traced(root, prefix, "migrate", str(out))
    calls = traced.calls(tmp_path / "log", every)
    source, expected, new = contents(root), contents(out), restored(str(out / "ckpt-1"))
    outcomes: Counter[bool] = Counter()
    for call, number in calls:
        done = traced.disturbed(call, number, "signal=KILL")
        where = f"{call} {number}"
        assert done.returncode == -signal.SIGKILL, where
        made = (out / "ckpt-1.index").exists()
        outcomes[made] += 1
        if made:
            assert restored(str(out / "ckpt-1")) == new, where
        if not (out / "checkpoint").exists():  # else nothing is left to be done
            traced.again()
        assert contents(out) == expected, where
        found = contents(traced.folder)
        assert {name: found[name] for name in found if not name.startswith("out/")} == source, where
    assert set(outcomes) == {True, False}


@EACH_OR_SOME
@pytest.mark.parametrize("sample", OF_EACH_LINEAGE, ids=lambda sample: sample.id)
def test_every_lineage_killed_before_its_calls(
    sample: Sample, every: int, copy: Callable[..., Path], tmp_path: Path
) -> None:
    prefix = sample.prefix_in(copy(sample, logs=False))
    traced = Traced(Path(prefix).parent, prefix, "rewrite", str(VALUE))
    check_kills(traced, tmp_path / "log", every)


@EACH_OR_SOME
@pytest.mark.parametrize("sample", OF_EACH_LINEAGE, ids=lambda sample: sample.id)
def test_every_lineage_migrated_and_killed_before_its_calls(
    sample: Sample, every: int, copy: Callable[..., Path], tmp_path: Path
) -> None:
    check_kills(traced_migration(sample, copy), tmp_path / "log", every)


@EACH_OR_SOME
def test_a_recovery_killed_before_its_calls(traced_rewrite: Traced, every: int, tmp_path: Path) -> None:
    """Killed once before or after the commit, and then again before each call of the run that cleans up."""
    calls = traced_rewrite.calls(tmp_path / "log")
    expected, new = nameless(contents(traced_rewrite.folder)), restored(traced_rewrite.prefix)
    traced_rewrite.fresh()
    old = restored(traced_rewrite.prefix)
    renames = [number for call, number in calls if call.startswith("rename")]
    first = next(call for call, _ in calls if call.startswith("rename"))
    base = traced_rewrite.original.with_name("killed")
    for number in (renames[len(renames) // 2], renames[-1]):
        traced_rewrite.disturbed(first, number, "signal=KILL")
        shutil.rmtree(base, ignore_errors=True)
        subprocess.run(["cp", "-a", traced_rewrite.folder, base], check=True)
        second = Traced(base, str(base / "x"), "rewrite", str(VALUE))
        for call, place in second.calls(tmp_path / "log", every):
            second.disturbed(call, place, "signal=KILL")
            assert restored(second.prefix) in (old, new), (number, call, place)
            second.again()
            assert nameless(contents(second.folder)) == expected, (number, call, place)
