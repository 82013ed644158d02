"""``ckpt why``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ckpt_tools.cli.app import PathArgument, app
from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import EXIT_OK, UsageError
from ckpt_tools.findings import exit_code

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.analysis.provenance import Provenance
    from ckpt_tools.operations.significance import Significance


@app.command(
    epilog=epilog(
        "ckpt why best_model/book_DNN_b128_lr0.005_d64_len20_test85",
        "ckpt why best_model/EXP --significance --data data/book_data",
    )
)
def why(
    path: PathArgument,
    compare: Annotated[
        bool, typer.Option("--significance", help="Measure the other kept checkpoints too: is it really the best?")
    ] = False,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="The data folder, for --significance.")
    ] = None,
    split: Annotated[str, typer.Option(help="The users to compare on: valid or test.")] = "valid",
    top_n: Annotated[int, typer.Option(min=1, help="Recall at N.")] = 50,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say where the values in a checkpoint come from: every change of it, with its evidence.

    With --significance: whether it is better than the other checkpoints of its run by more than the noise of having
    just these users, by a paired bootstrap.
    """
    output = Output("why", path, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.analysis.provenance import trace

        told = trace(path)
        document = told.to_json()
        if not compare:
            output.result(document, lambda: _text(told))
            return EXIT_OK
        from ckpt_tools.operations.significance import compare_with_rivals

        if data is None or split not in ("valid", "test"):
            raise UsageError("--significance needs --data, and a --split of valid or test")
        with output.progress("checkpoints") as progress:
            found = compare_with_rivals(path, data_dir=data, split=split, top_n=top_n, progress=progress)
        document["significance"] = found.to_json()
        document["findings"] = [finding.to_json() for finding in found.findings]
        output.result(document, lambda: (*_text(told), *_compared(found)))
        return exit_code(found.findings)

    finish(output, body)


def _compared(found: Significance) -> Iterator[RenderableType]:
    measured, users = found.measured, len(found.measured.values)
    yield Text(f"  {measured.metric}@{measured.top_n} {measured.value:.6f} over {users} {measured.split} users")
    yield Text("  ± is half the width of what 95% of the draws of as many users cover")
    for sentence in found.sentences:
        yield Text(f"  {safe(sentence)}")
    yield from render.findings(found.findings)


def _text(told: Provenance) -> Iterator[RenderableType]:
    from ckpt_tools.analysis.timeline import evidence_words

    yield Text(safe(told.prefix), style="bold")
    if history := render.history(told.evidence):
        yield Text(f"  recall  {history}")
    if not told.changes:
        yield Text("  as its trainer wrote it: no change is recorded")
    for entry in told.changes:
        yield Text(f"  {safe(entry.time)}  {safe(entry.action)} by {safe(entry.tool)}  ({safe(entry.id)})")
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for change in entry.changes:
            if change.get("value") is not None:
                table.add_row(
                    f"{safe(change.get('action'))}s", Text(f"{safe(change.get('key'))} = {safe(change['value'])}")
                )
        for name, text in evidence_words(entry.evidence):
            table.add_row(name, Text(safe(text)))
        table.add_row("index", f"{(entry.index_before or 'none')[:12]} → {entry.index_after[:12]} (SHA-256)")
        yield Padding(table, (0, 0, 0, 4), expand=False)
