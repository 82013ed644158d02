"""Arrays of tensors, which loops write and read row by row.

Each operation takes and gives a "flow" beside its value. Here the rows themselves are the flow: what reads them has
them from what wrote them. A row is written once, so that who else holds the flow sees nothing change.

Source: tensorflow/core/ops/data_flow_ops.cc (TensorArrayV3 and others), kernels/tensor_array.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ckpt_tools.graphs.call import Call, Op
from ckpt_tools.graphs.ops.arrays import whole, wholes

_MOST_ROWS = 1 << 20


@dataclass
class TensorArray:
    """``size`` rows, those that are there by their numbers."""

    size: int
    grows: bool
    dtype: np.dtype
    rows: dict[int, np.ndarray] = field(default_factory=dict)

    def write(self, call: Call, number: int, value: np.ndarray) -> None:
        if not 0 <= number < (_MOST_ROWS if self.grows else self.size):
            raise IndexError(f"row {number} of {self.size}")
        if number in self.rows:
            raise ValueError(f"row {number} is written twice")
        if value.dtype != self.dtype:
            raise ValueError(f"{value.dtype} in an array of {self.dtype}")
        call.budget.keep(value)
        self.rows[number] = value
        self.size = max(self.size, number + 1)

    def read(self, number: int) -> np.ndarray:
        """A row; zeros for one that was not written, as those behind the end of every sequence of a batch."""
        if number in self.rows:
            return self.rows[number]
        if not 0 <= number < self.size or not self.rows:
            raise IndexError(f"row {number} of {self.size} was not written")
        return np.zeros_like(next(iter(self.rows.values())))


def _make(call: Call, size: np.ndarray) -> tuple[TensorArray, TensorArray]:
    if not 0 <= whole(size) <= _MOST_ROWS:
        raise ValueError(f"an array of {whole(size)} rows")
    made = TensorArray(whole(size), call.attribute("dynamic_size", False), call.dtype("dtype", "float32"))
    return made, made


def _write(call: Call, array: TensorArray, number: np.ndarray, value: np.ndarray, flow: TensorArray) -> TensorArray:
    _same(array, flow).write(call, whole(number), value)
    return array


def _read(call: Call, array: TensorArray, number: np.ndarray, flow: TensorArray) -> np.ndarray:  # noqa: ARG001
    return _same(array, flow).read(whole(number))


def _gather(call: Call, array: TensorArray, numbers: np.ndarray, flow: TensorArray) -> np.ndarray:
    rows = [_same(array, flow).read(number) for number in wholes(numbers)]
    if not rows:
        shape = call.node.attributes.get("element_shape")
        dims = getattr(shape, "dims", None) or ()
        return np.zeros((0, *(size or 0 for size in dims)), array.dtype)
    call.room((len(rows), *rows[0].shape), rows[0].dtype)
    return np.stack(rows)


def _scatter(call: Call, array: TensorArray, numbers: np.ndarray, value: np.ndarray, flow: TensorArray) -> TensorArray:
    if not value.ndim or len(value) != numbers.size:
        raise ValueError(f"{numbers.size} rows of {list(value.shape)}")
    for number, row in zip(wholes(numbers), value, strict=True):
        _same(array, flow).write(call, number, row)
    return array


def _concat(call: Call, array: TensorArray, flow: TensorArray) -> tuple[np.ndarray, np.ndarray]:
    rows = [_same(array, flow).read(number) for number in range(array.size)]
    if not rows:
        raise ValueError("no rows")
    call.room((sum(row.size for row in rows),), rows[0].dtype)
    return np.concatenate(rows), np.asarray([len(row) for row in rows], np.int64)


def _split(call: Call, array: TensorArray, value: np.ndarray, lengths: np.ndarray, flow: TensorArray) -> TensorArray:
    start = 0
    for number, length in enumerate(wholes(lengths)):
        _same(array, flow).write(call, number, value[start : start + length])
        start += length
    if start != len(value):
        raise ValueError(f"{list(value.shape)} is not {start} rows")
    return array


def _size(call: Call, array: TensorArray, flow: TensorArray) -> np.ndarray:  # noqa: ARG001
    return np.asarray(_same(array, flow).size, np.int32)


def _same(array: TensorArray, flow: TensorArray) -> TensorArray:
    if array is not flow:
        raise ValueError("the flow of another array")
    return array


OPS: Mapping[str, Op] = {
    "TensorArrayConcatV3": _concat,
    "TensorArrayGatherV3": _gather,
    "TensorArrayReadV3": _read,
    "TensorArrayScatterV3": _scatter,
    "TensorArraySizeV3": _size,
    "TensorArraySplitV3": _split,
    "TensorArrayV3": _make,
    "TensorArrayWriteV3": _write,
}
# Of which inputs each is an array of tensors: its handle, and its flow, which stands last.
HANDLES = frozenset(OPS) - {"TensorArrayV3"}
