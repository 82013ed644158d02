"""Checkpoints of version 1: the values lie in the table itself.

    key ""     SavedTensorSlices  meta=1{tensor=1{name=1 shape=2 type=3 slice=4*}* versions=2{min_consumer=2}}
    key slice  SavedTensorSlices  data=2{name=1 slice=2 data=3 TensorProto}      key: see ordered.py
    TensorProto, here without type and shape: one repeated field that holds all elements, by type

Source: tensorflow/core/util/saved_tensor_slice.proto, saved_tensor_slice_util.h, framework/tensor.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckpt_tools.errors import CorruptError, UnsupportedError
from ckpt_tools.format import dtypes
from ckpt_tools.format.bundle import decode_shape, require_version
from ckpt_tools.format.slices import Slice
from ckpt_tools.format.wire import BYTES, FIXED32, FIXED64, VARINT, encode_varint, fields, require_once

if TYPE_CHECKING:
    import numpy as np

HEADER_KEY = b""

# type -> field of TensorProto, wire type of its numbers, numpy type of what lies there.
_FLOAT, _DOUBLE = (5, FIXED32, "<f4"), (6, FIXED64, "<f8")
_INT, _HALF = (7, VARINT, ""), (13, VARINT, "")
_VALUES = {
    "float32": _FLOAT,
    "float64": _DOUBLE,
    "complex64": (9, FIXED32, "<c8"),
    "complex128": (12, FIXED64, "<c16"),
    "int64": (10, VARINT, ""),
    "bool": (11, VARINT, ""),
    "uint32": (16, VARINT, ""),
    "uint64": (17, VARINT, ""),
    "float16": _HALF,
    "bfloat16": _HALF,
    **dict.fromkeys(("int32", "int16", "int8", "uint16", "uint8"), _INT),
    **dict.fromkeys(("qint32", "qint16", "qint8", "quint16", "quint8"), _INT),
}
_STRING_FIELD = 8
_PIECE, _LONGEST = 1 << 20, 10


@dataclass(frozen=True)
class SavedTensor:
    """A tensor as the header lists it: ``slices`` are the parts of it in this file."""

    name: str
    dtype: dtypes.DType
    shape: tuple[int, ...]
    slices: tuple[Slice, ...]


def decode_header(data: bytes) -> list[SavedTensor]:
    """The tensors of one file. Raises CorruptError, or UnsupportedError for files of the future."""
    tensors = []
    meta = [field.content() for field in fields(data) if field.number == 1]
    if len(meta) != 1:
        raise CorruptError("the first entry of the table is not the header of a checkpoint of version 1")
    for field in fields(meta[0]):
        if field.number == 1:
            tensors.append(_decode_tensor(field.content()))
        elif field.number == 2:
            require_version(field.content())
    return tensors


def _decode_tensor(data: bytes) -> SavedTensor:
    name, number = "", 0
    shape: tuple[int, ...] = ()
    slices = []
    seen: set[int] = set()
    for field in fields(data):
        require_once(field, seen, (1, 2, 3))
        if field.number == 1:
            name = field.text()
        elif field.number == 2:
            shape = decode_shape(field.content())
        elif field.number == 3:
            number = field.integer()
        elif field.number == 4:
            slices.append(Slice.decode(field.content()))
    if not name or "\0" in name:
        raise CorruptError(f"impossible tensor name {name!r}")
    return SavedTensor(name, dtypes.by_number(number), shape, tuple(slices))


def decode_value(data: bytes, dtype: dtypes.DType, count: int) -> np.ndarray:
    """The ``count`` elements of one part, one-dimensional, little-endian; strings as an object array of bytes.

    Raises CorruptError when the message does not hold exactly so many, UnsupportedError for types that
    version 1 has no field for.
    """
    import numpy as np

    message = _tensor_proto(data)
    if dtype.name == "string":
        elements = [field.content() for field in fields(message) if field.number == _STRING_FIELD]
        if len(elements) != count:
            raise CorruptError(f"holds {len(elements)} strings, should hold {count}")
        strings = np.empty(count, object)
        strings[:] = elements
        return strings
    if dtype.name not in _VALUES:
        raise UnsupportedError(f"checkpoints of version 1 hold no values of type {dtype.name}")
    number, kind, stored = _VALUES[dtype.name]
    target = dtypes.to_numpy(dtype)
    raw = _repeated(message, number, kind)
    # A varint takes at least a byte: refuse a count that cannot be before taking memory for it.
    if count > len(raw):
        raise CorruptError(f"{len(raw)} bytes cannot hold {count} elements")
    if kind == VARINT:
        numbers = _varints(raw)
        half = number == _HALF[0]
        values = numbers.astype(np.uint16 if half else target)
        if not np.array_equal(values.astype(np.uint64), numbers):
            raise CorruptError(f"holds a number that is no {dtype.name}")
        values = values.view(target) if half else values
    else:
        if len(raw) % np.dtype(stored).itemsize:
            raise CorruptError("holds a part of a number")
        values = np.frombuffer(raw, stored)
    if len(values) != count:
        raise CorruptError(f"holds {len(values)} elements, should hold {count}")
    return values


def _tensor_proto(data: bytes) -> bytes:
    saved = _only(data, 2)
    for field in fields(saved):  # not needed here, but TensorFlow takes a message as a whole or not at all
        if field.number == 1:
            field.text()
        elif field.number == 2:
            Slice.decode(field.content())
    return _only(saved, 3)


def _only(message: bytes, number: int) -> bytes:
    """The one field of a number; what lies beside it must be fields too, or TensorFlow finds no value at all."""
    found = [field.content() for field in fields(message) if field.number == number]
    if len(found) != 1:
        raise CorruptError("the entry holds no value" if not found else f"field {number} is there twice")
    return found[0]


def _repeated(message: bytes, number: int, kind: int) -> bytes:
    """The numbers of a repeated field, one behind the other, whether they were packed or not."""
    parts = []
    for field in fields(message):
        if field.number == number:
            if field.type == BYTES:
                parts.append(field.content())
            elif field.type == kind:
                value = field.integer()
                parts.append(encode_varint(value) if kind == VARINT else _fixed(value, kind))
            else:
                raise CorruptError(f"field {number} has a wrong type", offset=field.start)
    return b"".join(parts)


def _fixed(value: int, kind: int) -> bytes:
    size = 4 if kind == FIXED32 else 8
    return (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def _varints(data: bytes) -> np.ndarray:
    """All varints of a packed field as uint64, decoded at once."""
    import numpy as np

    if not data:
        return np.empty(0, np.uint64)
    octets = np.frombuffer(data, np.uint8)
    if octets[-1] >= 0x80:
        raise CorruptError("unterminated varint")
    values = np.empty(int(np.count_nonzero(octets < 0x80)), np.uint64)
    start = done = 0
    # A piece at a time: positions and lengths take many times the bytes that they are of.
    while start < len(octets):
        end = min(start + _PIECE, len(octets))
        while end < len(octets) and octets[end - 1] >= 0x80:
            end += 1
            if end - start > _PIECE + _LONGEST:
                raise CorruptError("varint of more than 64 bits")
        piece = _decoded_varints(octets[start:end])
        values[done : done + len(piece)] = piece
        start, done = end, done + len(piece)
    return values


def _decoded_varints(octets: np.ndarray) -> np.ndarray:
    import numpy as np

    ends = np.flatnonzero(octets < 0x80)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > _LONGEST or (longest == _LONGEST and (octets[ends[lengths == _LONGEST]] > 1).any()):
        raise CorruptError("varint of more than 64 bits")
    values = np.zeros(len(ends), np.uint64)
    for position in range(longest):
        there = lengths > position
        bits = (octets[starts[there] + position] & 0x7F).astype(np.uint64)
        values[there] |= bits << np.uint64(7 * position)
    return values
