"""Varints and the protocol buffer wire format.

    varint:  7 bits a byte, lowest first; the high bit says that another byte follows; at most 10 bytes
    message: (tag value)*        tag = varint(number << 3 | type)
    value:   type 0 varint | type 1 8 bytes | type 2 varint(length) bytes | type 5 4 bytes

Source: protobuf.dev/programming-guides/encoding. Own code instead of the protobuf package: these few messages
are what this project is about, unknown fields have to survive a rewrite byte for byte, and a hostile
message must end in an error of ours with the offset in it.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterator
from typing import Literal, NamedTuple

from ckpt_tools.errors import CorruptError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

_MASK64 = (1 << 64) - 1


def decode_varint(data: bytes, offset: int) -> tuple[int, int]:
    """The unsigned 64-bit value at ``offset`` and the offset behind it. Raises CorruptError where there is none."""
    # Nearly all are one byte: an index of 10^5 tensors holds two million of them.
    if offset < len(data) and data[offset] < 0x80:
        return data[offset], offset + 1
    value = shift = 0
    for position in range(offset, min(offset + 10, len(data))):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > _MASK64:
                raise CorruptError("varint of more than 64 bits", offset=offset)
            return value, position + 1
        shift += 7
    raise CorruptError("unterminated varint", offset=offset)


def encode_varint(value: int) -> bytes:
    """The shortest encoding of an integer; a negative one as its 64-bit two's complement."""
    value &= _MASK64
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value: int) -> int:
    """An ``int64`` (or ``int32``) field from its unsigned 64 bits."""
    return value - (1 << 64) if value >> 63 else value


class Field(NamedTuple):
    """One field of a message: ``value`` is an int, or bytes for type 2; ``start``/``end`` span it, tag included."""

    number: int
    type: int
    value: int | bytes
    start: int
    end: int

    def integer(self) -> int:
        """The value of an integer field, signed. Raises CorruptError for a field of another type."""
        if isinstance(self.value, bytes):
            raise CorruptError(f"field {self.number} should be a number", offset=self.start)
        return signed(self.value)

    def integers(self) -> list[int]:
        """The values of a repeated integer field, which may be packed."""
        if not isinstance(self.value, bytes):
            return [signed(self.value)]
        values, offset = [], 0
        while offset < len(self.value):
            value, offset = decode_varint(self.value, offset)
            values.append(signed(value))
        return values

    def reals(self, code: Literal["f", "d"]) -> tuple[float, ...]:
        """The values of a repeated ``float`` or ``double``, which may be packed.

        Raises CorruptError for a part of one.
        """
        size = struct.calcsize(code)
        whole = (1 << 8 * size) - 1
        data = self.value if isinstance(self.value, bytes) else (self.value & whole).to_bytes(size, "little")
        if len(data) % size:
            raise CorruptError(f"field {self.number} is no row of numbers of {size} bytes", offset=self.start)
        values: tuple[float, ...] = struct.unpack(f"<{len(data) // size}{code}", data)
        return values

    def content(self) -> bytes:
        """The bytes of a length-delimited field. Raises CorruptError for a field of another type."""
        if not isinstance(self.value, bytes):
            raise CorruptError(f"field {self.number} should be bytes", offset=self.start)
        return self.value

    def text(self) -> str:
        """A string field. Raises CorruptError when it is not UTF-8."""
        try:
            return self.content().decode()
        except UnicodeDecodeError as error:
            raise CorruptError(f"field {self.number} is not valid UTF-8", offset=self.start) from error


def fields(data: bytes) -> Iterator[Field]:
    """The fields of a message in order, unknown ones included. Raises CorruptError for bytes that are no message."""
    offset = 0
    while offset < len(data):
        start = offset
        # One byte is read here, without a call, for both: that is what nearly all tags and numbers take.
        tag = data[offset]
        tag, offset = (tag, offset + 1) if tag < 0x80 else decode_varint(data, offset)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise CorruptError(f"impossible field number {number}", offset=start)
        value: int | bytes
        if kind == VARINT:
            if offset < len(data) and data[offset] < 0x80:
                value, offset = data[offset], offset + 1
            else:
                value, offset = decode_varint(data, offset)
        else:
            if kind == BYTES:
                size, offset = decode_varint(data, offset)
            elif kind in (FIXED64, FIXED32):
                size = 8 if kind == FIXED64 else 4
            else:
                raise CorruptError(f"impossible wire type {kind}", offset=start)
            if size > len(data) - offset:
                raise CorruptError(f"field {number} is longer than its message", offset=start)
            raw = data[offset : offset + size]
            offset += size
            value = raw if kind == BYTES else int.from_bytes(raw, "little")
        yield Field(number, kind, value, start, offset)


def require_once(field: Field, seen: set[int], numbers: Container[int]) -> None:
    """Raise CorruptError for a field that is there twice: parsers differ in which they believe, and none is written."""
    if field.number in numbers and field.number in seen:
        raise CorruptError(f"field {field.number} is there twice", offset=field.start)
    seen.add(field.number)


def varint_field(number: int, value: int) -> bytes:
    """An integer field; empty for zero, as proto3 leaves zeros out."""
    return encode_varint(number << 3 | VARINT) + encode_varint(value) if value else b""


def fixed32_field(number: int, value: int) -> bytes:
    return encode_varint(number << 3 | FIXED32) + value.to_bytes(4, "little") if value else b""


def bytes_field(number: int, value: bytes) -> bytes:
    """A length-delimited field, written even when empty."""
    return encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value


def text_field(number: int, value: str) -> bytes:
    return bytes_field(number, value.encode()) if value else b""
