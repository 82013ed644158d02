"""The ``ckpt`` command: thin typer commands over the library; text and JSON of the same dataclasses."""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Any

import typer

from ckpt_tools.cli.app import app
from ckpt_tools.console.output import Output
from ckpt_tools.console.pipes import UNWRITTEN, end_of_output, if_heard, open_streams
from ckpt_tools.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_OK, CkptError, StorageError, UsageError
from ckpt_tools.redaction import remember, without_secrets

# One module of ckpt_tools.cli.commands each, in the order of the help.
COMMANDS = (
    "inspect",
    "verify",
    "diff",
    "resume-check",
    "backfill",
    "migrate",
    "repair",
    "export",
    "slim",
    "average",
    "grow",
    "undo",
    "why",
    "explain",
    "guard",
    "lineage",
    "audit",
    "keep",
    "report",
    "browse",
    "demo",
)

# typer carries its own copy of click in some versions: the common base of its usage errors is this.
_UsageProblem: type[Exception] = typer.BadParameter.__mro__[1]


def main(arguments: list[str] | None = None) -> None:
    """The entry point: run a command and exit with its code."""
    # Lists of 10^5 tensors live until the end: looking for cycles in them again and again would be half the work.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    gc.enable()
    open_streams()
    code = end_of_output(run(arguments))
    # Nor is it worth looking for any as the process ends.
    gc.freeze()
    sys.exit(code)


def _register(arguments: list[str]) -> None:
    """Import the module of the command that is meant; all of them when that is not clear, as for help.

    An inspection should not wait for the imports of all that other commands need.
    """
    meant = next((argument for argument in arguments if not argument.startswith("-")), None)
    for command in (meant,) if meant in COMMANDS else COMMANDS:
        importlib.import_module(f"ckpt_tools.cli.commands.{command.replace('-', '_')}")


def run(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; never raises."""
    given = sys.argv[1:] if arguments is None else arguments
    for argument in given:
        remember(argument)
    _register(given)
    try:
        code: Any = app(given, prog_name="ckpt", standalone_mode=False)
        return EXIT_OK if code is None else int(code)
    except _UsageProblem as problem:
        message = getattr(problem, "format_message", problem.__str__)()
        if not message:  # the help was shown instead
            return UsageError.exit_code
        context = getattr(problem, "ctx", None)
        hint = f"{context.command_path if context else 'ckpt'} --help"
        Output(None, None, json="--json" in given, quiet=False).error(UsageError(message, hint=hint))
        return UsageError.exit_code
    except SystemExit as ended:
        # Help is printed by rich, which ends the program with 1 when the reader of a pipe leaves.
        return EXIT_OK if {"--help", "-h"} & {*given} else int(ended.code or EXIT_OK)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except CkptError as error:
        # A command shows its own; this one came while an answer was printed.
        with if_heard():
            print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None and error.errno in UNWRITTEN:
            return StorageError.exit_code  # the help, which nobody could read
        import traceback  # only when there is something to trace

        with if_heard():
            print(without_secrets(traceback.format_exc()), end="", file=sys.stderr)
            print("This is a bug in ckpt-tools: please report it with the lines above.", file=sys.stderr)
        return EXIT_BUG
