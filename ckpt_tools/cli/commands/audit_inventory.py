"""``ckpt audit --inventory``: what a store's own list says of the checkpoints in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.language import label, said
from ckpt_tools.console.output import Output
from ckpt_tools.findings import exit_code

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.analysis.inventory import Listing

# Of a bucket with a million checkpoints nobody reads a line each: the table is in --out and --json.
_MOST = 50


def run(
    output: Output,
    root: str,
    inventories: Sequence[str],
    *,
    schema: str,
    indexes: bool,
    shard: str | None,
    out: str | None,
) -> int:
    """Do it and show it; returns the exit code."""
    from ckpt_tools.analysis.inventory import list_checkpoints
    from ckpt_tools.operations.inventory_report import require_format, write_table
    from ckpt_tools.runs.sharding import WHOLE, parse_shard

    if out is not None:
        require_format(out)
    share = WHOLE if shard is None else parse_shard(shard)
    with output.progress("indexes") as progress:
        found = list_checkpoints(root, inventories, schema=schema, shard=share, indexes=indexes, progress=progress)
    if out is not None:
        write_table(out, found.checkpoints)
    # A document of a million rows takes longer than all the rest: it is made for who asked for it.
    output.result(found.to_json() if output.is_json else {}, lambda: _text(found, out))
    return exit_code(found.findings)


def _text(found: Listing, out: str | None) -> Iterator[RenderableType]:
    totals = found.totals
    parts = [render.count(totals["objects"], "object"), render.count(totals["checkpoints"], "checkpoint")]
    parts += [render.size(totals["bytes"])]
    parts += [f"{number} {name}" for name, number in (totals["kind"] | totals["health"]).items()]
    share = "" if found.shard.count == 1 else f" (share {found.shard})"
    yield Text(", ".join(parts) + share, style="bold")
    if out is not None:
        yield Text(f"written: {safe(out)}")
    for finding in found.findings[:_MOST]:
        level = (label(finding.severity, finding.id), render.SEVERITY[finding.severity])
        yield Text.assemble(level, f"{safe(finding.path or '')}: {safe(said(finding.message))}")
    if len(found.findings) > _MOST:
        yield Text(f"and {len(found.findings) - _MOST} more: see --json or --out")
