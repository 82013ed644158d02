"""What both programs say, and how they end: one console, so one test for each habit, asked of both."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ckpt_tools import cli as ckpt
from ckpt_tools import errors
from trainer import cli as trainer


@dataclass(frozen=True)
class Program:
    """A program, and a command of it that takes a path: ``place`` is where the body of that begins."""

    name: str
    run: Callable[[list[str]], int]
    module: str
    command: str
    place: str

    def __str__(self) -> str:
        return self.name


PROGRAMS = (
    Program("ckpt", ckpt.run, "ckpt_tools", "inspect", "ckpt_tools.cli.commands.inspect.ask"),
    Program("trainer", trainer.run, "trainer", "evaluate", "trainer.cli.open_model"),
)


@pytest.fixture(params=PROGRAMS, ids=str)
def program(request: pytest.FixtureRequest) -> Program:
    return request.param


ESCAPES = "/no\x1b]0;owned\x07\x1b[31mwhere\u202e"
SHOWN = "/no\\x1b]0;owned\\x07\\x1b[31mwhere\\u202e"


def test_an_escape_is_shown_and_never_obeyed(program: Program, capsys: Any) -> None:
    assert program.run([program.command, ESCAPES]) == 3
    text = capsys.readouterr()
    assert text.out == ""
    assert (
        text.err
        == f"error[not-found]: {SHOWN}: no checkpoint with this prefix (no .index file)\n  next: ckpt audit /\n"
    )


def test_an_escape_is_an_escape_in_json_too(program: Program, capsys: Any) -> None:
    assert program.run([program.command, ESCAPES, "--json"]) == 3
    said = capsys.readouterr().out
    assert said.strip().isprintable()
    assert json.loads(said) == {
        "schema_version": 1,
        "command": program.command,
        "path": ESCAPES,
        "findings": [
            {
                "id": "not-found",
                "severity": "error",
                "message": "no checkpoint with this prefix (no .index file)",
                "path": ESCAPES,
                "key": None,
                "offset": None,
                "fix": "ckpt audit /",
            }
        ],
        "error": {
            "id": "not-found",
            "exit_code": 3,
            "message": f"{ESCAPES}: no checkpoint with this prefix (no .index file)",
            "hint": "ckpt audit /",
        },
    }


@pytest.mark.parametrize("option", ["--bogus", "--bo\x1b[31mgus"])
def test_a_usage_error(program: Program, option: str, capsys: Any) -> None:
    assert program.run([program.command, "a", option]) == 2
    text = capsys.readouterr()
    shown = option.replace("\x1b", "\\x1b")
    hint = f"{program.name} {program.command} --help"
    assert (text.out, text.err) == ("", f"error[usage]: No such option: {shown}\n  next: {hint}\n")
    assert program.run([program.command, "a", option, "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "schema_version": 1,
        "command": None,
        "path": None,
        "findings": [
            {
                "id": "usage",
                "severity": "error",
                "message": f"No such option: {shown}",
                "path": None,
                "key": None,
                "offset": None,
                "fix": hint,
            }
        ],
        "error": {"id": "usage", "exit_code": 2, "message": f"No such option: {shown}", "hint": hint},
    }


def failing(failure: BaseException | type[BaseException]) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise failure

    return fail


@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        (RuntimeError("o\u202eops"), 70, "RuntimeError: o\\u202eops"),
        (RuntimeError("\x1b[31m"), 70, "This is a bug in ckpt-tools: please report it"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_bugs_and_interruptions(
    program: Program, failure: BaseException, code: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(program.place, failing(failure))
    for options in ([], ["--json"]):
        assert program.run([program.command, "somewhere", *options]) == code
        text = capsys.readouterr()
        assert text.out == ""
        assert words in text.err
        assert ("Traceback" in text.err) == (code == 70)
        assert "\x1b" not in text.err


def test_too_little_memory(program: Program, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(program.place, failing(MemoryError))
    assert program.run([program.command, "somewhere", "--json"]) == 4
    text = capsys.readouterr()
    assert text.err.startswith("error[unsafe]: this machine has not enough memory for that\n  next: ")
    assert json.loads(text.out)["error"]["id"] == "unsafe"


@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        (OSError(errno.ENOMEM, "no memory"), 5, "error[storage]: cannot go on: no memory\n  next: "),  # of a semaphore
        (OSError(errno.EIO, "no answer"), 5, "error[storage]: cannot go on: no answer\n  next: "),  # of getcwd
        (PermissionError(errno.EACCES, "no", "x.py"), 5, "error[storage]: x.py: cannot go on: no\n  next: "),
        (
            FileNotFoundError(errno.ENOENT, "no usable temporary directory"),
            5,
            "error[storage]: cannot go on: no usable",
        ),
        (FileNotFoundError(errno.ENOENT, "no", "x"), 70, "This is a bug in ckpt-tools"),
    ],
)
def test_what_the_system_refuses_is_no_bug(
    program: Program, failure: OSError, code: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(program.place, failing(failure))
    assert program.run([program.command, "somewhere"]) == code
    assert words in capsys.readouterr().err


def test_a_directory_that_is_gone(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fail(*_: object, **__: object) -> None:
        os.getcwd()

    monkeypatch.setattr(program.place, fail)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert program.run([program.command, "somewhere"]) == 3
    assert "the directory that this was started in is gone\n  next: go to a directory" in capsys.readouterr().err


def ended(program: Program, words: str, streams: str) -> subprocess.CompletedProcess[str]:
    command = f"{sys.executable} -m {program.module} {words.format(command=program.command)} {streams}"
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", ["--version", "--help"])
def test_a_reader_that_leaves_before_the_first_word(program: Program, words: str) -> None:
    outer, inner = os.pipe()
    os.close(outer)
    done = subprocess.run(
        [sys.executable, "-m", program.module, words], stdout=inner, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(inner)
    assert (done.returncode, done.stderr) == (0, "")


# For ckpt see test_process.py; here that the trainer does likewise.
FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux alone has a device that is always full")


@FULL
@pytest.mark.parametrize("stdout", [">/dev/full", ">&-"])
@pytest.mark.parametrize("words", ["{command} /nowhere --json", "--version", "{command} --help"])
def test_an_answer_that_cannot_be_written_is_an_error_of_storage(words: str, stdout: str) -> None:
    found = ended(PROGRAMS[1], words, stdout)
    assert found.returncode == 5
    assert "bug" not in found.stderr


@FULL
@pytest.mark.parametrize(
    ("words", "code", "stderr"), [("{command} /nowhere", 3, "2>/dev/full"), ("train", 2, "2>&- <&-")]
)
def test_errors_that_nobody_hears_leave_the_exit_code(words: str, code: int, stderr: str) -> None:
    assert ended(PROGRAMS[1], words, stderr).returncode == code


def test_the_table_of_exit_codes_is_complete(program: Program, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    classes = [found for found in vars(errors).values() if isinstance(found, type) and hasattr(found, "exit_code")]
    given = {found.exit_code for found in classes} | {errors.EXIT_OK, errors.EXIT_INTERRUPTED}
    assert given == set(errors.EXIT_CODES)
    monkeypatch.setenv("COLUMNS", "80")
    assert program.run(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert " · ".join(f"{code} {words}" for code, words in errors.EXIT_CODES.items()) in shown
