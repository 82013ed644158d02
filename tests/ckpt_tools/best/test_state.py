"""What a run knows of its best: remembered, never made worse, and of one metric only. Without TensorFlow."""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.best import BestCheckpoint, BestState
from ckpt_tools.best.line import Line
from ckpt_tools.best.state import direction, read_state, resumed, value_of, write_state
from ckpt_tools.errors import CkptError, CorruptError, StorageError, UsageError
from ckpt_tools.fs import durable


@given(st.lists(st.floats(allow_nan=True), max_size=12), st.sampled_from(["min", "max"]), st.integers(1, 4))
def test_the_best_never_gets_worse_and_nan_is_none(values: list[float], mode: str, patience: int) -> None:
    state = BestState("auc", mode, patience=patience)  # type: ignore[arg-type]
    seen: list[float] = []
    for step, value in enumerate(values):
        before, state = state, state.after(value, step=step)
        seen += [value] if math.isfinite(value) else []
        assert state.best == ((max if mode == "max" else min)(seen) if seen else None)
        assert state.wait == (0 if state.best != before.best else before.wait + 1)
        assert state.stopped == (state.wait >= patience)


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = BestState("auc", "max", patience=3).after(0.1 + 0.2, step=7, epoch=2).after(0.1, step=8, epoch=3)
    write_state(str(tmp_path), state)
    assert read_state(str(tmp_path)) == state
    assert state.best == 0.1 + 0.2  # float64, to the last bit


def test_a_stopped_run_is_stopped_after_a_restart_unless_it_has_more_patience(tmp_path: Path) -> None:
    state = BestState("auc", "max", patience=1).after(0.5, step=1).after(0.4, step=2)
    assert state.stopped
    write_state(str(tmp_path), state)
    assert resumed(str(tmp_path), "auc", "max", 1).stopped
    assert not resumed(str(tmp_path), "auc", "max", 5).stopped
    assert not resumed(str(tmp_path), "auc", "max", None).stopped


def test_another_metric_is_not_compared_with(tmp_path: Path) -> None:
    write_state(str(tmp_path), BestState("auc", "max", best=0.5))
    with pytest.raises(UsageError, match=r"by auc \(max\), not by loss \(min\)"):
        BestCheckpoint(tmp_path, "loss")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"metric": 1}', '{"best_file": "../../x"}', "nonsense \x00", '{"metric": "auc", "mode": "up"}'],
)
def test_a_damaged_state_is_no_new_run(tmp_path: Path, text: str) -> None:
    whole = BestState("auc", "max").__dict__
    try:
        said = {**whole, **json.loads(text)} if text.startswith('{"') else text
    except ValueError:
        said = text
    (tmp_path / "best.json").write_text(said if isinstance(said, str) else json.dumps(said))
    with pytest.raises(CorruptError, match=r"best\.json"):
        resumed(str(tmp_path), "auc", "max", None)


def test_a_metric_that_is_not_there_is_an_error_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="'val_auc': there are accuracy, loss"):
        value_of({"loss": 1.0, "accuracy": 0.5}, "val_auc")
    with pytest.raises(UsageError, match="there are none"):
        value_of({}, "val_auc")


def test_a_direction_is_not_guessed() -> None:
    assert direction("val_loss", None) == "min"
    assert direction("val_loss", "max") == "max"
    for mode in (None, "auto", "up"):
        with pytest.raises(UsageError, match="must be said"):
            direction("quality", mode)


def test_a_save_that_does_not_read_back_leaves_all_as_it_was(tmp_path: Path) -> None:
    line = Line(str(tmp_path / "best"), "best", ".weights.h5")
    with pytest.raises(StorageError, match="does not read back"):
        line.save(lambda draft: Path(draft).write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 100))
    assert os.listdir(tmp_path / "best") == []


def test_a_name_that_somebody_has_is_never_written_to(tmp_path: Path) -> None:
    directory = tmp_path / "best"
    directory.mkdir()
    (directory / "ckpt-7.data-00000-of-00001").write_bytes(b"somebody's last copy")

    def save(draft: str) -> None:
        raise OSError(28, f"No space left on device {os.path.basename(draft)}")

    with pytest.raises(StorageError, match="ckpt-8"):
        Line(str(directory), "ckpt").save(save)
    assert (directory / "ckpt-7.data-00000-of-00001").read_bytes() == b"somebody's last copy"


@pytest.mark.parametrize("refused", ["rename", "sync_file", "sync_directory", "write_atomic", "remove"])
def test_whatever_fails_in_a_save_the_best_before_it_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    import h5py
    import numpy as np

    class Model:
        value = 0.0
        stop_training = False

        def save_weights(self, path: str) -> None:
            with h5py.File(path, "w") as file:
                file["weight"] = np.full((1,), self.value, np.float32)

    def stored() -> tuple[float | None, float]:
        state = read_state(str(tmp_path))
        assert state is not None
        assert state.best_file is not None
        with h5py.File(tmp_path / state.best_file) as file:
            return state.best, float(file["weight"][0])

    model = Model()
    best = BestCheckpoint(tmp_path, "auc")
    best.set_model(model)
    best.on_train_begin()
    model.value = 0.5
    best.on_epoch_end(0, {"auc": 0.5})
    work = getattr(durable, refused)
    for count in range(12):
        left = [count]

        def fail(*given: object, left: list[int] = left, **named: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise StorageError("no space")
            return work(*given, **named)

        monkeypatch.setattr(durable, refused, fail)
        model.value = 0.6 + count / 100
        with contextlib.suppress(CkptError):
            best.on_epoch_end(1, {"auc": model.value})
        monkeypatch.undo()
        value, weight = stored()
        assert value is not None
        assert value >= 0.5
        assert weight == pytest.approx(value)
        best = BestCheckpoint(tmp_path, "auc")
        best.set_model(model)
        best.on_train_begin()
        assert best.state.best == value
