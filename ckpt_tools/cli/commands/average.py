"""``ckpt average``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.text import Text

from ckpt_tools.cli.app import Direction, NoLock, Pattern, ProgramSeconds, app
from ckpt_tools.cli.completion import complete_path
from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import UsageError
from ckpt_tools.findings import exit_code

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.operations.averaging import Averaged
    from ckpt_tools.operations.comparing import ByProgram, ByUsers
    from ckpt_tools.runs.metric_lines import Mode


@app.command(
    epilog=epilog(
        "ckpt average ckpt-8 ckpt-9 ckpt-10 averaged/ckpt",
        "ckpt average epoch-*.keras averaged.keras",
        "ckpt average ckpt-* mean/ckpt --evaluate 'python eval.py --ckpt {prefix}' --pattern 'auc: ([0-9.]+)' "
        "--mode max",
    )
)
def average(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH... OUT",
            help="Checkpoints of one model, then a new prefix, a directory for one, or a new Keras file.",
            show_default=False,
            autocompletion=complete_path,
        ),
    ],
    evaluate: Annotated[
        str | None,
        typer.Option(
            "--evaluate",
            metavar="COMMAND",
            help="Measure with this program, which sees a copy ({prefix}, {dir}, {step}), or with module:function; "
            "keep the mean only when it is better.",
            show_default=False,
        ),
    ] = None,
    pattern: Pattern = None,
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="NAME", help="What --evaluate measures.", show_default=False)
    ] = None,
    mode: Direction = None,
    repeat: Annotated[int, typer.Option("--repeat", help="Measure each so often: what noise is, that tells.")] = 1,
    timeout: ProgramSeconds = 3600.0,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Of ComiRec: measure on these users; keep the mean only when it is better.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="With --data: valid or test.")] = "valid",
    top_n: Annotated[int, typer.Option("--top-n", min=1, help="With --data: recall at N.")] = 50,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be averaged; write nothing.")] = False,
    no_lock: NoLock = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the mean of several checkpoints of one model: in float64, in the types that they are stored in.

    Moments, steps and best metrics are left out: an average has none. With --evaluate or --data it is written only when
    it is better than each of them, by more than noise; else the exit code is 1.
    """
    output = Output("average", paths[0], json=json, quiet=quiet)

    def body() -> int:
        from ckpt_tools.operations.averaging import average as ask

        *sources, out = paths
        if not sources:
            raise UsageError("name the checkpoints, then what to write")
        how = _how(evaluate, pattern, metric, mode, repeat, timeout, data, split, top_n)
        with output.progress("checkpoints") as progress:
            name = metric or "what --evaluate measures"
            done = ask(sources, out, dry_run=dry_run, how=how, metric=name, progress=progress)
        output.result(done.to_json(), lambda: _text(done))
        return exit_code(done.findings)

    finish(output, body, lock=not no_lock)


def _how(
    evaluate: str | None,
    pattern: str | None,
    metric: str | None,
    mode: str | None,
    repeat: int,
    timeout: float,
    data: str | None,
    split: str,
    top_n: int,
) -> ByProgram | ByUsers | None:
    from ckpt_tools.operations.command_evaluator import CommandEvaluation
    from ckpt_tools.operations.comparing import ByProgram, ByUsers
    from ckpt_tools.runs.metric_lines import mode_of

    if evaluate and data:
        raise UsageError("--evaluate and --data exclude each other")
    if not evaluate and (pattern or metric or mode or repeat != 1):
        raise UsageError("--pattern, --metric, --mode and --repeat go with --evaluate")
    if data is not None:
        if split not in ("valid", "test"):
            raise UsageError(f"--split {split}: must be valid or test")
        return ByUsers(data, split, top_n)
    if evaluate is None:
        return None
    direction = mode or (mode_of(metric) if metric else None)
    if direction not in ("min", "max"):
        raise UsageError("--evaluate: which value is better? Add --mode min or --mode max, or a --metric that tells")
    return ByProgram(CommandEvaluation(evaluate, pattern, repeat, timeout), cast("Mode", direction))


def _text(done: Averaged) -> Iterator[RenderableType]:
    what = f"the mean of {len(done.sources)} checkpoints, {render.count(len(done.averaged), 'tensor')}"
    if not done.written:
        verb = "would write" if done.comparison is None else "not written:"
        yield Text(f"{verb} {safe(done.output)}: {what}", style="bold")
    else:
        yield Text.assemble(("✓ ", "bold green"), f"{safe(done.output)}: {what}")
    if done.dropped:
        dropped = render.count(len(done.dropped), "tensor")
        yield Text.assemble(("  left out: ", "bold"), f"{dropped} (moments, steps, best metrics): an average has none")
    if done.comparison is not None and done.written:
        yield Text.assemble(("  better: ", "bold"), safe(done.comparison.sentence))
    yield from render.findings(done.findings)
