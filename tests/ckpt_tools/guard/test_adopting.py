"""A run that was not guarded before: what it keeps as its best is pinned with its value, which is the bar."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from checkpoints import Sample, build_bundle, pick
from event_files import write_events

from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.guard.keeper import Keeper
from ckpt_tools.guard.metric import MetricReader
from ckpt_tools.operations.backfilling import Options, backfill
from ckpt_tools.runs.metric_lines import is_like

Open = Callable[..., Keeper]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def opened(run: Path) -> Iterator[Open]:
    keepers: list[Keeper] = []

    def make(metric: str | None = "val_auc", place: Path = run) -> Keeper:
        keepers.append(Keeper(str(place), MetricReader(metric), keep=3, saved="after"))
        assert keepers[-1].begin()
        return keepers[-1]

    yield make
    for keeper in keepers:
        keeper.close()


def weights(path: Path, value: float) -> str:
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.full((1,), value, np.float32)
    return str(path)


def bundle(path: Path, value: float, **others: float) -> str:
    scalars = {name: np.float32(each) for name, each in others.items()}
    return build_bundle(path, {"dense/kernel": np.full((1,), value, np.float32), **scalars})


def say(keeper: Keeper, value: float, save: Callable[[], object]) -> None:
    """An evaluation, and the save behind it."""
    keeper.heard("stdout", f"val_auc: {value}\n", time.time())
    save()
    time.sleep(0.02)
    keeper.look()
    keeper.wait()


def values(keeper: Keeper) -> list[float | None]:
    return [pin.value for pin in keeper.pins.all()]


def test_a_stored_best_is_the_bar(run: Path, opened: Open) -> None:
    path = weights(run / "best.weights.h5", 0.8)
    backfill(path, Options(value=0.8, metric="val_auc", mode="max"))
    keeper = opened()
    assert values(keeper) == [0.8]
    assert keeper.pins.all()[0].stored
    say(keeper, 0.7, lambda: weights(run / "best.weights.h5", 0.7))
    keeper.end()
    best = keeper.pins.best(keeper.reader.identity)
    assert values(keeper) == [0.8]
    assert best is not None
    assert inspect(best.path).best_metric.value == 0.8


def test_a_better_one_is_pinned_beside_it(run: Path, opened: Open) -> None:
    backfill(weights(run / "best.weights.h5", 0.8), Options(value=0.8, metric="val_auc"))
    keeper = opened()
    say(keeper, 0.9, lambda: weights(run / "best.weights.h5", 0.9))
    keeper.end()
    assert values(keeper) == [0.8, 0.9]


def test_a_clear_log_tells_the_value_and_the_pin_has_it(run: Path, opened: Open) -> None:
    bundle(run / "model.ckpt-200", 0.75)
    (run / "train.log").write_text("step 100 val_auc: 0.6\nstep 200 val_auc: 0.75\n")
    keeper = opened()
    assert values(keeper) == [0.75]
    assert inspect(keeper.pins.all()[0].path).best_metric.value == pytest.approx(0.75)


def test_a_log_that_does_not_tell_is_not_guessed_from(run: Path, opened: Open) -> None:
    bundle(run / "model.ckpt", 0.75)
    (run / "train.log").write_text("step 100 val_auc: 0.6\nstep 200 val_auc: 0.75\n")
    assert values(opened()) == [None]


def test_the_value_of_another_metric_is_no_bar(run: Path, opened: Open) -> None:
    backfill(weights(run / "best.weights.h5", 0.8), Options(value=0.1, metric="val_loss", mode="min"))
    assert values(opened()) == [None]


def test_a_metric_that_the_trainer_names_later_is_compared_with_what_lay_there(run: Path, opened: Open) -> None:
    backfill(weights(run / "best.weights.h5", 0.8), Options(value=0.8, metric="val_auc", mode="max"))
    keeper = opened(None)
    assert values(keeper) == [0.8]
    keeper.heard("stdout", "new best val_auc: 0.6\n", time.time())
    weights(run / "best.weights.h5", 0.6)
    time.sleep(0.02)
    keeper.end()
    assert keeper.reader.identity is not None
    best = keeper.pins.best(keeper.reader.identity)
    assert best is not None
    assert best.value == 0.8


def test_a_best_in_a_newest_state_is_not_the_value_of_its_model(run: Path, opened: Open) -> None:
    bundle(run / "model.ckpt-200", 0.5, best_acc=0.8)
    assert values(opened("accuracy")) == [None]


def test_a_variable_of_what_is_called_best_is(run: Path, opened: Open) -> None:
    bundle(run / "best_model", 0.8, best_acc=0.8)
    assert values(opened("accuracy")) == [pytest.approx(0.8)]


def test_an_experiment_with_a_value_is_pinned_with_it(tmp_path: Path, opened: Open) -> None:
    sample: Sample = pick("tf2.21", with_best=True)
    place = tmp_path / "root" / "best_model" / sample.experiment
    shutil.copytree(Path(sample.path), place)
    keeper = opened("valid recall", place)
    assert values(keeper) == [pytest.approx(sample.best_recall)]


@pytest.mark.parametrize(
    ("one", "other", "like"),
    [
        ("recall", "valid recall", True),
        ("recall@20", "recall@50", False),
        ("val_loss", "loss", True),
        ("train loss", "loss", False),
        ("auc", "gauc", False),
        (None, "anything", True),
        ("best_metric", "anything", True),
        ("val_auc", "val_acc", False),
    ],
)
def test_which_names_are_of_one_metric(one: str | None, other: str, like: bool) -> None:
    assert is_like(one, None, other, "max") is like
    assert not is_like(one, "min", other, "max")


# ------------------------------------------------------------------------------------------ events


def test_a_trainer_that_only_writes_event_files_is_guarded(run: Path, opened: Open) -> None:
    keeper = opened("auc")
    rows: list[tuple[float, str, int, float]] = []
    for step, value in enumerate((0.5, 0.8, 0.6), start=1):
        rows += [(time.time(), "eval/auc", step, value), (time.time(), "train/loss", step, 1 - value)]
        write_events(run / "events.out.tfevents.1.host", rows)
        weights(run / "model.h5", value)
        time.sleep(0.4)
        keeper.look()
    keeper.end()
    assert [round(value or 0, 6) for value in values(keeper)] == [0.5, 0.8]
    best = keeper.pins.best(keeper.reader.identity)
    assert best is not None
    assert best.step == 2
    with h5py.File(best.path) as file:
        assert file["layers/dense/vars/0"][0] == pytest.approx(0.8)
    assert json.loads(Path(best.directory, "pin.json").read_text())["metric"]["name"] == "auc"


def test_events_of_runs_before_are_not_read_again(run: Path, opened: Open) -> None:
    write_events(run / "events.out.tfevents.1.host", [(1.0, "eval/auc", 1, 0.9)])
    keeper = opened("auc")
    keeper.look()
    assert keeper.best_seen is None


def test_damaged_events_end_nothing(run: Path, opened: Open) -> None:
    keeper = opened("auc")
    path = run / "events.out.tfevents.1.host"
    write_events(path, [(1.0, "eval/auc", 1, 0.4), (2.0, "eval/auc", 2, 0.5)])
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    keeper.look()
    path.write_bytes(bytes(data) + b"\xff" * 100)
    keeper.look()
    assert keeper.best_seen == pytest.approx(0.4)
    assert keeper.failures == []
