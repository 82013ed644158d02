"""One save of the trainer, killed or refused at each of its file operations.

Whatever happens, the line of checkpoints names one that is whole, the old or the new; the next save works; and what
the killed one left behind is nothing that a reader would take for a checkpoint.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import save_server

from ckpt_tools.newest import newest_whole
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.readers.locate import prefixes_in

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("saves-killed")]

CALLS = (
    *("openat", "write", "pwrite64", "pread64", "fsync", "close", "rename", "unlink", "mkdir", "rmdir"),
    *("fchmod", "fchown", "flock", "getdents64"),
)
_CALL = re.compile(r"^(?P<thread>\d+) +(?P<call>\w+)\(")
SAMPLE = 14


class Server:
    """Makes saves, one at a time, under strace when asked to."""

    def __init__(self, strace: str, errors: Path) -> None:
        self._strace = strace
        self._errors = errors.open("w")
        self._process = subprocess.Popen(
            [sys.executable, save_server.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def save(self, directory: Path, step: int, *options: str, log: str = os.devnull) -> int:
        """The exit code of a save; negative for the signal that killed it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(directory, step, file=self._process.stdin, flush=True)
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
            return int(self._process.stdout.readline())

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    strace = shutil.which("strace")
    if strace is None:
        required = "strace" in os.environ.get("CKPT_TOOLS_REQUIRE", "")
        (pytest.fail if required else pytest.skip)("needs strace, which is not installed (Debian package: strace)")
    running = Server(strace, tmp_path_factory.mktemp("server") / "errors")
    yield running
    running.stop()


@pytest.fixture
def line(tmp_path: Path, server: Server) -> Path:
    """A line with one save in it, of step 1."""
    assert server.save(tmp_path / "line", 1) == 0
    return tmp_path / "line"


def fresh(line: Path) -> Path:
    work = line.with_name("work")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(line, work)
    return work


def operations(server: Server, line: Path, calls: tuple[str, ...] = CALLS) -> list[tuple[str, int]]:
    """The operations of an undisturbed save on files of its directory: each call, and which of its kind it is."""
    log = line.with_name("log")
    work = fresh(line)
    assert server.save(work, 2, "-e", f"trace={','.join(calls)}", log=str(log)) == 0
    counts: Counter[tuple[str, str]] = Counter()
    found = []
    for text in log.read_text().splitlines():
        match = _CALL.match(text)
        if match:
            counts[match.groups()] += 1
            if str(work) in text:
                found.append((match["call"], counts[match.groups()]))
    return found


def step_of(directory: Path) -> int:
    """The step that a resume would continue from; nothing may have to be told about it."""
    prefix, findings = newest_whole(str(directory))
    assert findings == ()
    with open_checkpoint(prefix) as checkpoint:
        return int(checkpoint.read("state/step/.ATTRIBUTES/VARIABLE_VALUE"))


def check_what_is_left(server: Server, work: Path, where: str) -> None:
    """The next save works, retention keeps one, and nothing else is left of the one that was killed."""
    assert server.save(work, 3) == 0, where
    assert step_of(work) == 3, where
    (name,) = prefixes_in(str(work))
    assert set(os.listdir(work)) == {"checkpoint", f"{name}.index", f"{name}.data-00000-of-00001"}, where


def check_kills(server: Server, line: Path, points: list[tuple[str, int]]) -> Counter[int]:
    outcomes: Counter[int] = Counter()
    for call, number in points:
        work = fresh(line)
        where = f"{call} {number}"
        code = server.save(work, 2, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}")
        assert code in (-signal.SIGKILL, 0), where
        outcomes[step_of(work)] += 1
        check_what_is_left(server, work, where)
    assert set(outcomes) <= {1, 2}
    return outcomes


def test_a_save_killed_at_some_of_its_operations(server: Server, line: Path) -> None:
    points = operations(server, line)
    assert len(points) > 60
    # The renames and removals are where one state becomes the next.
    chosen = [point for point in points if point[0] in ("rename", "unlink", "rmdir")]
    check_kills(server, line, chosen + random.Random(5).sample(points, SAMPLE))


@pytest.mark.slow
def test_a_save_killed_at_each_of_its_operations(server: Server, line: Path) -> None:
    outcomes = check_kills(server, line, operations(server, line))
    assert set(outcomes) == {1, 2}


@pytest.mark.parametrize(
    ("call", "error"),
    [("write", "ENOSPC"), ("fsync", "EIO"), ("rename", "EIO"), ("openat", "EACCES"), ("mkdir", "EROFS")],
)
def test_a_save_refused_at_each_call(server: Server, line: Path, call: str, error: str) -> None:
    refused = 0
    for _, number in operations(server, line, (call,)):
        work = fresh(line)
        code = server.save(work, 2, "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={number}")
        where = f"{call} {number}: {error}"
        assert code in (0, 5), where  # TensorFlow does not ask whether its cleaning up worked
        refused += code == 5
        assert step_of(work) in ((2,) if code == 0 else (1, 2)), where
        check_what_is_left(server, work, where)
    assert refused or call == "mkdir"
