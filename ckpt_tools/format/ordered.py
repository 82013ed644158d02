"""Keys of the parts of a tensor, in the OrderedCode that keeps tuples sorted bytewise.

    key:      number(0) string(name) number(rank) (signed(start) signed(length))*      length -1: the whole dimension
    number:   length:u8, then that many bytes, big-endian, without leading zeros
    string:   its bytes, 00 written as 00 FF and FF as FF 00, then 00 01
    signed:   big-endian two's complement in n bytes for 7n - 1 bits; the first n bits are flipped to 1 (0 when
              negative) and the next stays the sign, so that the length shows in front

Keys are only ever computed and looked up, never decoded: a key that no tensor asks for is damage.
Sources: tensorflow/core/util/saved_tensor_slice_util.cc (EncodeTensorNameSlice), lib/strings/ordered_code.cc.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ESCAPED = {b"\0": b"\0\xff", b"\xff": b"\xff\0"}


def encode_slice_key(name: str, extents: Iterable[tuple[int, int]]) -> bytes:
    """The key of the part of tensor ``name`` that has these (start, length) pairs."""
    extents = tuple(extents)
    numbers = b"".join(encode_signed(number) for extent in extents for number in extent)
    return encode_number(0) + encode_string(name.encode()) + encode_number(len(extents)) + numbers


def encode_number(value: int) -> bytes:
    body = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([len(body)]) + body


def encode_string(value: bytes) -> bytes:
    return re.sub(rb"[\0\xff]", lambda match: _ESCAPED[match[0]], value) + b"\0\1"


def encode_signed(value: int) -> bytes:
    """A signed 64-bit integer in 1 to 10 bytes."""
    magnitude = value if value >= 0 else ~value
    length = magnitude.bit_length() // 7 + 1
    width = 8 * length
    header = ((1 << length) - 1) << (width - length)
    return ((value & ((1 << width) - 1)) ^ header).to_bytes(length, "big")
