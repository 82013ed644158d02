"""Experiments that the older trainers really left behind: what they logged is what has to be measured."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from old_experiments import DATA, EXPERIMENTS, IDS, LEFT_BEHIND, path_of
from toys import Recorder, tree

from ckpt_tools.cli import run
from ckpt_tools.errors import MismatchError
from ckpt_tools.lineages import identify
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.logs import collect
from trainer.evaluation.evaluator import ComiRecEvaluator
from trainer.settings import settings_of
from trainer.training.resume_outcome import ResumeOutcome
from trainer.training.starting_point import resumed_run

NOISY = next(entry for entry in LEFT_BEHIND if (entry["root"], entry["model_type"]) == ("tf1.15", "MIND"))
EXACT = [entry for entry in LEFT_BEHIND if entry is not NOISY]
EXACT_IDS = [name for name, entry in zip(IDS, LEFT_BEHIND, strict=True) if entry is not NOISY]


@pytest.mark.parametrize("entry", EXACT, ids=EXACT_IDS)
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


def test_routing_noise_is_said_with_its_interval() -> None:
    """MIND of TensorFlow 1 draws new logits at each evaluation: 0.100926 was one draw of many."""
    start = resumed_run(Experiment.at(path_of(NOISY)), "best", {}, data_dir=DATA)
    again = resumed_run(Experiment.at(path_of(NOISY)), "best", {"seed": 5}, data_dir=DATA)
    assert start.first == again.first
    assert start.spread is not None
    logged = float(NOISY["best"]["recall"])
    assert start.spread.low <= logged <= start.spread.high
    (said,) = (finding.message for finding in start.findings if finding.id == "routing-noise")
    assert f"{start.spread.low:.6f} to {start.spread.high:.6f} over 8 seeds" in said
    assert "logged was 0.100926" in said
    assert start.unsaved_best is not None
    with open_checkpoint(Experiment.at(path_of(NOISY)).best_prefix()) as checkpoint:
        lineage = identify(checkpoint)
        assert lineage is not None
        measured = ComiRecEvaluator().measure(checkpoint, lineage, data_dir=DATA, split="valid", top_n=50)
    assert measured.details["recall_low"] <= logged <= measured.details["recall_high"]


def test_data_that_noise_cannot_explain_is_refused(tmp_path: Path) -> None:
    shutil.copytree(DATA, tmp_path / "data")
    valid = tmp_path / "data" / "book_valid.txt"
    rows = [line.split(",") for line in valid.read_text().splitlines()]
    valid.write_text("".join(f"{user},{1274 - int(item)},{time}\n" for user, item, time in rows))
    with pytest.raises(MismatchError, match="probably not the data that it was trained on"):
        resumed_run(Experiment.at(path_of(NOISY)), "best", {}, data_dir=str(tmp_path / "data"))


def test_what_the_weights_cannot_tell_is_found_by_the_log(tmp_path: Path) -> None:
    """A run with another N: the log's recall is reproduced by recall@20, and that is said."""
    entry = next(entry for entry in EXACT if entry["model_type"] == "MIND")
    shutil.copytree(EXPERIMENTS / entry["root"] / "best_model", tmp_path / "best_model")
    experiment = Experiment.at(tmp_path / "best_model" / entry["experiment"])
    at_20 = resumed_run(experiment, "best", {"top_n": 20}, data_dir=DATA).first.recall
    logs = Path(experiment.runs)
    logs.mkdir(parents=True)
    (logs / "train.log").write_text(
        f"iter: {entry['best']['step']}, train loss: 7.0, valid recall: {at_20:.6f}, "
        "valid ndcg: 0.1, valid hitrate: 0.2\n"
    )
    start = resumed_run(experiment, "best", {}, data_dir=DATA)
    assert start.config.top_n == 20
    assert f"--top-n 20: gives the logged recall {at_20:.6f}" in [finding.message for finding in start.findings]
    told = resumed_run(experiment, "best", {"top_n": 50}, data_dir=DATA)
    assert (told.config.top_n, told.outcome) == (50, ResumeOutcome.MEASURED_AGAIN)  # a flag is believed


@pytest.mark.tensorflow
@pytest.mark.parametrize("entry", [EXACT[0], EXACT[-1]], ids=[EXACT_IDS[0], EXACT_IDS[-1]])
def test_a_run_that_goes_on_at_another_n_has_the_recalls_of_that_n(tmp_path: Path, entry: dict[str, Any]) -> None:
    """What the older trainer logged is recall@50, and says so nowhere: 0.2 at 50 is no better than 0.1 at 20."""
    from trainer.training.loop import train

    for name in ("best_model", "runs"):
        source = EXPERIMENTS / entry["root"] / name / entry["experiment"]
        if source.is_dir():
            shutil.copytree(source, tmp_path / name / entry["experiment"])
    experiment = Experiment.at(tmp_path / "best_model" / entry["experiment"])
    logged = collect(experiment)
    start = resumed_run(experiment, "best", {"top_n": 20, "test_iter": 5}, data_dir=DATA)
    (said,) = (finding.message for finding in start.findings if finding.id == "remeasured")
    assert "the run so far has recall@50 of a valid split" in said
    assert f"of which they give {start.first.recall:.6f}" in said
    assert start.run_state.best_metric == pytest.approx(start.first.recall, abs=1e-7)
    outcome = train(start, experiment, max_steps=start.run_state.step + 10, listener=Recorder())
    evidence = collect(experiment)
    assert not {row.source for row in evidence.rows} & {row.source for row in logged.rows}
    assert evidence.best is not None
    assert evidence.best.recall == pytest.approx(outcome.run_state.best_metric, abs=1e-6)
    assert not evidence.findings
    # At the N of before, it is one history again, all of it.
    start = resumed_run(experiment, "best", {"top_n": 50}, data_dir=DATA)
    train(start, experiment, max_steps=start.run_state.step, listener=Recorder())
    at_50 = collect(experiment)
    assert {row.recall for row in logged.evaluations} <= {row.recall for row in at_50.evaluations}
    assert not {row.recall for row in evidence.evaluations} & {row.recall for row in at_50.evaluations}


def test_a_noisy_run_goes_on_at_another_n_only_with_leave() -> None:
    """Noise lets some recall that was logged be given at nearly every N: it would prove other data to be the same."""
    experiment = Experiment.at(path_of(NOISY))
    with pytest.raises(MismatchError, match="which the run never logged"):
        resumed_run(experiment, "best", {"top_n": 5}, data_dir=DATA)
    assert resumed_run(experiment, "best", {"top_n": 5}, data_dir=DATA, accept_metric=True).measure_before is None
    start = resumed_run(experiment, "best", {}, data_dir=DATA)
    assert (start.measure_before or "").startswith("recall@50 of a valid split")


@pytest.mark.tensorflow
def test_a_run_that_was_killed_before_its_first_row_still_knows_what_its_log_measured(tmp_path: Path) -> None:
    from trainer.training.loop import train

    entry = EXACT[0]
    for name in ("best_model", "runs"):
        shutil.copytree(EXPERIMENTS / entry["root"] / name / entry["experiment"], tmp_path / name / entry["experiment"])
    experiment = Experiment.at(tmp_path / "best_model" / entry["experiment"])
    start = resumed_run(experiment, "best", {"top_n": 20}, data_dir=DATA)
    train(start, experiment, max_steps=start.run_state.step, listener=Recorder())
    os.remove(Path(experiment.runs) / "metrics.jsonl")
    again = resumed_run(experiment, "best", {}, data_dir=DATA)
    assert again.measure_before == start.measure_before
    assert (again.measure_before or "").startswith("recall@50 of a valid split")
    assert again.config.top_n == 20


def test_a_stored_recall_of_another_n_tells_nothing_of_the_log(tmp_path: Path) -> None:
    entry = next(entry for entry in EXACT if entry["has_best_metric"] is False and entry["root"] == "tf2.15")
    for name in ("best_model", "runs"):
        shutil.copytree(EXPERIMENTS / entry["root"] / name / entry["experiment"], tmp_path / name / entry["experiment"])
    experiment = Experiment.at(tmp_path / "best_model" / entry["experiment"])
    assert run(["backfill", experiment.path, "--data", DATA, "--top-n", "20", "--force", "--quiet"]) in (0, 1)
    at_20 = resumed_run(experiment, "best", {"top_n": 20}, data_dir=DATA)
    at_50 = resumed_run(experiment, "best", {"top_n": 50}, data_dir=DATA)
    assert (at_20.measure_before, at_50.measure_before) == (None, None)
    assert at_50.run_state.best_metric == pytest.approx(at_50.first.recall, abs=1e-7)


@pytest.mark.parametrize("entry", EXACT, ids=EXACT_IDS)
def test_a_resume_starts_where_the_best_was_logged(entry: dict[str, Any]) -> None:
    before = tree(path_of(entry))
    start = resumed_run(Experiment.at(path_of(entry)), "best", {}, data_dir=DATA)
    assert f"{start.first.recall:.6f}" == f"{start.run_state.best_metric:.6f}" == entry["best"]["recall"]
    assert start.run_state.step == start.run_state.best_step == entry["best"]["step"]
    assert int(start.variables["optimizer/step"]) == entry["best"]["step"]
    assert (start.unsaved_best is not None) is not entry["has_best_metric"]
    assert start.config.variant == ("paper" if entry["root"] == "tf1.15" else "keras")
    assert tree(path_of(entry)) == before


@pytest.mark.parametrize("entry", LEFT_BEHIND, ids=IDS)
def test_a_run_goes_on_as_its_own_trainer_trains(entry: dict[str, Any]) -> None:
    """None of this is in a checkpoint. The port reads out by item 0 and waits longer; Keras 3 squares each gradient."""
    config = resumed_run(Experiment.at(path_of(entry)), "best", {}, data_dir=DATA).config
    port, several = entry["root"] != "tf1.15", entry["model_type"] in ("MIND", "ComiRec-DR", "ComiRec-SA")
    readout = "soft-padding" if entry["model_type"] == "ComiRec-SA" else "padding"
    assert config.readout == (readout if port and several else "target")
    assert config.adam_epsilon == (1e-7 if port else 1e-8)
    assert config.repeated_rows == ("apart" if entry["root"] == "tf2.21" else "summed")
    assert config.patience == (100 if port and several else 50)
    assert config.padding_place


def test_what_differs_from_its_own_trainer_is_a_flag_and_said() -> None:
    entry = next(e for e in LEFT_BEHIND if (e["root"], e["model_type"]) == ("tf2.21", "ComiRec-DR"))
    given = {"readout": "hard", "repeated_rows": "summed", "adam_epsilon": 1e-8}  # hard is an old name of target
    start = resumed_run(Experiment.at(path_of(entry)), "best", given, data_dir=DATA)
    assert (start.config.readout, start.config.repeated_rows, start.config.adam_epsilon) == ("target", "summed", 1e-8)
    assert [finding.message for finding in start.findings if finding.id == "changed"] == [
        "--readout padding becomes target",
        "--repeated-rows apart becomes summed",
        "--adam-epsilon 1e-07 becomes 1e-08",
    ]
    assert start.sources["padding_place"] == "as comirec-keras3 trains"


def test_a_state_of_the_first_versions_of_this_trainer_goes_on_as_it_did() -> None:
    entry = next(e for e in LEFT_BEHIND if (e["root"], e["model_type"]) == ("tf2.21", "ComiRec-SA"))
    with open_checkpoint(Experiment.at(path_of(entry)).best_prefix()) as checkpoint:
        lineage = identify(checkpoint)
        assert lineage is not None
        old = replace(lineage, id="trainer", hyper={**lineage.hyper, "readout": "soft", "learning_rate": 0.005})
        config = settings_of(checkpoint, old, {}).config
        assert (config.readout, config.repeated_rows, config.padding_place) == ("soft-target", "summed", False)
        # What ckpt migrated from this port tells nothing of it, but where it came from.
        moved = replace(lineage, id="trainer", hyper={**lineage.hyper, "origin": "comirec-keras2-vars"})
        config = settings_of(checkpoint, moved, {}).config
        assert (config.readout, config.repeated_rows, config.padding_place) == ("soft-padding", "summed", True)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("root", "model_type"),
    [
        *((root, "ComiRec-DR") for root in ("tf1.15", "tf2.10", "tf2.15", "tf2.21")),
        *(("tf1.15", model_type) for model_type in ("GRU4REC", "MIND", "ComiRec-SA")),
        *(("tf2.21", model_type) for model_type in ("GRU4REC", "ComiRec-SA")),
    ],
)
def test_training_goes_on_from_the_logged_loss(root: str, model_type: str, tmp_path: Path) -> None:
    """The older trainers fell back here: from 0.151683 to 0.024444 in one case, and a loss to match."""
    from trainer.training.loop import train

    entry = next(entry for entry in LEFT_BEHIND if entry["root"] == root and entry["model_type"] == model_type)
    shutil.copytree(EXPERIMENTS / root, tmp_path / root)
    experiment = Experiment.at(path_of(entry, tmp_path))
    before = tree(experiment.path)
    recorder = Recorder()
    start = resumed_run(experiment, "best", {"test_iter": 20}, data_dir=DATA)
    train(start, experiment, start.run_state.step + 20, recorder)
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
