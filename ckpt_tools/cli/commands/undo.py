"""``ckpt undo``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from ckpt_tools.cli.app import Json, PathArgument, Quiet, app, epilog, finish
from ckpt_tools.cli.output import Output, safe
from ckpt_tools.errors import EXIT_OK


@app.command(epilog=epilog("ckpt undo best_model/book_ComiRec-DR_b128_lr0.005_d64_len20_test85"))
def undo(
    path: PathArgument,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="ID", help="Take back everything since and including this change.", show_default=False
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take back the last change of a checkpoint, byte for byte."""
    output = Output("undo", path, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools import plan
        from ckpt_tools.experiments import resolve

        prefix = resolve(path)
        entries = plan.undo(prefix, to=to)
        output.result(
            {
                "prefix": prefix,
                "restored": plan.written_names(entries),
                "undone": [entry["id"] for entry in entries],
                "findings": [],
            },
            lambda: _text(prefix, entries),
        )
        return EXIT_OK

    finish(output, body)


def _text(prefix: str, entries: Iterable[Mapping[str, Any]]) -> Iterator[RenderableType]:
    for entry in entries:
        words = f"{safe(prefix)}: took back {safe(entry['action'])} of {safe(entry['time'])} ({safe(entry['id'])})"
        yield Text("✓ ", style="bold green") + Text(words)
