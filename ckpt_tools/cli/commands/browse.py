"""``ckpt browse``."""

from __future__ import annotations

import shlex
import sys

from ckpt_tools.cli.app import RootArgument, app
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import EXIT_OK, UsageError


@app.command(epilog=epilog("ckpt browse /data/experiments"))
def browse(root: RootArgument, json: Json = False, quiet: Quiet = False) -> None:
    """Walk through runs, tensors and object graphs in the terminal. Keys are shown at the bottom.

    Needs a terminal: --json and scripts use ckpt audit and ckpt inspect.
    """
    output = Output("browse", root, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.browse import browse as show

        if json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError("browsing needs a terminal", hint=f"ckpt audit {shlex.quote(root)} --json")
        show(root)
        return EXIT_OK

    finish(output, body, shares_terminal=True)
