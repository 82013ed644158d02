"""TensorFlow's data types: number in a file, name, bytes for each element.

Source: tensorflow/core/framework/types.proto. Types of less than a byte take a whole byte in a checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ckpt_tools.errors import CorruptError, UnsupportedError

if TYPE_CHECKING:
    import numpy as np


class DType(NamedTuple):
    """``size`` is the bytes of one element, 0 where elements have lengths of their own."""

    number: int
    name: str
    size: int
    numpy: str  # the name that numpy or ml_dtypes knows it by; empty when neither does


_ALL = (
    DType(1, "float32", 4, "float32"),
    DType(2, "float64", 8, "float64"),
    DType(3, "int32", 4, "int32"),
    DType(4, "uint8", 1, "uint8"),
    DType(5, "int16", 2, "int16"),
    DType(6, "int8", 1, "int8"),
    DType(7, "string", 0, "object"),
    DType(8, "complex64", 8, "complex64"),
    DType(9, "int64", 8, "int64"),
    DType(10, "bool", 1, "bool"),
    DType(11, "qint8", 1, "int8"),
    DType(12, "quint8", 1, "uint8"),
    DType(13, "qint32", 4, "int32"),
    DType(14, "bfloat16", 2, "bfloat16"),
    DType(15, "qint16", 2, "int16"),
    DType(16, "quint16", 2, "uint16"),
    DType(17, "uint16", 2, "uint16"),
    DType(18, "complex128", 16, "complex128"),
    DType(19, "float16", 2, "float16"),
    DType(20, "resource", 0, ""),
    DType(21, "variant", 0, ""),
    DType(22, "uint32", 4, "uint32"),
    DType(23, "uint64", 8, "uint64"),
    DType(24, "float8_e5m2", 1, "float8_e5m2"),
    DType(25, "float8_e4m3fn", 1, "float8_e4m3fn"),
    DType(26, "float8_e4m3fnuz", 1, "float8_e4m3fnuz"),
    DType(27, "float8_e4m3b11fnuz", 1, "float8_e4m3b11fnuz"),
    DType(28, "float8_e5m2fnuz", 1, "float8_e5m2fnuz"),
    DType(29, "int4", 1, "int4"),
    DType(30, "uint4", 1, "uint4"),
    DType(31, "int2", 1, "int2"),
    DType(32, "uint2", 1, "uint2"),
    DType(33, "float4_e2m1fn", 1, "float4_e2m1fn"),
)
BY_NUMBER = {dtype.number: dtype for dtype in _ALL}
BY_NAME = {dtype.name: dtype for dtype in _ALL}


def by_number(number: int) -> DType:
    """Raises CorruptError for 0 and references (they never occur in a file), UnsupportedError for later types."""
    dtype = BY_NUMBER.get(number)
    if dtype is not None:
        return dtype
    if number <= 0 or number > 100:
        raise CorruptError(f"impossible data type {number}")
    raise UnsupportedError(f"data type {number} is newer than this program")


def to_numpy(dtype: DType) -> np.dtype:
    """The little-endian numpy type of the elements. Raises UnsupportedError where there is none."""
    # numpy takes a tenth of a second to import, which listing a checkpoint does not need.
    import numpy as np

    if not dtype.numpy:
        raise UnsupportedError(f"values of type {dtype.name} cannot be decoded")
    if hasattr(np, dtype.numpy) or dtype.numpy == "bool":
        ordered: np.dtype = np.dtype(dtype.numpy).newbyteorder("<")
        return ordered
    import ml_dtypes

    if not hasattr(ml_dtypes, dtype.numpy):
        raise UnsupportedError(f"the installed ml_dtypes does not know {dtype.name}")
    found: np.dtype = np.dtype(getattr(ml_dtypes, dtype.numpy))
    return found
