"""Work in forks of a process that has imported TensorFlow already, under strace, which can kill it at any call."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

CALLS = (
    *("openat", "write", "pwrite64", "pread64", "fsync", "close", "rename", "unlink", "mkdir", "rmdir"),
    *("fchmod", "fchown", "flock", "getdents64", "ftruncate"),
)
_CALL = re.compile(r"^(?P<thread>\d+) +(?P<call>\w+)\(")


class Server:
    """A script that takes JSON lines: for each it forks a child that stops itself, does the work when it is continued,
    and prints the child's process id, and later its exit code."""

    def __init__(self, script: str, errors: Path) -> None:
        strace = shutil.which("strace")
        if strace is None:
            required = "strace" in os.environ.get("CKPT_TOOLS_REQUIRE", "")
            (pytest.fail if required else pytest.skip)("needs strace, which is not installed (Debian package: strace)")
        self._strace = strace
        self._errors = errors.open("w")
        self._process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def work(self, *order: object, options: tuple[str, ...] = (), log: str = os.devnull) -> int:
        """The exit code of a piece of work; negative for the signal that killed it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order, default=str), file=self._process.stdin, flush=True)
        child = int(self._process.stdout.readline())
        while Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
            time.sleep(0.002)
        if not options:
            os.kill(child, signal.SIGCONT)
            return int(self._process.stdout.readline())
        attach = [self._strace, "-f", "-y", "-p", str(child), "-o", log, *options]
        with subprocess.Popen(attach, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            assert "attached" in tracer.stderr.readline()
            os.kill(child, signal.SIGCONT)
            code = int(self._process.stdout.readline())
            tracer.stderr.read()
            return code

    def disturbed(self, call: str, number: int, fault: str, *order: object) -> int:
        """The exit code of work with a fault at the N-th call of a kind of any of its threads."""
        return self.work(*order, options=("-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={number}"))

    def operations(
        self, folder: Path, log: Path, *order: object, calls: tuple[str, ...] = CALLS
    ) -> list[tuple[str, int]]:
        """The calls of undisturbed work below a folder, each with its number among its thread's of that kind."""
        assert self.work(*order, options=("-e", f"trace={','.join(calls)}"), log=str(log)) == 0
        counts: Counter[tuple[str, str]] = Counter()
        found = []
        for text in log.read_text().splitlines():
            match = _CALL.match(text)
            if match:
                counts[match.groups()] += 1
                if str(folder) in text:
                    found.append((match["call"], counts[match.groups()]))
        return found

    def stop(self) -> None:
        # Killed, as a process with TensorFlow in it may take its time to end, or never do.
        self._process.kill()
        self._process.communicate()
        self._errors.close()
