"""Two kernels of one shape, and an optimizer that lists the variables in another order than the model.

In MIND the bilinear map and the projection have the same shape. A reader that pairs weights and moments by order or
by shape gives each the other's moments, and nothing looks wrong.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.tensorflow

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from ckpt_tools.lineages import Lineage, identify  # noqa: E402
from ckpt_tools.readers import Checkpoint, open_checkpoint  # noqa: E402

DIM = 4
BILINEAR, PROJ = "capsule/bilinear/kernel", "capsule/proj/kernel"


def node(**children: object) -> tf.Module:
    """A plain object with attributes, as Keras's layers are to a checkpoint."""
    made = tf.__internal__.tracking.AutoTrackable()
    for name, child in children.items():
        setattr(made, name, child)
    return made


def variable(number: float, name: str, *shape: int) -> tf.Variable:
    return tf.Variable(tf.fill(shape, tf.constant(number, tf.float32)), name=name)


def model(embeddings: str, kernel: str, names: tuple[str, str]) -> tuple[tf.Module, dict[str, tf.Variable]]:
    weights = {
        "item_embedding": variable(1, "embedding/embeddings", 6, DIM),
        "item_bias": variable(2, "bias", 6),
        BILINEAR: variable(3, names[0], DIM, DIM),
        PROJ: variable(4, names[1], DIM, DIM),
        "capsule/proj/bias": variable(5, "proj/bias", DIM),
    }
    capsule = node(
        item_bilinear=node(**{kernel: weights[BILINEAR]}),
        proj_layer=node(**{kernel: weights[PROJ], "bias": weights["capsule/proj/bias"]}),
    )
    item_embedding = node(**{embeddings: weights["item_embedding"]})
    return node(item_embedding=item_embedding, item_bias=weights["item_bias"], capsule=capsule), weights


ORDER = [PROJ, "item_bias", BILINEAR, "capsule/proj/bias", "item_embedding"]
# The moments of a weight are ten and a hundred times its own value.
MOMENTS = {"m": 10, "v": 100}
NAMES = ("bilinear/kernel", "proj/kernel")


def moment(weight: tf.Variable, slot: str) -> tf.Variable:
    return tf.Variable(weight * MOMENTS[slot], name=f"Adam/{slot}/{weight.name.split(':')[0]}")


def keras3() -> tf.train.Checkpoint:
    root, weights = model("_embeddings", "_kernel", NAMES)
    listed = [weights[name] for name in ORDER]
    optimizer = node(
        _iterations=tf.Variable(7, dtype=tf.int64),
        _learning_rate=tf.Variable(0.5),
        _trainable_variables=listed,
        _momentums=[moment(weight, "m") for weight in listed],
        _velocities=[moment(weight, "v") for weight in listed],
    )
    return tf.train.Checkpoint(model=root, optimizer=optimizer)


def keras2_vars(names: tuple[str, str] = NAMES) -> tf.train.Checkpoint:
    root, weights = model("embeddings", "kernel", names)
    listed = [moment(weights[name], slot) for name in ORDER for slot in MOMENTS]
    optimizer = node(
        _iterations=tf.Variable(7, dtype=tf.int64),
        _learning_rate=tf.Variable(0.5),
        _index_dict={"x": tf.Variable(0)},
        _variables=listed,
    )
    return tf.train.Checkpoint(model=root, optimizer=optimizer)


def keras2_slots() -> tf.train.Checkpoint:
    root, weights = model("embeddings", "kernel", NAMES)
    optimizer = tf.compat.v1.train.AdamOptimizer(0.5)
    listed = [weights[name] for name in ORDER]
    optimizer.apply_gradients([(tf.zeros_like(weight), weight) for weight in listed])
    for weight in listed:
        for slot, factor in MOMENTS.items():
            optimizer.get_slot(weight, slot).assign(weight * factor)
    optimizer._track_trackable(tf.Variable(7, dtype=tf.int64), "iter")
    optimizer._track_trackable(tf.Variable(0.5), "learning_rate")
    return tf.train.Checkpoint(model=root, optimizer=optimizer)


def read(lineage: Lineage, checkpoint: Checkpoint, name: str) -> float:
    values = np.unique(lineage.read(checkpoint, name))
    assert values.size == 1
    return float(values[0])


@pytest.mark.parametrize(
    ("make", "identity"),
    [(keras3, "comirec-keras3"), (keras2_vars, "comirec-keras2-vars"), (keras2_slots, "comirec-keras2-slots")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_weights_and_moments_are_never_mixed_up(tmp_path: Path, make: object, identity: str) -> None:
    prefix = make().write(str(tmp_path / "ckpt"))  # type: ignore[operator]
    with open_checkpoint(prefix) as checkpoint:
        lineage = identify(checkpoint)
        assert lineage is not None
        assert (lineage.id, lineage.model_type, lineage.step) == (identity, "MIND", 7)
        for name, value in ((BILINEAR, 3), (PROJ, 4), ("capsule/proj/bias", 5), ("item_embedding", 1)):
            assert read(lineage, checkpoint, f"model/{name}") == value
            for slot, factor in MOMENTS.items():
                assert read(lineage, checkpoint, f"optimizer/{slot}/{name}") == value * factor, (slot, name)


def test_moments_whose_names_do_not_tell_are_left_out(tmp_path: Path) -> None:
    prefix = keras2_vars(("dense/kernel", "dense/kernel")).write(str(tmp_path / "ckpt"))
    with open_checkpoint(prefix) as checkpoint:
        lineage = identify(checkpoint)
        assert lineage is not None
        assert read(lineage, checkpoint, f"model/{BILINEAR}") == 3
        assert not {f"optimizer/{slot}/{name}" for slot in MOMENTS for name in (BILINEAR, PROJ)} & set(lineage.tensors)
        assert read(lineage, checkpoint, "optimizer/m/item_embedding") == 10
