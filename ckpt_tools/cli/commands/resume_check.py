"""``ckpt resume-check``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ckpt_tools.cli.app import PathsArgument, app
from ckpt_tools.cli.checks import Answer, Junit, Sarif, run
from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.language import said
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.findings import Finding, exit_code

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.analysis.resume_forecast import Forecast

_STYLE = {"safe": "bold green", "at-risk": "bold yellow", "blocked": "bold red"}


@app.command(
    "resume-check",
    epilog=epilog(
        "ckpt resume-check best_model/book_DNN_b128_lr0.005_d64_len20_test85",
        "ckpt resume-check best_model/book_DNN_b128_lr0.005_d64_len20_test85 --with comirec-keras --keras 3",
        "ckpt resume-check best_model/* --sarif resume.sarif",
    ),
)
def resume_check(
    paths: PathsArgument,
    trainer: Annotated[
        str, typer.Option("--with", help="trainer, comirec-keras, comirec-keras-fixed or comirec-tf1.")
    ] = "trainer",
    keras: Annotated[int, typer.Option("--keras", help="The Keras version that the port would run under.")] = 3,
    junit: Junit = None,
    sarif: Sarif = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what a resume would do, without training: exit code 0 only when it is safe."""
    output = Output("resume-check", paths[0] if len(paths) == 1 else None, json=json, quiet=quiet)

    def ask(path: str) -> Answer:
        from ckpt_tools.analysis.resume_forecast import forecast

        found = forecast(path, trainer=trainer, keras=keras)
        return Answer(
            found.prefix,
            found.to_json(),
            lambda: _text(found, several=len(paths) > 1),
            _findings(found),
            found.verdict != "safe",
        )

    finish(output, lambda: run(output, paths, ask, command="resume-check", junit=junit, sarif=sarif))


def _findings(found: Forecast) -> tuple[Finding, ...]:
    """Those of the forecast; when none of them says why it is not safe, its sentence does."""
    if found.verdict == "safe" or exit_code(found.findings):
        return found.findings
    return (Finding("resume-blocked", "error", found.sentence, found.prefix), *found.findings)


def _text(found: Forecast, *, several: bool) -> Iterator[RenderableType]:
    if several:
        yield Text(f"{safe(found.path)}:", style="bold")
    yield Text(safe(said(found.sentence)), style=_STYLE[found.verdict])
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(said("with"), found.trainer)
    if found.prefix:
        table.add_row(said("checkpoint"), Text(safe(found.prefix)))
    if found.declared:
        table.add_row(said("written by"), Text(safe(found.declared.declaration.title)))
        table.add_row(said("restored"), _names(found.restored))
        if found.unused:
            table.add_row(said("not used"), _names(found.unused))
        for name, survives in found.survives.items():
            table.add_row(said(name.replace("_", " ")), said("survives" if survives else "starts anew"))
    if found.lineage:
        table.add_row(said("written by"), Text(safe(found.lineage.producer)))
        table.add_row(said("restored"), _names(found.restored))
        if found.converted:
            table.add_row(said("rearranged"), _names(found.converted))
        table.add_row(said("not restored"), _names((*found.missing, *found.left)))
        if found.unused:
            table.add_row(said("not used"), _names(found.unused))
        for name, survives in found.survives.items():
            table.add_row(said(name.replace("_", " ")), said("survives" if survives else "starts anew"))
    if found.latest:
        table.add_row(said("latest"), Text(safe(found.latest)))
    yield Padding(table, (0, 0, 0, 2), expand=False)
    # The sentence above says it already; here only what to do.
    for finding in found.findings:
        if finding.message == found.sentence:
            if finding.fix:
                yield render.next_step(finding.fix)
        else:
            yield from render.findings([finding])


def _names(names: tuple[str, ...]) -> Text:
    return Text(", ".join(safe(name) for name in names) or "nothing")
