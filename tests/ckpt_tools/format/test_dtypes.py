"""The list of data types against TensorFlow's."""

from __future__ import annotations

import pytest

from ckpt_tools.errors import CorruptError, UnsupportedError
from ckpt_tools.format import dtypes


@pytest.mark.tensorflow
def test_numbers_names_and_sizes_are_tensorflows() -> None:
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2

    numbers = [number for number in types_pb2.DataType.values() if 0 < number < 100]
    assert {number: dtypes.BY_NUMBER[number].name for number in numbers} == {
        number: tf.dtypes.as_dtype(number).name for number in numbers
    }
    for number in numbers:
        found = dtypes.BY_NUMBER[number]
        if found.size:
            assert found.size == tf.dtypes.as_dtype(number).size, found.name


@pytest.mark.parametrize("dtype", [d for d in dtypes.BY_NUMBER.values() if d.size], ids=lambda d: d.name)
def test_the_numpy_type_has_the_stored_size(dtype: dtypes.DType) -> None:
    assert dtypes.to_numpy(dtype).itemsize == dtype.size


@pytest.mark.parametrize("name", ["resource", "variant"])
def test_types_without_a_numpy_type(name: str) -> None:
    with pytest.raises(UnsupportedError, match=name):
        dtypes.to_numpy(dtypes.BY_NAME[name])


@pytest.mark.parametrize("number", [-1, 0, 101, 102, 999])
def test_references_and_nonsense(number: int) -> None:
    with pytest.raises(CorruptError):
        dtypes.by_number(number)
