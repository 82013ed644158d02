"""The help of every command that there is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ckpt_tools import __version__
from ckpt_tools.cli import COMMANDS


def test_the_commands_are_there() -> None:
    assert {"inspect", "backfill", "undo"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_and_the_exit_codes(command: str, ckpt: Callable) -> None:
    answer = ckpt(command, "--help")
    assert answer.code == 0
    assert f"Example: ckpt {command}" in answer.out
    assert "Exit codes: 0 fine" in answer.out
    assert ckpt(command, "-h") == answer


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json_and_quiet(command: str, ckpt: Callable) -> None:
    # A group of commands: each of them has its own.
    words = ("lineage", "test") if command == "lineage" else (command,)
    out = ckpt(*words, "--help").out
    assert "--json" in out
    assert "--quiet" in out


def test_the_help_lists_every_command(ckpt: Callable) -> None:
    out = ckpt("--help").out
    for command in COMMANDS:
        assert command in out


def test_the_version(ckpt: Callable) -> None:
    assert ckpt("--version").out == f"ckpt {__version__}\n"
