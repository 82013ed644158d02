"""The one harness for strace, which ends a process, or makes a call of it fail, before the N-th call of a kind.

command     a whole program, once
Server      pieces of work in forks of a process that has imported everything already, TensorFlow too
Traced      commands of the worker, each time in a fresh copy of a directory
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fork_server
import pytest
import rewrite_worker
from tools import find_tool

# The calls by which a change of a checkpoint is made, and those of a save of the trainer.
CHANGES = (
    *("openat", "write", "fsync", "fdatasync", "close", "link", "linkat", "rename", "renameat", "renameat2"),
    *("unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "ftruncate", "fchmod", "fchown", "flock", "utimensat"),
)
SAVES = (
    *("openat", "write", "pwrite64", "pread64", "fsync", "close", "rename", "unlink", "mkdir", "rmdir"),
    *("fchmod", "fchown", "flock", "getdents64", "ftruncate"),
)
# strace counts the calls of each thread on its own.
_CALL = re.compile(r"^(?P<thread>\d+) +(?P<call>\w+)\(")

# Before each call where time allows; in `make test` before one of so many.
EACH_OR_SOME = pytest.mark.parametrize(
    "every", [pytest.param(1, id="each", marks=pytest.mark.slow), pytest.param(4, id="some")]
)


def faults(call: str, fault: str) -> tuple[str, ...]:
    """The options for a fault (``signal=KILL``, ``error=EIO``, with ``:when=N``) at some calls."""
    return "-e", f"trace={call}", "-e", f"inject={call}:{fault}"


def command(call: str, fault: str, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program with a fault at some calls, with ``path`` only at those on this file."""
    options = ["-f", "-o", os.devnull, *faults(call, fault), *(["-P", path] if path else [])]
    # Who runs the tests in the background may ignore SIGINT; what is run here must not inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.run([find_tool("strace"), *options, *arguments], capture_output=True, text=True, check=False)
    finally:
        signal.signal(signal.SIGINT, before)


def numbered(log: Path) -> Iterator[tuple[str, int, str]]:
    """The calls of a log: the call, its number among those of its kind and thread, the line."""
    counts: Counter[tuple[str, str]] = Counter()
    for text in log.read_text().splitlines():
        if match := _CALL.match(text):
            counts[match.groups()] += 1
            yield match["call"], counts[match.groups()], text


class Server:
    """A script that serves orders, see `forking`: each is done in a fork, which stops itself until it is traced."""

    def __init__(self, script: str, errors: Path) -> None:
        self._strace = find_tool("strace")
        self._errors = errors
        self._written = errors.open("a")
        self._process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._written, text=True
        )

    def work(self, *order: object, options: tuple[str, ...] = (), log: str = os.devnull) -> int:
        """The exit code of a piece of work; negative for the signal that killed it."""
        self._begun = self._errors.stat().st_size
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order, default=str), file=self._process.stdin, flush=True)
        child = int(self._process.stdout.readline())
        while Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
            time.sleep(0.001)
        if not options:
            os.kill(child, signal.SIGCONT)
            return int(self._process.stdout.readline())
        attach = [self._strace, "-f", "-y", "-p", str(child), "-o", log, *options]
        with subprocess.Popen(attach, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            first = tracer.stderr.readline()
            assert "attached" in first, first
            os.kill(child, signal.SIGCONT)
            code = int(self._process.stdout.readline())
            tracer.stderr.read()
            return code

    def said(self) -> str:
        """What the last piece of work wrote to stderr."""
        return self._errors.read_bytes()[self._begun :].decode()

    def disturbed(self, call: str, number: int, fault: str, *order: object) -> int:
        """The exit code of work with a fault at the N-th call of a kind of any of its threads."""
        return self.work(*order, options=faults(call, f"{fault}:when={number}"))

    def operations(
        self, folder: Path, log: Path, *order: object, calls: tuple[str, ...] = SAVES
    ) -> list[tuple[str, int]]:
        """The calls of undisturbed work below a folder, each with its number among its thread's of that kind."""
        assert self.work(*order, options=("-e", f"trace={','.join(calls)}"), log=str(log)) == 0, self.said()
        return [(call, number) for call, number, text in numbered(log) if str(folder) in text]

    def stop(self) -> None:
        # Killed, as a process with TensorFlow in it may take its time to end, or never do.
        self._process.kill()
        self._process.communicate()
        self._written.close()


@functools.cache
def _worker() -> Server:
    """The one server of the worker, for all tests of a process."""
    descriptor, errors = tempfile.mkstemp(prefix="stderr-")
    os.close(descriptor)
    server = Server(fork_server.__file__, Path(errors))
    atexit.register(os.unlink, errors)
    atexit.register(server.stop)
    return server


class Traced:
    """One command of the worker, each time in a fresh copy of a directory."""

    def __init__(self, original: Path, prefix: str, *arguments: str) -> None:
        self.original = original
        self.folder = original.with_name("work")
        self.prefix = str(self.folder / os.path.relpath(prefix, original))
        verb, *rest = arguments
        self._command = [verb, self.prefix, *rest]
        _worker()  # or the test is skipped here

    def fresh(self) -> None:
        """The directory as it was, inodes and links included as far as one directory goes."""
        shutil.rmtree(self.folder, ignore_errors=True)
        subprocess.run(["cp", "-a", self.original, self.folder], check=True)

    def run(self, *options: str, output: str = os.devnull) -> subprocess.CompletedProcess[str]:
        code = _worker().work(*self._command, options=options, log=output)
        return subprocess.CompletedProcess(self._command, code, "", _worker().said())

    def calls(self, log: Path, every: int = 1) -> list[tuple[str, int]]:
        """The calls of the undisturbed work, each with its number among those of its kind: one of so many, and the
        renames, at which one state becomes the next."""
        self.fresh()
        done = self.run("-e", f"trace={','.join(CHANGES)}", output=str(log))
        assert done.returncode == 0, done.stderr
        found = [(call, number) for call, number, _ in numbered(log)]
        assert len(found) > 20
        return [point for place, point in enumerate(found) if place % every == 0 or point[0].startswith("rename")]

    def disturbed(self, call: str, number: int, fault: str) -> subprocess.CompletedProcess[str]:
        self.fresh()
        return self.run(*faults(call, f"{fault}:when={number}"))

    def again(self) -> None:
        """The same command once more, undisturbed; in this process."""
        assert rewrite_worker.main(*self._command) == 0


def nameless(files: dict[str, str]) -> dict[str, str]:
    """Without what differs from one run to the next: the time in an id, and the ledger that holds it."""
    return {re.sub(r"\d{8}T\d{6}-", "", name): digest for name, digest in files.items() if "ledger" not in name}
