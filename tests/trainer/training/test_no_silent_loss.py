"""No best model is lost in silence, and nothing goes on in another way than before without being said."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from running import begin, damage, resume, same_bits, tensors
from toys import Recorder, small_config, tree
from typer.testing import CliRunner

from ckpt_tools.errors import BusyError, CkptError, MismatchError, UsageError
from ckpt_tools.readers.location import prefixes_in
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.logs import collect
from trainer import cli
from trainer.naming import new_experiment
from trainer.training.starting_point import new_run, resumed_run

pytestmark = pytest.mark.tensorflow


def other_data(data_dir: str, target: Path, split: str) -> str:
    """The same data, but for one split whose item ids are permuted: it fits the table and means nothing."""
    shutil.copytree(data_dir, target)
    path = target / f"toys_{split}.txt"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("".join(f"{user},{(int(item) * 7) % 113 + 1},{time}\n" for user, item, time in rows))
    return str(target)


@pytest.mark.parametrize("line", ["best", "latest"])
def test_the_best_of_other_data_stays_beside_the_new_one_and_is_found_again(
    tmp_path: Path, data_dir: str, line: Any
) -> None:
    experiment = begin(tmp_path / "root", data_dir, 20)
    wrong = other_data(data_dir, tmp_path / "wrong", "valid")
    before = tree(experiment.path)
    with pytest.raises(MismatchError, match="other validation data"):
        resumed_run(experiment, line, {}, data_dir=wrong)
    assert tree(experiment.path) == before
    best = tensors(experiment.best_prefix())
    old = experiment.best_prefix()
    resume(experiment, line, wrong, 60, accept_metric=True)
    assert experiment.best_prefix() != old
    same_bits(tensors(old), best)
    assert len(prefixes_in(experiment.best_line)) == 2, "of each split one"
    start = resumed_run(experiment, "best", {}, data_dir=data_dir)
    assert start.resumed_from == old
    assert any(finding.id == "other-best" for finding in start.findings)
    resume(experiment, "best", data_dir, start.run_state.step)
    assert tensors(experiment.best_prefix())["best_metric"] == best["best_metric"], "the newest of the line again"


def test_recalls_of_another_n_are_not_compared_with_those_of_now(tmp_path: Path, data_dir: str) -> None:
    """Recall at a larger N is larger: the best of a run that went on at a smaller one would count as lost."""
    experiment = begin(tmp_path / "root", data_dir, 30)
    before = collect(experiment)
    resume(experiment, "best", data_dir, 50, given={"top_n": 2})
    found = collect(experiment)
    assert len({row.measure for row in found.rows if row.measure}) == 1
    assert found.findings == ()
    assert before.best is not None
    assert found.best is not None
    assert found.best.recall < before.best.recall
    assert found.best_in(stored=float(tensors(experiment.best_prefix())["best_metric"]), step=None) == "kept"
    for source in ("metrics.jsonl", "tfevents"):
        assert any(source in row.source and row.agrees_with(found.best.recall) for row in found.rows), source


def test_figures_of_other_data_are_not_given_in_silence(tmp_path: Path, data_dir: str) -> None:
    experiment = begin(tmp_path / "root", data_dir, 10)
    wrong = other_data(data_dir, tmp_path / "wrong", "valid")
    for directory, split, found in ((data_dir, "valid", []), (wrong, "valid", ["other-data"]), (wrong, "test", [])):
        arguments = ["evaluate", experiment.path, "--data-dir", directory, "--split", split, "--json"]
        done = CliRunner().invoke(cli.app, arguments)
        assert [finding["id"] for finding in json.loads(done.stdout)["findings"]] == found
        assert done.exit_code == 0


def test_other_training_data_is_noticed_and_needs_leave(tmp_path: Path, data_dir: str) -> None:
    experiment = begin(tmp_path / "root", data_dir, 10)
    changed = other_data(data_dir, tmp_path / "changed", "train")
    before = tree(experiment.path)
    with pytest.raises(MismatchError, match="the training data has changed") as caught:
        resumed_run(experiment, "latest", {}, data_dir=changed)
    assert "--accept-data" in (caught.value.hint or "")
    assert tree(experiment.path) == before
    start = resumed_run(experiment, "latest", {}, data_dir=changed, accept_data=True)
    assert [finding.severity for finding in start.findings if finding.id == "data-accepted"] == ["warning"]
    resume(experiment, "latest", changed, 20, accept_data=True)
    resumed_run(experiment, "latest", {}, data_dir=changed)  # now this is its data


def lose(experiment: Experiment, how: str) -> None:
    if how == "damaged":
        damage(experiment.best_prefix())
    else:
        shutil.rmtree(experiment.best_line)


@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_a_best_that_is_lost_is_said_and_the_current_weights_take_its_place(
    tmp_path: Path, data_dir: str, how: str
) -> None:
    experiment = begin(tmp_path, data_dir, 100, learning_rate=0.1)
    known = tensors(experiment.latest_prefix())
    assert known["state/best_step"] < 90, "else the newest state holds it"
    lose(experiment, how)
    with pytest.raises(CkptError) as caught:
        resumed_run(experiment, "best", {}, data_dir=data_dir)
    assert caught.value.hint.endswith(f"--resume --data-dir {data_dir} --from latest")
    start = resumed_run(experiment, "latest", {}, data_dir=data_dir)
    (lost,) = (finding.message for finding in start.findings if finding.id == "best-lost")
    assert f"the best model, {known['best_metric']:.6f} of step {known['state/best_step']}, is not in" in lost
    assert f"{start.first.recall:.6f}, are the best now" in lost
    outcome = resume(experiment, "latest", data_dir, 100)
    assert outcome.run_state.best_metric == tensors(experiment.best_prefix())["best_metric"]
    assert not [f for f in resumed_run(experiment, "latest", {}, data_dir=data_dir).findings if "best" in f.id]


def test_a_lost_best_that_a_state_still_holds_is_put_back(tmp_path: Path, data_dir: str) -> None:
    experiment = begin(tmp_path, data_dir, 20)
    best = tensors(experiment.best_prefix())
    states = [tensors(os.path.join(experiment.latest_line, name)) for name in prefixes_in(experiment.latest_line)]
    assert any(state["state/step"] == best["state/step"] for state in states)
    shutil.rmtree(experiment.best_line)
    outcome = resume(experiment, "latest", data_dir, 20)
    put_back = tensors(experiment.best_prefix())
    assert put_back["best_metric"] == best["best_metric"] == outcome.run_state.best_metric
    assert put_back["model/item_embedding"].tobytes() == best["model/item_embedding"].tobytes()


def test_after_an_early_stop_the_best_goes_on_with_other_batches(tmp_path: Path, data_dir: str) -> None:
    experiment = begin(tmp_path, data_dir, 500, learning_rate=0.3, patience=1)
    start = resumed_run(experiment, "best", {}, data_dir=data_dir, continue_after_stop=True)
    assert start.config.seed == 8
    assert any("--seed 7 becomes 8" in finding.message for finding in start.findings)
    resume(experiment, "best", data_dir, start.run_state.step + 500, continue_after_stop=True)
    stopped = tensors(experiment.latest_prefix())
    if stopped["state/stopped"] and stopped["state/best_step"] == start.run_state.step:
        again = resumed_run(experiment, "best", {}, data_dir=data_dir, continue_after_stop=True)
        assert again.config.seed == 9, "not those that failed the second time either"
    own = resumed_run(experiment, "best", {"seed": 70}, data_dir=data_dir, continue_after_stop=True)
    assert own.config.seed == 70
    # Where the run stands its next batches are new ones anyway.
    latest = resumed_run(experiment, "latest", {}, data_dir=data_dir, continue_after_stop=True)
    assert latest.config.seed == json.loads(stopped["state/config"].item())["seed"]


def test_of_two_new_runs_of_one_name_the_second_is_refused(tmp_path: Path, data_dir: str) -> None:
    """Both looked, and nothing was there; then the first one trained."""
    from trainer.training.loop import train

    config = small_config()
    first, second = (new_experiment(str(tmp_path), config, "run") for _ in range(2))
    one, other = new_run(config, data_dir), new_run(config, data_dir)
    train(one, first, 10, Recorder())
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="this experiment exists"):
        train(other, second, 10, Recorder())
    assert tree(tmp_path) == before


def test_of_two_resumes_that_read_the_same_state_the_second_is_refused(tmp_path: Path, data_dir: str) -> None:
    from trainer.training.loop import train

    experiment = begin(tmp_path, data_dir, 10)
    one, other = (resumed_run(experiment, "latest", {}, data_dir=data_dir) for _ in range(2))
    train(one, experiment, 20, Recorder())
    before = tree(tmp_path)
    with pytest.raises(BusyError, match="changed this experiment since it was read"):
        train(other, experiment, 20, Recorder())
    assert tree(tmp_path) == before


def test_an_untrained_model_is_no_best_unless_asked(tmp_path: Path, data_dir: str) -> None:
    experiment = begin(tmp_path, data_dir, 10)
    assert tensors(experiment.best_prefix())["state/step"] == 10
    start = new_run(small_config(), data_dir)
    assert (start.run_state.has_best, start.run_state.recall > 0, start.unsaved_best) == (False, True, None)
    start = new_run(small_config(), data_dir, untrained_best=True)
    assert start.run_state.is_best
    assert start.unsaved_best is not None


def test_a_run_that_was_killed_before_its_first_evaluation_can_be_continued(tmp_path: Path, data_dir: str) -> None:
    experiment = begin(tmp_path, data_dir, 7, test_iter=10)
    shutil.rmtree(experiment.best_line, ignore_errors=True)
    with pytest.raises(CkptError) as caught:
        resumed_run(experiment, "best", {}, data_dir=data_dir)
    assert "--from latest" in (caught.value.hint or "")
    assert resume(experiment, "latest", data_dir, 10).run_state.has_best


def test_validation_users_of_whom_nothing_is_known_are_counted(tmp_path: Path, data_dir: str) -> None:
    shutil.copytree(data_dir, tmp_path / "data")
    with open(tmp_path / "data" / "toys_valid.txt", "a") as file:
        file.write("900,5,0\n901,6,0\n")
    start = new_run(small_config(), str(tmp_path / "data"))
    (said,) = (finding.message for finding in start.findings if finding.id == "no-history")
    assert said.startswith("2 of 27 validation users have a single item")
