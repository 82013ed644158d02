"""``ckpt average``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ckpt_tools.cli.app import NoLock, app
from ckpt_tools.cli.completion import complete_path
from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import UsageError
from ckpt_tools.findings import exit_code

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.operations.averaging import Averaged


@app.command(
    epilog=epilog("ckpt average ckpt-8 ckpt-9 ckpt-10 averaged/ckpt", "ckpt average epoch-*.keras averaged.keras")
)
def average(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH... OUT",
            help="Checkpoints of one model, then a new prefix, a directory for one, or a new Keras file.",
            show_default=False,
            autocompletion=complete_path,
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be averaged; write nothing.")] = False,
    no_lock: NoLock = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the mean of several checkpoints of one model: in float64, in the types that they are stored in.

    Moments, steps and best metrics are left out: an average has none.
    """
    output = Output("average", paths[0], json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.operations.averaging import average as ask

        *sources, out = paths
        if not sources:
            raise UsageError("name the checkpoints, then what to write")
        done = ask(sources, out, dry_run=dry_run)
        output.result(done.to_json(), lambda: _text(done))
        return exit_code(done.findings)

    finish(output, body, lock=not no_lock)


def _text(done: Averaged) -> Iterator[RenderableType]:
    what = f"the mean of {len(done.sources)} checkpoints, {render.count(len(done.averaged), 'tensor')}"
    if not done.written:
        yield Text(f"would write {safe(done.output)}: {what}", style="bold")
    else:
        yield Text.assemble(("✓ ", "bold green"), f"{safe(done.output)}: {what}")
    if done.dropped:
        dropped = render.count(len(done.dropped), "tensor")
        yield Text.assemble(("  left out: ", "bold"), f"{dropped} (moments, steps, best metrics): an average has none")
    yield from render.findings(done.findings)
