"""``ckpt audit``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from ckpt_tools.analysis.inventory import DEFAULT_SCHEMA
from ckpt_tools.cli.app import RootArgument, app
from ckpt_tools.cli.check import Check
from ckpt_tools.cli.checks import Junit, Sarif, file_of, write
from ckpt_tools.cli.commands import audit_inventory
from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.console.widths import NARROWEST, room, told_apart
from ckpt_tools.errors import UsageError
from ckpt_tools.findings import Finding, exit_code

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.analysis.run_audit import Audit, Row

_HEALTH = {
    "whole": "green",
    "damaged": "bold red",
    "missing": "yellow",
    "unsupported": "cyan",
    "unreadable": "bold yellow",
}
_BEST = {"kept": "green", "lost": "bold yellow", "unknown": "dim"}
# What a terminal has no room for is in --csv and --json.
_WIDE, _TIGHT = 140, 100


@app.command(
    epilog=epilog(
        "ckpt audit /data/experiments",
        "ckpt audit . --filter model=DNN --filter 'best_logged>0.1' --sort -best_logged",
        "ckpt audit . --verify --csv > shelf.csv",
        "ckpt audit s3://bucket/runs --inventory inventory.csv.gz --indexes --shard 3/20 --out part-3.parquet",
    )
)
def audit(
    root: RootArgument,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every byte; without it only indexes and sizes of files.")
    ] = False,
    sort: Annotated[
        str | None,
        typer.Option("--sort", metavar="COLUMN", help="Order by a column of --json; -COLUMN: descending."),
    ] = None,
    filter: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", metavar="EXPR", help="Only runs with TEXT in the path, COLUMN=GLOB, !=, >, <. Repeatable."
        ),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="A table for spreadsheets on stdout.")] = False,
    inventory: Annotated[
        list[str] | None,
        typer.Option(
            "--inventory",
            metavar="FILE",
            help="Of s3://BUCKET: list what this inventory (CSV, .parquet) has, without asking the store. Repeatable.",
        ),
    ] = None,
    schema: Annotated[
        str, typer.Option("--schema", metavar="COLUMNS", help="Of a CSV inventory: the fileSchema of its manifest.")
    ] = DEFAULT_SCHEMA,
    indexes: Annotated[
        bool, typer.Option("--indexes", help="With --inventory: read each index, 64 at a time, and compare sizes.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="With --inventory: one of N shares, for job arrays.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="With --inventory: write the table (.csv, .parquet).")
    ] = None,
    junit: Junit = None,
    sarif: Sarif = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List every run below a directory: whole or damaged, what a resume would do, which copies could go.

    Exit code 1 when one of the listed runs is damaged. Nothing is changed.
    """
    output = Output("audit", root, json=json, quiet=quiet or csv)

    def body() -> int:
        from ckpt_tools.analysis import run_audit as library

        if csv and json:
            raise UsageError("--csv and --json exclude each other")
        if inventory:
            if verify or sort or filter or junit or sarif or csv:
                raise UsageError("with --inventory there are --schema, --indexes, --shard, --out and --json")
            return audit_inventory.run(output, root, inventory, schema=schema, indexes=indexes, shard=shard, out=out)
        if indexes or shard or out:
            raise UsageError("--indexes, --shard and --out go with --inventory")
        choose = library.selector(filter or [], sort)
        with output.live() as show:
            seen: list[Row] = []

            def look(row: Row) -> None:
                seen.append(row)
                if show is not None:
                    show(
                        lambda rows: _table(
                            seen[-rows:], output.width, True, title=f"{render.count(len(seen), 'run')} so far"
                        )
                    )

            found = choose(library.audit(root, verify=verify, seen=look))
        write(list(_checks(found)), "audit", junit=junit, sarif=sarif)
        if csv:
            output.csv(library.COLUMNS, (row.to_json() for row in found.rows))
        else:
            output.result(found.to_json(), lambda: _text(found, output.width, output.cuts))
        return exit_code(found.findings)

    finish(output, body)


def _checks(found: Audit) -> Iterator[Check]:
    """A check for each run, as what is wrong with it is a finding at its place."""
    findings: dict[str | None, list[Finding]] = {}
    for finding in found.findings:
        findings.setdefault(finding.path, []).append(finding)
    for row in found.rows:
        yield Check(row.location, file_of(row.location, row.prefix), tuple(findings.pop(row.location, ())))
    for path, left in findings.items():
        yield Check(path or found.root, path or found.root, tuple(left))


def _text(found: Audit, width: int, cuts: bool) -> Iterator[RenderableType]:
    if found.rows:
        yield _table(found.rows, width, cuts)
        if left_out := [column.name for column in _COLUMNS if width < column.least]:
            yield Text(f"no room for {', '.join(left_out)}: see --csv", style="dim")
    yield Text(_summary(found), style="bold")
    for row in found.rows:
        if row.problem:
            yield Text.assemble((f"{row.health}: ", _HEALTH[row.health]), safe(row.problem))
            if row.fix:
                yield render.next_step(row.fix)
        if row.best == "lost":
            words = f"{safe(row.path)}: the best of its log, {row.best_logged:.6f}, is in no checkpoint any more"
            yield Text.assemble(("lost: ", _BEST["lost"]), words)
    for row in found.rows:
        if row.safe_to_delete:
            yield Text.assemble(("safe to delete: ", "cyan"), f"{safe(row.path)}: {safe(row.safe_to_delete)}")
    for path in (*found.orphans, *(path for row in found.rows for path in row.orphans)):
        yield Text.assemble(("orphan: ", "cyan"), f"{safe(path)}: no checkpoint names this file")
    left = [finding for finding in found.findings if finding.id not in _SAID]
    yield from render.findings(replace(finding, message=f"{finding.path}: {finding.message}") for finding in left)
    if found.next is not None and found.next.runs > 1:
        yield render.next_of_many(found.next)


# What the lines above them say already.
_SAID = ("damaged-run", "missing-run", "unsupported-run", "unreadable-run", "best-lost")


def _summary(found: Audit) -> str:
    totals = found.totals
    parts = [render.count(totals["runs"], "run"), render.size(totals["bytes"])]
    parts += [f"{number} {name}" for name, number in (totals["health"] | totals["verdict"]).items()]
    parts += [f"{totals['best']['lost']} lost their best"] if "lost" in totals["best"] else []
    parts += [render.count(totals["orphans"], "orphan")] if totals["orphans"] else []
    parts += [f"{totals['safe_to_delete']} safe to delete"] if totals["safe_to_delete"] else []
    return ", ".join(parts) + ("" if found.verified else " (values not read: --verify reads every byte)")


@dataclass(frozen=True)
class _Column:
    """A column of the table, shown in terminals that are ``least`` wide."""

    name: str
    cell: Callable[[Row], str | Text]
    least: int = 0
    right: bool = False


_COLUMNS = (
    _Column("lineage", lambda row: row.lineage or row.format or "-", _WIDE),
    _Column("model", lambda row: row.model or "-"),
    _Column("step", lambda row: "-" if row.step is None else str(row.step), right=True),
    _Column("stored", lambda row: _metric(row.best_stored), _WIDE, right=True),
    _Column("recall", lambda row: render.sparkline(row.curve.recalls, width=12), _WIDE),
    _Column("logged", lambda row: _metric(row.best_logged), right=True),
    _Column("best", lambda row: Text(row.best, style=_BEST[row.best])),
    _Column("state", lambda row: Text(row.health, style=_HEALTH[row.health])),
    _Column("resume", lambda row: row.verdict or "-"),
    _Column("size", lambda row: render.size(row.nbytes), _TIGHT, right=True),
    _Column("age", lambda row: _age(row.age_days), _WIDE, right=True),
    _Column("orphans", lambda row: str(len(row.orphans) or "-"), _WIDE, right=True),
    _Column("copies", lambda row: str(len(row.duplicates) or "-"), _WIDE, right=True),
)


def _table(rows: Sequence[Row], width: int, cuts: bool, title: str | None = None) -> Table:
    # What all paths begin with says nothing on each line, and takes the room.
    shared = os.path.commonpath([os.path.dirname(row.path) for row in rows]) if rows else ""
    names = [
        safe(os.path.relpath(row.path, shared or os.curdir) + (os.sep if row.path.endswith(os.sep) else ""))
        for row in rows
    ]
    columns = [column for column in _COLUMNS if width >= column.least]
    cells = [[column.cell(row) for column in columns] for row in rows]
    if cuts:
        names = told_apart(names, room([column.name for column in columns], cells, width))
    table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left", header_style="bold")
    table.add_column(f"run (in {safe(shared)})" if shared else "run", overflow="fold", min_width=NARROWEST)
    for column in columns:
        table.add_column(column.name, justify="right" if column.right else "left", no_wrap=True)
    for name, row in zip(names, cells, strict=True):
        table.add_row(Text(name), *row)
    return table


def _metric(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"


def _age(days: float | None) -> str:
    if days is None:
        return "-"
    return f"{days * 24:.0f} h" if days < 2 else f"{days:.0f} d"
