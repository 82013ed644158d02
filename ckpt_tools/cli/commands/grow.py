"""``ckpt grow``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ckpt_tools.cli.app import NoLock, PathArgument, app
from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import EXIT_OK

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.operations.growing import Grown


@app.command(
    epilog=epilog(
        "ckpt grow best_model/old --map old_item_map.txt new_item_map.txt best_model/new/keras_ckpt/ckpt-1",
    )
)
def grow(
    path: PathArgument,
    out: Annotated[str, typer.Argument(help="A new prefix, or a directory for one.", show_default=False)],
    maps: Annotated[
        tuple[str, str],
        typer.Option(
            "--map",
            metavar="OLD NEW",
            help="The items' ids in the old and the new data: lines name,id, as trainer prepare writes them.",
            show_default=False,
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be moved; write nothing.")] = False,
    no_lock: NoLock = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Move a ComiRec checkpoint to another catalogue: items numbered anew, come or gone.

    Rows of items and their moments go where the new ids are; rows of new items are as a new run starts them. What was
    measured on the old catalogue is left out: the first evaluation of a resume counts as the best.
    """
    output = Output("grow", path, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.operations.growing import grow as ask

        done = ask(path, maps[0], maps[1], out, dry_run=dry_run)
        output.result({**done.to_json(), "findings": []}, lambda: _text(done))
        return EXIT_OK

    finish(output, body, lock=not no_lock)


def _text(done: Grown) -> Iterator[RenderableType]:
    rows = done.rows
    what = f"{done.items_before} rows to {done.items_after}: {rows.kept} items kept, {rows.added} new, {rows.gone} gone"
    if not done.written:
        yield Text(f"would write {safe(done.output)}: {what}", style="bold")
    else:
        yield Text.assemble(("✓ ", "bold green"), f"{safe(done.output)}: {what}")
    yield Text(f"  moved row by row: {render.count(len(done.moved), 'tensor')}, the others are as they were")
    if rows.nameless:
        message = f"{render.count(rows.nameless, 'row')} of the old table, which the old map does not name"
        yield Text.assemble(("  left out: ", "bold"), message)
    yield Text.assemble(("  left out: ", "bold"), "what was measured on the old catalogue, as the best metric")
