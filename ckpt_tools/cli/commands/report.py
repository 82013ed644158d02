"""``ckpt report``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ckpt_tools.cli.app import app
from ckpt_tools.cli.completion import complete_path
from ckpt_tools.console import render
from ckpt_tools.console.documents import require_document, write_text
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import CkptError
from ckpt_tools.findings import Finding, exit_code
from ckpt_tools.fs import local

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.report import RunContents, ShelfContents

_HOME = "index.html"
_MOST_FINDINGS = 10


@app.command(
    epilog=epilog(
        "ckpt report best_model/book_DNN_b128_lr0.005_d64_len20_test85 --open",
        "ckpt report /data/experiments -o shelf.html",
        "ckpt report /data/experiments -o pages/",
    )
)
def report(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="An experiment or checkpoint, or a directory with many.",
            autocompletion=complete_path,
        ),
    ],
    output_path: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="Where to write the page; into a directory (DIR/) one of each run, too.",
            show_default="NAME.report.html",
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write one self-contained HTML page: the history, anatomy and weights of a run, or a shelf of all runs.

    Every byte of a run is read. What is damaged is on its page; then the exit code is 1.
    """
    output = Output("report", path, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools import report as library

        target = output_path or _default_name(path)
        into = target.endswith(os.sep) or local.is_directory(target, follow=True)
        if not into:
            require_document(target)
        with output.progress("reading") as progress:
            found = library.contents(path, progress)
        pages = list(_pages(found, output)) if into else [("", library.render(found), _findings(found))]
        if into:
            _make_directory(target)
        for name, page, _ in pages:
            write_text(os.path.join(target, name) if into else target, page)
        home = os.path.join(target, _HOME) if into else target
        findings = [finding for _, _, said in pages for finding in said]
        document = {
            "written": home,
            "bytes": sum(len(page.encode("utf-8", "backslashreplace")) for _, page, _ in pages),
            "pages": len(pages),
            "findings": [finding.to_json() for finding in findings],
        }
        code = exit_code(findings)
        output.result(document, lambda: _text(home, len(pages), findings), wrong=bool(code))
        if show:
            import webbrowser
            from pathlib import Path

            webbrowser.open(Path(home).absolute().as_uri())
        return code

    finish(output, body)


def _default_name(path: str) -> str:
    """A page in the current directory, called as what it is about."""
    return f"{os.path.basename(os.path.abspath(path)) or 'runs'}.report.html"


def _make_directory(path: str) -> None:
    from ckpt_tools.fs import durable

    durable.make_directory(os.path.normpath(path))


def _findings(found: RunContents | ShelfContents) -> tuple[Finding, ...]:
    from ckpt_tools.report import RunContents

    return found.findings if isinstance(found, RunContents) else found.audit.findings


def _pages(found: RunContents | ShelfContents, output: Output) -> Iterator[tuple[str, str, tuple[Finding, ...]]]:
    """The first page and those of the runs: their names, the pages, and what was found."""
    from ckpt_tools import report as library

    if isinstance(found, library.RunContents):
        yield _HOME, library.render(found), found.findings
        return
    names = library.pages_of(found)
    made = {}
    unread: list[Finding] = []
    with output.progress("pages") as progress:
        for number, row in enumerate(row for row in found.audit.rows if row.path in names):
            if progress is not None:
                progress(number, len(names))
            try:
                of_run = library.run_contents(row.location)
            except CkptError as error:
                unread.append(replace(Finding.of(error), severity="warning"))
                continue
            made[row.path] = library.render(of_run, home=_HOME)
            yield names[row.path], made[row.path], _damage(of_run)
    kept = {path: name for path, name in names.items() if path in made}
    yield _HOME, library.render(replace(found, pages=kept)), (*found.audit.findings, *unread)


def _damage(found: RunContents) -> tuple[Finding, ...]:
    """What the reading of every byte has found, and the look at all runs could not."""
    return tuple(finding for finding in found.findings if finding.severity == "damage")


def _text(home: str, pages: int, findings: Iterable[Finding]) -> Iterator[RenderableType]:
    mark = Text.assemble(("✓ ", "bold green"), f"{safe(home)}: written")
    yield mark if pages == 1 else mark.append(f", and {render.count(pages - 1, 'page')} of runs beside it")
    failing = [finding for finding in dict.fromkeys(findings) if finding.fails]
    yield from render.findings(failing[:_MOST_FINDINGS])
    if len(failing) > _MOST_FINDINGS:
        yield Text(f"  … and {len(failing) - _MOST_FINDINGS} more; they are on the page, and in --json", style="dim")
