"""Tensors as messages: the constants of a graph.

    TensorProto  dtype=1 tensor_shape=2 tensor_content=4 half_val=13 float_val=5 double_val=6 int_val=7 string_val=8
                 scomplex_val=9 int64_val=10 bool_val=11 dcomplex_val=12 uint32_val=16 uint64_val=17

``tensor_content`` are the raw elements, little-endian. Else the elements stand one by one in the field of their type;
the last one stands for all that are missing.

Source: tensorflow/core/framework/tensor.proto.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ckpt_tools.errors import CorruptError, UnsafeError, UnsupportedError
from ckpt_tools.format.dtypes import by_number, to_numpy
from ckpt_tools.format.graph_def import decode_shape
from ckpt_tools.format.wire import Field, fields

if TYPE_CHECKING:
    import numpy as np

_WHOLE = (7, 10, 11, 16, 17)
_MOST_DIMENSIONS = 32


def decode_tensor(data: bytes, *, limit: int) -> np.ndarray:
    """The tensor of a message; strings as an array of bytes.

    Raises CorruptError for what is no tensor, UnsafeError for one of more than ``limit`` bytes, UnsupportedError for a
    type that numpy has not.
    """
    import numpy as np

    number = 0
    shape: tuple[int, ...] = ()
    content: bytes | None = None
    values: list[Any] = []
    for part in fields(data):
        if part.number == 1:
            number = part.integer()
        elif part.number == 2:
            shape = _dims(part)
        elif part.number == 4:
            content = part.content()
        else:
            values += _elements(part)
    found = by_number(number)
    dtype = np.dtype(object) if found.name == "string" else to_numpy(found)
    count = math.prod(shape)
    if count * max(dtype.itemsize, 1) > limit:
        raise UnsafeError(f"a constant {found.name} {list(shape)} is over the limit of {limit} bytes")
    if content:
        if found.name == "string" or len(content) != count * dtype.itemsize:
            raise CorruptError(f"{len(content)} bytes are no {found.name} {list(shape)}")
        return np.frombuffer(content, dtype).reshape(shape)
    if len(values) > count:
        raise CorruptError(f"{len(values)} values are no {found.name} {list(shape)}")
    if found.name in ("float16", "bfloat16"):
        given = np.asarray(values, np.int64).astype(np.uint16).view(dtype)
    elif found.name in ("complex64", "complex128"):
        raise UnsupportedError(f"a constant of type {found.name} is not read")
    else:
        given = _array(values, dtype)
    whole = np.empty(count, dtype)
    whole[: len(given)] = given
    whole[len(given) :] = given[-1] if len(given) else (b"" if found.name == "string" else 0)
    return whole.reshape(shape)


def _array(values: list[Any], dtype: np.dtype) -> np.ndarray:
    import numpy as np

    try:
        given = np.empty(len(values), dtype)
        given[:] = values
    except (OverflowError, TypeError, ValueError) as error:
        raise CorruptError(f"a value that is no {dtype}") from error
    return given


def _dims(part: Field) -> tuple[int, ...]:
    dims = decode_shape(part.content())
    if dims is None or None in dims:
        raise CorruptError("a constant of no certain shape", offset=part.start)
    if len(dims) > _MOST_DIMENSIONS:
        raise CorruptError(f"a constant of {len(dims)} dimensions", offset=part.start)
    return tuple(size for size in dims if size is not None)


def _elements(part: Field) -> list[Any]:
    if part.number == 5:
        return list(part.reals("f"))
    if part.number == 6:
        return list(part.reals("d"))
    if part.number == 8:
        return [part.content()]
    if part.number == 13 or part.number in _WHOLE:
        return part.integers()
    return []
