"""``ckpt undo``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ckpt_tools.cli.app import NoLock, PathArgument, app
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.language import said
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import EXIT_OK

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.runs.ledger import ChangeEntry


@app.command(
    epilog=epilog(
        "ckpt undo best_model/book_ComiRec-DR_b128_lr0.005_d64_len20_test85",
        "ckpt undo best_model/book_ComiRec-DR_b128_lr0.005_d64_len20_test85 --list",
    )
)
def undo(
    path: PathArgument,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="ID", help="Take back everything since and including this change.", show_default=False
        ),
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", help="List the changes that can be taken back.")] = False,
    drop: Annotated[
        bool, typer.Option("--drop-backups", help="Remove the kept originals; the changes then stay for good.")
    ] = False,
    no_lock: NoLock = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take back the last change of a checkpoint, byte for byte.

    Of a directory or an experiment, also what a repair did to the files beside the checkpoints.
    """
    output = Output("undo", path, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools import transactions
        from ckpt_tools.operations import undoing
        from ckpt_tools.runs import ledger

        if list_only:
            prefix, beside = undoing.chain(path)
            entries = ledger.history(prefix, beside=beside)
            rows = [{**entry.to_json(), "backup": transactions.has_backup(prefix, entry)} for entry in entries]
            output.result({"prefix": prefix, "changes": rows, "findings": []}, lambda: _listing(prefix, rows))
            return EXIT_OK
        if drop:
            prefix, _ = undoing.chain(path)
            dropped = transactions.drop_backups(prefix)
            output.result(
                {"prefix": prefix, "dropped": dropped, "findings": []},
                lambda: [Text(f"{safe(prefix)}: removed the originals of {', '.join(dropped)}")],
            )
            return EXIT_OK
        done = undoing.undo(path, to=to)
        output.result(done.to_json(), lambda: _text(done.prefix, done.entries))
        return EXIT_OK

    finish(output, body, lock=not no_lock)


def _text(prefix: str, entries: Iterable[ChangeEntry]) -> Iterator[RenderableType]:
    from ckpt_tools.runs.ledger import TidyEntry

    for entry in entries:
        where = os.path.dirname(prefix) if isinstance(entry, TidyEntry) else prefix
        words = said(f"took back {safe(entry.action)} of {safe(entry.time)} ({safe(entry.id)})")
        yield Text.assemble(("✓ ", "bold green"), f"{safe(where)}: {words}")


def _listing(prefix: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[RenderableType]:
    yield Text(safe(prefix), style="bold")
    if not rows:
        yield Text("  no change is recorded")
    for row in rows:
        kept = "" if row["backup"] else "  (originals removed: cannot be undone)"
        yield Text(f"  {safe(row['id'])}  {safe(row['action'])}  {safe(row['time'])}{kept}")
