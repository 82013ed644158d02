"""Makers of files for the tests of the formats: tables block by block, a small snappy compressor, version 1 by hand."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from checkpoints import block

from ckpt_tools.format.table import FOOTER_SIZE, MAGIC
from ckpt_tools.format.wire import bytes_field, encode_varint, text_field, varint_field


def compress(plain: bytes) -> bytes:
    """Snappy, greedily: four bytes that were seen before become a copy."""
    out = bytearray(encode_varint(len(plain)))
    seen: dict[bytes, int] = {}
    position = literal = 0
    while position < len(plain):
        word = plain[position : position + 4]
        before = seen.get(word) if len(word) == 4 else None
        seen[word] = position
        if before is None:
            position += 1
            continue
        length = 4
        while length < 64 and position + length < len(plain) and plain[before + length] == plain[position + length]:
            length += 1
        _literal(out, plain[literal:position])
        _copy(out, position - before, length)
        position += length
        literal = position
    _literal(out, plain[literal:])
    return bytes(out)


def _literal(out: bytearray, data: bytes) -> None:
    while data:
        piece, data = data[:65536], data[65536:]
        size = len(piece) - 1
        if size < 60:
            out.append(size << 2)
        elif size < 256:
            out += bytes([60 << 2, size])
        else:
            out += bytes([61 << 2]) + struct.pack("<H", size)
        out += piece


def _copy(out: bytearray, distance: int, length: int) -> None:
    if length <= 11 and distance < 2048:
        out += bytes([1 | (length - 4) << 2 | distance >> 8 << 5, distance & 0xFF])
    elif distance < 65536:
        out += bytes([2 | (length - 1) << 2]) + struct.pack("<H", distance)
    else:
        out += bytes([3 | (length - 1) << 2]) + struct.pack("<I", distance)


def block_content(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The plain content of a block without shared prefixes: every entry is a restart."""
    out, restarts = bytearray(), [0]
    for key, value in entries:
        if out:
            restarts.append(len(out))
        out += encode_varint(0) + encode_varint(len(key)) + encode_varint(len(value)) + key + value
    return bytes(out) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table_of_blocks(blocks: Sequence[Sequence[tuple[bytes, bytes]]], *, snappy: bool = False) -> bytes:
    """A table with exactly these data blocks, compressed if asked for."""
    out = bytearray()
    index = []

    def add(content: bytes) -> bytes:
        stored = compress(content) if snappy else content
        handle = encode_varint(len(out)) + encode_varint(len(stored))
        out.extend(block(stored, int(snappy)))
        return handle

    for entries in blocks:
        index.append((entries[-1][0], add(block_content(entries))))
    meta = add(block_content([]))
    handles = meta + add(block_content(index))
    return bytes(out) + handles.ljust(FOOTER_SIZE - 8, b"\0") + struct.pack("<Q", MAGIC)


def table(entries: Mapping[bytes, bytes], *, snappy: bool = False, per_block: int = 3) -> bytes:
    """A table of these entries, a few in each block."""
    rows = sorted(entries.items())
    return table_of_blocks([rows[i : i + per_block] for i in range(0, len(rows), per_block)], snappy=snappy)


def slice_proto(*extents: tuple[int, int] | None) -> bytes:
    """A TensorSliceProto; None is a whole dimension."""
    return b"".join(
        bytes_field(1, b"" if e is None else varint_field(1, e[0]) + bytes([0x10]) + encode_varint(e[1]))
        for e in extents
    )


def shape_proto(*sizes: int) -> bytes:
    return b"".join(bytes_field(2, varint_field(1, size)) for size in sizes)


def v1_header(*tensors: tuple[str, int, Sequence[int], Sequence[bytes]], min_consumer: int = 0) -> bytes:
    """The header of a version 1 file: (name, type number, shape, slices) of each tensor."""
    rows = [
        bytes_field(
            1,
            text_field(1, name)
            + bytes_field(2, shape_proto(*shape))
            + varint_field(3, number)
            + b"".join(bytes_field(4, part) for part in slices),
        )
        for name, number, shape, slices in tensors
    ]
    versions = varint_field(1, 1) + varint_field(2, min_consumer)
    return bytes_field(1, b"".join(rows) + bytes_field(2, versions))


def v1_value(name: str, part: bytes, tensor: bytes) -> bytes:
    """The entry of one part; ``tensor`` is the TensorProto."""
    return bytes_field(2, text_field(1, name) + bytes_field(2, part) + bytes_field(3, tensor))
