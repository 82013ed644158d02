"""``ckpt report``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from ckpt_tools.cli.app import app
from ckpt_tools.console.documents import write_text
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import EXIT_OK


@app.command(
    epilog=epilog(
        "ckpt report best_model/book_DNN_b128_lr0.005_d64_len20_test85 -o run.html",
        "ckpt report /data/experiments -o shelf.html",
    )
)
def report(
    path: Annotated[str, typer.Argument(metavar="PATH", help="An experiment or checkpoint, or a directory with many.")],
    output_path: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Where to write the page.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write one self-contained HTML page: the history, anatomy and weights of a run, or a shelf of all runs."""
    output = Output("report", path, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools import report as library

        page = library.render(library.contents(path))
        write_text(output_path, page)
        size = len(page.encode("utf-8", "backslashreplace"))
        output.result(
            {"written": output_path, "bytes": size, "findings": []},
            lambda: [Text.assemble(("✓ ", "bold green"), f"{safe(output_path)}: written")],
        )
        return EXIT_OK

    finish(output, body)
