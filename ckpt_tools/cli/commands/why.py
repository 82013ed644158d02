"""``ckpt why``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ckpt_tools.cli.app import Json, PathArgument, Quiet, app, epilog, finish
from ckpt_tools.cli.output import Output, safe
from ckpt_tools.errors import EXIT_OK
from ckpt_tools.steady import steady

if TYPE_CHECKING:
    from rich.console import RenderableType


@app.command(epilog=epilog("ckpt why best_model/book_DNN_b128_lr0.005_d64_len20_test85"))
def why(path: PathArgument, json: Json = False, quiet: Quiet = False) -> None:
    """Say where the values in a checkpoint come from: every change of it, with its evidence."""
    output = Output("why", path, json=json, quiet=quiet)

    def body() -> int:
        prefix, entries = _changes(path)
        output.result({"prefix": prefix, "changes": entries, "findings": []}, lambda: _text(prefix, entries))
        return EXIT_OK

    finish(output, body)


@steady
def _changes(path: str) -> tuple[str, list[dict[str, Any]]]:
    """The checkpoint that is meant, and its changes."""
    from ckpt_tools import ledger
    from ckpt_tools.experiments import resolve

    prefix = resolve(path)
    return prefix, ledger.history(prefix)


def _text(prefix: str, entries: list[dict[str, Any]]) -> Iterator[RenderableType]:
    yield Text(safe(prefix), style="bold")
    if not entries:
        yield Text("  as its trainer wrote it: no change is recorded")
    for entry in entries:
        yield Text(f"  {safe(entry['time'])}  {safe(entry['action'])} by {safe(entry['tool'])}  ({safe(entry['id'])})")
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for change in entry["changes"]:
            if change["value"] is not None:
                table.add_row(f"{change['action']}s", Text(f"{safe(change['key'])} = {safe(change['value'])}"))
        for name, text in _evidence(entry["evidence"]):
            table.add_row(name, Text(safe(text)))
        table.add_row("index", f"{(entry['index_before'] or 'none')[:12]} → {entry['index_after'][:12]} (SHA-256)")
        yield Padding(table, (0, 0, 0, 4), expand=False)


def _evidence(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    measured = evidence.get("measured")
    if measured:
        what = f"{measured['name']}@{measured['top_n']} of {measured['users']} {measured['split']} users"
        yield "measured", f"{measured['value']:.6f}, {what} (split {measured['digest'][:12]})"
    logged = evidence.get("logged_best")
    if logged:
        yield "logged", f"{logged['recall']:.6f} at step {logged['step']} in {logged['source']}"
    if evidence.get("agreement"):
        yield "agreement", evidence["agreement"]
    if evidence.get("from"):
        yield "from", f"{evidence['from']} to {evidence['to']}"
