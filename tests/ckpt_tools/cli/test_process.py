"""``ckpt`` as a process: pipes, colours, and how little it loads."""

from __future__ import annotations

import itertools
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import EXPERIMENTS, build_bundle, pick

CKPT = [sys.executable, "-m", "ckpt_tools"]


def test_the_exit_code_and_both_streams() -> None:
    done = subprocess.run([*CKPT, "inspect", "nowhere", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["id"] == "not-found"
    assert done.stderr.startswith("error[not-found]: nowhere")


@pytest.mark.parametrize("option", ["--json", "--tree"])
def test_a_reader_that_leaves_early(tmp_path: Path, option: str) -> None:
    # More than a pipe holds.
    prefix = build_bundle(tmp_path / "c", {f"scope/{number:060}": np.zeros(1) for number in range(3000)})
    with subprocess.Popen(
        [*CKPT, "inspect", prefix, option], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


def left_unread(*arguments: str) -> tuple[int, str]:
    """The exit code and stderr of a command whose reader has left before its first word."""
    outer, inner = os.pipe()
    os.close(outer)
    done = subprocess.run([*CKPT, *arguments], stdout=inner, stderr=subprocess.PIPE, text=True, check=False)
    os.close(inner)
    return done.returncode, done.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_leaves_ends_no_work_and_hides_no_verdict(copy: Callable[..., Path], options: list[str]) -> None:
    experiments = [str(copy(pick(name))) for name in ("tf2.10", "tf2.15", "tf2.21")]
    for experiment in experiments:
        assert left_unread("resume-check", experiment, *options) == (1, "")
    assert left_unread("backfill", *experiments, "--from-logs", *options) == (0, "")
    for experiment in experiments:
        assert left_unread("resume-check", experiment, *options) == (0, "")


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["verify", "-h"]])
def test_a_version_or_help_that_nobody_reads(arguments: list[str]) -> None:
    assert left_unread(*arguments) == (0, "")


def test_an_inspection_loads_nothing_heavy() -> None:
    script = (
        "import sys; from ckpt_tools.cli import run; code = run(['inspect', sys.argv[1], '--json']);"
        "heavy = {'tensorflow', 'keras', 'faiss', 'numpy', 'trainer', 'h5py', 'pydantic', 'importlib.resources'};"
        "heavy |= {'_hashlib'};"
        "heavy |= {'ckpt_tools.' + name for name in ('runs.orbax_run', 'runs.metric_lines', 'format.orbax')};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    arguments = [sys.executable, "-c", script, str(pick("tf2.21").path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def in_a_terminal(**environment: str) -> str:
    """What ``ckpt inspect`` writes to a terminal."""
    outer, inner = pty.openpty()
    variables = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [*CKPT, "inspect", str(pick("tf2.21").path)],
        stdout=inner,
        stderr=inner,
        stdin=subprocess.DEVNULL,
        env={**variables, "TERM": "xterm-256color", **environment},
    )
    os.close(inner)
    parts = []
    while True:
        try:
            part = os.read(outer, 4096)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.close(outer)
    assert process.wait() == 0
    return b"".join(parts).decode()


def test_colours_in_a_terminal_and_none_where_nobody_wants_them() -> None:
    assert "\x1b[36m" in in_a_terminal()
    assert "\x1b[36m" not in in_a_terminal(NO_COLOR="1")
    piped = subprocess.run([*CKPT, "inspect", str(pick("tf2.21").path)], capture_output=True, text=True, check=True)
    assert "\x1b" not in piped.stdout


def test_names_that_are_not_utf8_are_no_reason_to_fail(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff\xe9")
    folder.mkdir()
    prefix = build_bundle(folder / "c", {"é": np.zeros(1)})
    for encoding in ("utf-8", "ascii"):
        for options in ([], ["--json"]):
            done = subprocess.run(
                [*CKPT, "inspect", prefix, *options],
                capture_output=True,
                env={**os.environ, "PYTHONIOENCODING": encoding},
                check=False,
            )
            assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["prefix"] == prefix


NO_ROOM, CLOSED = ">/dev/full", ">&-"
UNHEARD = ("2>/dev/full", "2>&-")
ANSWERS = ("inspect {path}", "inspect {path} --json", "inspect /nowhere --json", "--version", "verify --help")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux alone has a device that is always full")
@pytest.mark.parametrize("stdout", [NO_ROOM, CLOSED])
@pytest.mark.parametrize(
    ("words", "stderr"),
    [
        *((words, "") for words in ANSWERS),
        *(("inspect {path}", stderr) for stderr in UNHEARD),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in itertools.product(ANSWERS[1:], UNHEARD)),
    ],
)
def test_an_answer_that_cannot_be_written_is_an_error_of_storage(words: str, stdout: str, stderr: str) -> None:
    command = f"{sys.executable} -m ckpt_tools {words.format(path=EXPERIMENTS[0].path)}"
    ended = subprocess.run(["sh", "-c", f"{command} {stdout} {stderr}"], capture_output=True, text=True)
    assert ended.returncode == 5
    assert "bug" not in ended.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux alone has a device that is always full")
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2>&- <&-"])
@pytest.mark.parametrize(("words", "code"), [("inspect {path}", 0), ("inspect /nowhere", 3), ("inspect", 2)])
def test_errors_that_nobody_hears_leave_the_exit_code(words: str, code: int, stderr: str) -> None:
    command = f"{sys.executable} -m ckpt_tools {words.format(path=EXPERIMENTS[0].path)}"
    ended = subprocess.run(["sh", "-c", f"{command} {stderr}"], capture_output=True, text=True)
    assert ended.returncode == code
