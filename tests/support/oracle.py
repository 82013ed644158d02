"""TensorFlow, asked what it reads. Imports it: only for tests with the mark ``tensorflow``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from ckpt_tools.readers import open_checkpoint

GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def save(prefix: str | Path, tensors: dict[str, object], slices: Sequence[str] = ()) -> str:
    """Save tensors under these names with TensorFlow's own writer."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=list(slices) or [""] * len(tensors),
        tensors=[tf.convert_to_tensor(value) for value in tensors.values()],
    )
    return str(prefix)


def save_shards(prefix: str | Path, shards: Sequence[dict[str, object]]) -> str:
    """Save each dict as a shard of its own, merged as the saver of a distributed run does."""
    parts = [save(f"{prefix}_temp/part-{number:05d}", tensors) for number, tensors in enumerate(shards)]
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(prefix), delete_old_dirs=True)
    return str(prefix)


def read_all(prefix: str) -> dict[str, np.ndarray]:
    """Every tensor that TensorFlow can read back, the object graph among them."""
    reader = tf.train.load_checkpoint(prefix)
    return {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}


def digest(array: np.ndarray) -> str:
    """The digest that ``ckpt inspect --digest`` promises, computed from what TensorFlow read."""
    if array.dtype.kind in "OSU":
        elements = [bytes(element) for element in array.reshape(-1)]
        return hashlib.sha256(b"".join(len(e).to_bytes(8, "little") + e for e in elements)).hexdigest()
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def assert_agrees(prefix: str) -> None:
    """Names, types, shapes, values and digests of a checkpoint are those that TensorFlow reads."""
    expected = read_all(prefix)
    reader = tf.train.load_checkpoint(prefix)
    dtypes = reader.get_variable_to_dtype_map()
    with open_checkpoint(prefix) as checkpoint:
        assert set(checkpoint.tensors) == set(expected) - {GRAPH}
        for name, info in checkpoint.tensors.items():
            assert info.dtype == dtypes[name].name, name
            assert info.shape == expected[name].shape, name
            assert checkpoint.digest(name) == digest(expected[name]), name
            found = checkpoint.read(name)
            assert found.shape == expected[name].shape, name
            assert digest(found) == digest(expected[name]), name
        assert [finding for finding in checkpoint.verify() if finding.severity != "note"] == []
