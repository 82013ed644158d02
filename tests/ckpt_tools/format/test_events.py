"""Event files: those that TensorBoard and TensorFlow write, and damaged ones."""

from __future__ import annotations

import contextlib
import math
import struct
from pathlib import Path

import pytest
from checkpoints import FIXTURES
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.errors import CkptError, CorruptError
from ckpt_tools.format.events import Scalar, read_scalars

FILES = sorted(FIXTURES.rglob("events.out.tfevents.*"))


def float32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def same(left: list[Scalar], right: list[Scalar]) -> bool:
    """Equal, where NaN is equal to itself."""
    return [(s.tag, s.step, struct.pack("<f", s.value)) for s in left] == [
        (s.tag, s.step, struct.pack("<f", s.value)) for s in right
    ]


VALUES = [
    ("eval/recall", 50, 0.1),
    ("train/loss", 50, 7.25),
    ("zero", 0, 0.0),
    ("negative", 2**40, -1.5),
    ("not a number", 3, math.nan),
    ("infinite", 4, math.inf),
]


@pytest.mark.tensorflow
def test_scalars_of_tensorflow_2(tmp_path: Path) -> None:
    import tensorflow as tf

    writer = tf.summary.create_file_writer(str(tmp_path))
    with writer.as_default():
        for tag, step, value in VALUES:
            tf.summary.scalar(tag, value, step=step)
        tf.summary.text("text", "not a scalar", step=1)
        tf.summary.histogram("histogram", [1.0, 2.0], step=1)
    writer.close()
    (path,) = tmp_path.iterdir()
    expected = [Scalar(tag, step, float32(value)) for tag, step, value in VALUES]
    assert same(list(read_scalars(path.read_bytes())), expected)


@pytest.mark.tensorflow
def test_scalars_of_tensorflow_1(tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.Graph().as_default():
        writer = tf.compat.v1.summary.FileWriter(str(tmp_path))
        for tag, step, value in VALUES:
            summary = tf.compat.v1.Summary(value=[tf.compat.v1.Summary.Value(tag=tag, simple_value=value)])
            writer.add_summary(summary, step)
        writer.close()
    (path,) = tmp_path.iterdir()
    expected = [Scalar(tag, step, float32(value)) for tag, step, value in VALUES]
    assert same(list(read_scalars(path.read_bytes())), expected)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name[-20:])
def test_tensorboard_reads_the_same_of_the_fixtures(path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util import tensor_util

    expected = [
        Scalar(value.tag, event.step, float(tensor_util.make_ndarray(value.tensor)))
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]
    assert expected
    assert list(read_scalars(path.read_bytes())) == expected


def test_a_cut_off_file_gives_what_was_whole() -> None:
    data = FILES[0].read_bytes()
    everything = list(read_scalars(data))
    counts = set()
    for length in range(len(data)):
        found = list(read_scalars(data[:length]))
        assert found == everything[: len(found)]
        counts.add(len(found))
    assert counts >= {0, len(everything) - 1}


def test_every_flipped_bit_is_noticed_or_ends_the_file() -> None:
    data = FILES[0].read_bytes()
    everything = list(read_scalars(data))
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptError) as caught:
            list(read_scalars(bytes(broken)))
        assert caught.value.offset is not None
    assert everything


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(CkptError):
        list(read_scalars(data))
