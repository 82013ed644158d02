"""``trainer sweep``: settings beside each other, with several seeds each."""

from __future__ import annotations

import gc
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from ckpt_tools.console.escapes import safe
from ckpt_tools.console.program import Json, Quiet, finish
from ckpt_tools.errors import EXIT_FINDINGS, EXIT_INTERRUPTED, EXIT_OK, BusyError, MismatchError, UsageError
from ckpt_tools.findings import Finding
from ckpt_tools.fs import local
from ckpt_tools.fs.durable import require_writable
from ckpt_tools.runs.experiments import Experiment, usual_data_directory
from trainer.cli.console import Console
from trainer.cli.listening import Listeners, tracking
from trainer.cli.native import training_loop
from trainer.config import LARGEST_SEED, UNKNOWN_ITEM_COUNT, TrainConfig, new_config, override
from trainer.extras import require
from trainer.monitoring.trackers import require_tracker
from trainer.training import sweep as sweeping
from trainer.training import trials
from trainer.training.starting_point import StartingPoint

_MAX_BYTES = 1 << 24


def sweep(
    dataset: Annotated[str, typer.Option(metavar="NAME", help="Names the data files.", show_default=False)],
    model_type: Annotated[
        str, typer.Option(metavar="TYPE", help="DNN, GRU4REC, MIND, ComiRec-DR or ComiRec-SA.", show_default=False)
    ],
    exp_name: Annotated[
        str,
        typer.Option(metavar="NAME", help="The sweep's name, with which its runs' names begin.", show_default=False),
    ],
    max_steps: Annotated[int, typer.Option(metavar="N", min=1, help="Train each run until this step.")],
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=V,V", help="Every value of a setting with every other; repeat.", show_default=False),
    ] = None,
    listed: Annotated[
        str | None,
        typer.Option("--list", metavar="FILE", help="Settings in JSON, [{NAME: VALUE}, ...].", show_default=False),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=V", help="A setting of all runs; repeat.", show_default=False),
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="N,N", help="Each setting once with each.")] = "19,20,21",
    recipe: Annotated[
        Literal["best", "paper", "port"] | None,
        typer.Option(metavar="NAME", help="What settings go over.", show_default="as trainer train"),
    ] = None,
    log_to: Annotated[
        Literal["mlflow", "wandb"] | None,
        typer.Option(metavar="NAME", help="Also log to mlflow or wandb, if it is installed.", show_default=False),
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Holds the data files.", show_default="ROOT/data/DATASET_data")
    ] = None,
    root: Annotated[str, typer.Option(metavar="DIR", help="Holds best_model/, runs/ and sweeps/.")] = ".",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train settings with several seeds each; mean and deviation on valid and test. Started again, it goes on."""
    console = Console("sweep", exp_name, json=json, quiet=quiet)

    def body() -> int:
        require("training", "tensorflow", "tensorboard")
        if log_to is not None:
            require_tracker(log_to)
        settings = _settings(grid or [], listed)
        (of_all,) = trials.grid(fixed or [])
        base = override(new_config(recipe, of_all.get("variant"), dataset, model_type, UNKNOWN_ITEM_COUNT), of_all)
        if double := [name for name in of_all if any(name in setting for setting in settings)]:
            raise UsageError(f"{double[0]} is set for all runs, and differs between them", hint="leave out --set")
        plan = trials.make_trials(exp_name, settings, _seeds(seeds))

        def config(trial: trials.Trial) -> TrainConfig:
            return override(base, {**trial.setting, "seed": trial.seed})

        directory = data_dir or usual_data_directory(root, dataset)
        work = sweeping.Sweep(exp_name, root, dataset, directory, max_steps, config)
        require_writable(root)
        sweeping.require_comparable(work, plan)

        def train(start: StartingPoint, experiment: Experiment) -> bool:
            console.findings(start.findings)
            console.phase("starting TensorFlow")
            loop = training_loop()
            with tracking(log_to, experiment, start.config, console) as tracked:
                outcome = loop(start, experiment, max_steps, Listeners(console, tracked))
            gc.collect()  # graphs of runs that are over hold their tables
            return bool(outcome.reason != "interrupted")

        results: list[trials.Result] = []
        failures: list[Finding] = []
        for number, trial in enumerate(plan, 1):
            console.say(f"run {number} of {len(plan)}: {trials.in_words(trial.setting)}, seed {trial.seed}")
            try:
                result = sweeping.run(work, trial, train)
            except (MismatchError, BusyError) as error:  # of this run alone
                failures.append(Finding("trial-failed", "error", f"{trial.name}: {error}", error.path))
                console.findings(failures[-1:])
                continue
            if result is None:
                console.say(f"everything is saved; the same command goes on: {_again()}")
                _report(console, work, results, failures, interrupted=True)
                return EXIT_INTERRUPTED
            test = "" if result.test is None else f"  test {result.test:.6f}"
            console.say(f"  best at step {result.best_step}: valid {result.valid:.6f}{test}")
            results.append(result)
        _report(console, work, results, failures, interrupted=False)
        return EXIT_FINDINGS if failures else EXIT_OK

    finish(console, body)


def _settings(axes: Sequence[str], path: str | None) -> list[dict[str, Any]]:
    """The settings of both flags, each of a list with each of the grid."""
    of_grid = trials.grid(axes)
    if path is None:
        return of_grid
    try:
        of_list = trials.listed(local.read_file(path, limit=_MAX_BYTES).decode(errors="replace"))
    except UsageError as error:
        error.path = path
        raise
    return [{**one, **other} for one in of_list for other in of_grid]


def _seeds(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) <= LARGEST_SEED for part in parts):
        raise UsageError(f"--seeds {text} is not a list of whole numbers", hint="for example --seeds 19,20,21")
    return [int(part) for part in parts]


def _again() -> str:
    return f"trainer {shlex.join(sys.argv[1:])}"


def _report(
    console: Console,
    work: sweeping.Sweep,
    results: Sequence[trials.Result],
    failures: Sequence[Finding],
    *,
    interrupted: bool,
) -> None:
    found = trials.summaries(results)
    if found:
        console.line(_table(found))
        console.say(
            f"every run is an experiment in {os.path.join(work.root, 'best_model')}; beside each other: ckpt report "
            f"{shlex.quote(work.root)}"
        )
    console.document(
        {
            "path": work.path,
            "findings": [finding.to_json() for finding in failures],
            "interrupted": interrupted,
            "settings": [summary.to_json() for summary in found],
            "runs": [_run(work, result) for result in results],
        }
    )


def _run(work: sweeping.Sweep, result: trials.Result) -> Mapping[str, Any]:
    flat = result.to_json()
    trial = flat.pop("trial")
    return {"experiment": work.experiment(result.trial).name, **trial, **flat}


def _table(found: Sequence[trials.Summary]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("setting", "runs", "valid", "test"):
        table.add_column(title, justify="left" if title == "setting" else "right", overflow="fold")
    for one in found:
        table.add_row(
            safe(trials.in_words(one.setting)),
            str(one.seeds),
            _with_deviation(one.valid, one.valid_deviation),
            _with_deviation(one.test, one.test_deviation),
        )
    return table


def _with_deviation(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return ""
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"
