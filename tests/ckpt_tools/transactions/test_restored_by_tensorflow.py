"""What is rewritten and undone, TensorFlow restores: nothing missing, nothing different."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.tensorflow

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from checkpoints import Sample, rewrite  # noqa: E402
from oracle import GRAPH, assert_agrees, digest, read_all, save_shards  # noqa: E402

from ckpt_tools.transactions import undo  # noqa: E402


class Model(tf.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.kernel = tf.Variable(tf.fill([3, 4], value))
        self.names = [tf.Variable(["a", "b"]), tf.Variable(value)]


def checkpoint(value: float, best: float | None = None) -> tf.train.Checkpoint:
    extra = {} if best is None else {"best_metric": tf.Variable(best)}
    return tf.train.Checkpoint(model=Model(value), step=tf.Variable(int(value), dtype=tf.int64), **extra)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_object_based_checkpoint(tmp_path: Path, times: int) -> None:
    prefix = checkpoint(5.0).save(str(tmp_path / "ckpt"))
    for number in range(times):
        rewrite(prefix, 0.125 * (number + 1))
    target = checkpoint(1.0, best=-1.0)
    status = target.restore(prefix)
    status.assert_existing_objects_matched()
    status.assert_consumed()
    assert target.best_metric.numpy() == 0.125 * times
    np.testing.assert_array_equal(target.model.kernel, tf.fill([3, 4], 5.0))
    assert target.step.numpy() == 5
    assert_agrees(prefix)


def test_without_the_node_in_the_graph_nothing_would_be_restored(tmp_path: Path) -> None:
    """Why the graph is rewritten: TensorFlow finds a variable by it, and silently keeps the first value without."""
    prefix = checkpoint(5.0).save(str(tmp_path / "ckpt"))
    target = checkpoint(1.0, best=-1.0)
    with pytest.raises(AssertionError):
        target.restore(prefix).assert_existing_objects_matched()
    assert target.best_metric.numpy() == -1.0


def test_a_value_that_is_replaced(tmp_path: Path) -> None:
    prefix = checkpoint(5.0, best=0.25).save(str(tmp_path / "ckpt"))
    rewrite(prefix, 0.75)
    target = checkpoint(1.0, best=-1.0)
    target.restore(prefix).assert_consumed()
    assert target.best_metric.numpy() == 0.75


def test_a_manager_goes_on_from_a_rewritten_checkpoint(tmp_path: Path) -> None:
    manager = tf.train.CheckpointManager(checkpoint(5.0), str(tmp_path), max_to_keep=2)
    prefix = manager.save()
    rewrite(prefix, 0.5)
    target = checkpoint(1.0, best=-1.0)
    again = tf.train.CheckpointManager(target, str(tmp_path), max_to_keep=1)
    target.restore(again.latest_checkpoint).assert_consumed()
    newest = again.save()
    fresh = checkpoint(1.0, best=-1.0)
    fresh.restore(newest).assert_consumed()
    assert fresh.best_metric.numpy() == 0.5


def test_the_fixtures(sample: Sample, copy: Callable[..., Path]) -> None:
    prefix = sample.prefix_in(copy(sample))
    before = read_all(prefix)
    rewrite(prefix, 0.375)
    after = read_all(prefix)
    names = {name for name in after if name != GRAPH and not name.startswith("best_metric")}
    assert names == {name for name in before if name != GRAPH and not name.startswith("best_metric")}
    for name in names:
        assert digest(after[name]) == digest(before[name]), name
    if sample.name_based:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            best = tf.compat.v1.get_variable("best_metric", [])
            embedding = tf.compat.v1.get_variable("mid_embedding_var", before["mid_embedding_var"].shape)
            tf.compat.v1.train.Saver().restore(session, prefix)
            assert session.run(best) == 0.375
            np.testing.assert_array_equal(session.run(embedding), before["mid_embedding_var"])
    else:
        target = tf.train.Checkpoint(best_metric=tf.Variable(0.0))
        target.restore(prefix).assert_existing_objects_matched()
        assert target.best_metric.numpy() == 0.375
    undo(prefix)
    assert {name: digest(value) for name, value in read_all(prefix).items()} == {
        name: digest(value) for name, value in before.items()
    }


def test_several_shards(tmp_path: Path) -> None:
    shards = [{"a": tf.constant([1.0, 2.0])}, {"s": tf.constant([b"x", b""])}, {"z": tf.zeros([0])}]
    prefix = save_shards(tmp_path / "ckpt", shards)
    before = read_all(prefix)
    rewrite(prefix, 0.5)
    after = read_all(prefix)
    assert after.pop("best_metric") == np.float32(0.5)
    assert {name: digest(value) for name, value in after.items()} == {n: digest(v) for n, v in before.items()}
    assert_agrees(prefix)
    undo(prefix)
    assert set(read_all(prefix)) == set(before)
