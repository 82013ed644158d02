"""Settings beside each other with several seeds, trained in this process on data of a few kilobytes."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from toys import SMALL
from typer.testing import CliRunner

from ckpt_tools.errors import UsageError
from trainer import cli
from trainer.cli import sweep_command as command
from trainer.training import trials
from trainer.training.trials import Result, Trial


def test_a_grid_is_every_combination() -> None:
    found = trials.grid(["num-interest=1,4", "readout=max", "learning_rate=0.1"])
    assert found == [
        {"num_interest": 1, "readout": "max", "learning_rate": 0.1},
        {"num_interest": 4, "readout": "max", "learning_rate": 0.1},
    ]
    assert trials.grid([]) == [{}]


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        ("num_interest", "is not NAME=V1,V2"),
        ("interests=1", "there is no setting 'interests'"),
        ("seed=1", "there is no setting 'seed'"),
        ("padding_place=true", "there is no setting 'padding_place'"),
        ("num_interest=1,two", "'two' is not a whole number"),
        ("relu_projection=yes", "is not true or false"),
    ],
)
def test_an_axis_that_means_nothing_is_refused(axis: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        trials.grid([axis])


def test_a_list_is_of_objects_with_known_names() -> None:
    assert trials.listed('[{"num-interest": 1, "relu_projection": true}, {}]') == [
        {"num_interest": 1, "relu_projection": True},
        {},
    ]
    for text, said in (("[", "is not JSON"), ("{}", "not a list"), ('[{"readout": null}]', "readout is null")):
        with pytest.raises(UsageError, match=said):
            trials.listed(text)


def test_trials_go_seed_by_seed_and_keep_their_names() -> None:
    found = trials.make_trials("k", [{"num_interest": 1}, {"num_interest": 4}, {"num_interest": 1}], [7, 8, 7])
    assert [trial.name for trial in found] == [
        "k-num-interest1-seed7",
        "k-num-interest4-seed7",
        "k-num-interest1-seed8",
        "k-num-interest4-seed8",
    ]
    (long,) = trials.make_trials("k" * 100, [{"num_interest": 1, "readout": "max"}], [1])
    assert len(long.name) <= 120
    assert long.name.startswith("k" * 100)


def test_a_summary_has_means_and_sample_deviations() -> None:
    def result(setting: dict[str, Any], seed: int, valid: float, test: float | None) -> Result:
        return Result(Trial("", setting, seed), valid, test, 1, 1)

    found = trials.summaries(
        [result({"a": 1}, 1, 0.1, 0.3), result({"a": 2}, 1, 0.5, None), result({"a": 1}, 2, 0.3, 0.5)]
    )
    assert [summary.setting for summary in found] == [{"a": 2}, {"a": 1}]
    assert (found[0].seeds, found[0].valid_deviation, found[0].test) == (1, None, None)
    assert found[1].valid == pytest.approx(0.2)
    assert found[1].valid_deviation == pytest.approx(0.1 * 2**0.5)
    assert found[1].test == pytest.approx(0.4)


FLAGS = [
    f"--set={name}={value}" for name, value in SMALL.items() if name not in ("seed", "num_interest", "learning_rate")
]


def sweep(
    root: Path, data_dir: str, *arguments: str, grid: str = "num_interest=1,2"
) -> tuple[int, dict[str, Any], str]:
    given = ["--dataset=toys", "--model-type=ComiRec-SA", "--exp-name=k", f"--grid={grid}", "--seeds=7,8"]
    places = [f"--root={root}", f"--data-dir={data_dir}", "--json"]
    flags = [flag for flag in FLAGS if flag.partition("=")[2].partition("=")[0] != grid.partition("=")[0]]
    found = CliRunner().invoke(cli.app, ["sweep", *given, *flags, *places, *arguments])
    return found.exit_code, json.loads(found.stdout), found.stderr


@pytest.mark.tensorflow
def test_a_sweep_trains_what_is_missing_and_compares_all(
    tmp_path: Path, data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    loop = command.training_loop

    def counted() -> Any:
        def train(start: Any, experiment: Any, *rest: Any) -> Any:
            trained.append(experiment.name.rpartition("k-")[2])
            return loop()(start, experiment, *rest)

        return train

    monkeypatch.setattr(command, "training_loop", counted)
    code, whole, _ = sweep(tmp_path, data_dir, "--max-steps=10")
    assert code == 0
    names = [f"num-interest{k}-seed{seed}" for seed in (7, 8) for k in (1, 2)]
    assert trained == names
    assert [(run["setting"]["num_interest"], run["seed"]) for run in whole["runs"]] == [(1, 7), (2, 7), (1, 8), (2, 8)]
    first, other = (summary for summary in whole["settings"])
    assert first["valid"] >= other["valid"]
    for summary in (first, other):
        of_setting = [run for run in whole["runs"] if run["setting"] == summary["setting"]]
        assert summary["test"] == pytest.approx(sum(run["test"] for run in of_setting) / 2)
        assert summary["seeds"] == 2
    # Again: nothing is trained, and nothing measured.
    monkeypatch.setattr("trainer.training.sweep.closing_report", None)
    trained.clear()
    assert sweep(tmp_path, data_dir, "--max-steps=10") == (0, whole, "")
    assert not trained
    monkeypatch.undo()
    monkeypatch.setattr(command, "training_loop", counted)
    # A run that is gone is trained anew, to the same figures; one that is to go on goes on.
    gone = whole["runs"][1]["experiment"]
    for place in ("best_model", "runs"):
        shutil.rmtree(tmp_path / place / gone)
    assert sweep(tmp_path, data_dir, "--max-steps=10")[1]["runs"] == whole["runs"]
    assert trained == [names[1]]
    trained.clear()
    _, longer, _ = sweep(tmp_path, data_dir, "--max-steps=20", "--seeds=7", grid="num_interest=2")
    assert trained == names[1:2]
    assert [run["step"] for run in longer["runs"]] == [20]
    code, _, said = sweep(tmp_path, data_dir, "--max-steps=20", "--set=clip_norm=2")
    assert code == 2
    assert "there is a run of this name with other settings: --clip-norm 0.0" in said
    other = shutil.copytree(data_dir, tmp_path / "other")
    train = other / "toys_train.txt"
    train.write_text(train.read_text().partition("\n")[2])
    code, _, said = sweep(tmp_path, str(other), "--max-steps=10")
    assert code == 2
    assert "there is a run of this name that was trained on other data" in said
    _require_hparams(tmp_path / "runs" / gone)


def _require_hparams(directory: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(directory))
    events.Reload()
    (content,) = {bytes(data) for data in events.PluginTagToContent("hparams").values()}
    info = HParamsPluginData.FromString(content).session_start_info
    assert info.hparams["num_interest"].number_value == 2
    assert info.hparams["negatives"].string_value == "log-uniform"


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ("neg_num=3,1000", "1000 negatives for each of 16 users"),
        ("readout=max,foo", "--readout foo is not known"),
        ("top_n=5,10", "recall@5 and recall@10 cannot be compared"),
        ("readout=hard,target", "readout hard and readout target are the same run"),
    ],
)
def test_what_cannot_be_trained_or_compared_is_refused_before_the_first_run(
    tmp_path: Path, data_dir: str, grid: str, said: str
) -> None:
    code, _, shown = sweep(tmp_path, data_dir, "--max-steps=10", grid=grid)
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert said in shown


@pytest.mark.tensorflow
def test_the_functions_of_many_runs_are_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    command.training_loop()
    log = logging.getLogger("tensorflow")
    propagates, log.propagate = log.propagate, True
    log.warning("5 out of the last 5 calls to <bound method> triggered tf.function retracing.")
    log.warning("something else")
    log.propagate = propagates
    assert caplog.messages == ["something else"]


@pytest.mark.tensorflow
def test_a_run_that_diverges_is_told_and_the_others_are_compared(tmp_path: Path, data_dir: str) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('[{"clip_norm": 0}, {"clip_norm": 1, "learning_rate": 1e30}]')
    code, document, _ = sweep(
        tmp_path, data_dir, "--max-steps=10", "--seeds=7", f"--list={settings}", grid="num_interest=2"
    )
    assert [finding["id"] for finding in document["findings"]] == ["trial-failed"]
    assert code == 1
    assert "training has diverged" in document["findings"][0]["message"]
    assert [run["setting"] for run in document["runs"]] == [{"clip_norm": 0.0, "num_interest": 2}]
