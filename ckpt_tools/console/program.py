"""What the command lines of both programs share: common options, their help, how a command and a program end."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, cast

import typer

from ckpt_tools.console.escapes import safe
from ckpt_tools.console.language import LANGUAGES, Language, choose, label
from ckpt_tools.console.output import Output
from ckpt_tools.console.pipes import UNWRITTEN, end_of_output, if_heard, open_streams, while_read
from ckpt_tools.errors import (
    EXIT_BUG,
    EXIT_CODES,
    EXIT_INTERRUPTED,
    EXIT_OK,
    CkptError,
    NotFoundError,
    StorageError,
    UnsafeError,
    UsageError,
)
from ckpt_tools.fs.durable import locking
from ckpt_tools.fs.local import refusal
from ckpt_tools.redaction import remember, without_secrets
from ckpt_tools.version import __version__

EXIT_CODES_LINE = f"Exit codes: {' · '.join(f'{code} {words}' for code, words in EXIT_CODES.items())}."

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing unless something is wrong.")]


def epilog(*examples: str) -> str:
    """The end of a command's help."""
    return "\n\n".join([*(f"Example: {example}" for example in examples), EXIT_CODES_LINE])


def _version(context: typer.Context, asked: bool) -> None:
    if asked:
        with while_read():
            print(f"{context.info_name} {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
]


def _lang(language: str | None) -> None:
    """Raises typer.BadParameter for a language that is not spoken."""
    if language is not None and language not in LANGUAGES:
        raise typer.BadParameter(f"must be one of {', '.join(LANGUAGES)}")
    if language is not None:
        choose(cast("Language", language))


def take_language(context: Any, option: Any, language: str | None) -> None:  # noqa: ARG001 (click's signature)
    """The callback of an option ``--lang``."""
    _lang(language)


Lang = Annotated[
    str | None,
    typer.Option(
        "--lang",
        metavar="en|zh",
        callback=_lang,
        is_eager=True,
        show_default="that of the locale",
        help="The language of what people read; JSON is always the same.",
    ),
]

# typer carries its own copy of click in some versions: the common base of its usage errors is this.
_UsageProblem: type[Exception] = typer.BadParameter.__mro__[1]


def finish(output: Output, body: Callable[[], int], *, lock: bool = True, shares_terminal: bool = False) -> None:
    """Run a command's body and leave with its exit code; one of our errors becomes a message and its code.

    ``lock``: whether directories that are changed are locked meanwhile. ``shares_terminal``: something else draws or
    prints on the terminal meanwhile, so that no line may say there that work goes on.
    """
    working = contextlib.nullcontext() if shares_terminal else output.working()
    with output.with_notes(), locking(lock), working:
        try:
            code = body()
        except CkptError as error:
            if error.hint is None and isinstance(error, UsageError):
                error.hint = f"{output.program} {output.command} --help"
            output.error(error)
            code = error.exit_code
        except (KeyboardInterrupt, typer.Abort):
            output.end_progress()
            code = _interrupted()
        finally:
            output.end_progress()
    raise typer.Exit(code)


def main(run: Callable[[], int]) -> int:
    """Run a program with whatever streams its shell gave it, and return its exit code."""
    open_streams()
    return end_of_output(run())


def run(app: typer.Typer, given: Sequence[str], output: type[Output]) -> int:
    """Run the command that is given and return its exit code; never raises."""
    for argument in given:
        remember(argument)
    choose(None)
    try:
        code: Any = app(list(given), prog_name=output.program, standalone_mode=False)
        return EXIT_OK if code is None else int(code)
    except _UsageProblem as problem:
        message = getattr(problem, "format_message", problem.__str__)()
        if not message:  # the help was shown instead
            return UsageError.exit_code
        context = getattr(problem, "ctx", None)
        hint = f"{context.command_path if context else output.program} --help"
        return _end(UsageError(message, hint=hint), given, output)
    except SystemExit as ended:
        # Help is printed by rich, which ends the program with 1 when the reader of a pipe leaves.
        return EXIT_OK if {"--help", "-h"} & {*given} else int(ended.code or EXIT_OK)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except CkptError as error:
        # A command shows its own; this one came while an answer was printed.
        with if_heard():
            print(f"{label('error', error.id)}{safe(error)}", file=sys.stderr)
        return error.exit_code
    except MemoryError:
        hint = "close other programs, then run the same command again"
        return _end(UnsafeError("this machine has not enough memory for that", hint=hint), given, output)
    except OSError as error:
        if error.filename is None and error.errno in UNWRITTEN and ({"--help", "-h"} & {*given} or not given):
            return StorageError.exit_code  # the help, which nobody could read
        refused = _refused(error)
        return _bug() if refused is None else _end(refused, given, output)
    except Exception:
        return _bug()


def _refused(error: OSError) -> CkptError | None:
    """What the system would not do, where it is not about a file: to start a process, to make a semaphore or a
    temporary directory, to say where we are, to load a module. None for what a command should have said itself."""
    if isinstance(error, FileNotFoundError) and error.filename is None and not _is_somewhere():
        hint = "go to a directory that is there, then run the same command again"
        return NotFoundError("the directory that this was started in is gone", hint=hint)
    of_a_name = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
    if isinstance(error, of_a_name) and error.filename is not None:
        return None
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else None
    return refusal(error, path, "go on")


def _is_somewhere() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _bug() -> int:
    import traceback  # only when there is something to trace

    with if_heard():
        for line in without_secrets(traceback.format_exc()).split("\n"):
            print(safe(line), file=sys.stderr)
        print("This is a bug in ckpt-tools: please report it with the lines above.", file=sys.stderr)
    return EXIT_BUG


def _end(error: CkptError, given: Sequence[str], output: type[Output]) -> int:
    output(None, None, json="--json" in given, quiet=False).error(error)
    return error.exit_code


def _interrupted() -> int:
    with if_heard():
        print("interrupted", file=sys.stderr)
    return EXIT_INTERRUPTED
