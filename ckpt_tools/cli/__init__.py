"""The ``ckpt`` command: thin typer commands over the library; text and JSON of the same dataclasses."""

from __future__ import annotations

import gc
import importlib
import sys

from ckpt_tools.cli.app import app
from ckpt_tools.console import program
from ckpt_tools.console.output import Output

# One module of ckpt_tools.cli.commands each, in the groups and the order of the help.
GROUPS = {
    "Look at a checkpoint": ("inspect", "verify", "diff", "why", "explain"),
    "Go on with old runs": ("resume-check", "backfill", "migrate", "lineage"),
    "Put right, take back": ("repair", "undo"),
    "Make other files": ("export", "slim", "average", "grow"),
    "Many runs": ("audit", "keep", "report", "browse"),
    "Keep a best, try it out": ("guard", "demo"),
}
COMMANDS = tuple(command for commands in GROUPS.values() for command in commands)
_GROUP_OF = {command: title for title, commands in GROUPS.items() for command in commands}


def main(arguments: list[str] | None = None) -> None:
    """The entry point: run a command and exit with its code."""
    # Lists of 10^5 tensors live until the end: looking for cycles in them again and again would be half the work.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    gc.enable()
    code = program.main(lambda: run(arguments))
    # Nor is it worth looking for any as the process ends.
    gc.freeze()
    sys.exit(code)


def _register(arguments: list[str]) -> None:
    """Import the module of the command that is meant; all of them when that is not clear, as for help.

    An inspection should not wait for the imports of all that other commands need.
    """
    meant = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name in (meant,) if meant in COMMANDS else COMMANDS:
        importlib.import_module(f"ckpt_tools.cli.commands.{name.replace('-', '_')}")
    for command in app.registered_commands:
        command.rich_help_panel = _GROUP_OF[command.name or str(getattr(command.callback, "__name__", ""))]
    for group in app.registered_groups:
        group.rich_help_panel = _GROUP_OF[str(group.name)]


def run(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; never raises."""
    given = sys.argv[1:] if arguments is None else arguments
    _register(given)
    return program.run(app, given, Output)
