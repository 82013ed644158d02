"""What public trainers leave beside checkpoints, packed logs too: the best is found, and settings are no metric."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import build_bundle

from ckpt_tools.errors import NotFoundError, UsageError
from ckpt_tools.runs import metric_history
from ckpt_tools.runs.metric_history import choose, log_files, read_history

LOG = "epoch 1: val_auc 0.61\nepoch 2: val_auc 0.74\nepoch 3: val_auc 0.70\n"
PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return build_bundle(tmp_path / "model", {"w": np.ones(2, np.float32)})


def _trial(score: float, best_step: int, **metrics: tuple[str, list[list[float]]]) -> str:
    """As Keras Tuner writes it: ``trial_0/trial.json``."""
    found = {
        name: {"direction": mode, "observations": [{"value": each, "step": step} for step, each in enumerate(values)]}
        for name, (mode, values) in metrics.items()
    }
    document = {
        "trial_id": "0",
        "hyperparameters": {"space": [], "values": {"learning_rate": 0.001, "tuner/epochs": 2}},
        "metrics": {"metrics": found},
        "score": score,
        "best_step": best_step,
        "status": "COMPLETED",
        "message": None,
    }
    return json.dumps(document)


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("name", ["train.log", "train.log.1", "train.log-20240501", "metrics.jsonl", "history.csv"])
def test_a_packed_log_is_read(prefix: str, tmp_path: Path, name: str, ending: str) -> None:
    rows = [(1, 0.61), (2, 0.74), (3, 0.70)]
    text = {
        "metrics.jsonl": "".join(json.dumps({"epoch": epoch, "val_auc": auc}) + "\n" for epoch, auc in rows),
        "history.csv": "epoch,val_auc\n" + "".join(f"{epoch},{auc}\n" for epoch, auc in rows),
    }.get(name, LOG)
    (tmp_path / f"{name}{ending}").write_bytes(PACK[ending](text.encode()))
    chosen = choose(read_history(prefix))
    assert [each.value for each in chosen.evaluations] == [0.61, 0.74, 0.70]
    assert chosen.best is not None
    assert chosen.best.epoch == 2


def test_the_parts_of_a_rotated_log_come_as_they_were_written(prefix: str, tmp_path: Path) -> None:
    for name in ("train.log", "train.log.1", "train.log.2.gz", "train.log.10.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
    for name in ("other.log", "other.log-20240502", "other.log-20240501.xz"):
        (tmp_path / name).write_bytes(b"")
    order = ["other.log-20240501.xz", "other.log-20240502", "other.log"]
    order += ["train.log.10.gz", "train.log.2.gz", "train.log.1", "train.log"]
    assert [Path(path).name for path in log_files(prefix)] == order


@pytest.mark.parametrize("ending", PACK)
def test_a_packed_log_that_is_a_bomb_or_is_cut_off_is_told_and_not_read(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(metric_history, "MAX_LOG_BYTES", 1 << 16)
    (tmp_path / f"train.log{ending}").write_bytes(PACK[ending](bytes(1 << 20)))
    found = read_history(prefix)
    assert [finding.id for finding in found.findings] == ["log-unreadable"]
    assert "limit" in found.findings[0].message
    assert found.unread is not None  # nothing may be written that depends on which is the best
    (tmp_path / f"train.log{ending}").write_bytes(PACK[ending](LOG.encode() * 9)[:-9])
    found = read_history(prefix)
    assert "cut off" in found.findings[0].message
    assert found.unread is not None
    assert found.logged == ()


def test_keras_tuners_trial_tells_its_best_by_its_score(prefix: str, tmp_path: Path) -> None:
    (tmp_path / "trial.json").write_text(
        _trial(
            0.75,
            1,
            loss=("min", [[0.9], [0.7]]),
            accuracy=("max", [[0.6], [0.8]]),
            val_loss=("min", [[0.8], [0.9]]),
            val_hits=("max", [[0.6, 0.62], [0.74, 0.76]]),
        )
    )
    chosen = choose(read_history(prefix))
    assert (chosen.name, chosen.mode) == ("val_hits", "max")
    assert chosen.best is not None
    assert (chosen.best.value, chosen.best.epoch) == (0.75, 1)
    assert choose(read_history(prefix), "val_loss").mode == "min"


def test_a_score_that_two_metrics_have_names_neither(prefix: str, tmp_path: Path) -> None:
    (tmp_path / "trial.json").write_text(_trial(0.5, 0, val_f1=("max", [[0.5]]), val_accuracy=("max", [[0.5]])))
    with pytest.raises(UsageError, match="val_f1, val_accuracy"):
        choose(read_history(prefix))


@pytest.mark.parametrize(
    "document",
    [
        '{"trial_id": "0"}',
        '{"trial_id": "0", "metrics": [1], "score": "x", "best_step": null}',
        '{"trial_id": "0", "metrics": {"metrics": {"a": 1, "b": {"observations": 3}}}, "score": 1}',
        '{"trial_id": "0", "metrics": {"metrics": {"a": {"direction": [], "observations": [1, {"value": [null]}]}}}}',
    ],
)
def test_a_trial_of_another_form_tells_nothing(prefix: str, tmp_path: Path, document: str) -> None:
    (tmp_path / "trial.json").write_text(document)
    assert read_history(prefix) == metric_history.MetricHistory()


def _state(**more: Any) -> str:
    """``trainer_state.json`` of Hugging Face's Trainer."""
    history = [
        {"epoch": 1.0, "loss": 0.5, "learning_rate": 5e-05, "step": 10},
        {"epoch": 1.0, "eval_loss": 0.41, "eval_f1": 0.8, "eval_runtime": 1.5, "step": 10},
        {"epoch": 2.0, "eval_loss": 0.43, "eval_f1": 0.9, "eval_runtime": 1.4, "step": 20},
    ]
    return json.dumps({"global_step": 20, "log_history": history, **more})


def test_the_best_metric_of_hugging_faces_trainer_is_known_by_its_value(prefix: str, tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_text(_state(best_metric=0.9, best_global_step=20))
    chosen = choose(read_history(prefix))
    assert (chosen.name, chosen.mode) == ("eval_f1", "max")
    assert chosen.best is not None
    assert chosen.best.step == 20
    (tmp_path / "trainer_state.json").write_text(_state(best_metric=None))
    with pytest.raises(UsageError):
        choose(read_history(prefix))


# What a trainer leaves as a report of its best, or of its end.
REPORTS = {
    "best_metrics.json": '{"best_epoch": 12, "val_auc": 0.74}',
    "results.json": '{"val_auc": 0.74, "train_time": "1:02"}',
    "eval_results.txt": "val_auc = 0.74\nglobal_step = 343\n",
    "all_results.json": '{"epoch": 3.0, "val_auc": 0.74, "train_loss": 0.3}',
    "wandb-summary.json": '{"_step": 40, "best_val_auc": 0.74}',
    "best_metrics.yaml": "epoch: 12\nval_auc: 0.74\n",
    "result.json": '{"training_iteration": 1, "val_auc": 0.71}\n{"training_iteration": 2, "val_auc": 0.74}\n',
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_of_a_trainer_is_read(prefix: str, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(REPORTS[name])
    best = choose(read_history(prefix), "val_auc").best
    assert best is not None
    assert best.value == 0.74


# What it was asked for is no metric, whatever numbers it has.
SETTINGS = {
    "params.json": '{"dropout_accuracy": 0.5, "lr": 0.001}',
    "hparams.yaml": "val_ratio: 0.1\n",
    "config.json": '{"val_fraction": 0.2}',
    "model_config.json": '{"hit_rate": 0.2}',
    "training_args.json": '{"eval_steps": 500.0}',
    "args.txt": "recall_weight = 0.3\n",
    "best_hyperparameters.json": '{"auc_weight": 0.4}',
    "data.yaml": "val_auc: 0.1\n",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_no_metric(prefix: str, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(SETTINGS[name])
    with pytest.raises(NotFoundError):
        choose(read_history(prefix))
