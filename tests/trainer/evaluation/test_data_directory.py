"""Where the data of an experiment lies is one rule: a backfill and the trainer find the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from checkpoints import pick

from ckpt_tools.errors import UsageError
from ckpt_tools.lineages import identify
from ckpt_tools.operations.backfilling import default_data_dir as of_a_backfill
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.runs.experiments import Experiment
from trainer.evaluation.opening import open_model

SAMPLE = pick("tf2.15")
PLACES = ["data/{}_data", "data", "{}_data", "."]


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    shutil.copytree(SAMPLE.path, tmp_path / "best_model" / SAMPLE.experiment)
    return Experiment(str(tmp_path / "best_model" / SAMPLE.experiment))


def found_by_a_backfill(experiment: Experiment) -> str:
    with open_checkpoint(experiment.best_prefix()) as checkpoint:
        lineage = identify(checkpoint)
    assert lineage is not None
    return of_a_backfill(experiment, lineage)


def found_by_the_trainer(experiment: Experiment) -> str:
    found = open_model(experiment.path, {}, None, needs_data=True).data_dir
    assert found is not None
    return found


@pytest.mark.parametrize("first", range(len(PLACES)))
def test_both_find_the_same_place_and_the_first_of_several(experiment: Experiment, first: int) -> None:
    dataset = experiment.fields["dataset"]
    places = [os.path.normpath(os.path.join(experiment.root, place.format(dataset))) for place in PLACES]
    for place in places[first:]:
        os.makedirs(place, exist_ok=True)
        for split in ("train", "valid", "test"):
            Path(place, f"{dataset}_{split}.txt").write_text("1,1,0\n1,2,1\n1,3,2\n1,4,3\n1,5,4\n")
    assert os.path.normpath(found_by_a_backfill(experiment)) == places[first]
    assert os.path.normpath(found_by_the_trainer(experiment)) == places[first]


def test_without_data_a_backfill_says_so_and_the_trainer_names_the_usual_place(experiment: Experiment) -> None:
    with pytest.raises(UsageError, match="no data to evaluate on"):
        found_by_a_backfill(experiment)
    usual = os.path.join(experiment.root, PLACES[0].format(experiment.fields["dataset"]))
    assert os.path.normpath(found_by_the_trainer(experiment)) == os.path.normpath(usual)
