"""A rewrite or an undo that is killed, or refused by the system, before any of its system calls.

strace ends the process (or makes the call fail) before the N-th call of each kind, for every N that there is. The
checkpoint must then be exactly the old or exactly the new one, and running the same command again must bring about
what an undisturbed run does, and leave nothing else behind.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rewrite_worker
from checkpoints import OF_EACH_LINEAGE, Sample, build_bundle, contents, digests, rewrite, snapshot, stored_best

WORKER = Path(rewrite_worker.__file__)
CALLS = (
    *("openat", "write", "fsync", "fdatasync", "close", "link", "linkat", "rename", "renameat", "renameat2"),
    *("unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "ftruncate", "fchmod", "fchown", "flock", "utimensat"),
)
VALUE = 0.5
# strace counts the calls of each thread on its own.
_CALL = re.compile(r"^(?P<thread>\d+) +(?P<call>\w+)\(")


class Traced:
    """One command of the worker under strace, each time in a fresh copy of a directory."""

    def __init__(self, strace: str, original: Path, prefix: str, *command: str) -> None:
        self.original = original
        self.folder = original.with_name("work")
        self.prefix = str(self.folder / os.path.relpath(prefix, original))
        self._strace = strace
        verb, *rest = command
        self._command = [sys.executable, str(WORKER), verb, self.prefix, *rest]
        # Compiled code of its own, complete after the first run: the calls of Python's start must not vary.
        self._environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(original.with_name("pycache"))}
        self.fresh()
        subprocess.run(self._command, env=self._environment, check=True)
        self._environment["PYTHONDONTWRITEBYTECODE"] = "1"

    def fresh(self) -> None:
        """The directory as it was, inodes and links included as far as one directory goes."""
        shutil.rmtree(self.folder, ignore_errors=True)
        subprocess.run(["cp", "-a", self.original, self.folder], check=True)

    def run(self, *options: str, output: str = os.devnull) -> subprocess.CompletedProcess[str]:
        traced = [self._strace, "-f", "-o", output, *options, *self._command]
        return subprocess.run(traced, capture_output=True, text=True, env=self._environment, check=False)

    def calls(self, log: Path) -> list[tuple[str, int]]:
        """Every call of the undisturbed work with its number among those of its kind since the process began."""
        self.fresh()
        done = self.run("-e", f"trace={','.join(CALLS)}", output=str(log))
        assert done.returncode == 0, done.stderr
        counts: Counter[tuple[str, str]] = Counter()
        found = []
        begun = False
        for line in log.read_text().splitlines():
            match = _CALL.match(line)
            if match:
                counts[match.groups()] += 1
                if begun:
                    found.append((match["call"], counts[match.groups()]))
                begun = begun or rewrite_worker.MARK in line
        assert len(found) > 20
        return found

    def disturbed(self, call: str, number: int, fault: str) -> subprocess.CompletedProcess[str]:
        self.fresh()
        return self.run("-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={number}")

    def again(self) -> None:
        """The same command once more, undisturbed; in this process, which is faster."""
        assert rewrite_worker.main(*self._command[2:]) == 0


def nameless(files: dict[str, str]) -> dict[str, str]:
    """Without what differs from one run to the next: the time in an id, and the ledger that holds it."""
    return {re.sub(r"\d{8}T\d{6}-", "", name): digest for name, digest in files.items() if "ledger" not in name}


@pytest.fixture
def two_shards(tmp_path: Path) -> str:
    """A bundle of two shards, one of them written by a rewrite before, with a foreign file in the next one's way."""
    (tmp_path / "original").mkdir()
    prefix = build_bundle(tmp_path / "original" / "x", {"a": np.arange(3), "b": np.arange(50.0)})
    rewrite(prefix, 0.25)
    Path(f"{prefix}.data-00001-of-00003").write_bytes(b"of another save")
    return prefix


def check_every_kill(traced: Traced, log: Path, before: float | None, after: float | None) -> None:
    calls = traced.calls(log)
    expected = nameless(contents(traced.folder))
    kept = digests(traced.prefix)
    outcomes = Counter()
    for call, number in calls:
        done = traced.disturbed(call, number, "signal=KILL")
        where = f"{call} {number}"
        assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), where
        found = stored_best(traced.prefix)
        assert found in (before, after), where
        assert digests(traced.prefix) == kept, where
        outcomes[found] += 1
        traced.again()
        assert stored_best(traced.prefix) == after, where
        assert nameless(contents(traced.folder)) == expected, where
    assert set(outcomes) == {before, after}


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
        assert done.returncode == 5, where
        if "the change is made" in done.stderr:
            assert stored_best(traced.prefix) == after, where
        else:
            assert snapshot(traced.folder) == untouched, where
            assert sorted(path for path, _, _ in os.walk(traced.folder)) == folders, where
            refused += 1
        traced.again()
        assert nameless(contents(traced.folder)) == expected, where
    assert refused > 3


@pytest.fixture
def traced_rewrite(two_shards: str, require_tool: Callable[[str], str]) -> Traced:
    return Traced(require_tool("strace"), Path(two_shards).parent, two_shards, "rewrite", str(VALUE))


@pytest.fixture
def traced_undo(two_shards: str, require_tool: Callable[[str], str]) -> Traced:
    rewrite(two_shards, VALUE)
    return Traced(require_tool("strace"), Path(two_shards).parent, two_shards, "undo")


def test_a_rewrite_killed_before_each_of_its_calls(traced_rewrite: Traced, tmp_path: Path) -> None:
    check_every_kill(traced_rewrite, tmp_path / "log", 0.25, VALUE)


def test_an_undo_killed_before_each_of_its_calls(traced_undo: Traced, tmp_path: Path) -> None:
    # The command run again has nothing left to do when the first got past its commit, and undoes one more if not.
    calls = traced_undo.calls(tmp_path / "log")
    expected = nameless(contents(traced_undo.folder))
    outcomes = Counter()
    for call, number in calls:
        done = traced_undo.disturbed(call, number, "signal=KILL")
        where = f"{call} {number}"
        assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), where
        found = stored_best(traced_undo.prefix)
        assert found in (0.25, VALUE), where
        outcomes[found] += 1
        rewrite_worker.recover(traced_undo.prefix)
        if stored_best(traced_undo.prefix) == VALUE:
            traced_undo.again()
        assert nameless(contents(traced_undo.folder)) == expected, where
        assert not (traced_undo.folder / ".ckpt-tools" / "pending.json").exists(), where
    assert set(outcomes) == {0.25, VALUE}


def test_a_rewrite_refused_at_each_write_and_fsync(traced_rewrite: Traced, tmp_path: Path) -> None:
    check_every_refusal(traced_rewrite, tmp_path / "log", {"write": "ENOSPC", "fsync": "EIO"}, VALUE)


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
            assert nameless(contents(traced_undo.folder)) == expected, where
        else:
            assert {n: row[1:] for n, row in snapshot(traced_undo.folder).items()} == {
                n: row[1:] for n, row in untouched.items()
            }, where


@pytest.mark.slow
@pytest.mark.parametrize("sample", OF_EACH_LINEAGE, ids=lambda sample: sample.id)
def test_every_lineage_killed_before_each_call(
    sample: Sample, copy: Callable[..., Path], require_tool: Callable[[str], str], tmp_path: Path
) -> None:
    prefix = sample.prefix_in(copy(sample, logs=False))
    traced = Traced(require_tool("strace"), Path(prefix).parent, prefix, "rewrite", str(VALUE))
    check_every_kill(traced, tmp_path / "log", None, VALUE)


@pytest.mark.slow
def test_a_recovery_killed_before_each_of_its_calls(traced_rewrite: Traced, tmp_path: Path) -> None:
    """Killed once before or after the commit, and then again before each call of the run that cleans up."""
    calls = traced_rewrite.calls(tmp_path / "log")
    expected = nameless(contents(traced_rewrite.folder))
    renames = [number for call, number in calls if call.startswith("rename")]
    first = next(call for call, _ in calls if call.startswith("rename"))
    base = traced_rewrite.original.with_name("killed")
    for number in (renames[len(renames) // 2], renames[-1]):
        traced_rewrite.disturbed(first, number, "signal=KILL")
        shutil.rmtree(base, ignore_errors=True)
        subprocess.run(["cp", "-a", traced_rewrite.folder, base], check=True)
        second = Traced(traced_rewrite._strace, base, str(base / "x"), "rewrite", str(VALUE))
        for call, place in second.calls(tmp_path / "log"):
            second.disturbed(call, place, "signal=KILL")
            assert stored_best(second.prefix) in (0.25, VALUE), (number, call, place)
            second.again()
            assert nameless(contents(second.folder)) == expected, (number, call, place)
