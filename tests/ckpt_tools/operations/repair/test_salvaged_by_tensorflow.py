"""TensorFlow restores what was salvaged, and says itself what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import OF_EACH_LINEAGE, Sample, contents

pytestmark = [pytest.mark.tensorflow]

import tensorflow as tf  # noqa: E402
from oracle import assert_agrees  # noqa: E402

from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY  # noqa: E402
from ckpt_tools.lineages import identify  # noqa: E402
from ckpt_tools.operations.repairing import REWRITE_STATE, repair  # noqa: E402
from ckpt_tools.readers import Bundle, open_checkpoint  # noqa: E402

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def damage(prefix: str, key: str) -> None:
    with Bundle(prefix) as bundle:
        entry = bundle.entries[key]
        path = Path(bundle.shard_paths[entry.shard])
    data = bytearray(path.read_bytes())
    data[entry.offset] ^= 1
    path.write_bytes(data)


def salvage(prefix: str) -> set[str]:
    """What is lost of a damaged checkpoint, whose salvaged part is at PREFIX-salvaged."""
    done = repair(prefix)
    assert_agrees(f"{prefix}-salvaged")
    return {lost.key.removesuffix(SUFFIX) for lost in done.lost}


def variables(**extra: float) -> dict[str, Any]:
    values = {"a": [1.0, 2.0], "b": [3.0, 4.0], "c": [5.0, 6.0]}
    return {name: tf.Variable(value) for name, value in {**values, **extra}.items()}


def test_a_lost_variable_is_missed_and_the_others_are_restored(tmp_path: Path) -> None:
    prefix = tf.train.Checkpoint(**variables()).write(str(tmp_path / "x"))
    damage(prefix, f"b{SUFFIX}")
    assert salvage(prefix) == {"b"}
    zeros = {name: tf.Variable([0.0, 0.0]) for name in "abc"}
    status = tf.train.Checkpoint(**zeros).read(f"{prefix}-salvaged")
    assert [zeros[name].numpy().tolist() for name in "abc"] == [[1.0, 2.0], [0.0, 0.0], [5.0, 6.0]]
    with pytest.raises(AssertionError):
        status.assert_existing_objects_matched()
    others = {name: tf.Variable([0.0, 0.0]) for name in "ac"}
    tf.train.Checkpoint(**others).read(f"{prefix}-salvaged").assert_consumed()


def test_a_table_is_lost_as_a_whole(tmp_path: Path) -> None:
    table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, 0.0)
    table.insert(tf.constant([1, 2], tf.int64), [0.5, 0.25])
    prefix = tf.train.Checkpoint(table=table, a=tf.Variable([1.0])).write(str(tmp_path / "x"))
    with Bundle(prefix) as bundle:
        values = next(key for key in bundle.entries if key.endswith("-values"))
    damage(prefix, values)
    assert salvage(prefix) == {values, values.replace("-values", "-keys")}
    kept = tf.Variable([0.0])
    tf.train.Checkpoint(a=kept).read(f"{prefix}-salvaged").assert_consumed()
    assert kept.numpy() == 1.0


@pytest.mark.parametrize("lost", ["moment", "weight", "graph"])
def test_a_model_with_adam(tmp_path: Path, lost: str) -> None:
    def make() -> tf.train.Checkpoint:
        model = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(3)])
        optimizer = tf.keras.optimizers.Adam()
        optimizer.build(model.trainable_variables)
        return tf.train.Checkpoint(model=model, optimizer=optimizer)

    trained = make()
    trained.optimizer.apply([tf.ones((2, 3)), tf.ones(3)])
    prefix = trained.save(str(tmp_path / "ckpt"))
    with Bundle(prefix) as bundle:
        moments = bundle.graph.optimizer_keys()
        weights = [key for key in bundle.tensors if "_trainable_variables" in key or "kernel" in key]
        damage(prefix, {"moment": max(moments), "weight": weights[0], "graph": OBJECT_GRAPH_KEY}[lost])
    gone = salvage(prefix)
    if lost == "graph":
        assert gone == {OBJECT_GRAPH_KEY}
        return
    fresh = make()
    status = fresh.restore(f"{prefix}-salvaged")
    if lost == "moment":
        assert gone == {key.removesuffix(SUFFIX) for key in moments}
        tf.train.Checkpoint(model=fresh.model).restore(f"{prefix}-salvaged").assert_existing_objects_matched()
        for new, old in zip(fresh.model.weights, trained.model.weights, strict=True):
            np.testing.assert_array_equal(new, old)
        assert int(fresh.optimizer.iterations.numpy()) == 0
    else:
        assert gone == {weights[0].removesuffix(SUFFIX)}
        with pytest.raises(AssertionError):
            status.assert_existing_objects_matched()
        assert int(fresh.optimizer.iterations.numpy()) == 1


@pytest.mark.parametrize("sample", OF_EACH_LINEAGE, ids=lambda sample: sample.id)
def test_a_lost_moment_of_a_real_run_costs_the_optimizer_and_nothing_else(
    sample: Sample, copy: Callable[..., Path]
) -> None:
    prefix = sample.prefix_in(copy(sample))
    with open_checkpoint(prefix) as checkpoint:
        canonical = identify(checkpoint).tensors
        moments = {key for name, found in canonical.items() if name.startswith("optimizer/") for key in found.keys}
        weights = {key for name, found in canonical.items() if name.startswith("model/") for key in found.keys}
    damage(prefix, min(key for key in moments if "step" not in key and "iter" not in key and "power" not in key))
    lost = {f"{key}{SUFFIX}" if not sample.name_based else key for key in salvage(prefix)}
    assert moments <= lost
    assert not weights & lost
    with Bundle(f"{prefix}-salvaged") as bundle:
        assert weights <= set(bundle.tensors)


def test_the_manager_goes_on_from_a_rewritten_state_file(tmp_path: Path) -> None:
    step = tf.Variable(0)
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(step=step), str(tmp_path), max_to_keep=3)
    for number in (1, 2, 3):
        step.assign(number)
        manager.save()
    (tmp_path / "checkpoint").write_bytes(b"")
    assert [action.kind for action in repair(str(tmp_path)).actions] == [REWRITE_STATE]
    restored = tf.Variable(0)
    checkpoint = tf.train.Checkpoint(step=restored)
    again = tf.train.CheckpointManager(checkpoint, str(tmp_path), max_to_keep=1)
    checkpoint.restore(again.latest_checkpoint).assert_consumed()
    assert restored.numpy() == 3
    before = contents(tmp_path)
    again.save()
    after = contents(tmp_path)
    assert {name for name in before if name not in after} == set(), "retention took what it did not write"
    assert Path(again.latest_checkpoint).name == "ckpt-4"
