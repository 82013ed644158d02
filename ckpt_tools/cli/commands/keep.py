"""``ckpt keep``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ckpt_tools.cli.app import NoLock, RootArgument, app
from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import UsageError
from ckpt_tools.findings import exit_code

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.operations.keeping import Shelved


@app.command(
    epilog=epilog(
        "ckpt keep runs/exp --last 3 --best 2",
        "ckpt keep . --every 10000 --younger-than 30d --script > thin-out.sh",
        "ckpt keep runs/exp --last 3 --delete DIGEST",
    )
)
def keep(
    root: RootArgument,
    last: Annotated[int | None, typer.Option("--last", metavar="N", help="Keep the last N of each line.")] = None,
    best: Annotated[int | None, typer.Option("--best", metavar="N", help="Keep the best N of each line.")] = None,
    every: Annotated[
        int | None, typer.Option("--every", metavar="K", help="Keep the first of every K steps of each line.")
    ] = None,
    younger_than: Annotated[
        str | None,
        typer.Option("--younger-than", metavar="AGE", help="Keep what was written since: 12h, 30d, 2w."),
    ] = None,
    unknown_best: Annotated[
        bool, typer.Option("--unknown-best", help="Thin out also what nothing tells the best of.")
    ] = False,
    script: Annotated[bool, typer.Option("--script", help="A shell script that deletes, on stdout.")] = False,
    delete: Annotated[
        str | None, typer.Option("--delete", metavar="DIGEST", help="Delete what the list with this digest says.")
    ] = None,
    no_lock: NoLock = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say which checkpoints below a directory may go, and what then is free.

    A line are the checkpoints of one directory that differ only in their number. Never may go: the best of its line,
    the only whole one, the one that a state file names as newest, and what an undo needs. Nothing is deleted without
    --delete and the digest of the list.
    """
    output = Output("keep", root, json=json, quiet=quiet or script)

    def body() -> int:
        from ckpt_tools.analysis.retention import Policies, seconds_of
        from ckpt_tools.operations.keeping import keep as ask

        if script and (json or delete):
            raise UsageError("--script stands alone")
        age = None if younger_than is None else seconds_of(younger_than)
        done = ask(root, Policies(last, best, every, age, unknown_best), delete=delete)
        if script:
            output.script(done.script())
        else:
            output.result(done.to_json(), lambda: _text(done))
        return exit_code(done.findings)

    finish(output, body, lock=not no_lock)


def _text(done: Shelved) -> Iterator[RenderableType]:
    for kept in done.keep:
        where, why = safe(_shown(kept.holding.path, done.root)), safe("; ".join(kept.reasons))
        yield Text.assemble(("keep     ", "green"), f"{where}  {why}")
    gone = set(done.deleted)
    for holding in done.may_go:
        word = ("deleted ", "yellow") if holding.path in gone else ("may go  ", "yellow")
        yield Text.assemble(word, f"{safe(_shown(holding.path, done.root))}  {render.size(holding.nbytes)}")
    yield from render.findings(done.findings)
    if done.deleted:
        yield Text.assemble(("✓ ", "bold green"), f"{render.count(len(done.deleted), 'checkpoint')} deleted")
    elif done.may_go:
        words = f"{render.count(len(done.may_go), 'checkpoint')} may go: {render.size(done.nbytes)} would be free"
        yield Text(words, style="bold")
        yield render.next_step(done.command)
    else:
        yield Text("all stay", style="bold")


def _shown(path: str, root: str) -> str:
    return os.path.relpath(path, root)
