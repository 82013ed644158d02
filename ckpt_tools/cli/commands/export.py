"""``ckpt export``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ckpt_tools.cli.app import PathArgument, app
from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import UsageError
from ckpt_tools.findings import exit_code

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.operations.exporting import Export


@app.command(epilog=epilog("ckpt export model.ckpt-1000 model.safetensors", "ckpt export ckpt-3 model.weights.h5"))
def export(
    path: PathArgument,
    out: Annotated[
        str,
        typer.Argument(help="A new file: NAME.safetensors, NAME.npz, NAME.weights.h5 or NAME.h5.", show_default=False),
    ],
    names: Annotated[
        str | None,
        typer.Option(
            "--names", metavar="KIND", help="canonical, stored, or (for .weights.h5 and .h5) keras.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which of several models in the checkpoint, for Keras.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the tensors of a checkpoint to safetensors, npz or Keras' .weights.h5 and .h5."""
    output = Output("export", path, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.operations.exporting import export as ask

        if names is not None and names not in ("canonical", "stored", "keras"):
            raise UsageError(f"--names {names}: must be canonical, stored or keras")
        with output.progress("writing") as progress:
            done = ask(path, out, names=names, model=model, force=force, progress=progress)  # type: ignore[arg-type]
        output.result(done.to_json(), lambda: _text(done))
        return exit_code(done.findings)

    finish(output, body)


def _text(done: Export) -> Iterator[RenderableType]:
    tensors = render.count(len(done.written), "tensor")
    mark = ("✓ ", "bold green") if done.certain else ("? ", "bold yellow")
    yield Text.assemble(mark, f"{safe(done.output)}: {tensors} of {safe(done.prefix)}")
    yield from render.findings(done.findings)
