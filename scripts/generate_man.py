"""Man pages and completion of shells, from the commands themselves: ``share/man/man1`` and ``share/completions``.

    python scripts/generate_man.py [DIRECTORY]

They are made for a release (``make dist``) and are in the sdist and the wheel; in a clone there are none, for
``--help`` and ``--install-completion`` say the same.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.completion import get_completion_script
from typer.main import get_command

from ckpt_tools.cli import COMMANDS
from ckpt_tools.cli.app import app as ckpt
from ckpt_tools.errors import EXIT_CODES
from ckpt_tools.version import __version__
from trainer.cli import app as trainer

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = {"ckpt": ckpt, "trainer": trainer}
SHELLS = {"bash": "{name}.bash", "zsh": "_{name}", "fish": "{name}.fish"}
FILES = {
    "ckpt": (
        ("ckpt.toml", "Describes the runs of another trainer, in the directory of the run or above it."),
        (".ckpt-tools", "Beside a checkpoint that was changed: the originals, and the ledger of what was done."),
        ("~/.config/ckpt-tools", "Which declarations the user trusts to run commands."),
    ),
    "trainer": (
        ("best_model/EXPERIMENT", "The best model (keras_ckpt) and the newest state (latest)."),
        ("runs/EXPERIMENT", "The log (metrics.jsonl), TensorBoard events and the curve."),
    ),
}


def page(name: str, app: Any) -> str:
    """The man page of a program: every command with its options."""
    command = get_command(app)
    lines = [
        f'.TH {name.upper()} 1 "" "ckpt-tools {__version__}" "User Commands"',
        ".SH NAME",
        f"{name} \\- {_text(_sentences(command.help)[0].rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {name}\n.I COMMAND\n[\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]",
        ".SH DESCRIPTION",
        _text(command.help),
        ".SH COMMANDS",
        *_commands(name, command),
        ".SH EXIT STATUS",
        *(f".TP\n.B {code}\n{_text(words)}" for code, words in EXIT_CODES.items()),
        ".SH FILES",
        *(f".TP\n.I {_text(file)}\n{_text(words)}" for file, words in FILES[name]),
        ".SH ENVIRONMENT",
        ".TP\n.B LC_ALL, LC_MESSAGES, LANG\nThe language of what people read: Chinese where it begins with zh.",
        ".SH SEE ALSO",
        *(f".BR {other} (1)" for other in PROGRAMS if other != name),
    ]
    return "\n".join(lines) + "\n"


def _commands(above: str, group: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        called = f"{above} {name}"
        if hasattr(command, "commands"):
            yield from _commands(called, command)
            continue
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        names = " ".join(_argument(each) for each in arguments)
        yield f".SS {_text(called)} {_text(names)}".rstrip()
        for paragraph in (command.help or "").split("\n\n"):
            yield f".PP\n{_text(paragraph)}"
        for each in arguments:
            if each.help:
                yield f".TP\n.I {_text(_argument(each))}\n{_text(each.help)}"
        for each in command.params:
            if each.param_type_name == "option" and not each.hidden:
                flags = ", ".join([*each.opts, *each.secondary_opts])
                value = "" if each.is_flag else str(each.metavar or each.type.name.upper())
                yield f".TP\n.B {_text(f'{flags} {value}')}\n{_text(each.help or '')}"


def _argument(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=\.)\s", text.strip())


def _text(words: str) -> str:
    """Words as roff takes them: no line begins with a control character, a hyphen can be copied."""
    text = " ".join(words.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def files() -> Iterator[tuple[str, str]]:
    """Each file below ``share``, with its text."""
    for command in COMMANDS:
        importlib.import_module(f"ckpt_tools.cli.commands.{command.replace('-', '_')}")
    for name, app in PROGRAMS.items():
        yield f"man/man1/{name}.1", page(name, app)
        for shell, file in SHELLS.items():
            variable = f"_{name.upper()}_COMPLETE"
            script = get_completion_script(prog_name=name, complete_var=variable, shell=shell)
            yield f"completions/{file.format(name=name)}", script.rstrip("\n") + "\n"


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "share"
    for name, text in files():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
