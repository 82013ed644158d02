"""``ckpt resume-check``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
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

_MOST_REASONS = 8
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
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Of several runs too: what is restored, and what is not.")
    ] = False,
    junit: Junit = None,
    sarif: Sarif = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what a resume would do, without training: exit code 0 only when it is safe.

    Of several runs it is one line each, and in the end why they are not safe.
    """
    output = Output("resume-check", paths[0] if len(paths) == 1 else None, json=json, quiet=quiet)

    answered: list[tuple[str, Forecast]] = []

    def ask(path: str) -> Answer:
        from ckpt_tools.analysis.resume_forecast import forecast

        found = forecast(path, trainer=trainer, keras=keras)
        answered.append((path, found))
        lines = _one_line if len(paths) > 1 and not verbose else partial(_text, several=len(paths) > 1)
        return Answer(found.prefix, found.to_json(), lambda: lines(found), _findings(found), found.verdict != "safe")

    def body() -> int:
        code = run(output, paths, ask, command="resume-check", junit=junit, sarif=sarif)
        if len(answered) > 1:
            output.lines(lambda: _summary(answered), wrong=bool(code))
        return code

    finish(output, body)


def _one_line(found: Forecast) -> Iterator[RenderableType]:
    yield Text.assemble((f"{said(found.verdict):<8}", _STYLE[found.verdict]), f" {safe(found.path)}")


def _summary(answered: Sequence[tuple[str, Forecast]]) -> Iterator[RenderableType]:
    """How many are safe, why the others are not, and the command that mends most."""
    from ckpt_tools.analysis.mending import Wanting, common_root, most_mending, reasons

    counts = reasons([found.verdict for _, found in answered])
    words = ", ".join(f"{number} {said(verdict)}" for verdict, number in counts)
    yield Text(f"{render.count(len(answered), 'run')}: {words}", style="bold")
    bad = [(path, found) for path, found in answered if found.verdict != "safe"]
    why = reasons([found.sentence for _, found in bad])
    for sentence, number in why[:_MOST_REASONS]:
        yield Text.assemble((f"{number:>4}  ", "dim"), safe(said(sentence)))
    if len(why) > _MOST_REASONS:
        yield Text(f"      … and {len(why) - _MOST_REASONS} other reasons; --verbose says them", style="dim")
    wanting = [
        Wanting(path, fix)
        for path, found in bad
        if (fix := next((finding.fix for finding in found.findings if finding.fix), None))
    ]
    if wanting and (mending := most_mending(wanting, common_root([each.path for each in wanting]))):
        yield render.next_of_many(mending)


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
    return Text(", ".join(safe(name) for name in names) or said("nothing"))
