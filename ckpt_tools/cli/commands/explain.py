"""``ckpt explain``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.text import Text

from ckpt_tools.cli.app import app
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.language import said
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import EXIT_OK


@app.command(
    epilog=epilog(
        'ckpt explain "Data loss: not an sstable (bad magic number)" model.ckpt-1000.data-00000-of-00001',
        'ckpt explain "Key best_metric not found in checkpoint" best_model/book_DNN_b128_lr0.005_d64_len20_test85',
        "ckpt explain best-metric-absent",
    )
)
def explain(
    message: Annotated[
        str,
        typer.Argument(
            help="What TensorFlow, Keras or HDF5 said, or the id in brackets of a message of ckpt or trainer; - reads "
            "it from stdin, a whole log if need be.",
            show_default=False,
        ),
    ],
    path: Annotated[
        str | None, typer.Argument(help="The checkpoint that it was said of, to be looked at.", show_default=False)
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what is behind an error of TensorFlow, Keras, HDF5 or this program, and which command fixes it."""
    output = Output("explain", path, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.analysis.explanation import explain as ask

        found = ask(sys.stdin.read() if message == "-" else message, path)
        rows = (("cause", found.cause), ("here", found.checked), ("next", found.fix))
        output.result(found.to_json(), lambda: (_row(label, text) for label, text in rows if text))
        return EXIT_OK

    finish(output, body)


def _row(label: str, text: str) -> Text:
    """A line, its label set to the right: a Chinese character takes two columns."""
    from rich.cells import cell_len

    words = said(label)
    room = max(cell_len(said(each)) for each in ("cause", "here", "next"))
    return Text.assemble((f"{' ' * (room - cell_len(words))}{words}: ", "bold"), safe(said(text)))
