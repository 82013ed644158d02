from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saves import stored
from toys import tree

from ckpt_tools.errors import BusyError, StorageError
from ckpt_tools.findings import Finding
from ckpt_tools.format.state import decode_state
from ckpt_tools.fs import durable
from ckpt_tools.lineages import identify
from ckpt_tools.readers import open_checkpoint

pytestmark = pytest.mark.tensorflow

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
STATE = {
    "best_metric": ("float32", ()),
    "save_counter": ("int64", ()),
    "optimizer/learning_rate": ("float32", ()),
    "optimizer/step": ("int64", ()),
    "state/best_step": ("int64", ()),
    "state/config": ("string", ()),
    "state/loss_steps": ("int64", ()),
    "state/loss_sum": ("float64", ()),
    "state/metric": ("string", ()),
    "state/recall": ("float32", ()),
    "state/step": ("int64", ()),
    "state/stopped": ("bool", ()),
    "state/trials": ("int64", ()),
}
MODELS = {
    "DNN": {"item_embedding": (120, 4), "proj/kernel": (4, 4), "proj/bias": (4,)},
    "GRU4REC": {"item_embedding": (120, 4), "gru/kernel": (4, 12), "gru/recurrent_kernel": (4, 12), "gru/bias": (12,)},
    "MIND": {"item_embedding": (120, 4), "capsule/bilinear/kernel": (4, 4), "capsule/bilinear/bias": (4,)},
    "ComiRec-DR": {"item_embedding": (120, 4), "capsule/weights": (1, 6, 8, 4)},
    "ComiRec-SA": {
        "item_embedding": (120, 4),
        "position_embedding": (1, 6, 4),
        "attention/hidden/kernel": (4, 16),
        "attention/hidden/bias": (16,),
        "attention/heads/kernel": (16, 2),
        "attention/heads/bias": (2,),
    },
}


@pytest.mark.parametrize("model_type", list(MODELS))
def test_the_keys_are_a_contract(model_type: str, tmp_path: Path) -> None:
    from trainer.checkpoints.saving import CheckpointLine

    expected: dict[str, Any] = {**STATE, "model/item_bias": ("float32", (120,))}
    for name, shape in MODELS[model_type].items():
        expected |= {f"{part}/{name}": ("float32", shape) for part in ("model", "optimizer/m", "optimizer/v")}
    prefix = CheckpointLine(str(tmp_path)).save(stored(model_type))
    with open_checkpoint(prefix) as checkpoint:
        found = {name: (info.dtype, info.shape) for name, info in checkpoint.tensors.items()}
        lineage = identify(checkpoint)
    assert found == {name + SUFFIX: what for name, what in expected.items()}
    assert lineage is not None
    assert (lineage.id, lineage.model_type, lineage.variant) == ("trainer", model_type, "paper")
    assert lineage.hyper["maxlen"] == 6


def test_any_tensorflow_reads_it(tmp_path: Path) -> None:
    import tensorflow as tf

    from trainer.checkpoints.saving import CheckpointLine

    values = stored()
    prefix = CheckpointLine(str(tmp_path)).save(values)
    assert tf.train.latest_checkpoint(str(tmp_path)) == prefix
    best = tf.Variable(9.0)
    kernel = tf.Variable(np.zeros((4, 4), np.float32))
    model = tf.train.Checkpoint(proj=tf.train.Checkpoint(kernel=kernel))
    status = tf.train.Checkpoint(best_metric=best, model=model).restore(prefix)
    status.assert_existing_objects_matched()
    assert float(best) == 0.0
    assert np.array_equal(kernel.numpy(), values["model/proj/kernel"])


def test_a_save_replaces_the_one_before_it_and_nothing_of_others(tmp_path: Path) -> None:
    import tensorflow as tf

    from trainer.checkpoints.saving import CheckpointLine

    foreign = tf.train.Checkpoint(model=tf.Variable(1.0)).write(str(tmp_path / "ckpt-4"))
    (tmp_path / "ckpt-2.index").write_bytes(b"not a checkpoint")
    before = tree(tmp_path)
    line = CheckpointLine(str(tmp_path))
    assert [os.path.basename(line.save(stored(step=step))) for step in (1, 2, 3)] == ["ckpt-5", "ckpt-6", "ckpt-7"]
    after = tree(tmp_path)
    assert before.items() <= after.items()
    assert sorted(after.keys() - before.keys()) == ["checkpoint", "ckpt-7.data-00000-of-00001", "ckpt-7.index"]
    state = decode_state(after["checkpoint"])
    assert (state.latest, state.all) == ("ckpt-7", ("ckpt-2", os.path.basename(foreign), "ckpt-7"))
    with open_checkpoint(str(tmp_path)) as checkpoint:
        assert checkpoint.read(f"state/step{SUFFIX}") == 3
        assert checkpoint.read(f"save_counter{SUFFIX}") == 7


def test_a_save_that_does_not_read_back_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ckpt_tools.readers import Bundle
    from trainer.checkpoints.saving import CheckpointLine

    line = CheckpointLine(str(tmp_path))
    line.save(stored(step=1))
    before = tree(tmp_path)
    monkeypatch.setattr(Bundle, "verify", lambda self: iter([Finding("crc", "damage", "bad byte")]))  # noqa: ARG005
    with pytest.raises(StorageError, match="does not read back: bad byte"):
        line.save(stored(step=2))
    assert tree(tmp_path) == before


def test_a_save_that_fails_half_way_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    from trainer.checkpoints.saving import CheckpointLine

    line = CheckpointLine(str(tmp_path))
    line.save(stored(step=1))
    before = tree(tmp_path)

    def full(self: Any, prefix: str) -> None:  # noqa: ARG001
        os.mkdir(f"{prefix}_temp")
        for path in (f"{prefix}_temp/part-00000-of-00001.data-00000-of-00001", f"{prefix}.data-00000-of-00001"):
            Path(path).write_bytes(b"half")
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.train.Checkpoint, "write", full)
    with pytest.raises(StorageError, match="No space left on device"):
        line.save(stored(step=2))
    assert tree(tmp_path) == before
    assert not (tmp_path / "ckpt-2_temp").exists()


def test_a_save_waits_for_the_directory_and_then_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.checkpoints.saving import CheckpointLine

    monkeypatch.setattr("trainer.checkpoints.saving._PATIENCE_SECONDS", 0.3)
    with durable.locked(tmp_path), pytest.raises(BusyError):
        CheckpointLine(str(tmp_path)).save(stored())
