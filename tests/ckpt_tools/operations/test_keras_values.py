"""A best value in Keras files: the value is there, everything else as before, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import faulty
import h5py
import numpy as np
import pytest
from checkpoints import snapshot
from made import keras_file

from ckpt_tools.analysis.difference import diff
from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.analysis.verification import verify
from ckpt_tools.errors import (
    BusyError,
    CkptError,
    CorruptError,
    StorageError,
    UnsafeError,
    UnsupportedError,
    UsageError,
)
from ckpt_tools.fs import durable
from ckpt_tools.operations.backfilling import Options, backfill
from ckpt_tools.operations.keras_values import plan_value
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.readers.keras_h5 import Hdf5Checkpoint
from ckpt_tools.transactions import pending, replace_file, undo

NAMES = ("model.h5", "model.weights.h5", "model.keras")
AUC = Options(value=0.8712345678901234, metric="val_auc@20", mode="max")


def make(path: Path) -> Path:
    return keras_file(path, _fill)


def _fill(file: h5py.File) -> None:
    file["layers/dense/vars/0"] = np.arange(6, dtype=np.float32).reshape(2, 3)
    file.create_dataset("layers/dense/vars/1", data=np.ones(300, np.float32), chunks=(100,), compression="gzip")
    file["optimizer/vars/0"] = np.int64(7)
    file.attrs["theirs"] = "kept"


@pytest.fixture(params=NAMES)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make(tmp_path / "run" / request.param)


def stored(path: Path | str) -> float | None:
    return inspect(str(path)).best_metric.value


@pytest.mark.parametrize("renamed", [True, False])
def test_what_was_saved_while_it_was_measured_stays_and_gets_no_value_of_another(
    file: Path, renamed: bool, tmp_path: Path
) -> None:
    saved = keras_file(tmp_path / "new" / file.name, lambda new: _fill(new) or new.create_dataset("later", data=1.0))
    evidence = {"reason": "backfill", "evidence": {}}
    with open_checkpoint(str(file)) as checkpoint:
        assert isinstance(checkpoint, Hdf5Checkpoint)
        if renamed:
            os.replace(shutil.copy(saved, tmp_path / file.name), file)
        else:
            file.write_bytes(saved.read_bytes())
        with pytest.raises((BusyError, CorruptError)):
            replace_file(plan_value(checkpoint, 0.5, {}, **evidence))
    assert file.read_bytes() == saved.read_bytes()
    assert os.listdir(file.parent) == [file.name]


def test_the_value_is_there_and_all_else_as_before(file: Path, tmp_path: Path) -> None:
    before = make(tmp_path / "before" / file.name)
    outcome = backfill(str(file), AUC)
    assert outcome.written
    found = inspect(str(file)).best_metric
    assert (found.status, found.value) == ("present", AUC.value)
    assert found.meaning == "val_auc@20, valid split, top 20 (max), at step 7; given with --value"
    assert diff(str(before), str(file)).equal
    assert verify(str(file)).whole
    assert pending(str(file.parent)) is None
    if file.suffix == ".keras":
        with zipfile.ZipFile(file) as archive, zipfile.ZipFile(before) as old:
            assert archive.testzip() is None
            assert {name: archive.read(name) for name in old.namelist()} == {n: old.read(n) for n in old.namelist()}
            said = json.loads(archive.read("best_metric.json"))
    else:
        with h5py.File(file) as opened:
            assert opened.attrs["theirs"] == "kept"
            assert float(opened.attrs["best_metric"]) == AUC.value
            said = json.loads(opened.attrs["best_metric_meaning"])
    assert {name: said[name] for name in ("name", "mode", "split", "top_n", "unit", "step", "value")} == {
        "name": "val_auc@20",
        "mode": "max",
        "split": "valid",
        "top_n": 20,
        "unit": None,
        "step": 7,
        "value": AUC.value,
    }


def test_another_value_needs_force_and_undo_goes_back_byte_for_byte(file: Path) -> None:
    original, inode = file.read_bytes(), file.stat().st_ino
    backfill(str(file), AUC)
    with pytest.raises(UsageError, match="already"):
        backfill(str(file), Options(value=0.9))
    assert not backfill(str(file), AUC).written
    backfill(str(file), Options(value=0.9, force=True))
    assert stored(file) == 0.9
    undo(str(file))
    assert stored(file) == AUC.value
    undo(str(file))
    assert (file.read_bytes(), file.stat().st_ino) == (original, inode)


def test_a_twin_stays_as_it_was(file: Path, tmp_path: Path) -> None:
    twin = tmp_path / f"twin-{file.name}"
    os.link(file, twin)
    before = twin.read_bytes()
    backfill(str(file), AUC)
    assert twin.read_bytes() == before
    undo(str(file))
    assert twin.stat().st_ino == file.stat().st_ino


def test_a_dry_run_writes_nothing(file: Path) -> None:
    before = snapshot(file.parent)
    outcome = backfill(str(file), Options(value=0.5, dry_run=True))
    assert outcome.plan is not None
    assert outcome.plan.to_json()["writes_bytes"] < 4096
    assert snapshot(file.parent) == before


def test_from_the_log(tmp_path: Path) -> None:
    path = make(tmp_path / "run" / "weights.03.h5")
    (path.parent / "history.csv").write_text("step,val_loss\n5,0.8\n6,0.6\n7,0.65\n")
    backfill(str(path), Options(from_logs=True))
    assert stored(path) == 0.65


def test_from_the_name_of_the_file(tmp_path: Path) -> None:
    named = make(tmp_path / "other" / "weights.12-val_auc-0.871.keras")
    backfill(str(named), Options(from_logs=True))
    assert stored(named) == 0.871


def test_a_variable_of_the_same_name_follows(tmp_path: Path) -> None:
    """`BestCheckpoint` writes one: two values that differ would be no answer."""
    path = make(tmp_path / "run" / "best.weights.h5")
    with h5py.File(path, "r+") as file:
        file.create_dataset("best_metric", data=0.25, dtype="float32")
        file.create_dataset("best_acc", data=0.125, dtype="float64")
    backfill(str(path), Options(value=0.5, force=True))
    backfill(str(path), Options(value=0.75, into="best_acc", force=True))
    with h5py.File(path) as file:
        assert (file["best_metric"][()], file.attrs["best_metric"], file["best_acc"][()]) == (0.5, 0.5, 0.75)


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
@pytest.mark.parametrize("way", ["backfill", "undo"])
def test_killed_or_refused_at_each_call(
    name: str, way: str, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is the old or the new one, byte for byte, and the same command again ends it."""
    folder = tmp_path / "run"
    path = make(folder / name)
    old = path.read_bytes()
    backfill(str(path), AUC)
    new = path.read_bytes()
    if way == "backfill":
        undo(str(path))
        (folder / ".ckpt-tools" / "ledger.jsonl").unlink()
    start = faulty.seen(folder)
    goal = new if way == "backfill" else old

    def command() -> object:
        return backfill(str(path), AUC) if way == "backfill" else undo(str(path))

    calls = faulty.run(command, monkeypatch).calls
    assert sum(call in faulty.CHANGING for call in calls) > 20
    ended: set[bool] = set()
    for fault, where in faulty.faults(calls, every):
        faulty.build(start, folder)
        done = faulty.run(command, monkeypatch, fault)
        assert path.read_bytes() in (old, new), where
        ended.add(path.read_bytes() == goal)
        if not done.finished and (path.read_bytes() != goal or pending(str(folder)) is not None):
            faulty.run(command, monkeypatch)
        assert path.read_bytes() == goal, where
        assert pending(str(folder)) is None, where
        left = [name for name in os.listdir(folder) if name not in (path.name, ".ckpt-tools")]
        assert not left, where
    assert ended == {True, False}


def test_a_trainer_that_saves_meanwhile_wins(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = b"what the trainer wrote"
    original = durable.link_or_copy

    def saved(source: Path, target: Path) -> str:
        answer = original(source, target)
        file.write_bytes(newer)  # in place, as Keras does
        return answer

    monkeypatch.setattr(durable, "link_or_copy", saved)
    with pytest.raises(CkptError):
        backfill(str(file), AUC)
    assert file.read_bytes() == newer
    assert [name for name in os.listdir(file.parent) if name != ".ckpt-tools"] == [file.name]


def test_what_does_not_read_back_is_not_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()
    real = durable.write_file

    def damaged(path: Path, write: Callable[..., None], **more: Path) -> None:
        def torn(target: object) -> None:
            write(target)
            target.seek(0)  # type: ignore[attr-defined]
            target.truncate(900)  # type: ignore[attr-defined]

        real(path, torn, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(durable, "write_file", damaged)
    with pytest.raises(CorruptError):
        backfill(str(file), AUC)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_a_directory_that_cannot_be_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(file.parent)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StorageError, match="write into the directory"):
        backfill(str(file), AUC)
    assert snapshot(file.parent) == before


def test_what_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "run" / "model.h5")
    other = make(tmp_path / "victim.h5")
    with h5py.File(path, "r+") as file:
        file["layers/link"] = h5py.ExternalLink(str(other), "/layers")
    before = (path.read_bytes(), other.read_bytes())
    with pytest.raises(UnsafeError):
        backfill(str(path), AUC)
    assert (path.read_bytes(), other.read_bytes()) == before


def test_harmed_files_are_left_alone_or_changed_as_a_whole(tmp_path: Path) -> None:
    """Whatever bytes the library meets, it says what it would write, in a process of its own."""
    whole = make(tmp_path / "model.h5").read_bytes()
    path = tmp_path / "run" / "model.h5"
    path.parent.mkdir()
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(40):
        harmed = bytearray(whole)
        for place in rng.integers(0, 2048, 3):
            harmed[place] = rng.integers(0, 256)
        path.write_bytes(harmed)
        try:
            backfill(str(path), AUC)
        except CkptError:
            refused += 1
            assert path.read_bytes() == harmed
        else:
            assert stored(path) == AUC.value
            undo(str(path))
            assert path.read_bytes() == harmed
        assert not list(path.parent.glob("*.h5.ckpt-tools"))
    assert refused


def test_names_and_formats_that_are_not_written(tmp_path: Path) -> None:
    path = make(tmp_path / "run" / "model.h5").rename(tmp_path / "run" / "weights")
    with pytest.raises(UnsupportedError, match="ends in"):
        backfill(str(path), AUC)
    with pytest.raises(UsageError, match="too long"):
        backfill(str(make(tmp_path / "model.h5")), Options(value=0.5, metric="x" * 70_000))


@pytest.mark.tensorflow
@pytest.mark.parametrize("keras", ["keras", pytest.param("tf_keras", marks=pytest.mark.slow)])
def test_keras_loads_it_as_before(keras: str, tmp_path: Path) -> None:
    library = pytest.importorskip(keras)
    layers = library.layers
    model = library.Sequential([layers.Input((4,)), layers.Dense(3, "relu"), layers.Dense(1)])
    model.compile("adam", library.losses.MeanSquaredError())
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    model.fit(x, x[:, :1], verbose=0)
    expected = model.predict(x, verbose=0)
    for name in NAMES:
        path = str(tmp_path / name)
        if name.endswith(".weights.h5"):
            model.save_weights(path)
        else:
            model.save(path)
        untouched = shutil.copy(path, tmp_path / f"untouched-{name}")
        backfill(path, AUC)
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.best is not None
        if name.endswith(".weights.h5"):
            loaded = library.models.clone_model(model)
            loaded.compile("adam", "mse")
            loaded.load_weights(path)
        else:
            loaded, plain = library.models.load_model(path), library.models.load_model(untouched)
            for one, other in zip(loaded.optimizer.variables, plain.optimizer.variables, strict=True):
                np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
