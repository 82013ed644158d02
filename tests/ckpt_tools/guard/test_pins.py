"""What is pinned: the best, whole, with its value in it; never replaced by a worse one, never taken with the run."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import EXPERIMENTS, build_bundle
from guarding import LIGHT, Guarded
from kills import ALL, Run, ended, kills, weight_of

from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.analysis.pinned import is_whole
from ckpt_tools.errors import NotFoundError, StorageError, UsageError
from ckpt_tools.fs import durable, local, paths
from ckpt_tools.guard.keeper import Keeper
from ckpt_tools.guard.metric import MetricReader
from ckpt_tools.runs.pin_places import pins_above


def test_every_best_is_pinned_with_its_value_and_the_worse_ones_are_not(guarded: Guarded) -> None:
    said = guarded.train(0.3, 0.2, 0.5, 0.4)
    assert "2 new bests pinned; the best is valid recall 0.5" in said
    found = guarded.status()
    assert [pin.value for pin in found.pins] == [0.5, 0.3]
    assert [round(weight_of(pin.path), 4) for pin in found.pins] == [0.5, 0.3]
    assert found.best is not None
    assert inspect(found.best.path).best_metric.value == pytest.approx(0.5)
    assert found.best.epoch == 2


def test_a_restart_that_forgot_its_best_does_not_replace_the_pinned_one(guarded: Guarded) -> None:
    guarded.train(0.3, 0.6)
    guarded.train(0.4, 0.5)
    found = guarded.status()
    assert found.best is not None
    assert found.best.value == 0.6
    assert weight_of(found.best.path) == pytest.approx(0.6)


def test_pins_stay_when_the_trainer_removes_its_run(guarded: Guarded) -> None:
    guarded.train(0.3, 0.6)
    shutil.rmtree(guarded.run)
    guarded.train(0.2)
    best = guarded.status().best
    assert best is not None
    assert weight_of(best.path) == pytest.approx(0.6)


def test_only_as_many_pins_stay_as_were_asked_for_and_the_best_among_them(guarded: Guarded) -> None:
    guarded.train(0.1, 0.2, 0.3, 0.4, options=("--metric", "valid recall", "--keep", "2"))
    assert [pin.value for pin in guarded.status().pins] == [0.4, 0.3]


def test_what_lay_there_before_is_kept_without_a_value(guarded: Guarded) -> None:
    subprocess.run([sys.executable, LIGHT, guarded.run, "0.9"], check=True)
    guarded.train(0.2)
    found = guarded.status()
    assert [pin.value for pin in found.pins] == [0.2, None]
    assert weight_of(found.pins[1].path) == pytest.approx(0.9)


def test_without_a_metric_nothing_is_guessed(guarded: Guarded) -> None:
    said = guarded.train(0.3, 0.5, options=())
    assert "nothing says which metric the best model is chosen by" in said
    assert "valid recall (0.5)" in said
    found = guarded.status()
    assert found.best is None
    assert [weight_of(pin.path) for pin in found.pins] == [0.5]


def test_two_metrics_of_one_name_are_not_mixed_up(guarded: Guarded) -> None:
    code = "print('dev a recall 0.3, dev b recall 0.4')"
    with guarded.start("-c", code, options=("--metric", "recall")) as guard:
        _, errors = guard.communicate(timeout=60)
    assert b"'dev a recall' and 'dev b recall' both are called so" in errors


def test_the_pins_of_another_metric_are_not_compared_with(guarded: Guarded) -> None:
    guarded.train(0.3)
    with guarded.light(0.4, options=("--metric", "train loss")) as guard:
        output, errors = guard.communicate(timeout=60)
    assert guard.returncode == 2
    assert output == b""
    assert b"unlike metrics are not compared" in errors


def test_a_metric_whose_direction_its_name_does_not_tell_is_asked_for() -> None:
    with pytest.raises(UsageError, match="higher or a lower"):
        MetricReader("quality")


def test_a_run_that_was_never_guarded_has_no_status(guarded: Guarded) -> None:
    with pytest.raises(NotFoundError, match="never guarded"):
        guarded.status()


# ------------------------------------------------------------------------------------ the keeper, in this process


def _bundle(target: Path, number: int) -> None:
    """A save of TensorFlow: data renamed into place, the index truncated and written again."""
    source = Path(EXPERIMENTS[number].full_prefix)
    for path in sorted(source.parent.glob(f"{source.name}.*"), key=lambda path: path.suffix == ".index"):
        place = target.with_name(target.name + path.name.removeprefix(source.name))
        if path.suffix == ".index":
            place.write_bytes(path.read_bytes())
        else:
            draft = target.parent / f"{target.name}_temp" / path.name
            draft.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, draft)
            os.replace(draft, place)


@pytest.fixture
def keeper(tmp_path: Path) -> Any:
    (tmp_path / "run").mkdir()
    keeper = Keeper(str(tmp_path / "run"), MetricReader("auc"), keep=3, saved="before")
    assert keeper.begin()
    yield keeper
    keeper.close()


def _hear(keeper: Keeper, value: float) -> None:
    keeper.heard("stdout", f"auc: {value}\n", time.time())
    keeper.wait()


def test_data_of_a_bundle_is_linked_once_it_is_known_to_be_renamed_into_place(keeper: Keeper) -> None:
    run = Path(keeper.run)
    for value in (0.5, 0.6):
        _bundle(run / "model", 0)
        _hear(keeper, value)
    assert next(run.glob("model.data*")).stat().st_nlink > 1
    pins = keeper.pins.all()
    assert [pin.value for pin in pins] == [0.5, 0.6]
    assert all(is_whole(pin, quick=False) for pin in pins)


def test_a_file_that_is_overwritten_in_place_does_not_take_its_pin_along(keeper: Keeper) -> None:
    run = Path(keeper.run)
    _bundle(run / "model", 0)
    _hear(keeper, 0.5)
    for path in run.glob("model.*"):
        path.write_bytes(b"\0" * 100)
    assert is_whole(keeper.pins.all()[0], quick=False)


def test_a_save_that_is_torn_is_never_pinned(keeper: Keeper) -> None:
    run = Path(keeper.run)
    _bundle(run / "model", 0)
    whole = (run / "model.index").read_bytes()
    (run / "model.index").write_bytes(whole[: len(whole) // 2])
    _hear(keeper, 0.5)
    keeper.end()
    assert keeper.pins.all() == []


def test_the_data_of_one_save_with_the_index_of_another_is_never_pinned(keeper: Keeper) -> None:
    run = Path(keeper.run)
    _bundle(run / "model", 0)
    data = next(run.glob("model.data*"))
    data.write_bytes(bytes(byte ^ 1 for byte in data.read_bytes()))
    _hear(keeper, 0.5)
    keeper.end()
    assert keeper.pins.all() == []
    assert "checksum" in " ".join(keeper.failures)


def test_a_save_that_was_seen_between_its_data_and_its_index_is_pinned_when_it_is_whole(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    keeper = Keeper(str(run), MetricReader("auc"), saved="after")
    assert keeper.begin()
    for name, value in (("model", 1.0), ("next", 2.0)):
        build_bundle(tmp_path / name, {"kernel": np.full(9, value, np.float32)})
    files = ("index", "data-00000-of-00001")
    for file in files:
        shutil.copyfile(tmp_path / f"model.{file}", run / f"model.{file}")
        os.utime(run / f"model.{file}", (1e9, 1e9))
    keeper.look()
    keeper.heard("stdout", "auc: 0.5\n", time.time())
    for file in reversed(files):
        shutil.copyfile(tmp_path / f"next.{file}", run / f"model.{file}")
        keeper.look()
    keeper.look()
    keeper.end()
    keeper.close()
    assert [pin.value for pin in keeper.pins.all()] == [0.5]
    assert keeper.failures == []


def test_a_full_disk_is_tried_again_until_there_is_room(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    full = True
    free = local.free_bytes
    monkeypatch.setattr(local, "free_bytes", lambda path: 0 if full else free(path))
    _bundle(Path(keeper.run) / "model", 0)
    _hear(keeper, 0.5)
    assert keeper.pins.all() == []
    assert "no room" in keeper.failures[0]
    full = False
    time.sleep(1.1)
    keeper.end()
    assert [pin.value for pin in keeper.pins.all()] == [0.5]


def test_a_really_full_disk_disturbs_no_training(guarded: Guarded) -> None:
    place = guarded.place / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    guarded.run = place / "run"
    try:
        said = guarded.train(0.3, 0.2, 0.5, 0.6)
        best = guarded.status().best
        assert best is not None
        assert weight_of(best.path) == pytest.approx(best.value)
        assert best.value == 0.6 or "no room" in said
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_is_full_while_a_pin_is_made_leaves_the_best_whole(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    _bundle(Path(keeper.run) / "model", 0)
    _hear(keeper, 0.5)
    create, left = durable.create_file, [0]

    def some(path: local.PathLike, data: bytes, **options: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise StorageError("no space", path=path)
        create(path, data, **options)

    monkeypatch.setattr(durable, "create_file", some)
    for count in range(12):
        left[0] = count
        _bundle(Path(keeper.run) / "model", count % 2)
        _hear(keeper, 0.6 + count / 100)
        best = keeper.pins.best(keeper.reader.identity, quick=False)
        assert best is not None
        assert best.value is not None
        assert best.value >= 0.5
    monkeypatch.undo()
    keeper.end()
    assert all(is_whole(pin, quick=False) for pin in keeper.pins.all())
    best = keeper.pins.best(keeper.reader.identity)
    assert best is not None
    assert best.value == 0.71


# --------------------------------------------------------------------------------------------------- TensorFlow


@pytest.mark.tensorflow
def test_tensorflow_reads_the_weights_and_the_value_of_a_pin(tmp_path: Path) -> None:
    run = Run(next(trainer for trainer in ALL if trainer.name == "checkpoint_manager"), tmp_path, seed=1)
    guard = run.start(evaluations=4, training=0.1)
    ended(guard)
    assert guard.returncode == 0
    best = run.check()
    run.check_nothing_lost()
    assert run.lost == []
    assert best is not None
    assert best.metric == "recall"

    import tensorflow as tf

    weight, value = tf.Variable(0.0), tf.Variable(0.0)
    tf.train.Checkpoint(weight=weight, best_metric=value).read(
        tf.train.latest_checkpoint(best.directory)
    ).assert_existing_objects_matched()
    assert weight.numpy() == value.numpy() == pytest.approx(best.value, abs=1e-6)


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("number", range(len(ALL)), ids=[f"{n}-{trainer.name}" for n, trainer in enumerate(ALL)])
def test_random_kills_of_unmodified_trainers(tmp_path: Path, number: int) -> None:
    if ("KERAS", "2") in ALL[number].environment:
        pytest.importorskip("tf_keras")
    run = Run(ALL[number], tmp_path, seed=number)
    assert kills(run, 17, random.Random(number)) == 0, json.dumps(run.lost)


def test_in_a_store_nothing_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(paths, "is_directory", lambda path: bool(asked.append(path)))
    for url in ("gs://bucket/run/ckpt-1", "http://127.0.0.1:80/ckpt-1"):
        assert pins_above(url) is None
    assert asked == []
