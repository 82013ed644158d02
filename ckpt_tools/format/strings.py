"""String tensors as a bundle stores them.

    tensor: varint(length)*  crc:u32 (masked, of the lengths)  bytes of all elements

The checksum of the lengths runs over each as u32 (u64 from 2^32 on), not over the varints; the entry's own
checksum goes on over the four stored bytes of that checksum and then over the elements.
Source: tensorflow/core/util/tensor_bundle/tensor_bundle.cc (WriteStringTensor).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence

from ckpt_tools.errors import CorruptError
from ckpt_tools.format import checksum
from ckpt_tools.format.wire import decode_varint, encode_varint


def _lengths_crc(lengths: Sequence[int]) -> int:
    if max(lengths, default=0) < 1 << 32:
        return checksum.extend(0, struct.pack(f"<{len(lengths)}I", *lengths))
    return checksum.extend(0, b"".join(struct.pack("<I" if length < 1 << 32 else "<Q", length) for length in lengths))


def encode_strings(elements: Sequence[bytes]) -> tuple[bytes, int]:
    """The stored bytes of a string tensor and the masked checksum of its entry."""
    lengths = [len(element) for element in elements]
    crc = _lengths_crc(lengths)
    stored_crc = struct.pack("<I", checksum.mask(crc))
    body = b"".join(elements)
    crc = checksum.extend(checksum.extend(crc, stored_crc), body)
    return b"".join(map(encode_varint, lengths)) + stored_crc + body, checksum.mask(crc)


def decode_strings(data: bytes, count: int) -> tuple[list[bytes], int]:
    """The ``count`` elements and the masked checksum that the entry should carry.

    Raises CorruptError when the lengths do not add up to exactly ``data`` or their checksum is wrong.
    """
    lengths, offset, crc = check_strings(data, count)
    elements = []
    for length in lengths:
        elements.append(data[offset : offset + length])
        offset += length
    return elements, crc


def check_strings(data: bytes, count: int) -> tuple[Sequence[int], int, int]:
    """The lengths of the ``count`` elements, where the first begins, and the checksum.

    Raises CorruptError for what does not fit together, as `decode_strings` does.
    """
    # Each element takes at least the byte of its length: refuse a count that cannot be before counting.
    if count > len(data):
        raise CorruptError(f"{count} strings cannot fit into {len(data)} bytes")
    lengths = array("Q")
    offset = 0
    for _ in range(count):
        length, offset = decode_varint(data, offset)
        lengths.append(length)
    crc = _lengths_crc(lengths)
    stored_crc = data[offset : offset + 4]
    offset += 4
    if offset + sum(lengths) != len(data):
        raise CorruptError("the lengths of the strings do not add up to the tensor's size")
    if struct.unpack("<I", stored_crc)[0] != checksum.mask(crc):
        raise CorruptError("checksum of the string lengths does not match")
    crc = checksum.extend(checksum.extend(crc, stored_crc), data[offset:])
    return lengths, offset, checksum.mask(crc)
