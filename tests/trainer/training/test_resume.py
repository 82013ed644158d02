"""Runs in this process, on data of a few kilobytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import begin, resume, rows, same_bits, tensors
from toys import Recorder, small_config, tree, write_split

from ckpt_tools.errors import BusyError, MismatchError, NotFoundError, UsageError
from ckpt_tools.fs import durable
from ckpt_tools.lineages.base import UNKNOWN_STEP
from ckpt_tools.runs.experiments import Experiment
from trainer.config import BEST, FIRST_VERSIONS
from trainer.naming import new_experiment
from trainer.training.starting_point import new_run, resumed_run

pytestmark = pytest.mark.tensorflow

# Whatever is left out by default, at once.
EVERYTHING: dict[str, Any] = {
    "negatives": "mixed",
    "hard_negatives": 0.5,
    "routing_regularization": 1.0,
    "schedule": "cosine",
    "warmup_steps": 15,
    "decay_steps": 35,
    "weight_decay": 0.5,
    "clip_norm": 0.1,
    "precision": "bfloat16",
}


def edit(experiment: Experiment, change: Callable[[dict[str, Any]], None]) -> None:
    """Save the best again with something changed, as ckpt-N+1."""
    from trainer.checkpoints.saving import CheckpointLine

    values = tensors(experiment.best_prefix())
    del values["save_counter"]
    values = {name: value.item() if value.dtype == object else value for name, value in values.items()}
    change(values)
    CheckpointLine(experiment.best_line).save(values)


# ------------------------------------------------------------------------------------ bit-exactness


@pytest.mark.parametrize("model_type", ["DNN", "GRU4REC", "MIND", "ComiRec-DR", "ComiRec-SA"])
def test_an_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one(
    tmp_path: Path, data_dir: str, model_type: str
) -> None:
    whole = begin(tmp_path / "whole", data_dir, 200, model_type)
    halves = begin(tmp_path / "halves", data_dir, 100, model_type)
    resume(halves, "latest", data_dir, 200)
    same_bits(tensors(whole.latest_prefix()), tensors(halves.latest_prefix()))
    same_bits(tensors(whole.best_prefix()), tensors(halves.best_prefix()))
    evaluations = [row for row in rows(whole) if row["event"] == "eval"]
    assert [row for row in rows(halves) if row["event"] == "eval"] == evaluations
    assert len(evaluations) == 20


def test_a_stop_between_two_evaluations_changes_no_bit_either(tmp_path: Path, data_dir: str) -> None:
    whole = begin(tmp_path / "whole", data_dir, 30)
    halves = begin(tmp_path / "halves", data_dir, 17)
    assert tensors(halves.latest_prefix())["state/step"] == 17
    resume(halves, "latest", data_dir, 30)
    # One save more was made, so the counter alone differs.
    same_bits(tensors(whole.latest_prefix()), tensors(halves.latest_prefix()), but=("save_counter",))


def test_what_a_recipe_may_change_resumes_to_the_bit_and_stays_what_it_was(tmp_path: Path, data_dir: str) -> None:
    """Between two evaluations, in the middle of warm-up and decay, with rows of the table behind."""
    recipe = {**BEST, **EVERYTHING}
    whole = begin(tmp_path / "whole", data_dir, 40, "ComiRec-SA", **recipe)
    halves = begin(tmp_path / "halves", data_dir, 23, "ComiRec-SA", **recipe)
    config = resumed_run(halves, "latest", {}, data_dir=data_dir).config
    assert {name: getattr(config, name) for name in recipe} == recipe
    assert any(name.startswith("state/idle/") for name in tensors(halves.latest_prefix()))
    other = resumed_run(halves, "latest", {"weight_decay": 0.2}, data_dir=data_dir)
    assert not any(name.startswith("state/idle/") for name in other.variables), "they would catch up with another rate"
    resume(halves, "latest", data_dir, 40)
    same_bits(tensors(whole.latest_prefix()), tensors(halves.latest_prefix()), but=("save_counter",))


def test_a_run_of_before_the_recipes_goes_on_without_them(tmp_path: Path, data_dir: str) -> None:
    experiment = begin(tmp_path, data_dir, 10)

    def as_it_was(values: dict[str, Any]) -> None:
        config = json.loads(values["state/config"])
        for name in FIRST_VERSIONS:
            del config[name]
        values["state/config"] = json.dumps(config)

    edit(experiment, as_it_was)
    start = resumed_run(experiment, "best", {}, data_dir=data_dir)
    assert {name: getattr(start.config, name) for name in FIRST_VERSIONS} == FIRST_VERSIONS
    assert (start.config.min_history, start.config.history_dropout, start.config.readout) == (4, 0.0, "target")
    assert start.sources["min_history"] == "the first versions of this trainer"
    changed = resumed_run(experiment, "best", {"history_dropout": 0.2, "readout": "max"}, data_dir=data_dir)
    messages = [finding.message for finding in changed.findings if finding.id == "changed"]
    assert sorted(messages) == ["--history-dropout 0.0 becomes 0.2", "--readout target becomes max"]


def test_a_signal_finishes_the_step_and_saves_it(tmp_path: Path, data_dir: str) -> None:
    from trainer.training.loop import train

    config = small_config()
    experiment = new_experiment(str(tmp_path), config, "run")
    kill = Recorder(on_step=lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 13 else None)
    before = signal.getsignal(signal.SIGTERM)
    outcome = train(new_run(config, data_dir), experiment, 100, kill)
    assert (outcome.reason, outcome.run_state.step) == ("interrupted", 13)
    assert signal.getsignal(signal.SIGTERM) is before
    assert tensors(experiment.latest_prefix())["optimizer/step"] == 13
    resume(experiment, "latest", data_dir, 20)
    whole = begin(tmp_path / "whole", data_dir, 20)
    same_bits(tensors(whole.latest_prefix()), tensors(experiment.latest_prefix()), but=("save_counter",))


# ---------------------------------------------------------------------------------------- resuming


def test_a_run_that_ends_between_two_evaluations_logs_no_old_recall(tmp_path: Path, data_dir: str) -> None:
    experiment = begin(tmp_path, data_dir, 15)
    evaluated, stop = rows(experiment)[-2:]
    assert (evaluated["event"], evaluated["step"], stop["event"], stop["step"]) == ("eval", 10, "stop", 15)
    assert (stop["recall"], stop["ndcg"], stop["hitrate"]) == (None, None, None)
    assert stop["loss"] > 0


def test_a_resumed_run_is_told_only_what_it_may_change(finished: Experiment, data_dir: str) -> None:
    """More negatives than items: of the two sizes that make them, the number for each user is fixed."""
    with pytest.raises(UsageError, match="different ids") as caught:
        resumed_run(finished, "best", {"batch_size": 50}, data_dir=data_dir)
    assert caught.value.hint == "use --batch-size 39"
    assert resumed_run(finished, "best", {"batch_size": 39}, data_dir=data_dir).config.batch_size == 39


def test_item_0_in_the_data_is_pointed_out(tmp_path: Path, data_dir: str) -> None:
    shutil.copytree(data_dir, tmp_path / "data")
    with open(tmp_path / "data" / "toys_train.txt", "a") as file:
        file.write("3,0,99\n")
    found = new_run(small_config(), str(tmp_path / "data")).findings
    assert next(finding.message for finding in found if finding.id == "padding-id").startswith(
        "item id 0 occurs 1 times"
    )


def test_the_best_is_kept_and_resumed(tmp_path: Path, data_dir: str) -> None:
    experiment = begin(tmp_path, data_dir, 100, learning_rate=0.1)
    logged = [row for row in rows(experiment) if row["event"] in ("start", "eval")]
    best = max(logged, key=lambda row: (np.float32(row["recall"]), -row["step"]))
    stored = tensors(experiment.best_prefix())
    assert best["step"] < 100  # or the test shows nothing
    assert (stored["state/step"], stored["best_metric"]) == (best["step"], np.float32(best["recall"]))
    recorder = Recorder()
    outcome = resume(experiment, "best", data_dir, best["step"] + 10, recorder)
    assert (outcome.first.event, outcome.first.step, outcome.first.recall) == ("resume", best["step"], best["recall"])
    assert outcome.run_state.best_metric == stored["best_metric"]


def test_resuming_an_untouched_best_does_not_save_it_again(tmp_path: Path, data_dir: str) -> None:
    experiment = begin(tmp_path, data_dir, 20)
    before = tree(experiment.best_line)
    start = resumed_run(experiment, "best", {}, data_dir=data_dir)
    resume(experiment, "best", data_dir, start.run_state.step)
    assert tree(experiment.best_line) == before


@pytest.mark.parametrize("line", ["best", "latest"])
def test_a_run_out_of_patience_says_so_and_needs_leave_to_go_on(tmp_path: Path, data_dir: str, line: Any) -> None:
    experiment = begin(tmp_path, data_dir, 500, learning_rate=0.3, patience=1)
    stopped = tensors(experiment.latest_prefix())
    assert stopped["state/stopped"]
    before = tree(tmp_path)
    with pytest.raises(UsageError, match=r"this run stopped early at step .*: 2 evaluations in a row") as caught:
        resumed_run(experiment, line, {}, data_dir=data_dir)
    assert "--continue-after-stop" in (caught.value.hint or "")
    assert tree(tmp_path) == before
    resumed_run(experiment, line, {"patience": 5}, data_dir=data_dir)
    start = resumed_run(experiment, line, {}, data_dir=data_dir, continue_after_stop=True)
    assert (start.run_state.trials, start.run_state.stopped) == (0, False)
    assert any(finding.id == "early-stop" for finding in start.findings)
    step = start.run_state.step
    outcome = resume(experiment, line, data_dir, step + 10, continue_after_stop=True)
    assert (outcome.reason, outcome.run_state.step) == ("max-steps", step + 10)


# ---------------------------------------------------------------------------------------- refusals


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data_dir: str) -> Experiment:
    """A run that the tests below may look at, and must not change."""
    return begin(tmp_path_factory.mktemp("finished"), data_dir, 20)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("neg_num", 2, r"--neg-num 2 contradicts 3 \(state/config\)"),
        ("embedding_dim", 8, r"--embedding-dim 8 contradicts 4 \(shape of model/item_embedding"),
        ("model_type", "DNN", "--model-type DNN contradicts ComiRec-DR"),
        ("variant", "keras", "--variant keras contradicts paper"),
    ],
)
def test_a_contradicting_flag_is_refused(
    finished: Experiment, data_dir: str, flag: str, value: Any, message: str
) -> None:
    before = tree(finished.root)
    with pytest.raises(UsageError, match=message):
        resumed_run(finished, "best", {flag: value}, data_dir=data_dir)
    assert tree(finished.root) == before


def test_flags_that_agree_or_may_change_are_taken_and_reported(finished: Experiment, data_dir: str) -> None:
    given = {"learning_rate": 0.02, "dataset": "toys", "test_iter": 5, "patience": 9, "batch_size": 8, "seed": 8,
             "readout": "mean", "repeated_rows": "apart"}  # fmt: skip
    start = resumed_run(finished, "best", given, data_dir=data_dir)
    config = start.config
    assert (config.test_iter, config.patience, config.learning_rate, config.batch_size) == (5, 9, 0.02, 8)
    assert start.variables["optimizer/learning_rate"] == np.float32(0.02)
    assert [finding.message for finding in start.findings if finding.id == "changed"] == [
        "--learning-rate 0.01 becomes 0.02",
        "--test-iter 10 becomes 5",
        "--patience 50 becomes 9",
        "--batch-size 16 becomes 8",
        "--seed 7 becomes 8",
        "--readout target becomes mean",
        "--repeated-rows summed becomes apart",
    ]


@pytest.mark.parametrize("line", ["best", "latest"])
@pytest.mark.parametrize("what", ["another N", "another split"])
def test_a_best_that_is_not_comparable_is_measured_again(tmp_path: Path, data_dir: str, line: Any, what: str) -> None:
    experiment = begin(tmp_path / "root", data_dir, 40, learning_rate=0.1)
    other, given = tmp_path / "other", {}
    other.mkdir()
    for name in os.listdir(data_dir):
        (other / name).write_bytes(Path(data_dir, name).read_bytes())
    if what == "another N":
        given = {"top_n": 20}
    else:
        write_split(other / "toys_valid.txt", {1: [5, 9, 13, 17, 21, 25], 2: [6, 10, 14, 18, 22, 26]})
    before = tree(tmp_path)
    if what == "another split":
        with pytest.raises(MismatchError, match="other validation data") as caught:
            resumed_run(experiment, line, given, data_dir=str(other))
        assert "--accept-metric" in (caught.value.hint or "")
    options = {"data_dir": str(other), "accept_metric": what == "another split"}
    best = resumed_run(experiment, "best", given, **options)
    start = resumed_run(experiment, line, given, **options)
    assert tree(tmp_path) == before
    assert start.run_state.best_metric == float(np.float32(best.first.recall))
    assert start.run_state.best_step == best.run_state.step
    (said,) = (finding.message for finding in start.findings if finding.id == "remeasured")
    assert said.startswith("the stored best 0.")
    assert f"measured again, it is {best.first.recall:.6f}" in said
    for begun in (best, start):
        assert begun.unsaved_best is not None
        assert begun.unsaved_best.run_state.best_metric == start.run_state.best_metric
        assert begun.unsaved_best.run_state.step == best.run_state.step


def test_a_recall_that_is_not_the_stored_one_is_refused_or_believed(tmp_path: Path, data_dir: str) -> None:
    experiment = begin(tmp_path, data_dir, 20)
    edit(experiment, lambda values: values.update(best_metric=np.float32(0.9)))
    before = tree(tmp_path)
    with pytest.raises(MismatchError, match=r"the stored recall is 0.900000, but these weights .* give 0\.") as caught:
        resumed_run(experiment, "best", {}, data_dir=data_dir)
    assert "--accept-metric" in (caught.value.hint or "")
    assert tree(tmp_path) == before
    outcome = resume(experiment, "best", data_dir, 0, accept_metric=True)
    assert tensors(experiment.best_prefix())["best_metric"] == np.float32(outcome.first.recall)


@pytest.mark.parametrize("name", ["model/capsule/weights", "optimizer/v/item_embedding"])
def test_a_variable_of_another_shape_is_refused_by_name(tmp_path: Path, data_dir: str, name: str) -> None:
    experiment = begin(tmp_path, data_dir, 0)
    edit(experiment, lambda values: values.update({name: np.zeros((1, 6, 8, 5), np.float32)}))
    before = tree(tmp_path)
    with pytest.raises(MismatchError, match=rf"{name} is float32 \[1, 6, 8, 5\], but the model needs"):
        resumed_run(experiment, "best", {}, data_dir=data_dir)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["model/item_bias", "optimizer/m/capsule/weights"])
def test_a_missing_variable_is_refused_by_name(tmp_path: Path, data_dir: str, name: str) -> None:
    experiment = begin(tmp_path, data_dir, 0)
    edit(experiment, lambda values: values.pop(name))
    before = tree(tmp_path)
    with pytest.raises(MismatchError, match=f"holds no {name}"):
        resumed_run(experiment, "best", {}, data_dir=data_dir)
    assert tree(tmp_path) == before


def test_without_a_newest_state_the_best_is_where_the_run_was(tmp_path: Path, data_dir: str) -> None:
    experiment = begin(tmp_path / "new", data_dir, 0, "DNN")
    shutil.rmtree(experiment.latest_line)
    assert resumed_run(experiment, "latest", {}, data_dir=data_dir).resumed_from == experiment.best_prefix()
    old = as_old_experiment(tmp_path / "old", experiment, beta2_power=0.9)
    with pytest.raises(NotFoundError, match="no newest state: its trainer kept only the best"):
        resumed_run(old, "latest", OLD_FLAGS, data_dir=data_dir)


def test_two_runs_of_one_experiment_are_refused(tmp_path: Path, data_dir: str) -> None:
    experiment = begin(tmp_path, data_dir, 0)
    before = tree(tmp_path)
    with durable.locked(experiment.path), pytest.raises(BusyError):
        resume(experiment, "best", data_dir, 10)
    assert tree(tmp_path) == before


def test_a_loss_that_is_not_finite_ends_the_run_and_saves_nothing(
    tmp_path: Path, data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.training.learner import Learner

    experiment = begin(tmp_path, data_dir, 10)
    latest = tree(experiment.latest_line)
    monkeypatch.setattr(Learner, "update", lambda self, batch: float("nan"))  # noqa: ARG005
    with pytest.raises(MismatchError, match="training has diverged: the loss is nan at step 11"):
        resume(experiment, "latest", data_dir, 20)
    assert tree(experiment.latest_line) == latest


# ------------------------------------------------------------------------- experiments of older trainers


TF1_NAMES = {
    "item_embedding": "mid_embedding_var",
    "proj/kernel": "dense/kernel",
    "proj/bias": "dense/bias",
}


def as_old_experiment(root: Path, source: Experiment, *, beta2_power: float) -> Experiment:
    """The best of a DNN run, rewritten as the original trainer saves it, with the log of its evaluation."""
    import tensorflow as tf

    values = tensors(source.best_prefix())
    stored = {"bias_lookup_table": values["model/item_bias"], "beta1_power": np.float32(0.1)}
    stored["beta2_power"] = np.float32(beta2_power)
    for name, old in TF1_NAMES.items():
        stored |= {
            old: values[f"model/{name}"],
            f"{old}/Adam": values[f"optimizer/m/{name}"],
            f"{old}/Adam_1": values[f"optimizer/v/{name}"],
        }
    experiment = Experiment(str(root / "best_model" / source.name))
    os.makedirs(experiment.path)
    os.makedirs(experiment.runs)
    prefix = os.path.join(experiment.path, "model.ckpt")
    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=list(stored), shape_and_slices=[""] * len(stored), tensors=list(stored.values())
    )
    Path(experiment.path, "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\n')
    step, recall = int(values["state/step"]), float(values["best_metric"])
    Path(experiment.runs, "train.log").write_text(
        f"iter: {step}, train loss: 4.0000, valid recall: {recall:.6f}, valid ndcg: 0.1, valid hitrate: 0.2\n"
    )
    return experiment


OLD_FLAGS = {key: getattr(small_config("DNN"), key) for key in ("seed", "neg_num", "top_n", "test_iter")}


def test_an_old_experiment_goes_on_with_its_weights_moments_and_step(tmp_path: Path, data_dir: str) -> None:
    source = begin(tmp_path / "new", data_dir, 50, "DNN")
    values = tensors(source.best_prefix())
    step = int(values["state/step"])
    assert step > 0
    old = as_old_experiment(
        tmp_path / "old", source, beta2_power=np.multiply.accumulate(np.full(step + 1, 0.999, np.float32))[-1]
    )
    before = tree(old.path)
    resume(old, "best", data_dir, step + 10, given=OLD_FLAGS)
    adopted = tensors(old.best_prefix())
    assert before.items() - tree(old.path).items() <= {("checkpoint", before["checkpoint"])}
    whole = begin(tmp_path / "whole", data_dir, step + 10, "DNN")
    for name in values:
        if name.startswith(("model/", "optimizer/")):
            assert tensors(old.latest_prefix())[name].tobytes() == tensors(whole.latest_prefix())[name].tobytes(), name
    assert adopted["best_metric"] >= values["best_metric"]
    assert rows(old)[0]["event"] == "resume"


def test_an_old_best_without_a_stored_metric_is_saved_with_it_before_training(tmp_path: Path, data_dir: str) -> None:
    source = begin(tmp_path / "new", data_dir, 50, "DNN")
    values = tensors(source.best_prefix())
    old = as_old_experiment(tmp_path / "old", source, beta2_power=0.0)
    start = resumed_run(old, "best", OLD_FLAGS, data_dir=data_dir)
    # The power has run out: Adam's step is not known, the log tells that of the run.
    assert int(start.variables["optimizer/step"]) == UNKNOWN_STEP
    assert (start.run_state.step, (start.unsaved_best is not None)) == (int(values["state/step"]), True)
    resume(old, "best", data_dir, 0, given=OLD_FLAGS)
    assert tensors(old.best_prefix())["best_metric"] == values["best_metric"]
    assert os.path.exists(os.path.join(old.path, "model.ckpt.index"))


def test_data_that_gives_no_logged_recall_is_refused(tmp_path: Path, data_dir: str) -> None:
    source = begin(tmp_path / "new", data_dir, 50, "DNN")
    old = as_old_experiment(tmp_path / "old", source, beta2_power=0.9)
    log = Path(old.runs, "train.log")
    log.write_text(log.read_text().replace("valid recall: 0.", "valid recall: 0.9"))
    before = tree(tmp_path)
    with pytest.raises(MismatchError, match="probably not the data that it was trained on"):
        resumed_run(old, "best", OLD_FLAGS, data_dir=data_dir)
    assert tree(tmp_path) == before
    assert resumed_run(old, "best", OLD_FLAGS, data_dir=data_dir, accept_metric=True).unsaved_best
    log.unlink()
    assert not resumed_run(old, "best", {**OLD_FLAGS, "maxlen": 6}, data_dir=data_dir).findings
