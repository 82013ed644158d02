"""``ckpt backfill``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.text import Text

from ckpt_tools.cli.app import Direction, NoLock, Pattern, ProgramSeconds, app
from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.language import label, said
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.errors import EXIT_FINDINGS, EXIT_OK, CkptError, UsageError
from ckpt_tools.findings import Finding

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.operations.backfilling import Outcome
    from ckpt_tools.runs.metric_lines import Mode


@app.command(
    epilog=epilog(
        "ckpt backfill best_model/book_ComiRec-DR_b128_lr0.005_d64_len20_test85 --data data/book_data",
        "ckpt backfill best_model/* --data data/book_data --dry-run",
        "ckpt backfill --all /data/experiments --data data/book_data",
        "ckpt backfill runs/din/model.ckpt-3000 --from-logs --metric auc",
        "ckpt backfill runs/din --evaluate 'python eval.py --ckpt {prefix}' --pattern 'auc: ([0-9.]+)'",
    )
)
def backfill(
    experiments: Annotated[
        list[str],
        typer.Argument(
            help="Experiments (best_model/EXPERIMENT) or checkpoints; with --all a directory.", show_default=False
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="DIR", help="The directory with DATASET_valid.txt and the others.", show_default=False
        ),
    ] = None,
    top_n: Annotated[int, typer.Option("--top-n", "--topN", help="Length of the recommended list.")] = 50,
    split: Annotated[str, typer.Option("--split", help="valid or test; the old trainers' best is of valid.")] = "valid",
    value: Annotated[
        float | None, typer.Option("--value", help="Write this value instead of evaluating.", show_default=False)
    ] = None,
    from_logs: Annotated[
        bool, typer.Option("--from-logs", help="Take the value from the run's own logs instead of evaluating.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Evaluate and print the plan; write nothing.")] = False,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="NAME", help="Of another trainer's run: which metric.", show_default=False),
    ] = None,
    mode: Direction = None,
    unit: Annotated[
        str | None, typer.Option("--unit", help="The unit of the metric, for example percent.", show_default=False)
    ] = None,
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="TENSOR", help="Write into this variable, not best_metric.", show_default=False),
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            "--evaluate",
            metavar="COMMAND",
            help="Measure with this program, which sees a copy ({prefix}, {dir}, {step}), with module:function, or, if "
            "it is the word graph, with the .meta beside the checkpoint.",
            show_default=False,
        ),
    ] = None,
    pattern: Pattern = None,
    repeat: Annotated[int, typer.Option("--repeat", help="Measure so often, and take the mean.")] = 1,
    timeout: ProgramSeconds = 3600.0,
    force: Annotated[
        bool, typer.Option("--force", help="Evaluate and write even when a value is stored, or the log disagrees.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Every run below the directory that needs it.")] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="With --all: how many cores to use; by default all.", show_default=False),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler", metavar="ADDRESS", help="With --all: a Dask scheduler that does it.", show_default=False
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="With --all: one of N shares, for job arrays.", show_default=False),
    ] = None,
    no_lock: NoLock = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the best metric of old experiments by evaluating them again, and write it into their checkpoints.

    A checkpoint that has the value is left alone, so that --all goes on where it was interrupted. The originals are
    kept: ckpt undo takes a backfill back.
    """
    output = Output("backfill", experiments[0] if len(experiments) == 1 else None, json=json, quiet=quiet)

    def body() -> int:
        # Imported here: the other commands should not wait for what only this one needs.
        from ckpt_tools.operations import backfilling as library
        from ckpt_tools.operations.command_evaluator import CommandEvaluation

        if split not in ("valid", "test"):
            raise UsageError(f"--split {split}: must be valid or test")
        if mode not in (None, "min", "max"):
            raise UsageError(f"--mode {mode}: must be min or max")
        if pattern and not evaluate:
            raise UsageError("--pattern goes with --evaluate")
        by_graph = evaluate == "graph"
        if by_graph and pattern:
            raise UsageError("--evaluate graph prints nothing: it takes no --pattern")
        evaluation = CommandEvaluation(evaluate, pattern, repeat, timeout) if evaluate and not by_graph else None
        options = library.Options(
            data,
            top_n,
            split,
            value,
            from_logs,
            force,
            dry_run,
            lock=not no_lock,
            metric=metric,
            mode=cast("Mode | None", mode),
            unit=unit,
            into=into,
            evaluation=evaluation,
            graph=by_graph,
            seconds=timeout if by_graph else 3600.0,
            repeat=repeat if by_graph else 1,
        )
        if every:
            from ckpt_tools.cli.commands import backfill_all

            if len(experiments) != 1 or (workers and scheduler):
                raise UsageError("--all takes one directory, and --workers or --scheduler")
            return backfill_all.run(output, experiments[0], options, workers=workers, scheduler=scheduler, shard=shard)
        if workers or scheduler or shard:
            raise UsageError("--workers, --scheduler and --shard go with --all")
        outcomes = []
        for path in experiments:
            try:
                with output.progress(f"evaluating {os.path.basename(os.path.normpath(path))}") as progress:
                    outcome = library.backfill(path, options, progress)
            except CkptError as error:
                if len(experiments) == 1:
                    raise
                outcome = library.failed(path, error)
                output.problem(error)
            outcomes.append(outcome)
            if outcome.error is None:
                output.line(_line(outcome))
        findings = [finding for outcome in outcomes for finding in outcome.findings]
        findings += [Finding.of(outcome.error) for outcome in outcomes if outcome.error]
        output.document(
            {
                "experiments": [outcome.to_json() for outcome in outcomes],
                "findings": [finding.to_json() for finding in findings],
            }
        )
        return EXIT_FINDINGS if any(outcome.error for outcome in outcomes) else EXIT_OK

    finish(output, body, lock=not no_lock)


def _line(done: Outcome) -> RenderableType:
    """One line for each experiment."""
    mark = ("✓ ", "bold green") if done.written else ("· ", "dim")
    line = Text.assemble(mark, f"{safe(done.path)}: {safe(said(done.sentence))}")
    for finding in done.findings:
        level = label(finding.severity, finding.id)
        line.append(f"\n  {level}", style=render.SEVERITY[finding.severity]).append(safe(said(finding.message)))
    return line
