"""Runs cases by number, each in a process that may die, hang, or take too much; what is bad is kept as files.

A case is a kind and a number: the same number always makes the same files. Cases run in batches, a process each. One
that ends in an exception, takes too long, takes ten times the memory of its files (small ones: 64 MiB) or kills its
process, at once or as it ends, is kept under ``--keep`` as ``found-KIND-NUMBER``, to become a test.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

# The memory of a case may be so many times its files, or this; no process gets more than the last, touched or not.
TIMES, SPARE, MEMORY = 10, 64 << 20, 4 << 30
# A process that stays at one case so long waits for something that never comes.
PATIENCE = 60.0
BATCH = 2000
# Files that live a millisecond need no disk.
SCRATCH = "/dev/shm"


@dataclass
class Suite:
    """What is tried: the ``kinds`` of cases, how one is made of its number, what is done with it in a directory, the
    ``files`` of a case, and the ``seconds`` of the processor that it may take."""

    kinds: tuple[str, ...]
    case: Callable[[str, int], Any]
    exercise: Callable[[Path, Any], None]
    files: Callable[[Any], Mapping[str, bytes]]
    seconds: float = 1.0


def trouble(suite: Suite, directory: Path, case: Any) -> str | None:
    """What is wrong with how a case ended, None when it did no harm."""
    # The system's count of the most memory ever used starts again here.
    with open("/proc/self/clear_refs", "w") as switch:
        switch.write("5")
    before, start = _memory(), time.process_time()
    try:
        suite.exercise(directory, case)
    except Exception:
        return traceback.format_exc(limit=-4)
    seconds, taken = time.process_time() - start, _memory("VmHWM") - before
    if seconds > suite.seconds:
        return f"took {seconds:.1f} s"
    if taken > max(TIMES * sum(map(len, suite.files(case).values())), SPARE):
        return f"took {taken >> 20} MiB of memory"
    return None


def _memory(what: str = "VmRSS") -> int:
    """Bytes of memory of this process: now, or (``VmHWM``) the most so far."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(what))


class Batch:
    """Some cases in a process of its own, which may die, hang, or crash as it ends."""

    def __init__(self, suite: Suite, kind: str, numbers: range) -> None:
        self.kind = kind
        self.numbers = numbers
        self._suite = suite
        # Not one that deletes itself: the process that is made here would do so as it ends, reports and all.
        self._directory = Path(tempfile.mkdtemp(dir=SCRATCH if os.path.isdir(SCRATCH) else None))
        self._at = multiprocessing.RawValue("q", numbers.start)
        self._moved = time.monotonic(), numbers.start
        self._code: int | None = None
        sys.stdout.flush()
        self._process = os.fork()
        if not self._process:
            self._work_and_end()

    def running(self) -> bool:
        if self._at.value != self._moved[1]:
            self._moved = time.monotonic(), self._at.value
        elif time.monotonic() - self._moved[0] > max(PATIENCE, 5 * self._suite.seconds):
            os.kill(self._process, signal.SIGKILL)
        ended, status = os.waitpid(self._process, os.WNOHANG)
        if ended:
            self._code = os.waitstatus_to_exitcode(status)
        return not ended

    def result(self) -> tuple[list[tuple[int, str]], list[range]]:
        """Of what runs no more: the bad cases with what is wrong, and what is still to be run."""
        reports = [(int(path.name), path.read_text()) for path in self._reports.glob("*")]
        shutil.rmtree(self._directory)
        code, at, numbers = self._code, self._at.value, self.numbers
        if not code:
            return reports, []
        if at < numbers.stop:
            return [*reports, (at, f"the process died: {code}")], [range(at + 1, numbers.stop)]
        if len(numbers) == 1:
            return [*reports, (numbers.start, f"the process died as it ended: {code}")], []
        middle = len(numbers) // 2
        return reports, [numbers[:middle], numbers[middle:]]

    @property
    def _reports(self) -> Path:
        return self._directory / "reports"

    def _work_and_end(self) -> NoReturn:
        try:
            self._work()
            end()
        finally:
            os._exit(70)

    def _work(self) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # HDF5 tells every error there
        self._reports.mkdir()
        work = self._directory / "work"
        work.mkdir()
        for number in self.numbers:
            self._at.value = number
            case = self._suite.case(self.kind, number)
            # Code that never comes back is ended by the system.
            signal.setitimer(signal.ITIMER_PROF, 5 * self._suite.seconds)
            wrong = trouble(self._suite, work, case)
            signal.setitimer(signal.ITIMER_PROF, 0)
            if wrong:
                (self._reports / str(number)).write_text(wrong, errors="backslashreplace")
        self._at.value = self.numbers.stop


def end() -> None:
    """End the process as a program does, which takes apart what HDF5 has left open."""
    ctypes.pythonapi.Py_Exit(0)


def hunt(suite: Suite, batches: Iterable[tuple[str, range]], keep: Path, jobs: int = 1) -> Counter[str]:
    """Run batches of cases, ``jobs`` at a time; returns how many of each kind are bad."""
    waiting = deque(batches)
    running: list[Batch] = []
    bad: Counter[str] = Counter()
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(Batch(suite, *waiting.popleft()))
        time.sleep(0.02)
        for batch in [batch for batch in running if not batch.running()]:
            running.remove(batch)
            reports, rest = batch.result()
            waiting.extendleft((batch.kind, numbers) for numbers in rest if numbers)
            for number, report in reports:
                bad[batch.kind] += 1
                print(f"{batch.kind} {number}: {report}", flush=True)
                write(keep / f"found-{batch.kind}-{number}", suite.files(suite.case(batch.kind, number)))
    return bad


def write(directory: Path, files: Mapping[str, bytes]) -> None:
    """The files of a case, in folders where their names say so."""
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def main(suite: Suite, description: str, arguments: Iterable[str] | None = None) -> int:
    """The command line of a suite."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cases", type=int, default=1_000_000, help="in all, divided among the kinds")
    parser.add_argument("--start", type=int, default=0, help="the first number")
    parser.add_argument("--kinds", nargs="+", choices=suite.kinds, default=list(suite.kinds))
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"))
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    given = parser.parse_args(None if arguments is None else list(arguments))
    end = given.start + given.cases // len(given.kinds)
    bad: Counter[str] = Counter()
    for kind in given.kinds:
        start = time.monotonic()
        starts = range(given.start, end, BATCH)
        numbers = [(kind, range(first, min(first + BATCH, end))) for first in starts]
        bad += hunt(suite, numbers, given.keep, given.jobs)
        print(f"{kind}: {end - given.start} cases, {bad[kind]} bad, {time.monotonic() - start:.0f} s", flush=True)
    return int(bool(bad))
