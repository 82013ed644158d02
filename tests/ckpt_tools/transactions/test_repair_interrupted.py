"""A repair that is killed before any of its system calls: nothing whole is touched, and the next one ends the work."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle, contents, digests
from strace import Traced, nameless

from ckpt_tools.operations.repairing import repair
from ckpt_tools.transactions import recover


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A run with all that a repair has to do: salvage, an index to rebuild, a torn state file, and left-overs."""
    run = tmp_path / "original"
    (run / "ckpt-11_temp").mkdir(parents=True)
    (run / "ckpt-11_temp" / "part-00000-of-00001.index").write_bytes(b"unfinished")
    for number in (2, 9, 10):
        build_bundle(run / f"ckpt-{number}", {"a": np.arange(30) + number, "b": np.arange(50.0) * number})
    build_bundle(run / "best-10", {"a": np.arange(30) + 10, "b": np.arange(50.0) * 10})
    (run / "best-10.index").write_bytes(b"")
    data = bytearray((run / "ckpt-9.data-00000-of-00001").read_bytes())
    data[-20] ^= 1
    (run / "ckpt-9.data-00000-of-00001").write_bytes(data)
    (run / "checkpoint").write_bytes(b"torn")
    for path in (*run.glob("**/*"), run):  # nothing of it is fresh, so that it is read once and not twice
        os.utime(path, (10**6, 10**6))
    return run


def without_backups(files: dict[str, str]) -> dict[str, str]:
    """A state file that was kept twice, by the run that was killed and by the next, is kept all the same."""
    return {name: digest for name, digest in nameless(files).items() if ".ckpt-tools" not in name}


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_a_repair_killed_before_its_calls(damaged: Path, tmp_path: Path, every: int) -> None:
    traced = Traced(damaged, str(damaged / "ckpt-9"), "repair")
    calls = traced.calls(tmp_path / "log", every)
    expected = without_backups(contents(traced.folder))
    assert {"ckpt-9-salvaged.index", "best-10.index"} <= expected.keys()
    before = contents(damaged)
    whole = {name: digests(str(damaged / name)) for name in ("ckpt-2", "ckpt-10")}
    outcomes: Counter[bool] = Counter()
    for call, number in calls:
        done = traced.disturbed(call, number, "signal=KILL")
        where = f"{call} {number}"
        assert done.returncode == -signal.SIGKILL, where
        assert {name: digests(str(traced.folder / name)) for name in whole} == whole, where
        found = contents(traced.folder)
        assert not Counter(before.values()) - Counter(found.values()), f"{where}: a file is gone"
        outcomes[(traced.folder / "ckpt-9-salvaged.index").exists()] += 1
        recover(traced.prefix)
        repair(traced.prefix, now=0.0)
        assert without_backups(contents(traced.folder)) == expected, where
        assert not (traced.folder / ".ckpt-tools" / "pending.json").exists(), where
        assert repair(traced.prefix, now=0.0).actions == (), where
    assert set(outcomes) == {True, False}
