"""The messages in the index of a tensor bundle.

    key ""    BundleHeaderProto  num_shards=1 endianness=2 version=3{producer=1 min_consumer=2}
    key name  BundleEntryProto   dtype=1 shape=2 shard_id=3 offset=4 size=5 crc32c=6 (fixed32, masked) slices=7
    shape     TensorShapeProto   dim=2{size=1} unknown_rank=3

Source: tensorflow/core/protobuf/tensor_bundle.proto, tensor_shape.proto.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass, replace

from ckpt_tools.errors import CorruptError, UnsupportedError
from ckpt_tools.format import dtypes
from ckpt_tools.format.wire import bytes_field, fields, fixed32_field, require_once, varint_field

HEADER_KEY = b""
OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
MAX_SHARDS = 100_000
# TensorFlow's own limit of dimensions (TensorShapeRep::MaxDimensions).
MAX_RANK = 254
_VERSION = 1
_ENTRY_FIELDS = range(1, 7)

# What follows type and shape in the entries that TensorFlow writes: shard, offset and size (up to 63 bits), checksum.
_VARINT = rb"([\x80-\xff]{0,8}[\x00-\x7f])"
_PLACE = re.compile(rb"(?:\x18%b)?(?:\x20%b)?(?:\x28%b)?(?:\x35(.{4}))?" % (_VARINT, _VARINT, _VARINT), re.DOTALL)


def require_version(versions: bytes) -> None:
    """Raise UnsupportedError for a VersionDef that asks for a later reader, or warns those of this version off.

    VersionDef  producer=1 min_consumer=2 bad_consumers=3*    (tensorflow/core/framework/versions.proto)

    Raises CorruptError too, for a number that no version has.
    """
    for field in fields(versions):
        if field.number == 1 and field.integer() < 0:
            raise CorruptError(f"impossible version {field.integer()} of the writer")
        if field.number == 2 and field.integer() > _VERSION:
            raise UnsupportedError(f"needs a reader of version {field.integer()}; this one is version {_VERSION}")
        if field.number == 3 and _VERSION in field.integers():
            raise UnsupportedError(f"readers of version {_VERSION} are not to read it")


@dataclass(frozen=True)
class Header:
    """``raw`` keeps the message as read, so that what we do not know survives a rewrite."""

    num_shards: int
    raw: bytes

    @staticmethod
    def decode(data: bytes) -> Header:
        """Raises CorruptError, or UnsupportedError for big-endian files and files of the future."""
        num_shards = endianness = 0
        seen: set[int] = set()
        for field in fields(data):
            require_once(field, seen, (1, 2, 3))
            if field.number == 1:
                num_shards = field.integer()
            elif field.number == 2:
                endianness = field.integer()
            elif field.number == 3:
                require_version(field.content())
        if not 1 <= num_shards <= MAX_SHARDS:
            raise CorruptError(f"impossible number of shards {num_shards}")
        if endianness:
            raise UnsupportedError("written on a big-endian machine; only little-endian checkpoints are read")
        return Header(num_shards, data)

    def with_shards(self, num_shards: int) -> Header:
        """The same header, all other fields as they were, for another number of shards."""
        rest = b"".join(self.raw[f.start : f.end] for f in fields(self.raw) if f.number != 1)
        return Header(num_shards, varint_field(1, num_shards) + rest)


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a tensor lies: ``size`` bytes at ``offset`` of shard ``shard``, with the masked CRC32C of them.

    ``slices`` holds the raw slice messages of a partitioned variable, whose parts are entries of their own.
    """

    dtype: dtypes.DType
    shape: tuple[int, ...]
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    slices: tuple[bytes, ...] = ()
    unknown: bytes = b""

    @property
    def elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count

    @staticmethod
    def decode(data: bytes) -> Entry:
        """Raises CorruptError when the numbers cannot belong to a tensor, UnsupportedError for unknown types."""
        # Nearly all of 10^5 entries have this form, and the same few types and shapes: see _decode_any for the rest.
        if len(data) > 3 and data[0] == 0x08 and data[1] < 0x80 and data[2] == 0x12 and data[3] < 0x80:
            end = 4 + data[3]
            place = _PLACE.fullmatch(data, end)
            if place is not None and len(data) >= end:
                dtype, shape, size = _decode_kind(data[:end])
                shard, offset, stored, crc = place.groups()
                found = _number(stored) if stored else 0
                if dtype.size and found != size:
                    raise _wrong_size(found, dtype, shape)
                return Entry(
                    dtype,
                    shape,
                    _number(shard) if shard else 0,
                    _number(offset) if offset else 0,
                    found,
                    int.from_bytes(crc, "little") if crc else 0,
                )
        return Entry._decode_any(data)

    @staticmethod
    def _decode_any(data: bytes) -> Entry:
        number = 0
        shape: tuple[int, ...] = ()
        values = {3: 0, 4: 0, 5: 0, 6: 0}
        slices = []
        unknown = []
        seen: set[int] = set()
        for field in fields(data):
            require_once(field, seen, _ENTRY_FIELDS)
            if field.number == 1:
                number = field.integer()
            elif field.number == 2:
                shape = decode_shape(field.content())
            elif field.number in values:
                values[field.number] = field.integer()
            elif field.number == 7:
                slices.append(field.content())
            else:
                unknown.append(data[field.start : field.end])
        place = (values[3], values[4], values[5], values[6])
        entry = Entry(dtypes.by_number(number), shape, *place, tuple(slices), b"".join(unknown))
        if min(entry.shard, entry.offset, entry.size) < 0:
            raise CorruptError("negative shard, offset or size")
        if entry.dtype.size and not slices and entry.size != entry.elements * entry.dtype.size:
            raise _wrong_size(entry.size, entry.dtype, entry.shape)
        return entry

    def encode(self) -> bytes:
        return b"".join(
            [
                varint_field(1, self.dtype.number),
                bytes_field(2, _encode_shape(self.shape)),
                varint_field(3, self.shard),
                varint_field(4, self.offset),
                varint_field(5, self.size),
                fixed32_field(6, self.crc),
                *(bytes_field(7, part) for part in self.slices),
                self.unknown,
            ]
        )

    def moved(self, *, shard: int, offset: int, size: int, crc: int) -> Entry:
        """The same tensor with its bytes elsewhere."""
        return replace(self, shard=shard, offset=offset, size=size, crc=crc)


def _number(varint: bytes) -> int:
    """The value of a varint that is known to be one."""
    value = 0
    for byte in reversed(varint):
        value = value << 7 | byte & 0x7F
    return value


def _wrong_size(size: int, dtype: dtypes.DType, shape: tuple[int, ...]) -> CorruptError:
    return CorruptError(f"{size} bytes do not hold {dtype.name} of shape {list(shape)}")


@functools.lru_cache(maxsize=4096)
def _decode_kind(data: bytes) -> tuple[dtypes.DType, tuple[int, ...], int]:
    """Type, shape and bytes of a value, from the fields 1 and 2 of an entry."""
    shape = decode_shape(data[4:])
    dtype = dtypes.by_number(data[1])
    return dtype, shape, math.prod(shape) * dtype.size


@functools.lru_cache(maxsize=4096)  # the tensors of a model share a few shapes
def decode_shape(data: bytes) -> tuple[int, ...]:
    """A TensorShapeProto. Raises CorruptError for a shape that no stored tensor can have."""
    shape = []
    for field in fields(data):
        if field.number == 2:
            sizes = [part.integer() for part in fields(field.content()) if part.number == 1]
            if len(sizes) > 1:
                raise CorruptError("a dimension of several sizes", offset=field.start)
            shape.append(sizes[0] if sizes else 0)
        elif field.number == 3 and field.integer():
            raise CorruptError("a stored tensor of unknown rank")
    if len(shape) > MAX_RANK:
        raise CorruptError(f"impossible shape of {len(shape)} dimensions")
    product = 1
    for size in shape:
        if size < 0:
            raise CorruptError(f"negative dimension {size}")
        # Zeros must not hide an overflow in the other dimensions.
        product *= max(size, 1)
    if product >= 1 << 63:
        raise CorruptError("impossible shape")
    return tuple(shape)


def _encode_shape(shape: tuple[int, ...]) -> bytes:
    return b"".join(bytes_field(2, varint_field(1, size)) for size in shape)
