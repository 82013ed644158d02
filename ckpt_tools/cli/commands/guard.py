"""``ckpt guard``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ckpt_tools.cli.app import app
from ckpt_tools.cli.completion import complete_path
from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import EXIT_OK, CkptError, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.findings import Finding
    from ckpt_tools.guard import Pin, Restored, Status


@app.command(
    epilog=epilog(
        "ckpt guard best_model/exp1 -- python train.py --lr 0.005",
        "ckpt guard best_model/exp1 --metric 'valid recall' --mode max -- python train.py",
        "ckpt guard best_model/exp1 --list",
        "ckpt guard best_model/exp1 --restore",
    )
)
def guard(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="The directory where the trainer saves; it need not be there yet.",
            show_default=False,
            autocompletion=complete_path,
        ),
    ],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND...", help="The trainer and its arguments.", show_default=False),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="The metric as the trainer prints it; by default the one of its own best lines.",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option("--mode", help="min or max; by default what the name tells.", show_default=False),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pattern", metavar="REGEX", help="Instead of --metric: its first group is the value.", show_default=False
        ),
    ] = None,
    keep: Annotated[int, typer.Option("--keep", metavar="N", help="How many pins stay; the best always does.")] = 3,
    saved: Annotated[
        str | None,
        typer.Option(
            "--saved",
            metavar="WHEN",
            help="Whether the trainer saves before or after it prints the value; by default that is learned.",
            show_default=False,
        ),
    ] = None,
    status: Annotated[bool, typer.Option("--list", "--status", help="Say what is pinned; run nothing.")] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Put the best pin back to where it was saved; ckpt undo takes it back.")
    ] = False,
    pin: Annotated[
        int | None,
        typer.Option("--pin", metavar="N", help="With --restore: not the best, but this one.", show_default=False),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="NAME", help="With --restore: put it here in the run.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --restore: say it, write nothing.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a trainer that does not keep its best model, and keep it: pinned in RUN.pins, beside the run.

    The trainer's output is passed through, its exit code is that of this command, signals are forwarded. What fails
    here never disturbs the training. With --json its stdout goes to stderr.
    """
    output = Output("guard", run, json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools import guard as library

        if (status or restore) and command:
            raise UsageError("--list and --restore run nothing: leave the command out")
        if not restore and (pin is not None or to is not None or dry_run):
            raise UsageError("--pin, --to and --dry-run go with --restore")
        if restore:
            put = library.restore(run, number=pin, to=to, dry_run=dry_run)
            output.result({"restored": put.to_json(), "findings": []}, lambda: _restored(put))
            return EXIT_OK
        if status:
            found = library.read_status(run)
            output.result({**found.to_json(), "findings": []}, lambda: _status(found))
            return EXIT_OK
        if not command:
            raise UsageError("no command to run", hint=f"ckpt guard {shlex.quote(run)} -- python train.py")
        if mode not in (None, "min", "max"):
            raise UsageError(f"--mode {mode}: must be min or max")
        if saved not in (None, "before", "after"):
            raise UsageError(f"--saved {saved}: must be before or after")
        if metric and pattern:
            raise UsageError("--metric and --pattern exclude each other")
        if keep < 1:
            raise UsageError(f"--keep {keep}: the best one always stays")
        options = library.Options(run, metric, mode, pattern, keep, saved)  # type: ignore[arg-type]
        ended = library.run(command, options, stdout=2 if json else 1)
        pinned = _pinned(run)
        said = list(library.findings(ended, pinned, run))
        output.aside(lambda: _end(pinned, ended.pinned, said), wrong=bool(said) and not json)
        document = pinned.to_json() if pinned else {"pinned": []}
        output.document({**document, "exit_code": ended.code, "findings": [finding.to_json() for finding in said]})
        return ended.code

    finish(output, body, shares_terminal=True)


def _pinned(run: str) -> Status | None:
    from ckpt_tools.guard import read_status

    try:
        return read_status(run)
    except CkptError:
        return None


def _value(pin: Pin) -> str:
    return "no value" if pin.value is None else f"{safe(pin.metric)} {pin.value:.6g}"


def _end(pinned: Status | None, count: int, said: Sequence[Finding]) -> Iterator[RenderableType]:
    best = pinned.best if pinned else None
    if best is not None:
        why = pinned.metric.reason if pinned and pinned.metric else ""
        new = f"{render.count(count, 'new best')} pinned; " if count else "no new best; "
        yield Text.assemble(("guard: ", "bold"), f"{new}the best is {_value(best)}: {safe(best.path)} ({safe(why)})")
    yield from render.findings(said)


def _restored(put: Restored) -> Iterator[RenderableType]:
    what = f"{_value(put.pin)}, {safe(put.pin.path)}"
    if not put.changes:
        yield Text(f"{safe(put.path)}: is the best pin already ({what})")
        return
    yield Text(f"{'would put' if put.dry_run else 'put'} back: {what}", style="bold")
    for change in put.changes:
        yield Text(f"  {safe(change)}")
    if put.undo is not None:
        yield Text.assemble(("  to take it back: ", "dim"), safe(put.undo))


def _status(found: Status) -> Iterator[RenderableType]:
    yield Text(safe(found.directory), style="bold")
    if found.busy:
        yield Text("  a guard is at work")
    if found.metric is not None:
        yield Text(f"  metric  {safe(found.metric.name)}, {found.metric.mode or 'direction not known yet'}")
        yield Text(f"          {safe(found.metric.reason)}", style="dim")
    if not found.pins:
        yield Text("  nothing is pinned yet")
    for pin, whole in zip(found.pins, found.whole, strict=True):
        mark = "✓" if found.best is not None and pin.number == found.best.number else "·" if whole else "✗"
        where = f"step {pin.step}" if pin.step is not None else f"epoch {pin.epoch}" if pin.epoch is not None else ""
        parts = [_value(pin), where, safe(pin.path), f"from {safe(pin.source)}", "" if whole else "damaged"]
        yield Text(f"  {mark} " + "  ".join(part for part in parts if part))
