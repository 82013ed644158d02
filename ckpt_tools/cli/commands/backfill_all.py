"""``ckpt backfill --all``: what the command shows while it works and in the end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.output import Output
from ckpt_tools.console.progress import Bars
from ckpt_tools.console.widths import NARROWEST, room, told_apart
from ckpt_tools.errors import EXIT_FINDINGS, EXIT_OK
from ckpt_tools.findings import Finding
from ckpt_tools.operations.backfilling import Options
from ckpt_tools.operations.bulk_backfilling import BulkRow, Listener, Summary, backfill_all
from ckpt_tools.operations.workers import Cluster, Processes, Workers
from ckpt_tools.runs.sharding import WHOLE, parse_shard

if TYPE_CHECKING:
    from rich.console import RenderableType

_TITLES = ("model", "value", "logged best", "outcome")
_MARKS = {
    "written": ("✓", "bold green"),
    "would-write": ("·", "green"),
    "had-it": ("·", "dim"),
    "skipped": ("-", "dim"),
    "failed": ("✗", "bold red"),
}


def run(
    output: Output, root: str, options: Options, *, workers: int | None, scheduler: str | None, shard: str | None = None
) -> int:
    """Do it and show it; returns the exit code."""
    crew: Workers = Processes(workers)
    if scheduler:
        words = f"the scheduler at {safe(scheduler)} has no workers yet: waiting for them"
        crew = Cluster(scheduler, lambda: output.line(words))
    with output.bars() as bars:
        share = WHOLE if shard is None else parse_shard(shard)
        found = backfill_all(root, options, crew, _Screen(output, root, bars), shard=share)
    output.result(found.to_json(), lambda: _text(found, output))
    return EXIT_FINDINGS if "failed" in found.totals else EXIT_OK


class _Screen(Listener):
    """A bar for each run that is being worked on, a line for each that is finished."""

    def __init__(self, output: Output, root: str, bars: Bars) -> None:
        self._output = output
        self._root = root
        self._bars = bars
        self._names: list[str] = []

    def begins(self, paths: Sequence[str]) -> None:
        self._names = [os.path.basename(path) for path in paths]
        self._bars.begin(len(paths))

    def works(self, number: int, done: int, total: int) -> None:
        self._bars.show(number, self._names[number], done, total)

    def ends(self, number: int, row: BulkRow) -> None:
        self._bars.finish(number)
        self._output.line(_line(row, self._root))


def _line(row: BulkRow, root: str) -> RenderableType:
    mark, style = _MARKS[row.status]
    path = os.path.relpath(row.outcome.path, os.path.abspath(root))
    return Text.assemble((f"{mark} ", style), f"{safe(path)}: {safe(_words(row))}")


def _words(row: BulkRow) -> str:
    error = row.outcome.error
    if error is None:
        return row.outcome.sentence
    return f"{error.message}; next: {error.hint}" if error.hint else error.message


def _text(found: Summary, output: Output) -> Iterator[RenderableType]:
    outcomes = [row.outcome for row in found.rows]
    names = [safe(os.path.relpath(outcome.path, os.path.abspath(found.root))) for outcome in outcomes]
    cells = [
        (
            outcome.lineage.model if outcome.lineage else "-",
            "-" if outcome.value is None else f"{outcome.value:.6f}",
            "-" if outcome.logged_best is None else f"{outcome.logged_best.recall:.6f}",
            Text(row.status, style=_MARKS[row.status][1]),
        )
        for row, outcome in zip(found.rows, outcomes, strict=True)
    ]
    if output.cuts:
        names = told_apart(names, room(_TITLES, cells, output.width))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("run", overflow="fold", min_width=NARROWEST)
    for title in _TITLES:
        table.add_column(title, no_wrap=True, justify="right" if title in ("value", "logged best") else "left")
    for name, row in zip(names, cells, strict=True):
        table.add_row(Text(name), *row)
    if found.rows:
        yield table
    counts = ", ".join(f"{number} {status}" for status, number in found.totals.items())
    yield Text(f"{render.count(len(found.rows), 'run')}: {counts or 'nothing to do'}", style="bold")
    yield from _once(found.findings)


def _once(findings: Sequence[Finding]) -> Iterator[RenderableType]:
    """What was found in several runs alike is said once, with how many they are."""
    alike: dict[tuple[str, str, str | None], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.severity, finding.message, finding.fix), []).append(finding)
    for same in alike.values():
        first = same[0]
        if len(same) > 1:
            first = replace(first, message=f"{first.message} (and so {len(same) - 1} more)")
        yield from render.findings([first])
