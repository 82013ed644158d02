"""Going on with an old experiment that ``ckpt`` has rewritten."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from old_experiments import DATA, EXPERIMENTS, LEFT_BEHIND, path_of
from toys import Recorder, tree

from ckpt_tools.analysis.run_audit import audit
from ckpt_tools.operations.backfilling import Options, backfill
from ckpt_tools.operations.migration import migrate
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.transactions import undo
from trainer.training.starting_point import resumed_run

ENTRIES = [
    next(entry for entry in LEFT_BEHIND if entry["root"] == root and entry["model_type"] == "ComiRec-DR")
    for root in ("tf1.15", "tf2.10")
]


def copied(entry: dict[str, Any], root: Path) -> Experiment:
    for folder in ("best_model", "runs"):
        part = Path(entry["root"], folder, entry["experiment"])
        shutil.copytree(EXPERIMENTS / part, root / part, copy_function=shutil.copyfile)
    return Experiment.at(path_of(entry, root))


@pytest.mark.parametrize("backfilled", [False, True], ids=["no best", "backfilled"])
@pytest.mark.parametrize("migrated", [False, True], ids=["old layout", "migrated"])
@pytest.mark.parametrize("entry", ENTRIES, ids=["paper", "keras"])
def test_a_resume_starts_where_the_best_was_logged(
    entry: dict[str, Any], migrated: bool, backfilled: bool, tmp_path: Path
) -> None:
    experiment = copied(entry, tmp_path)
    if migrated:
        migrate(experiment.path)
    if backfilled:
        assert backfill(experiment.path, Options(data_dir=DATA)).agreement == "match"
    start = resumed_run(experiment, "best", {}, data_dir=DATA)
    assert f"{start.first.recall:.6f}" == f"{start.run_state.best_metric:.6f}" == entry["best"]["recall"]
    assert (start.run_state.step, start.run_state.best_step) == (entry["best"]["step"],) * 2
    assert start.config.readout == ("target" if entry["root"] == "tf1.15" else "padding"), "as its own trainer trains"
    # Without a stored best it is saved before the first step, with the identity of the metric.
    assert (start.unsaved_best is not None) is not backfilled


@pytest.mark.tensorflow
def test_training_on_deletes_nothing_that_was_migrated_in_place(tmp_path: Path) -> None:
    from trainer.training.loop import train

    experiment = copied(ENTRIES[1], tmp_path)
    original = tree(experiment.path)
    migrate(experiment.path)
    prefix = experiment.best_prefix()
    before = tree(experiment.path)
    start = resumed_run(experiment, "best", {"test_iter": 10}, data_dir=DATA)
    assert start.unsaved_best is not None
    train(start, experiment, start.run_state.step + 10, Recorder())
    assert experiment.best_prefix() != prefix
    (row,) = audit(str(tmp_path)).rows
    assert (row.kind, row.verdict, row.prefix) == ("experiment", "safe", experiment.best_prefix())
    after = tree(experiment.path)
    assert {name for name, data in before.items() if after.get(name) != data} == {"keras_ckpt/checkpoint"}
    undo(prefix)
    restored = tree(experiment.path)
    assert all(restored[name] == data for name, data in original.items() if name != "keras_ckpt/checkpoint")
