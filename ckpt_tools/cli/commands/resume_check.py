"""``ckpt resume-check``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ckpt_tools.cli import render
from ckpt_tools.cli.app import Json, PathArgument, Quiet, app, epilog, finish
from ckpt_tools.cli.output import Output, safe
from ckpt_tools.errors import EXIT_FINDINGS, EXIT_OK

if TYPE_CHECKING:
    from ckpt_tools.forecast import Forecast

_STYLE = {"safe": "bold green", "at-risk": "bold yellow", "blocked": "bold red"}


@app.command(
    "resume-check",
    epilog=epilog(
        "ckpt resume-check best_model/book_DNN_b128_lr0.005_d64_len20_test85",
        "ckpt resume-check best_model/book_DNN_b128_lr0.005_d64_len20_test85 --with comirec-keras --keras 3",
    ),
)
def resume_check(
    path: PathArgument,
    trainer: Annotated[
        str, typer.Option("--with", help="trainer, comirec-keras, comirec-keras-fixed or comirec-tf1.")
    ] = "trainer",
    keras: Annotated[int, typer.Option("--keras", help="The Keras version that the port would run under.")] = 3,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what a resume would do, without training: exit code 0 only when it is safe."""
    output = Output("resume-check", path, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.forecast import forecast

        found = forecast(path, trainer=trainer, keras=keras)
        output.result(found.to_json(), lambda: _text(found))
        return EXIT_OK if found.verdict == "safe" else EXIT_FINDINGS

    finish(output, body)


def _text(found: Forecast) -> Iterator[RenderableType]:
    yield Text(safe(found.sentence), style=_STYLE[found.verdict])
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("with", found.trainer)
    if found.prefix:
        table.add_row("checkpoint", Text(safe(found.prefix)))
    if found.lineage:
        table.add_row("written by", Text(safe(found.lineage.producer)))
        table.add_row("restored", _names(found.restored))
        if found.converted:
            table.add_row("rearranged", _names(found.converted))
        table.add_row("not restored", _names(found.missing))
        if found.unused:
            table.add_row("not used", _names(found.unused))
        for name, survives in found.survives.items():
            table.add_row(name.replace("_", " "), "survives" if survives else "starts anew")
    if found.latest:
        table.add_row("latest", Text(safe(found.latest)))
    yield Padding(table, (0, 0, 0, 2), expand=False)
    # The sentence above says it already; here only what to do.
    for finding in found.findings:
        if finding.message == found.sentence:
            if finding.fix:
                yield Text.assemble(("  next: ", "bold"), safe(finding.fix))
        else:
            yield from render.findings([finding])


def _names(names: tuple[str, ...]) -> Text:
    return Text(", ".join(safe(name) for name in names) or "nothing")
