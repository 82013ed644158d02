"""The bundle reader against TensorFlow: every type, several shards, many keys."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

pytestmark = pytest.mark.tensorflow

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from checkpoints import Sample  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as hypothesis_numpy  # noqa: E402
from oracle import assert_agrees, read_all, save, save_shards  # noqa: E402

from ckpt_tools.format import dtypes  # noqa: E402
from ckpt_tools.format.table import read_table, write_table  # noqa: E402
from ckpt_tools.readers import open_checkpoint  # noqa: E402

FIXED = [dtype for dtype in dtypes.BY_NUMBER.values() if dtype.size and not dtype.name.startswith(("q", "quint"))]
QUANTISED = [dtype for dtype in dtypes.BY_NUMBER.values() if dtype.name.startswith("q")]
STRINGS = [b"", b"\xff\xfe\x00", b"a" * 300, "é".encode(), b"z" * 70_000, b"\n"]


def assert_written_back_unchanged(prefix: str) -> None:
    data = Path(f"{prefix}.index").read_bytes()
    assert write_table(read_table(data)) == data


def test_the_fixtures(sample: Sample) -> None:
    assert_agrees(sample.full_prefix)


@pytest.mark.parametrize("dtype", FIXED, ids=lambda dtype: dtype.name)
def test_every_type_in_every_kind_of_shape(tmp_path: Path, dtype: dtypes.DType) -> None:
    kind = tf.dtypes.as_dtype(dtype.number)
    small = np.array([0, 1, 1, 0, 1, 0], np.int8).astype(kind.as_numpy_dtype)
    values = {
        "vector": small,
        "scalar": small[1].reshape(()),
        "matrix": small.reshape(2, 3),
        "empty": small[:0],
        "flat": small[:0].reshape(0, 4, 0),
        "ones": small[:1].reshape((1,) * 8),
    }
    prefix = save(tmp_path / "ckpt", {name: tf.constant(value, kind) for name, value in values.items()})
    assert_agrees(prefix)
    assert_written_back_unchanged(prefix)
    with open_checkpoint(prefix) as checkpoint:
        assert checkpoint.tensors["matrix"].dtype == kind.name
        assert checkpoint.read("vector").dtype == kind.as_numpy_dtype


@pytest.mark.parametrize("dtype", QUANTISED, ids=lambda dtype: dtype.name)
def test_quantised_types(tmp_path: Path, dtype: dtypes.DType) -> None:
    values = np.array([1, 2, 3, 100], dtype.numpy)
    prefix = save(tmp_path / "ckpt", {"q": tf.bitcast(tf.constant(values), tf.dtypes.as_dtype(dtype.number))})
    assert_agrees(prefix)
    with open_checkpoint(prefix) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("q"), values)


def test_strings(tmp_path: Path) -> None:
    prefix = save(
        tmp_path / "ckpt",
        {
            "vector": tf.constant(STRINGS),
            "matrix": tf.constant([STRINGS[:3], STRINGS[3:]]),
            "scalar": tf.constant(b"one"),
            "nothing": tf.constant(b""),
            "empty": tf.constant([], tf.string),
            "many": tf.constant([b"x" * (number % 300) for number in range(1000)]),
        },
    )
    assert_agrees(prefix)
    with open_checkpoint(prefix) as checkpoint:
        assert list(checkpoint.read("vector")) == STRINGS
        assert checkpoint.read("scalar").item() == b"one"


@settings(max_examples=25)
@given(hypothesis_numpy.arrays(np.uint32, hypothesis_numpy.array_shapes(min_dims=0, max_side=4)))
def test_every_bit_of_a_float_survives(tmp_path_factory: pytest.TempPathFactory, bits: np.ndarray) -> None:
    prefix = save(tmp_path_factory.mktemp("bits") / "ckpt", {"x": tf.bitcast(tf.constant(bits), tf.float32)})
    with open_checkpoint(prefix) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("x").view(np.uint32), bits)


def test_not_a_number_keeps_its_payload_and_zero_its_sign(tmp_path: Path) -> None:
    bits = [0x7FC00000, 0x7FC12345, 0xFFC00001, 0x7F800001, 0x80000000, 0x00000001, 0x7F800000, 0xFF800000]
    prefix = save(tmp_path / "ckpt", {"x": tf.bitcast(tf.constant(bits, tf.uint32), tf.float32)})
    with open_checkpoint(prefix) as checkpoint:
        assert checkpoint.read("x").tobytes() == struct.pack("<8I", *bits)
    assert_agrees(prefix)


def test_several_shards(tmp_path: Path) -> None:
    shards = [
        {"a": tf.constant([1.0, 2.0]), "z": tf.constant([b"first"])},
        {"b": tf.constant([3], tf.int64)},
        {"c": tf.zeros([0]), "d": tf.constant(b"last")},
    ]
    prefix = save_shards(tmp_path / "ckpt", shards)
    assert sorted(path.name for path in tmp_path.glob("*data*")) == [f"ckpt.data-0000{n}-of-00003" for n in range(3)]
    assert_agrees(prefix)
    assert_written_back_unchanged(prefix)


def test_ten_thousand_keys(tmp_path: Path) -> None:
    # Long names, so that the index takes more than one block.
    names = [f"{'scope/' * (number % 7)}layer_{number * 7919 % 10_000}/kernel{'_' * 20}" for number in range(10_000)]
    prefix = save(tmp_path / "ckpt", {name: tf.constant(number) for number, name in enumerate(names)})
    assert_written_back_unchanged(prefix)
    expected = read_all(prefix)
    with open_checkpoint(prefix) as checkpoint:
        assert list(checkpoint.tensors) == sorted(names)
        for name in names[::97]:
            assert checkpoint.read(name) == expected[name]
        assert list(checkpoint.verify()) == []


def test_twenty_thousand_variables_of_an_object_graph(tmp_path: Path) -> None:
    root = tf.train.Checkpoint()
    for number in range(200):
        part = tf.train.Checkpoint()
        for inner in range(100):
            # A plain tensor in place of a variable: making 20,000 variables takes too long.
            setattr(part, f"v{inner}", tf.Variable(float(number), trainable=False) if inner == 0 else Saved(inner))
        setattr(root, f"part{number}", part)
    prefix = root.write(str(tmp_path / "ckpt"))
    assert_written_back_unchanged(prefix)
    with open_checkpoint(prefix) as checkpoint:
        assert len(checkpoint.tensors) == 20_000
        assert checkpoint.graph is not None
        assert checkpoint.graph.variable("part7/v0") is not None
        assert list(checkpoint.verify()) == []


class Saved(tf.__internal__.tracking.AutoTrackable):
    """Something with one saved tensor, much lighter than a variable."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def _serialize_to_tensors(self) -> dict[str, tf.Tensor]:
        return {"VALUE": tf.constant(self._number)}

    def _restore_from_tensors(self, restored_tensors: dict[str, tf.Tensor]) -> None:
        pass


@settings(max_examples=25)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
        | st.integers(1, 3).map(lambda number: "k" * 300_000 * number),
        st.lists(st.binary(max_size=10), max_size=3),
        min_size=1,
        max_size=8,
    )
)
def test_any_names_and_strings(tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, list[bytes]]) -> None:
    """Names of any length: a key of twice the size of a block takes another way through TensorFlow's writer."""
    folder = tmp_path_factory.mktemp("names")
    prefix = save(folder / "ckpt", {name: tf.constant(value, tf.string) for name, value in tensors.items()})
    assert_written_back_unchanged(prefix)
    with open_checkpoint(prefix) as checkpoint:
        assert {name: list(checkpoint.read(name)) for name in checkpoint.tensors} == tensors


def test_an_alignment_leaves_gaps_which_are_legal(tmp_path: Path) -> None:
    options = tf.train.CheckpointOptions(experimental_write_callbacks=None)
    root = tf.train.Checkpoint(a=tf.Variable(1.0), b=tf.Variable([1, 2, 3]), c=tf.Variable(b"text".decode()))
    assert_agrees(root.save(str(tmp_path / "ckpt"), options=options))
