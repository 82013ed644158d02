"""Experiments that the older trainers really left behind: what they logged is what has to be measured."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from old_experiments import DATA, EXPERIMENTS, IDS, LEFT_BEHIND, path_of
from toys import Recorder, tree

from ckpt_tools.errors import MismatchError
from ckpt_tools.experiments import Experiment
from ckpt_tools.lineages import identify
from ckpt_tools.readers import open_checkpoint
from trainer.evaluate import ComiRecEvaluator
from trainer.start import resumed_run


@pytest.mark.parametrize("entry", LEFT_BEHIND, ids=IDS)
def test_the_logged_metrics_are_measured_again_to_every_digit(entry: dict[str, Any]) -> None:
    with open_checkpoint(Experiment.at(path_of(entry)).best_prefix()) as checkpoint:
        lineage = identify(checkpoint)
        assert lineage is not None
        evaluator = ComiRecEvaluator()
        assert evaluator.accepts(lineage)
        measured = evaluator.measure(checkpoint, lineage, data_dir=DATA, split="valid", top_n=entry["top_n"])
    assert f"{measured.value:.6f}" == entry["best"]["recall"]
    assert f"{measured.details['ndcg_hits_ideal']:.6f}" == entry["best"]["ndcg"]
    assert f"{measured.details['hitrate']:.6f}" == entry["best"]["hitrate"]
    assert (measured.metric, measured.top_n, measured.split, measured.users) == ("recall", 50, "valid", 90)


@pytest.mark.parametrize("entry", LEFT_BEHIND, ids=IDS)
def test_a_resume_starts_where_the_best_was_logged(entry: dict[str, Any]) -> None:
    before = tree(path_of(entry))
    start = resumed_run(Experiment.at(path_of(entry)), "best", {}, data_dir=DATA)
    assert f"{start.first.recall:.6f}" == f"{start.standing.best_metric:.6f}" == entry["best"]["recall"]
    assert start.standing.step == start.standing.best_step == entry["best"]["step"]
    assert int(start.variables["optimizer/step"]) == entry["best"]["step"]
    assert start.save_best is not entry["has_best_metric"]
    assert start.config.variant == ("paper" if entry["root"] == "tf1.15" else "keras")
    assert tree(path_of(entry)) == before


@pytest.mark.tensorflow
@pytest.mark.parametrize("root", ["tf1.15", "tf2.10", "tf2.15", "tf2.21"])
def test_training_goes_on_from_the_logged_loss(root: str, tmp_path: Path) -> None:
    """The older trainers fell back here: from 0.151683 to 0.024444 in one case, and a loss to match."""
    from trainer.loop import train

    entry = next(entry for entry in LEFT_BEHIND if entry["root"] == root and entry["model_type"] == "ComiRec-DR")
    shutil.copytree(EXPERIMENTS / root, tmp_path / root)
    experiment = Experiment.at(path_of(entry, tmp_path))
    before = tree(experiment.path)
    recorder = Recorder()
    start = resumed_run(experiment, "best", {"test_iter": 20}, data_dir=DATA)
    train(start, experiment, start.standing.step + 20, recorder)
    logged = next(row for row in entry["evaluations"] if row["step"] == entry["best"]["step"])
    assert recorder.rows[-1].loss < float(logged["train_loss"]) + 0.05
    assert recorder.rows[-1].best_metric >= recorder.rows[0].best_metric
    # What the older trainer wrote is all there, but for the file that says which is the newest.
    changed = {name for name, data in before.items() if tree(experiment.path).get(name) != data}
    assert changed <= {"keras_ckpt/checkpoint"}


def test_other_data_is_refused(tmp_path: Path) -> None:
    entry = LEFT_BEHIND[0]
    shutil.copytree(DATA, tmp_path / "data")
    valid = tmp_path / "data" / "book_valid.txt"
    valid.write_text("".join(valid.read_text().splitlines(keepends=True)[:400]))
    with pytest.raises(MismatchError, match="probably not the data that it was trained on"):
        resumed_run(Experiment.at(path_of(entry)), "best", {}, data_dir=str(tmp_path / "data"))
