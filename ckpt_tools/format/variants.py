"""Variant tensors (the state of an iterator, for example): checked, never decoded.

    tensor: (varint(length)  VariantTensorDataProto  crc:u32)*

Each checksum is masked and runs over everything before it: lengths as u64, the messages, the stored checksums.
Source: tensorflow/core/util/tensor_bundle/tensor_bundle.cc (WriteVariantTensor).
"""

from __future__ import annotations

from ckpt_tools.errors import CorruptError
from ckpt_tools.format import checksum
from ckpt_tools.format.wire import decode_varint


def check_variants(data: bytes, count: int) -> int:
    """The masked checksum that the entry of these ``count`` variants should carry.

    Raises CorruptError when the elements do not make up exactly ``data`` or a checksum is wrong.
    """
    crc = 0
    offset = 0
    for _ in range(count):
        start = offset
        length, offset = decode_varint(data, offset)
        if length + 4 > len(data) - offset:
            raise CorruptError("an element is longer than the tensor", offset=start)
        crc = checksum.extend(crc, length.to_bytes(8, "little"))
        crc = checksum.extend(crc, data[offset : offset + length])
        offset += length
        stored = data[offset : offset + 4]
        if int.from_bytes(stored, "little") != checksum.mask(crc):
            raise CorruptError("checksum of an element does not match", offset=start)
        crc = checksum.extend(crc, stored)
        offset += 4
    if offset != len(data):
        raise CorruptError("the elements do not add up to the tensor's size", offset=offset)
    return checksum.mask(crc)
