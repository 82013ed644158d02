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

import bisect
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ckpt_tools.errors import CorruptError, UnsafeError
from ckpt_tools.format import checksum
from ckpt_tools.format.snappy import decompress
from ckpt_tools.format.wire import decode_varint, encode_varint

MAGIC = 0xDB4775248B80FB57
FOOTER_SIZE = 48
TRAILER_SIZE = 5
BLOCK_SIZE = 262144
RESTART_INTERVAL = 16
# What a table may stand for in memory: so many times its bytes, and some for small ones.
MAX_EXPANSION = 8
MAX_EXPANSION_FREE = 16 << 20
_PLAIN, _SNAPPY = 0, 1


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


Read = Callable[[int, int], bytes]
"""``read(offset, size)`` gives exactly ``size`` bytes of the table, or raises CorruptError."""


class Table:
    """A table of ``size`` bytes that is read block by block.

    Stricter than TensorFlow, which checks neither the metaindex nor the footer's padding nor the order of
    keys: every byte of the file belongs to something that is checked.

    Raises:
        CorruptError: a rule of the grammar above is broken; ``offset`` says where.
    """

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        meta, index = _read_footer(read, size)
        self._separators: list[bytes] = []
        self._handles: list[Handle] = []
        expected = 0
        for separator, value in _block_entries(self._block(index), index.offset):
            handle, _ = Handle.decode(value)
            if handle.offset != expected:
                raise CorruptError(f"data block at {handle.offset}, expected at {expected}", offset=index.offset)
            if handle.end > meta.offset:
                raise CorruptError("a block handle points outside the file", offset=index.offset)
            if self._separators and separator <= self._separators[-1]:
                raise CorruptError(f"block separator {separator!r} is not in order", offset=index.offset)
            self._separators.append(separator)
            self._handles.append(handle)
            expected = handle.end
        if meta.offset != expected or index.offset != meta.end or index.end != size - FOOTER_SIZE:
            raise CorruptError("the blocks do not fill the file", offset=expected)
        if any(True for _ in _block_entries(self._block(meta), meta.offset)):
            raise CorruptError("the metaindex is not empty", offset=meta.offset)
        self._cached: tuple[int, dict[bytes, bytes]] | None = None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries in key order; no more than one block is in memory."""
        for number in range(len(self._handles)):
            yield from self._entries(number)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None. The last block used stays in memory for the next question."""
        number = bisect.bisect_left(self._separators, key)
        if number == len(self._handles):
            return None
        if self._cached is None or self._cached[0] != number:
            self._cached = None
            self._cached = number, dict(self._entries(number))
        return self._cached[1].get(key)

    def _entries(self, number: int) -> Iterator[tuple[bytes, bytes]]:
        """The entries of one block, which lie behind the separator before it and up to its own."""
        handle = self._handles[number]
        previous = self._separators[number - 1] if number else None
        for key, value in _block_entries(self._block(handle), handle.offset):
            if previous is not None and key <= previous:
                raise CorruptError(f"key {key!r} does not come after {previous!r}", offset=handle.offset)
            yield key, value
            previous = key
        if previous is not None and self._separators[number] < previous:
            raise CorruptError(f"key {previous!r} lies beyond its block's separator", offset=handle.offset)

    def _block(self, handle: Handle) -> bytes:
        """The content of a block, its checksum verified first."""
        stored = self._read(handle.offset, handle.size + TRAILER_SIZE)
        crc = int.from_bytes(stored[-4:], "little")
        if checksum.masked(stored[:-4]) != crc:
            raise CorruptError("checksum of a block does not match", offset=handle.offset)
        kind, content = stored[handle.size], stored[: handle.size]
        if kind not in (_PLAIN, _SNAPPY):
            raise CorruptError(f"unknown block type {kind}", offset=handle.offset)
        try:
            return decompress(content) if kind == _SNAPPY else content
        except CorruptError as error:
            error.offset = handle.offset + (error.offset or 0)
            raise


def read_table(data: bytes) -> dict[bytes, bytes]:
    """All entries of a table, in key order.

    Raises what `Table` raises, UnsafeError when keys that share their beginnings, or compressed blocks, stand for much
    more than the bytes of the table.
    """
    limit = MAX_EXPANSION * len(data) + MAX_EXPANSION_FREE
    entries = {}
    for key, value in Table(lambda offset, size: data[offset : offset + size], len(data)).items():
        limit -= len(key) + len(value)
        if limit < 0:
            raise UnsafeError(f"its names and values are more than {MAX_EXPANSION} times its {len(data)} bytes")
        entries[key] = value
    return entries


def _read_footer(read: Read, size: int) -> tuple[Handle, Handle]:
    """The handles of the metaindex and of the index."""
    start = size - FOOTER_SIZE
    if start < 0:
        raise CorruptError(f"{size} bytes are too few for a checkpoint index: it was cut off", offset=0)
    footer = read(start, FOOTER_SIZE)
    if int.from_bytes(footer[-8:], "little") != MAGIC:
        raise CorruptError("not a checkpoint index (wrong magic number), or cut off", offset=size - 8)
    meta, offset = Handle.decode(footer)
    index, _ = Handle.decode(footer, offset)
    # Written again and compared, because the footer has no checksum: its padding and its varints have one form.
    if _encode_footer(meta, index) != footer:
        raise CorruptError("the footer's padding is not zero", offset=start)
    if meta.end > start or index.end > start:
        raise CorruptError("the footer points outside the file", offset=start)
    return meta, index


def _block_entries(content: bytes, place: int) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a block; ``place`` is its offset in the file, for errors."""
    try:
        yield from _parse_entries(content)
    except CorruptError as error:
        error.offset = place + (error.offset or 0)
        raise


def _parse_entries(content: bytes) -> Iterator[tuple[bytes, bytes]]:
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
        # Nearly always three bytes, which are read here without three calls; there are four bytes behind the entries.
        shared, non_shared, size = content[offset : offset + 3]
        if shared | non_shared | size < 0x80:
            offset += 3
        else:
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
    return bytes(out) + _encode_footer(meta, index)


def _encode_footer(meta: Handle, index: Handle) -> bytes:
    handles = meta.encode() + index.encode()
    return handles.ljust(FOOTER_SIZE - 8, b"\0") + struct.pack("<Q", MAGIC)


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
