"""A pin goes back into its run: whole, taken back by undo, advised where the run has lost its best."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from checkpoints import build_bundle, snapshot

from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.analysis.pinned import lost_to_pin
from ckpt_tools.analysis.resume_forecast import forecast
from ckpt_tools.analysis.run_audit import audit
from ckpt_tools.analysis.verification import verify
from ckpt_tools.cli import run as ckpt
from ckpt_tools.errors import BusyError, NotFoundError, UnsupportedError, UsageError
from ckpt_tools.fs import durable
from ckpt_tools.guard import restore
from ckpt_tools.guard.keeper import Keeper
from ckpt_tools.guard.metric import MetricReader
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.readers.state_files import read_state

Save = Callable[[Path, float], object]


def bundle(path: Path, value: float) -> None:
    build_bundle(path, {"dense/kernel": np.full((3,), value, np.float32)})


def keras(path: Path, value: float) -> None:
    path.unlink(missing_ok=True)
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.full((3,), value, np.float32)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    (tmp_path / "run").mkdir()
    keeper = Keeper(str(tmp_path / "run"), MetricReader("auc"), saved="before")
    assert keeper.begin()
    yield keeper
    keeper.close()


def pinned(keeper: Keeper, name: str, save: Save, *values: float) -> Path:
    """A run that saved these values under one name, or under one with ``#`` for their number; the best is pinned."""
    when = 1_000_000.0
    for number, value in enumerate(values, start=1):
        path = Path(keeper.run, name.replace("#", str(number)))
        save(path, value)
        for each in path.parent.glob(f"{path.name}*"):
            os.utime(each, (when + number, when + number))
        keeper.look(when + number + 0.3)
        keeper.heard("stdout", f"step {number} auc: {value}\n", when + number + 0.4)
        keeper.wait()
    keeper.end()
    keeper.close()
    return path


def weight(path: str | Path) -> float:
    with open_checkpoint(str(path)) as checkpoint:
        name = next(name for name in checkpoint.tensors if "kernel" in name or "vars" in name)
        return float(checkpoint.read(name)[0])


KINDS: dict[str, tuple[str, Save]] = {"bundle": ("model.ckpt", bundle), "keras": ("best.weights.h5", keras)}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[str, Save]:
    return KINDS[request.param]


def test_the_best_takes_the_place_of_what_is_there_and_undo_takes_it_back(
    keeper: Keeper, kind: tuple[str, Save]
) -> None:
    path = pinned(keeper, *kind, 0.8, 0.5)
    before = snapshot(Path(keeper.run))
    done = restore(keeper.run)
    assert (done.pin.value, done.path) == (0.8, str(path))
    assert weight(path) == pytest.approx(0.8)
    assert verify(str(path)).whole
    assert inspect(str(path)).best_metric.value == pytest.approx(0.8)
    assert done.undo is not None
    assert ckpt(shlex.split(done.undo)[1:]) == 0
    after = {name: each for name, each in snapshot(Path(keeper.run)).items() if ".ckpt-tools" not in str(name)}
    assert after == before


def test_what_was_put_back_is_no_second_name_of_the_pin(keeper: Keeper, kind: tuple[str, Save]) -> None:
    pinned(keeper, *kind, 0.8, 0.5)
    done = restore(keeper.run)
    for path in Path(keeper.run).iterdir():
        if path.is_file():
            path.write_bytes(b"\0" * path.stat().st_size)
    assert verify(done.pin.path).whole


def test_again_changes_nothing(keeper: Keeper, kind: tuple[str, Save]) -> None:
    pinned(keeper, *kind, 0.8, 0.5)
    restore(keeper.run)
    before = snapshot(Path(keeper.run))
    assert restore(keeper.run).changes == ()
    assert snapshot(Path(keeper.run)) == before


def test_a_dry_run_writes_nothing(keeper: Keeper, kind: tuple[str, Save]) -> None:
    pinned(keeper, *kind, 0.8, 0.5)
    before = snapshot(Path(keeper.run))
    assert restore(keeper.run, dry_run=True).changes
    assert snapshot(Path(keeper.run)) == before


def test_a_run_that_was_removed_comes_back(keeper: Keeper, kind: tuple[str, Save]) -> None:
    path = pinned(keeper, *kind, 0.8)
    shutil.rmtree(keeper.run)
    with pytest.raises(NotFoundError) as caught:
        inspect(keeper.run)
    assert caught.value.hint == f"ckpt guard {shlex.quote(keeper.run)} --restore"
    done = restore(keeper.run)
    assert weight(path) == pytest.approx(0.8)
    assert weight(keeper.run if path.suffix != ".h5" else path) == pytest.approx(0.8)
    assert done.undo is not None
    assert ckpt(shlex.split(done.undo)[1:]) == 0
    assert not verify_there(path)


def verify_there(path: Path) -> bool:
    return path.exists() or path.with_name(f"{path.name}.index").exists()


def test_a_torn_save_is_replaced(keeper: Keeper) -> None:
    path = pinned(keeper, "model.ckpt", bundle, 0.8, 0.5)
    index = path.with_name("model.ckpt.index")
    index.write_bytes(index.read_bytes()[:20])
    restore(keeper.run)
    assert weight(path) == pytest.approx(0.8)


def test_numbered_ones_are_named_last_so_that_the_trainer_takes_it(keeper: Keeper) -> None:
    last = pinned(keeper, "ckpt-#", bundle, 0.8, 0.6, 0.5)
    run = last.parent
    for path in run.glob("ckpt-1.*"):  # as a manager that keeps two would
        path.unlink()
    state = (
        'model_checkpoint_path: "ckpt-3"\nall_model_checkpoint_paths: "ckpt-2"\nall_model_checkpoint_paths: "ckpt-3"\n'
    )
    (run / "checkpoint").write_text(
        state + "all_model_checkpoint_timestamps: 1.5\nall_model_checkpoint_timestamps: 2.5\n"
    )
    before = snapshot(run)
    done = restore(keeper.run)
    found = read_state(str(run))
    assert (found.latest, found.all) == ("ckpt-1", ("ckpt-2", "ckpt-3", "ckpt-1"))
    assert len(found.timestamps) == 3
    assert weight(run) == pytest.approx(0.8)
    assert restore(keeper.run).changes == ()
    assert done.undo is not None
    assert ckpt(shlex.split(done.undo)[1:]) == 0
    after = {name: each for name, each in snapshot(run).items() if ".ckpt-tools" not in str(name)}
    assert after == before


def test_another_pin_and_another_place(keeper: Keeper) -> None:
    pinned(keeper, "best.weights.h5", keras, 0.5, 0.8)
    done = restore(keeper.run, number=1, to="latest.weights.h5")
    assert weight(done.path) == pytest.approx(0.5)
    assert weight(Path(keeper.run, "best.weights.h5")) == pytest.approx(0.8)
    for to in ("../elsewhere.weights.h5", "/tmp/elsewhere.weights.h5", "..", "other.keras"):
        with pytest.raises(UsageError):
            restore(keeper.run, to=to)
    with pytest.raises(NotFoundError, match="no pin 7"):
        restore(keeper.run, number=7)


def test_a_pin_that_names_a_place_outside_is_not_believed(keeper: Keeper) -> None:
    pinned(keeper, "best.weights.h5", keras, 0.8)
    file = next(Path(keeper.pins.directory).glob("0*/pin.json"))
    said = json.loads(file.read_text())
    for source in ("../../stolen.weights.h5", "/tmp/stolen.weights.h5"):
        file.write_text(json.dumps({**said, "source": source}))
        with pytest.raises(UsageError, match="leads out"):
            restore(keeper.run)


def test_its_json(keeper: Keeper, capsys: pytest.CaptureFixture[str]) -> None:
    pinned(keeper, "best.weights.h5", keras, 0.8, 0.5)
    assert ckpt(["guard", keeper.run, "--restore", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["restored"]
    assert (told["value"], told["dry_run"], told["undo"]) == (0.8, True, None)
    assert told["path"] == str(Path(keeper.run, "best.weights.h5"))


def test_while_a_guard_is_at_work_nothing_is_put_back(keeper: Keeper) -> None:
    pinned(keeper, "best.weights.h5", keras, 0.8, 0.5)
    with durable.locked(keeper.pins.directory), pytest.raises(BusyError):
        restore(keeper.run)


def test_what_is_a_whole_directory_is_copied_by_hand(keeper: Keeper) -> None:
    pinned(keeper, "best.weights.h5", keras, 0.8)
    file = next(Path(keeper.pins.directory).glob("0*/pin.json"))
    file.write_text(json.dumps({**json.loads(file.read_text()), "kind": "v1"}))
    with pytest.raises(UnsupportedError) as caught:
        restore(keeper.run)
    assert (caught.value.hint or "").startswith("copy them to ")


def test_the_list_has_two_names(keeper: Keeper, capsys: pytest.CaptureFixture[str]) -> None:
    pinned(keeper, "best.weights.h5", keras, 0.8)
    said = [capsys.readouterr().out for option in ("--list", "--status") if ckpt(["guard", keeper.run, option]) == 0]
    assert len(said) == 2
    assert said[0] == said[1]
    assert "auc 0.8" in said[0]


def _advised(answer: Any) -> list[Any]:
    return [finding for finding in answer.findings if finding.id == "best-pinned"]


def test_who_looks_at_a_run_that_lost_its_best_is_told_of_the_pin(keeper: Keeper, kind: tuple[str, Save]) -> None:
    path = pinned(keeper, *kind, 0.8, 0.5)
    answers = [inspect(str(path)), forecast(str(path)), audit(str(Path(keeper.run).parent))]
    for answer in answers:
        (finding,) = _advised(answer)
        assert finding.fix == f"ckpt guard {shlex.quote(keeper.run)} --restore"
    row = next(row for row in answers[2].rows if row.location == str(path))  # type: ignore[attr-defined]
    assert row.best == "lost"
    assert row.pinned is not None
    restore(keeper.run)
    assert not any(map(_advised, [inspect(str(path)), forecast(str(path)), audit(str(Path(keeper.run).parent))]))


def test_a_run_that_still_has_its_best_is_left_in_peace(keeper: Keeper, kind: tuple[str, Save]) -> None:
    path = pinned(keeper, *kind, 0.5, 0.8)
    assert _advised(inspect(str(path))) == []
    assert _advised(inspect(str(next(Path(keeper.pins.directory).glob("0*2"))))) == []


def test_what_cannot_be_looked_at_is_not_called_lost(
    keeper: Keeper, kind: tuple[str, Save], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pinned(keeper, *kind, 0.5, 0.8)
    stat, there = os.stat, {str(file) for file in path.parent.iterdir()}

    def refused(name: Any, *args: Any, **more: Any) -> os.stat_result:
        if not isinstance(name, int) and os.fspath(name) in there:
            raise OSError(errno.EIO, os.strerror(errno.EIO), os.fspath(name))
        return stat(name, *args, **more)

    monkeypatch.setattr(os, "stat", refused)
    assert lost_to_pin(str(path)) is None


# --------------------------------------------------------------------------------------------------- TensorFlow


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_manager_goes_on_from_what_was_put_back(keeper: Keeper) -> None:
    import tensorflow as tf

    run = keeper.run
    weight, step = tf.Variable(0.0), tf.Variable(0, dtype=tf.int64)
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(weight=weight, step=step), run, max_to_keep=2)

    def save(_: Path, value: float) -> None:
        weight.assign(value)
        step.assign_add(1)
        manager.save()

    pinned(keeper, "ckpt-#", save, 0.8, 0.6, 0.5)
    restore(run)
    weight, step = tf.Variable(0.0), tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(weight=weight, step=step)
    manager = tf.train.CheckpointManager(checkpoint, run, max_to_keep=2)
    assert manager.restore_or_initialize() == os.path.join(run, "ckpt-1")
    assert (weight.numpy(), step.numpy()) == (np.float32(0.8), 1)
    manager.save()
    assert manager.latest_checkpoint == os.path.join(run, "ckpt-2")
    checkpoint.read(manager.latest_checkpoint).assert_existing_objects_matched()


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_saver_goes_on_from_what_was_put_back(keeper: Keeper) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        weight = v1.get_variable("weight", [], initializer=v1.zeros_initializer())
        saver = v1.train.Saver()

        def save(path: Path, value: float) -> None:
            session.run(v1.assign(weight, value))
            saver.save(session, str(path))

        path = pinned(keeper, "model.ckpt", save, 0.8, 0.5)
        restore(keeper.run)
        saver.restore(session, v1.train.latest_checkpoint(keeper.run))
        assert session.run(weight) == np.float32(0.8)
        saver.save(session, str(path))
        assert verify(str(path)).whole


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["best.weights.h5", "best.keras"])
def test_keras_goes_on_from_what_was_put_back(keeper: Keeper, name: str) -> None:
    import keras as library

    def model() -> Any:
        made = library.Sequential([library.Input([1]), library.layers.Dense(1, use_bias=False)])
        made.compile("adam", "mse")
        return made

    def save(path: Path, value: float) -> None:
        made = model()
        made.layers[0].set_weights([np.full((1, 1), value)])
        (made.save if name.endswith(".keras") else made.save_weights)(path)

    path = pinned(keeper, name, save, 0.8, 0.5)
    restore(keeper.run)
    assert inspect(str(path)).best_metric.value == 0.8
    made = library.models.load_model(path) if name.endswith(".keras") else model()
    if not name.endswith(".keras"):
        made.load_weights(path)
    assert made.get_weights()[0][0, 0] == np.float32(0.8)
