"""``ckpt slim``."""

from __future__ import annotations

import shlex
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

    from ckpt_tools.operations.slimming import Slimmed


@app.command(
    epilog=epilog(
        "ckpt slim model.ckpt-1000 slim/model.ckpt", "ckpt slim model.keras slim.keras", "ckpt slim ckpt-3 --in-place"
    )
)
def slim(
    path: PathArgument,
    out: Annotated[
        str | None,
        typer.Argument(
            help="A new prefix, a directory for one, or a new Keras file.", metavar="[OUT]", show_default=False
        ),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Change the checkpoint itself; undo takes it back.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be dropped; write nothing.")] = False,
    no_lock: NoLock = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a checkpoint without its optimizer's state: smaller, and only to be used.

    All other tensors stay bit-equal, and TensorFlow restores them without a warning.
    """
    output = Output("slim", path, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.operations.slimming import slim as ask

        done = ask(path, out, in_place=in_place, dry_run=dry_run)
        output.result({**done.to_json(), "findings": []}, lambda: _text(done))
        return EXIT_OK

    finish(output, body, lock=not no_lock)


def _text(done: Slimmed) -> Iterator[RenderableType]:
    total = done.kept_bytes + done.dropped_bytes
    size = (
        f"{render.size(done.kept_bytes)} of {render.size(total)}, {render.count(len(done.dropped), 'tensor')} dropped"
    )
    if not done.written:
        yield Text(f"would keep {size}", style="bold")
    else:
        yield Text.assemble(("✓ ", "bold green"), f"{safe(done.output or done.prefix)}: {size}")
    for sentence in done.lacks:
        yield Text.assemble(("  lacks: ", "bold"), safe(sentence))
    if done.backup:
        undo = f"ckpt undo {shlex.quote(done.prefix)}"
        yield Text(f"  the originals are kept: {safe(undo)} takes this back, with --drop-backups their space is freed")
