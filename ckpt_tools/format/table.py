"""The sorted string table ("sstable") that the index of a checkpoint is.

    table:   data block*  metaindex block  index block  footer
    block:   content  type:u8 (0 plain, 1 snappy)  crc:u32 (masked CRC32C of content and type)
    content: entry*  restart:u32*  number of restarts:u32
    entry:   varint(shared) varint(non_shared) varint(value length)  key[shared:]  value
             `shared` bytes of the key are those of the key before; it is 0 at every restart
    index:   a block whose keys separate the data blocks and whose values are their handles
    handle:  varint(offset) varint(size without the 5 bytes of type and crc)
    footer:  metaindex handle, index handle, zeros up to 40 bytes, magic:u64

Integers of fixed width are little-endian. Sources: tensorflow/core/lib/io/{format,block_builder,table_builder}.cc.
The writer makes the same bytes as TensorFlow's, so that reading an index and writing it back changes nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ckpt_tools.errors import CorruptError, UnsupportedError
from ckpt_tools.format import checksum
from ckpt_tools.format.wire import decode_varint, encode_varint

MAGIC = 0xDB4775248B80FB57
FOOTER_SIZE = 48
TRAILER_SIZE = 5
BLOCK_SIZE = 262144
RESTART_INTERVAL = 16


@dataclass(frozen=True)
class Handle:
    """Where a block lies; ``size`` is that of its content."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size + TRAILER_SIZE

    def encode(self) -> bytes:
        return encode_varint(self.offset) + encode_varint(self.size)

    @staticmethod
    def decode(data: bytes, offset: int = 0) -> tuple[Handle, int]:
        start, offset = decode_varint(data, offset)
        size, offset = decode_varint(data, offset)
        return Handle(start, size), offset


# --------------------------------------------------------------------------------------- reading


def read_table(data: bytes) -> dict[bytes, bytes]:
    """All entries of a table, in key order.

    Stricter than TensorFlow, which checks neither the metaindex nor the footer's padding nor the order of
    keys: every byte of the file belongs to something that was checked.

    Raises:
        CorruptError: a rule of the grammar above is broken; ``offset`` says where.
        UnsupportedError: a block is compressed.
    """
    meta, index = _read_footer(data)
    entries: dict[bytes, bytes] = {}
    previous = b""
    expected = 0
    for separator, value in _read_block(data, index):
        handle, _ = Handle.decode(value)
        if handle.offset != expected:
            raise CorruptError(f"data block at {handle.offset}, expected at {expected}", offset=index.offset)
        for key, content in _read_block(data, handle):
            if entries and key <= previous:
                raise CorruptError(f"key {key!r} does not come after {previous!r}", offset=handle.offset)
            entries[key] = content
            previous = key
        if separator < previous:
            raise CorruptError(f"key {previous!r} lies beyond its block's separator", offset=index.offset)
        expected = handle.end
    if meta.offset != expected or index.offset != meta.end or index.end != len(data) - FOOTER_SIZE:
        raise CorruptError("the blocks do not fill the file", offset=expected)
    if any(True for _ in _read_block(data, meta)):
        raise CorruptError("the metaindex is not empty", offset=meta.offset)
    return entries


def _read_footer(data: bytes) -> tuple[Handle, Handle]:
    start = len(data) - FOOTER_SIZE
    if start < 0:
        raise CorruptError(f"{len(data)} bytes are too few for a checkpoint index: it was cut off", offset=0)
    if int.from_bytes(data[-8:], "little") != MAGIC:
        raise CorruptError("not a checkpoint index (wrong magic number), or cut off", offset=len(data) - 8)
    body = data[start:-8]
    meta, offset = Handle.decode(body)
    index, offset = Handle.decode(body, offset)
    if body[offset:].strip(b"\0"):
        raise CorruptError("the footer's padding is not zero", offset=start + offset)
    for handle in (meta, index):
        if handle.end > start:
            raise CorruptError("the footer points outside the file", offset=start)
    return meta, index


def _read_block(data: bytes, handle: Handle) -> Iterator[tuple[bytes, bytes]]:
    """The entries of one block, its checksum verified first."""
    if handle.end > len(data) - FOOTER_SIZE:
        raise CorruptError("a block handle points outside the file", offset=handle.offset)
    content = data[handle.offset : handle.offset + handle.size]
    trailer = data[handle.offset + handle.size : handle.end]
    if checksum.masked(content + trailer[:1]) != int.from_bytes(trailer[1:], "little"):
        raise CorruptError("checksum of a block does not match", offset=handle.offset)
    if trailer[0] == 1:
        raise UnsupportedError("a block is compressed with snappy", offset=handle.offset)
    if trailer[0] != 0:
        raise CorruptError(f"unknown block type {trailer[0]}", offset=handle.offset)
    try:
        yield from _block_entries(content)
    except CorruptError as error:
        error.offset = handle.offset + (error.offset or 0)
        raise


def _block_entries(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(content) < 4:
        raise CorruptError("block without restart points", offset=0)
    count = int.from_bytes(content[-4:], "little")
    end = len(content) - 4 - 4 * count
    if count == 0 or end < 0:
        raise CorruptError(f"block with {count} restart points", offset=len(content) - 4)
    restarts = list(struct.unpack_from(f"<{count}I", content, end))
    unshared = []
    key = b""
    offset = 0
    while offset < end:
        start = offset
        shared, offset = decode_varint(content, offset)
        non_shared, offset = decode_varint(content, offset)
        size, offset = decode_varint(content, offset)
        if shared > len(key) or non_shared + size > end - offset:
            raise CorruptError("entry reaches outside its block", offset=start)
        if shared == 0:
            unshared.append(start)
        key = key[:shared] + content[offset : offset + non_shared]
        offset += non_shared
        yield key, content[offset : offset + size]
        offset += size
    # An empty block still has one restart point, at 0.
    if restarts[0] != 0 or restarts != sorted(set(restarts)) or not set(restarts) <= {0, *unshared}:
        raise CorruptError("restart points do not match the entries", offset=end)


# --------------------------------------------------------------------------------------- writing


class _Block:
    def __init__(self, interval: int) -> None:
        self._interval = interval
        self.reset()

    def reset(self) -> None:
        self._entries = bytearray()
        self._restarts = [0]
        self._since_restart = 0
        self._last = b""

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self._since_restart < self._interval:
            limit = min(len(key), len(self._last))
            while shared < limit and key[shared] == self._last[shared]:
                shared += 1
        else:
            self._restarts.append(len(self._entries))
            self._since_restart = 0
        self._entries += encode_varint(shared) + encode_varint(len(key) - shared) + encode_varint(len(value))
        self._entries += key[shared:] + value
        self._last = key
        self._since_restart += 1

    @property
    def empty(self) -> bool:
        return not self._entries

    @property
    def size(self) -> int:
        return len(self._entries) + 4 * len(self._restarts) + 4

    def content(self) -> bytes:
        count = len(self._restarts)
        return bytes(self._entries) + struct.pack(f"<{count + 1}I", *self._restarts, count)


def write_table(entries: Mapping[bytes, bytes]) -> bytes:
    """The table that TensorFlow writes for these entries (any order; keys are sorted bytewise)."""
    out = bytearray()
    data_block, index_block = _Block(RESTART_INTERVAL), _Block(1)
    last = b""
    pending: Handle | None = None

    def write_block(content: bytes) -> Handle:
        handle = Handle(len(out), len(content))
        out.extend(content + b"\0")
        out.extend(struct.pack("<I", checksum.masked(content + b"\0")))
        return handle

    def flush() -> Handle:
        handle = write_block(data_block.content())
        data_block.reset()
        return handle

    for key, value in sorted(entries.items()):
        # TensorFlow lets an entry of twice the block size start a block of its own.
        if len(key) + len(value) >= 2 * BLOCK_SIZE and not data_block.empty:
            pending = flush()
        if pending is not None:
            index_block.add(_separator(last, key), pending.encode())
            pending = None
        data_block.add(key, value)
        last = key
        if data_block.size >= BLOCK_SIZE:
            pending = flush()
    if not data_block.empty:
        pending = flush()
    meta = write_block(_Block(RESTART_INTERVAL).content())
    if pending is not None:
        index_block.add(_successor(last), pending.encode())
    index = write_block(index_block.content())
    footer = meta.encode() + index.encode()
    return bytes(out) + footer.ljust(FOOTER_SIZE - 8, b"\0") + struct.pack("<Q", MAGIC)


def _separator(start: bytes, limit: bytes) -> bytes:
    """A short key that is >= start and < limit (FindShortestSeparator in table_builder.cc)."""
    shared = 0
    while shared < min(len(start), len(limit)) and start[shared] == limit[shared]:
        shared += 1
    if shared < min(len(start), len(limit)) and start[shared] + 1 < limit[shared]:
        return start[:shared] + bytes([start[shared] + 1])
    return start


def _successor(key: bytes) -> bytes:
    """A short key that is >= key (FindShortSuccessor in table_builder.cc)."""
    for position, byte in enumerate(key):
        if byte != 0xFF:
            return key[:position] + bytes([byte + 1])
    return key
