"""What all commands share: the typer application, common options, and how a command ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from ckpt_tools.cli.completion import complete_path
from ckpt_tools.console.output import Output
from ckpt_tools.console.pipes import while_read
from ckpt_tools.errors import CkptError, UsageError
from ckpt_tools.fs.durable import locking
from ckpt_tools.fs.limits import Limits, limits
from ckpt_tools.version import __version__

EXIT_CODES = (
    "Exit codes: 0 fine · 1 findings (damage, difference, at risk) · 2 usage · 3 not found · "
    "4 unsafe or over a limit · 5 storage · 6 busy · 7 unsupported · 70 bug · 130 interrupted."
)


class _Command(TyperCommand):
    """A command that also takes what is the same for all: how stores are asked."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params += [
            TyperOption(
                param_decls=["--timeout"],
                type=float,
                expose_value=False,
                callback=_take_timeout,
                metavar="SECONDS",
                help="Of a URL: how long a server may take to answer.",
                show_default=False,
            ),
            TyperOption(
                param_decls=["--allow-redirects"],
                is_flag=True,
                expose_value=False,
                callback=_take_redirects,
                help="Of a URL: follow a server to another host.",
                show_default=False,
            ),
        ]


def _take_timeout(context: Any, option: Any, seconds: float | None) -> None:  # noqa: ARG001 (click's signature)
    if seconds is None:
        limits.seconds = Limits.seconds
    elif not 0 < seconds < 1e6:
        raise typer.BadParameter("a number of seconds above 0")
    else:
        limits.seconds = seconds


def _take_redirects(context: Any, option: Any, allowed: bool) -> None:  # noqa: ARG001
    limits.redirects = bool(allowed)


class _App(typer.Typer):
    if not TYPE_CHECKING:  # the types are those of typer

        def command(self, *arguments, **options):
            return super().command(*arguments, **{"cls": _Command, **options})


app = _App(
    help="Inspect, verify, repair and backfill TensorFlow checkpoints, without TensorFlow.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def group(help: str) -> typer.Typer:
    """A command of several: each takes what all commands take."""
    return _App(help=help, no_args_is_help=True, pretty_exceptions_enable=False)


PathArgument = Annotated[
    str,
    typer.Argument(
        help="A prefix, a file of a checkpoint, a directory, an experiment, a SavedModel, a .h5 or .keras file.",
        show_default=False,
        autocompletion=complete_path,
    ),
]
PathsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...",
        help="Prefixes, files of a checkpoint, directories, experiments, SavedModels, .h5 or .keras files.",
        show_default=False,
        autocompletion=complete_path,
    ),
]
RootArgument = Annotated[
    str,
    typer.Argument(
        metavar="ROOT",
        help="A directory, at any height above the runs.",
        show_default=False,
        autocompletion=complete_path,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, and nothing else there.")]
NoLock = Annotated[
    bool,
    typer.Option("--no-lock", help="Take no lock, for file systems that have none: nothing else may write there."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing unless something is wrong.")]


def epilog(*examples: str) -> str:
    return "\n\n".join([*(f"Example: {example}" for example in examples), EXIT_CODES])


def _version(asked: bool) -> None:
    if asked:
        with while_read():
            print(f"ckpt {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


def finish(output: Output, body: Callable[[], int], *, lock: bool = True) -> None:
    """Run a command's body and leave with its exit code; one of our errors becomes a message and its code.

    ``lock``: whether directories that are changed are locked meanwhile.
    """
    with output.with_notes(), locking(lock):
        try:
            code = body()
        except CkptError as error:
            if error.hint is None and isinstance(error, UsageError):
                error.hint = f"ckpt {output.command} --help"
            output.error(error)
            code = error.exit_code
    raise typer.Exit(code)
