"""``ckpt repair``."""

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
from ckpt_tools.findings import exit_code

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.operations.repairing import Repair

# A file that is all wrong has a line for each of its tensors; --json has them all.
_MOST_LOST = 20


@app.command(
    epilog=epilog(
        "ckpt repair best_model/book_DNN_b128_lr0.005_d64_len20_test85 --dry-run",
        "ckpt repair checkpoints/ckpt-3",
    )
)
def repair(
    path: PathArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; write nothing.")] = False,
    no_lock: NoLock = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put right a 'checkpoint' file, what killed saves left behind, and a lost index; keep what is whole of damage."""
    output = Output("repair", path, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.operations.repairing import repair as library

        made = library(path, dry_run=dry_run)
        code = exit_code(made.findings)
        output.result({**made.to_json(), "written": not dry_run}, lambda: _text(made, dry_run), wrong=bool(code))
        return code

    finish(output, body, lock=not no_lock)


def _text(made: Repair, dry_run: bool) -> Iterator[RenderableType]:
    if not made.actions:
        mark, words = ("✓ ", "bold green"), "nothing to repair"
        if exit_code(made.findings):
            mark, words = ("✗ ", "bold red"), "nothing that a repair can mend"
        yield Text.assemble(mark, f"{safe(made.path)}: {words}")
    for action in made.actions:
        head = Text("would ", style="bold") if dry_run else Text("✓ ", style="bold green")
        yield Text.assemble(head, (safe(action.kind), "bold"), f" {safe(action.path)}: {safe(action.sentence)}")
    for lost in made.lost[:_MOST_LOST]:
        yield Text.assemble(("  lost ", "bold red"), f"{safe(lost.key)}: {safe(lost.reason)}")
    if len(made.lost) > _MOST_LOST:
        yield Text(f"  … and {len(made.lost) - _MOST_LOST} more; --json lists all", style="dim")
    yield from render.findings(made.findings)
    if made.actions and not dry_run:
        yield Text("  what was there before is kept in .ckpt-tools/backup; ckpt undo takes it back", style="dim")
