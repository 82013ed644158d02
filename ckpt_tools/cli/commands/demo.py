"""``ckpt demo``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ckpt_tools.cli.app import app
from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.language import said
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import EXIT_OK

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.operations.demonstration import Demonstration


@app.command(epilog=epilog("ckpt demo", "ckpt demo ."))
def demo(
    directory: Annotated[str, typer.Argument(metavar="[DIR]", help="Where to write it.")] = "ckpt-demo",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a small real old experiment with its data, to try everything on.

    A ComiRec-DR run of the Keras port that does not know its best metric. Nothing is overwritten.
    """
    output = Output("demo", directory, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.operations.demonstration import demonstrate

        found = demonstrate(directory)
        output.result(found.to_json(), lambda: _text(found))
        return EXIT_OK

    finish(output, body)


def _text(found: Demonstration) -> Iterator[RenderableType]:
    yield Text(f"{safe(found.directory)}: {said('an old experiment with its logs and data')}, {said(_files(found))}")
    data = os.path.join(found.directory, "data")
    look = f"ckpt inspect {shlex.quote(found.experiment)}"
    for command in (look, f"ckpt backfill {shlex.quote(found.experiment)} --data {shlex.quote(data)}"):
        yield render.next_step(command)


def _files(found: Demonstration) -> str:
    return render.count(len(found.written), "file")
