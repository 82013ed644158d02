"""The worker under strace, which ends it, or makes a call fail, before the N-th call of a kind."""

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
from pathlib import Path

import fork_server
import rewrite_worker

CALLS = (
    *("openat", "write", "fsync", "fdatasync", "close", "link", "linkat", "rename", "renameat", "renameat2"),
    *("unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "ftruncate", "fchmod", "fchown", "flock", "utimensat"),
)
# strace counts the calls of each thread on its own.
_CALL = re.compile(r"^(?P<thread>\d+) +(?P<call>\w+)\(")


class _Server:
    def __init__(self) -> None:
        descriptor, self._errors = tempfile.mkstemp(prefix="stderr-")
        os.close(descriptor)
        self._process = subprocess.Popen(
            [sys.executable, fork_server.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        atexit.register(self._stop)

    def run(self, strace: str, options: tuple[str, ...], command: list[str]) -> subprocess.CompletedProcess[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([self._errors, *command]), file=self._process.stdin, flush=True)
        child = int(self._process.stdout.readline())
        while Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
            time.sleep(0.001)
        with subprocess.Popen([strace, "-f", "-p", str(child), *options], stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            first = tracer.stderr.readline()
            assert "attached" in first, first
            os.kill(child, signal.SIGCONT)
            code = int(self._process.stdout.readline())
        return subprocess.CompletedProcess(command, code, "", Path(self._errors).read_text())

    def _stop(self) -> None:
        self._process.kill()
        self._process.communicate()
        os.unlink(self._errors)


@functools.cache
def _server() -> _Server:
    return _Server()


class Traced:
    """One command of the worker, each time in a fresh copy of a directory."""

    def __init__(self, strace: str, original: Path, prefix: str, *command: str) -> None:
        self.original = original
        self.folder = original.with_name("work")
        self.prefix = str(self.folder / os.path.relpath(prefix, original))
        self._strace = strace
        verb, *rest = command
        self._command = [verb, self.prefix, *rest]

    def fresh(self) -> None:
        """The directory as it was, inodes and links included as far as one directory goes."""
        shutil.rmtree(self.folder, ignore_errors=True)
        subprocess.run(["cp", "-a", self.original, self.folder], check=True)

    def run(self, *options: str, output: str = os.devnull) -> subprocess.CompletedProcess[str]:
        return _server().run(self._strace, ("-o", output, *options), self._command)

    def calls(self, log: Path) -> list[tuple[str, int]]:
        """Every call of the undisturbed work, with its number among those of its kind."""
        self.fresh()
        done = self.run("-e", f"trace={','.join(CALLS)}", output=str(log))
        assert done.returncode == 0, done.stderr
        counts: Counter[tuple[str, str]] = Counter()
        found = []
        for match in filter(None, map(_CALL.match, log.read_text().splitlines())):
            counts[match.groups()] += 1
            found.append((match["call"], counts[match.groups()]))
        assert len(found) > 20
        return found

    def disturbed(self, call: str, number: int, fault: str) -> subprocess.CompletedProcess[str]:
        self.fresh()
        return self.run("-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={number}")

    def again(self) -> None:
        """The same command once more, undisturbed; in this process."""
        assert rewrite_worker.main(*self._command) == 0


def nameless(files: dict[str, str]) -> dict[str, str]:
    """Without what differs from one run to the next: the time in an id, and the ledger that holds it."""
    return {re.sub(r"\d{8}T\d{6}-", "", name): digest for name, digest in files.items() if "ledger" not in name}
