"""``ckpt diff``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ckpt_tools.cli.app import app
from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import EXIT_FINDINGS, EXIT_OK

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.analysis.difference import Change, Difference


@app.command(
    epilog=epilog(
        "ckpt diff keras_ckpt/ckpt-2 keras_ckpt/ckpt-3",
        "ckpt diff best_model/tf1_experiment best_model/keras_experiment",
    )
)
def diff(
    a: Annotated[str, typer.Argument(help="A checkpoint of any format, or an experiment.", show_default=False)],
    b: Annotated[str, typer.Argument(help="The one to compare it with.", show_default=False)],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare two checkpoints: which tensors each has, then values. Exits with 0 when they hold the same."""
    output = Output("diff", a, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.analysis.difference import diff as ask

        with output.progress("comparing") as progress:
            found = ask(a, b, progress=progress)
        output.result(found.to_json(), lambda: _text(found))
        return EXIT_OK if found.equal else EXIT_FINDINGS

    finish(output, body)


def _text(found: Difference) -> Iterator[RenderableType]:
    yield Text.assemble(("A ", "bold"), safe(found.a))
    yield Text.assemble(("B ", "bold"), safe(found.b))
    for mark, style, names in (("- only in A", "red", found.only_a), ("+ only in B", "green", found.only_b)):
        for name in names:
            yield Text.assemble((f"{mark}: ", style), safe(name))
    for change in found.changed:
        yield Text.assemble(("~ ", "yellow"), (safe(change.name), "bold"), f": {_words(change)}")
    yield from render.findings(found.findings)
    same = render.count(found.same, "tensor")
    if found.equal:
        yield Text.assemble(("= ", "bold green"), f"{same}, all the same")
    else:
        yield Text(f"{same} the same, {len(found.changed)} changed", style="dim")


def _words(change: Change) -> str:
    if change.kind == "dtype":
        return f"{change.dtype_a} became {change.dtype_b}"
    if change.kind == "shape":
        return f"{list(change.shape_a)} became {list(change.shape_b)}"
    if change.elements is None:
        return "the stored bytes differ"
    words = [f"{change.elements} of {render.count(math.prod(change.shape_a), 'element')} differ"]
    if change.max_abs is not None:
        words.append(f"by at most {change.max_abs:.4g} (relative {change.max_relative:.4g})")
    if change.cosine is not None:
        words.append(f"cosine {change.cosine:.6f}")
    if change.nan_a or change.nan_b:
        words.append(f"NaN: {change.nan_a} in A, {change.nan_b} in B")
    if change.rows:
        words.append(f"{change.rows.moved} of {change.rows.total} rows moved")
        if change.rows.untrained_b is not None:
            words.append(f"{change.rows.untrained_b} never trained in B")
    return ", ".join(words)
