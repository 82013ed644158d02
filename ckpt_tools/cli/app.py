"""What all commands of ``ckpt`` share: the typer application, and the options that only they have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from ckpt_tools.cli.completion import complete_path
from ckpt_tools.console.program import Lang, Version, epilog, take_language
from ckpt_tools.fs.limits import Limits, limits


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
            TyperOption(
                param_decls=["--lang"],
                type=str,
                expose_value=False,
                callback=take_language,
                is_eager=True,
                hidden=True,  # shown once, in the help of all commands
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
    epilog=epilog(),
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
# Of what measures a checkpoint by somebody's own program.
Pattern = Annotated[
    str | None,
    typer.Option("--pattern", metavar="REGEX", help="Its group is the value in the output.", show_default=False),
]
Direction = Annotated[
    str | None,
    typer.Option("--mode", help="min or max: which is better; told by most names.", show_default=False),
]
ProgramSeconds = Annotated[float, typer.Option("--timeout", help="Seconds that the program may take.")]
NoLock = Annotated[
    bool,
    typer.Option("--no-lock", help="Take no lock, for file systems that have none: nothing else may write there."),
]


@app.callback()
def _root(version: Version = False, lang: Lang = None) -> None:
    pass
