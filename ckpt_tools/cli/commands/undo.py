"""``ckpt undo``."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ckpt_tools.cli.app import NoLock, PathArgument, app
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import EXIT_OK, CkptError
from ckpt_tools.format.filenames import INDEX, STATE_FILE

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
        from ckpt_tools.runs import ledger

        prefix, beside = _chain(path)
        if list_only:
            entries = ledger.history(prefix, beside=beside)
            rows = [{**entry.to_json(), "backup": transactions.has_backup(prefix, entry)} for entry in entries]
            output.result({"prefix": prefix, "changes": rows, "findings": []}, lambda: _listing(prefix, rows))
            return EXIT_OK
        if drop:
            dropped = transactions.drop_backups(prefix)
            output.result(
                {"prefix": prefix, "dropped": dropped, "findings": []},
                lambda: [Text(f"{safe(prefix)}: removed the originals of {', '.join(dropped)}")],
            )
            return EXIT_OK
        entries = transactions.undo(prefix, to=to, beside=beside)
        output.result(
            {
                "prefix": prefix,
                "restored": transactions.written_names(entries),
                "undone": [entry.id for entry in entries],
                "findings": [],
            },
            lambda: _text(prefix, entries),
        )
        return EXIT_OK

    finish(output, body, lock=not no_lock)


def _chain(path: str) -> tuple[str, bool]:
    """The prefix whose changes are meant, and whether those of the files beside it are meant too.

    Of a directory or an experiment it is the checkpoint that it means, as everywhere. Where that one was never
    changed (a resume has saved since), or where none can be told any more, it is the one that was changed last.
    """
    from ckpt_tools import transactions
    from ckpt_tools.fs import local
    from ckpt_tools.readers.state_files import is_state_file
    from ckpt_tools.runs import ledger
    from ckpt_tools.runs.experiments import BEST_LINE, LATEST_LINE, resolve

    folder = (found := local.look(path, follow=True)) is not None and stat.S_ISDIR(found.st_mode)
    directory = path if folder else os.path.dirname(path) or "."
    beside = folder or os.path.basename(path) == STATE_FILE or is_state_file(path)
    prefix, problem = "", None
    try:
        prefix = resolve(path)
    except CkptError as error:
        problem = error
    lines = [os.path.dirname(prefix) or "."] if prefix else []
    lines += [directory, *(os.path.join(directory, line) for line in (BEST_LINE, LATEST_LINE) if folder)]
    for line in dict.fromkeys(lines):
        unfinished = transactions.pending(line)
        if unfinished is not None:
            changed = os.path.join(line, getattr(unfinished.entry, "checkpoint", ""))
            if beside or changed in (prefix, path.removesuffix(INDEX)):
                return changed, beside
    if prefix and (not beside or ledger.history(prefix, beside=True)):
        return prefix, beside
    changes = [(entry, line) for line in dict.fromkeys(lines) for entry in ledger.standing(ledger.read_ledger(line))]
    if beside and changes:
        entry, line = max(changes, key=lambda change: change[0].time)
        return os.path.join(line, getattr(entry, "checkpoint", "")), beside
    if problem is not None:
        raise problem
    return prefix, beside


def _text(prefix: str, entries: Iterable[ChangeEntry]) -> Iterator[RenderableType]:
    from ckpt_tools.runs.ledger import TidyEntry

    for entry in entries:
        where = os.path.dirname(prefix) if isinstance(entry, TidyEntry) else prefix
        words = f"{safe(where)}: took back {safe(entry.action)} of {safe(entry.time)} ({safe(entry.id)})"
        yield Text.assemble(("✓ ", "bold green"), words)


def _listing(prefix: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[RenderableType]:
    yield Text(safe(prefix), style="bold")
    if not rows:
        yield Text("  no change is recorded")
    for row in rows:
        kept = "" if row["backup"] else "  (originals removed: cannot be undone)"
        yield Text(f"  {safe(row['id'])}  {safe(row['action'])}  {safe(row['time'])}{kept}")
