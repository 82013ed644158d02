"""Snappy, the compression of table blocks that older releases of TensorFlow left on.

    stream:  varint(length of the whole) element*
    element: tag:u8 ...      the low two bits of the tag tell its kind
    0 literal  length - 1 in the upper six bits (60 to 63: in the 1 to 4 bytes behind the tag), then the bytes
    1 copy     length - 4 in bits 2-4; distance of 11 bits: bits 5-7 of the tag, then one byte
    2 copy     length - 1 in bits 2-7; distance in two bytes
    3 copy     length - 1 in bits 2-7; distance in four bytes

A copy repeats what was written ``distance`` bytes ago and may reach into itself. Integers are little-endian.
Source: github.com/google/snappy, format_description.txt.
"""

from __future__ import annotations

from ckpt_tools.errors import CorruptError
from ckpt_tools.format.wire import decode_varint

# The densest element is a copy of 64 bytes in 3: a stream that promises more than this is made to exhaust memory.
_MAX_RATIO = 22


def decompress(data: bytes) -> bytes:
    """The bytes that a snappy stream stands for.

    Raises CorruptError when it is not one; no memory is taken for a length that the stream cannot have.
    """
    size, offset = decode_varint(data, 0)
    if size > _MAX_RATIO * len(data):
        raise CorruptError(f"{len(data)} compressed bytes cannot stand for {size}", offset=0)
    out = bytearray()
    while offset < len(data):
        start = offset
        tag = data[offset]
        width = _extra_bytes(tag)
        number = int.from_bytes(data[offset + 1 : offset + 1 + width], "little")
        offset += 1 + width
        if offset > len(data):
            raise CorruptError("the compressed block ends inside an element", offset=start)
        if tag & 3 == 0:
            length = number + 1 if width else (tag >> 2) + 1
            if length > len(data) - offset:
                raise CorruptError("a literal is longer than the compressed block", offset=start)
            out += data[offset : offset + length]
            offset += length
        else:
            length, distance = (tag >> 2) + 1, number
            if tag & 3 == 1:
                length, distance = (tag >> 2 & 7) + 4, tag >> 5 << 8 | number
            if not 0 < distance <= len(out):
                raise CorruptError("a copy reaches in front of the block", offset=start)
            piece = bytes(out[-distance : len(out) - distance + min(length, distance)])
            out += (piece * (length // len(piece) + 1))[:length]
        if len(out) > size:
            break
    if len(out) != size:
        raise CorruptError(f"the compressed block does not stand for {size} bytes as it says", offset=0)
    return bytes(out)


def _extra_bytes(tag: int) -> int:
    """How many bytes behind the tag belong to its number."""
    if tag & 3:
        return (1, 2, 4)[(tag & 3) - 1]
    return max(0, (tag >> 2) - 59)
