"""``ckpt migrate``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ckpt_tools.cli.app import NoLock, PathArgument, app
from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import EXIT_OK, UsageError
from ckpt_tools.findings import Finding
from ckpt_tools.format.object_graph import VALUE_SUFFIX

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.operations.migration import Finished, Migration


@app.command(
    epilog=epilog(
        "ckpt migrate best_model/book_DNN_b128_lr0.005_d64_len20_test85 --to trainer --dry-run",
        "ckpt migrate best_model/book_DNN_b128_lr0.005_d64_len20_test85 --to trainer --output migrated",
    )
)
def migrate(
    path: PathArgument,
    to: Annotated[str, typer.Option("--to", help="The layout to write: trainer.")] = "trainer",
    output_directory: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="DIR", help="Write into a new directory instead of in place.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; write nothing.")] = False,
    no_lock: NoLock = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Rewrite an old trainer's checkpoint into the layout of this project's trainer, optimizer state included."""
    output = Output("migrate", path, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.operations.migration import migrate as library

        if to != "trainer":
            raise UsageError(f"--to {to}: the only layout is trainer")
        migration, where = library(path, output=output_directory, dry_run=dry_run)
        written = where if output_directory else None
        output.result(
            {
                **migration.to_json(),
                "written": not dry_run,
                "output": written,
                "backup": None if output_directory else where,
                "findings": [found.to_json() for found in _findings(migration, where, output_directory is not None)],
            },
            lambda: _text(migration, where, output_directory is not None),
        )
        return EXIT_OK

    finish(output, body, lock=not no_lock)


def _text(migration: Migration | Finished, where: str | None, to_output: bool) -> Iterator[RenderableType]:
    from ckpt_tools.operations.migration import Finished

    if isinstance(migration, Finished):
        words = f"{safe(migration.prefix)}: its migration, which was interrupted, is now brought to its end"
        yield Text.assemble(("✓ ", "bold green"), words)
        return
    prefix = safe(migration.plan.prefix)
    if where is None:
        yield Text(f"would migrate {prefix} ({migration.lineage.id})", style="bold")
    elif to_output:
        yield Text.assemble(("✓ ", "bold green"), f"{prefix} ({migration.lineage.id}) migrated to {safe(where)}")
    else:
        yield Text.assemble(("✓ ", "bold green"), f"{prefix} ({migration.lineage.id}) migrated in place")
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("the trainer's name", no_wrap=True)
    table.add_column("stored as", overflow="fold")
    for name, keys in migration.mapped.items():
        table.add_row(safe(name), Text(safe(" + ".join(keys))))
    for change in migration.plan.changes:
        name = change.key.removesuffix(VALUE_SUFFIX)
        if change.value is not None and not change.key.startswith("_"):
            table.add_row(safe(name), Text(f"new: {safe(change.value)}", style="cyan"))
    for key in migration.dropped:
        called = migration.called.get(key)
        table.add_row(Text("dropped", style="yellow"), Text(safe(f"{key} ({called})" if called else key)))
    yield Padding(table, (0, 0, 0, 2), expand=False)
    yield from render.findings(_findings(migration, where, to_output))


def _findings(migration: Migration | Finished, where: str | None, to_output: bool) -> list[Finding]:
    """A migration invents no best metric: what was not there is still missing, and can be put in."""
    from ckpt_tools.operations.migration import Finished

    if isinstance(migration, Finished) or migration.knows_its_best:
        return []
    path = os.path.dirname(where) if to_output and where else migration.path
    message = "best_metric was never set, and is not now: after a resume the first evaluation counts as the best"
    return [Finding("best-metric-unset", "warning", message, path, fix=f"ckpt backfill {shlex.quote(path)} --data DIR")]
