"""Runs that are cut off at the worst moments, and continue to the same bits and the same log."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running import begin, resume, rows, same_bits, tensors
from toys import SMALL, Recorder, small_config

from ckpt_tools.errors import StorageError
from ckpt_tools.runs.experiments import Experiment
from trainer.naming import new_experiment
from trainer.training.starting_point import new_run, resumed_run

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data_dir: str) -> Experiment:
    """The run that nobody interrupts."""
    return begin(tmp_path_factory.mktemp("whole"), data_dir, 60)


def logged(experiment: Experiment) -> list[dict[str, Any]]:
    return [row for row in rows(experiment) if row["event"] == "eval"]


def require_the_same_end(experiment: Experiment, whole: Experiment, data_dir: str) -> None:
    resume(experiment, "latest", data_dir, 60)
    # How often it was saved is the one thing that may differ.
    same_bits(tensors(whole.latest_prefix()), tensors(experiment.latest_prefix()), but=("save_counter",))
    same_bits(tensors(whole.best_prefix()), tensors(experiment.best_prefix()), but=("save_counter",))
    assert logged(experiment) == logged(whole)


class Cut(BaseException):
    """Ends a run as SIGKILL would, as far as files go: nothing handles it."""


@pytest.mark.parametrize("evaluation", [1, 3])
@pytest.mark.parametrize("moment", ["before the best", "between best and newest", "before the log", "after the log"])
def test_cut_off_at_an_evaluation(
    tmp_path: Path,
    data_dir: str,
    whole: Experiment,
    moment: str,
    evaluation: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from trainer.monitoring.run_log import RunLog
    from trainer.training import loop

    count = 0

    def cut(owner: Any, name: str, *, after: bool) -> None:
        original = getattr(owner, name)

        def wrapped(*arguments: Any) -> Any:
            nonlocal count
            is_evaluation = arguments[0].run_state.step > 0 if owner is loop._Run else arguments[1].event == "eval"
            count += is_evaluation
            ends = is_evaluation and count == evaluation
            result = original(*arguments) if after or not ends else None
            if ends:
                raise Cut
            return result

        monkeypatch.setattr(owner, name, wrapped)

    if moment == "before the best":
        cut(loop._Run, "evaluate", after=True)
    elif moment == "between best and newest":
        cut(loop._Run, "save_latest", after=False)
    else:
        cut(RunLog, "add", after=moment == "after the log")
    config = small_config()
    experiment = new_experiment(str(tmp_path), config, "run")
    with pytest.raises(Cut):
        loop.train(new_run(config, data_dir), experiment, 60, Recorder())
    monkeypatch.undo()
    require_the_same_end(experiment, whole, data_dir)


def test_a_row_that_was_logged_before_a_state_that_was_lost_is_not_repeated(
    tmp_path: Path, data_dir: str, whole: Experiment
) -> None:
    experiment = begin(tmp_path, data_dir, 30)
    log = Path(experiment.runs, "metrics.jsonl")
    later = {**rows(experiment)[-2], "step": 40}
    log.write_text(log.read_text() + json.dumps(later) + '\n{"event": "ev')
    require_the_same_end(experiment, whole, data_dir)


def test_a_best_that_the_newest_state_does_not_know_of_is_not_replaced_by_a_worse_one(
    tmp_path: Path, data_dir: str
) -> None:
    """As after a kill between the two saves, when the run goes on in another way than it would have."""
    from trainer.checkpoints.saving import CheckpointLine

    experiment = begin(tmp_path, data_dir, 20)
    better = tensors(experiment.best_prefix())
    del better["save_counter"]
    for name in ("best_metric", "state/recall"):
        better[name] = better[name].dtype.type(0.75)
    CheckpointLine(experiment.best_line).save({k: v.item() if v.dtype == object else v for k, v in better.items()})
    before = tensors(experiment.best_prefix())
    notes = [found for found in resumed_run(experiment, "latest", {}, data_dir=data_dir).findings if "best" in found.id]
    assert [note.id for note in notes] == ["better-best"]
    assert "0.750000" in notes[0].message
    resume(experiment, "latest", data_dir, 60)
    assert tensors(experiment.latest_prefix())["state/best_step"] > 20, "the run found what it holds for the best"
    same_bits(tensors(experiment.best_prefix()), before)


def test_a_full_disk_leaves_a_run_that_goes_on(tmp_path: Path, data_dir: str, whole: Experiment) -> None:
    """A limit on the size of files, as the disk's own: TensorFlow's writes fail half way."""
    from trainer.training.loop import train

    config = small_config()
    experiment = new_experiment(str(tmp_path), config, "run")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(step: int) -> None:
        if step == 25:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))

    try:
        with pytest.raises(StorageError):
            train(new_run(config, data_dir), experiment, 60, Recorder(on_step=fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert tensors(experiment.latest_prefix())["state/step"] == 20
    require_the_same_end(experiment, whole, data_dir)


@pytest.mark.parametrize(
    ("number", "code", "step"),
    [pytest.param(signal.SIGKILL, -9, 20, marks=pytest.mark.slow), (signal.SIGINT, 130, 25)],
)
def test_a_signal_to_the_command(
    tmp_path: Path, data_dir: str, whole: Experiment, number: signal.Signals, code: int, step: int
) -> None:
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]
    program = f"""
import os, sys
from trainer import cli
from trainer.cli import console
def updated(self, standing, max_steps, patience):
    if standing.step == 25:
        os.kill(os.getpid(), {int(number)})
console.Console.updated = updated
sys.argv = ["trainer", "train", *sys.argv[1:]]
cli.main()
"""
    arguments = [
        *flags,
        "--dataset=toys",
        "--recipe=paper",
        "--model-type=ComiRec-DR",
        "--exp-name=run",
        "--item-count=120",
    ]
    found = subprocess.run(
        [sys.executable, "-c", program, *arguments, f"--root={tmp_path}", f"--data-dir={data_dir}", "--max-steps=60"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == code, found.stderr
    (folder,) = os.listdir(tmp_path / "best_model")
    experiment = Experiment.at(tmp_path / "best_model" / folder)
    assert tensors(experiment.latest_prefix())["state/step"] == step
    if number == signal.SIGINT:
        assert "--resume --from latest" in found.stdout
    require_the_same_end(experiment, whole, data_dir)


def test_another_learning_rate_starts_from_the_ordinary_state(tmp_path: Path, data_dir: str) -> None:
    """Rows that were behind would catch up with the wrong rate."""
    experiment = begin(tmp_path, data_dir, 17)
    state = tensors(experiment.latest_prefix())
    assert "state/idle/rows" in state
    same = resumed_run(experiment, "latest", {}, data_dir=data_dir).variables
    other = resumed_run(experiment, "latest", {"learning_rate": 0.02}, data_dir=data_dir).variables
    assert {name for name in same if name not in other} == {
        f"state/idle/{key}" for key in ("rows", "step", "value", "m", "v")
    }
