"""One save of the trainer, killed or refused at each of its file operations.

Whatever happens, the line of checkpoints names one that is whole, the old or the new; the next save works; and what
the killed one left behind is nothing that a reader would take for a checkpoint.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import save_server
from strace import SAVES, Server

from ckpt_tools.analysis.newest import newest_whole
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.readers.location import prefixes_in

pytestmark = [pytest.mark.tensorflow]

SAMPLE = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(save_server.__file__, tmp_path_factory.mktemp("server") / "errors")
    yield running
    running.stop()


@pytest.fixture
def line(tmp_path: Path, server: Server) -> Path:
    """A line with one save in it, of step 1."""
    assert server.work(tmp_path / "line", 1) == 0
    return tmp_path / "line"


def fresh(line: Path) -> Path:
    work = line.with_name("work")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(line, work)
    return work


def operations(server: Server, line: Path, calls: tuple[str, ...] = SAVES) -> list[tuple[str, int]]:
    work = fresh(line)
    return server.operations(work, line.with_name("log"), work, 2, calls=calls)


def step_of(directory: Path) -> int:
    """The step that a resume would continue from; nothing may have to be told about it."""
    prefix, findings = newest_whole(str(directory))
    assert findings == ()
    with open_checkpoint(prefix) as checkpoint:
        return int(checkpoint.read("state/step/.ATTRIBUTES/VARIABLE_VALUE"))


def check_what_is_left(server: Server, work: Path, where: str) -> None:
    """The next save works, retention keeps one, and nothing else is left of the one that was killed."""
    assert server.work(work, 3) == 0, where
    assert step_of(work) == 3, where
    (name,) = prefixes_in(str(work))
    assert set(os.listdir(work)) == {"checkpoint", f"{name}.index", f"{name}.data-00000-of-00001"}, where


def check_kills(server: Server, line: Path, points: list[tuple[str, int]]) -> Counter[int]:
    outcomes: Counter[int] = Counter()
    for call, number in points:
        work = fresh(line)
        where = f"{call} {number}"
        code = server.disturbed(call, number, "signal=KILL", work, 2)
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
    [
        *[("write", "ENOSPC"), ("fsync", "EIO"), ("rename", "EIO"), ("mkdir", "EROFS")],
        pytest.param("openat", "EACCES", marks=pytest.mark.slow),
    ],
)
def test_a_save_refused_at_each_call(server: Server, line: Path, call: str, error: str) -> None:
    refused = 0
    for _, number in operations(server, line, (call,)):
        work = fresh(line)
        code = server.disturbed(call, number, f"error={error}", work, 2)
        where = f"{call} {number}: {error}"
        assert code in (0, 5), where  # TensorFlow does not ask whether its cleaning up worked
        refused += code == 5
        assert step_of(work) in ((2,) if code == 0 else (1, 2)), where
        check_what_is_left(server, work, where)
    assert refused or call == "mkdir"
