"""What a shell is offered, asked as its completion script asks."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import FIXTURES, pick

from ckpt_tools.cli.completion import complete_path

SAMPLE = pick("tf2.21")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("runs/exp/keras_ckpt/ckpt-1.index", "runs/exp/keras_ckpt/checkpoint", "model.keras", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".hidden").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("", ["model.keras", "runs/"]),
        ("m", ["model.keras"]),
        (".h", [".hidden/"]),
        # One directory in another: a blank behind it would end the path too early.
        ("ru", ["runs/exp/keras_ckpt/ckpt-1"]),
        ("runs/exp/keras_ckpt/c", ["runs/exp/keras_ckpt/ckpt-1"]),
        ("nothing", []),
        ("no/where/x", []),
    ],
)
@pytest.mark.usefixtures("tree")
def test_paths(typed: str, offered: list[str]) -> None:
    assert complete_path(typed) == offered


def test_bash_is_given_what_it_can_take(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other shells quote what they are given."""
    (tree / "a b(1)é$.keras").touch()
    assert complete_path("a") == ["a b(1)é$.keras"]
    monkeypatch.setenv("_CKPT_COMPLETE", "complete_bash")
    (quoted,) = complete_path("a")
    assert quoted == r"a\ b\(1\)é\$.keras"
    assert shlex.split(quoted) == ["a b(1)é$.keras"]


def test_the_home_directory_stays_a_tilde(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree))
    assert complete_path("~/m") == ["~/model.keras"]


@pytest.fixture
def ask() -> Callable[[str], list[str]]:
    def ask(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "_CKPT_COMPLETE": "complete_bash"}
        command = [sys.executable, "-c", "from ckpt_tools.cli import main; main()"]
        done = subprocess.run(
            command, env={**os.environ, **words}, cwd=FIXTURES, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    return ask


def test_the_shell_gets_them(ask: Callable[[str], list[str]]) -> None:
    experiment = os.path.relpath(SAMPLE.path, FIXTURES)
    for command in ("inspect", "resume-check", "audit"):
        assert ask(f"ckpt {command} {experiment}/keras_ckpt/c") == [f"{experiment}/keras_ckpt/ckpt-3"]
    names = ask(f"ckpt inspect {experiment} --filter model/p")
    assert {"model/proj/kernel", "model/proj/bias"} <= set(names)
    assert all(name.startswith("model/p") for name in names)
    assert ask(f"ckpt inspect {experiment}/nothing --filter model/p") == []
