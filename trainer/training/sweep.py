"""The runs of a sweep, one after the other: each is an ordinary experiment, and what is finished is not trained again.

Figures of finished runs are kept in ``ROOT/sweeps/NAME.jsonl``, one line each. A line counts as long as the run's
standing and the test users are those that it was made of. Needs no TensorFlow until something is trained.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ckpt_tools.errors import UsageError
from ckpt_tools.format import json_text
from ckpt_tools.fs import durable, local
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.runs.experiments import BEST_ROOT, Experiment, find_experiments
from ckpt_tools.runs.logs import Evidence
from ckpt_tools.runs.opening import open_identified
from trainer.checkpoints.run_state import RunState
from trainer.checkpoints.saved_state import newest_run_state, read_saved_state
from trainer.config import TrainConfig, experiment_name, flag, validate
from trainer.data.interactions import has_split, items_needed, read_split
from trainer.evaluation.closing import closing_report
from trainer.settings import settings_of
from trainer.training.starting_point import StartingPoint, new_run, resumed_run
from trainer.training.trials import Result, Trial, in_words

_MAX_BYTES = 1 << 26

# Trains a run to its end; returns whether it was not interrupted.
Train = Callable[[StartingPoint, Experiment], bool]


@dataclass(frozen=True)
class Sweep:
    """What all runs of a sweep share. ``config`` makes a trial's configuration."""

    name: str
    root: str
    dataset: str
    data_dir: str
    max_steps: int
    config: Callable[[Trial], TrainConfig]

    @property
    def path(self) -> str:
        return os.path.join(self.root, "sweeps", f"{self.name}.jsonl")

    @property
    def digests(self) -> dict[str, str]:
        """Of the splits that there are. Raises what reading them raises."""
        return {split: digest for split, (digest, _) in self._splits.items()}

    @property
    def item_count(self) -> int:
        """Rows of the item table of a new run. Raises what reading the data raises."""
        return max(rows for _, rows in self._splits.values())

    @cached_property
    def _splits(self) -> dict[str, tuple[str, int]]:
        wanted = ("train", "valid", "test")
        there = [split for split in wanted if split != "test" or has_split(self.data_dir, self.dataset, split)]
        read = ((split, read_split(self.data_dir, self.dataset, split)) for split in there)
        return {split: (interactions.digest, items_needed(interactions)) for split, interactions in read}

    def experiment(self, trial: Trial) -> Experiment:
        return Experiment(os.path.join(self.root, BEST_ROOT, experiment_name(self.config(trial), trial.name)))


def require_comparable(sweep: Sweep, trials: Iterable[Trial]) -> None:
    """Raise UsageError before anything is trained: for a setting that no run could use, for two settings that are one
    run (a model with one interest has no number of them), and for recalls at several N, of which none is the best."""
    settings: dict[TrainConfig, Trial] = {}
    for trial in trials:
        config = replace(sweep.config(trial), item_count=sweep.item_count)
        validate(config)
        sweep.experiment(trial)
        same = settings.setdefault(config, trial)
        if same.setting != trial.setting:
            raise UsageError(
                f"{in_words(same.setting)} and {in_words(trial.setting)} are the same run of {config.model_type}",
                hint="leave one of them out",
            )
    if len(measured := sorted({config.top_n for config in settings})) > 1:
        raise UsageError(
            f"recall@{measured[0]} and recall@{measured[1]} cannot be compared",
            hint=f"one for all runs: --set top_n={measured[0]}",
        )


def run(sweep: Sweep, trial: Trial, train: Train) -> Result | None:
    """The result of a trial: what is there is taken, what is begun goes on, what is new begins. None when interrupted.

    Raises UsageError when a run of that name has other settings or was trained on other data, and what training raises:
    MismatchError for one that diverges, BusyError for one that another process trains.
    """
    experiment, config = sweep.experiment(trial), sweep.config(trial)
    there = any(found.name == experiment.name for found in find_experiments(sweep.root))
    if there:
        _require_same(sweep, experiment, config)
    standing = newest_run_state(experiment) if there else None
    if standing is None or not _finished(standing[0], sweep.max_steps):
        start = (
            resumed_run(experiment, "latest", {}, data_dir=sweep.data_dir) if there else new_run(config, sweep.data_dir)
        )
        if not train(start, experiment):
            return None
        standing = newest_run_state(experiment)
    if standing is None or not standing[0].has_best:
        raise UsageError(
            "this run has no best to compare: it ended before its first evaluation",
            path=experiment.path,
            hint=f"train longer, or evaluate more often: --set test_iter={max(1, sweep.max_steps // 10)}",
        )
    return _result(sweep, trial, experiment, standing[0])


def _finished(run_state: RunState, max_steps: int) -> bool:
    return run_state.stopped or run_state.step >= max_steps


def _require_same(sweep: Sweep, experiment: Experiment, config: TrainConfig) -> None:
    prefix = experiment.latest_prefix() or experiment.best_prefix()
    with open_identified(prefix, ComiRecLineage) as (checkpoint, lineage):
        stored = settings_of(checkpoint, lineage, {}).config
        saved = read_saved_state(checkpoint, lineage, "latest", Evidence())
    wanted = replace(config, item_count=stored.item_count)
    different = [
        f"{flag(name)} {getattr(stored, name)}"
        for name in vars(wanted)
        if getattr(stored, name) != getattr(wanted, name)
    ]
    said = f"with other settings: {', '.join(different)}" if different else ""
    of_data = {"train": saved.train_digest, "valid": saved.identity.get("digest")}
    if not different and of_data != {split: sweep.digests[split] for split in of_data}:
        said = "that was trained on other data"
    if said:
        raise UsageError(
            f"there is a run of this name {said}",
            path=experiment.path,
            hint="choose another --exp-name for this sweep",
        )


def _result(sweep: Sweep, trial: Trial, experiment: Experiment, run_state: RunState) -> Result:
    config = sweep.config(trial)
    key = {
        "experiment": experiment.name,
        "step": run_state.step,
        "best_step": run_state.best_step,
        "best": run_state.best_metric,
        "test_users": sweep.digests.get("test"),
        "top_n": config.top_n,
    }
    row = next((row for row in _rows(sweep.path) if all(row.get(name) == value for name, value in key.items())), None)
    if row is None:
        with_items = replace(config, item_count=_item_count(experiment))
        figures = {
            one.split: one.line.metrics.recall
            for one in closing_report(experiment, with_items, sweep.data_dir, "quick")
        }
        row = {**key, "valid": figures["valid"], "test": figures.get("test")}
        durable.make_directory(os.path.dirname(sweep.path))
        durable.append_line(sweep.path, json.dumps(row, sort_keys=True, allow_nan=False))
    return Result(trial, row["valid"], row["test"], run_state.best_step, run_state.step)


def _item_count(experiment: Experiment) -> int:
    with open_identified(experiment.best_prefix(), ComiRecLineage) as (_, lineage):
        return lineage.item_count


def _rows(path: str) -> list[dict[str, Any]]:
    """The lines that say something of a run; a line that was cut off is none."""
    if not local.is_file(path, follow=True):
        return []
    rows = []
    for line in local.read_file(path, limit=_MAX_BYTES).decode(errors="replace").splitlines():
        try:
            row = json_text.parse(line)
        except ValueError:
            continue
        numbers = isinstance(row, dict) and isinstance(row.get("valid"), float)
        if numbers and isinstance(row.get("test"), float | None):
            rows.append(row)
    return rows
