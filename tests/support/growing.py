"""Checkpoints that grow: each kind of file at any size, with checksums that fit, and what a command costs on it.

Raw bytes are put together here, because no writer makes such files: keys that share all but their ends, fields that
nobody knows, objects nested as deep as there are objects.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ckpt_tools.cli import run
from ckpt_tools.format import checksum
from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY
from ckpt_tools.format.strings import encode_strings
from ckpt_tools.format.table import MAGIC
from ckpt_tools.format.wire import bytes_field, encode_varint, varint_field

HEADER = varint_field(1, 1) + bytes_field(3, varint_field(1, 1))


def entry(shape: Iterable[int] = (), *, dtype: int = 1, offset: int = 0, size: int = 0, crc: int = 0) -> bytes:
    """A BundleEntryProto; of a float32 with a dimension of 0 unless told otherwise."""
    dims = b"".join(bytes_field(2, varint_field(1, each)) for each in shape)
    place = varint_field(4, offset) + varint_field(5, size)
    return varint_field(1, dtype) + bytes_field(2, dims) + place + (b"\x35" + struct.pack("<I", crc) if crc else b"")


def table(entries: Mapping[bytes, bytes]) -> bytes:
    """A table of one block, in which every key but the first shares what it can with the one before."""
    block, last = bytearray(), b""
    for key, value in sorted(entries.items()):
        shared = shared_by(key, last)
        block += b"".join(map(encode_varint, (shared, len(key) - shared, len(value)))) + key[shared:] + value
        last = key
    out = bytearray()

    def stored(content: bytes) -> bytes:
        handle = encode_varint(len(out)) + encode_varint(len(content))
        out.extend(content + b"\0" + struct.pack("<I", checksum.masked(content + b"\0")))
        return handle

    data = stored(bytes(block) + struct.pack("<II", 0, 1))
    meta = stored(struct.pack("<II", 0, 1))
    separator = last + b"\xff"
    row = b"\0" + encode_varint(len(separator)) + encode_varint(len(data)) + separator + data
    index = stored(row + struct.pack("<II", 0, 1))
    return bytes(out) + (meta + index).ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def shared_by(one: bytes, other: bytes) -> int:
    """How many bytes two keys begin with in common."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if one[:middle] == other[:middle] else (least, middle - 1)
    return least


def write_bundle(folder: Path, entries: Mapping[bytes, bytes], *, data: bytes = b"", graph: bytes | None = None) -> str:
    """A bundle of these entries (the header is added), and of an object graph if there is one; returns its prefix."""
    folder.mkdir(parents=True, exist_ok=True)
    all_entries = {b"": HEADER, **entries}
    if graph is not None:
        raw, crc = encode_strings([graph])
        all_entries[OBJECT_GRAPH_KEY.encode()] = entry((), dtype=7, offset=len(data), size=len(raw), crc=crc)
        data += raw
    prefix = folder / "m"
    Path(f"{prefix}.index").write_bytes(table(all_entries))
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)
    return str(prefix)


@dataclass(frozen=True)
class Cost:
    """What a command took: bytes of files it was given, seconds of the processor, bytes at once, characters printed."""

    code: int
    given: int
    seconds: float
    memory: int
    printed: int


class Sink(io.TextIOBase):
    """Takes what is printed, and only counts it."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.length = 0

    def write(self, text: str) -> int:
        self.length += len(text)
        return len(text)

    def isatty(self) -> bool:
        return False


def size_of(path: str) -> int:
    """The bytes of all files below a directory, names included: a directory of empty files is read too."""
    files = (os.path.join(where, name) for where, _, names in os.walk(path) for name in names)
    return sum(os.lstat(file).st_size + len(file) for file in files)


def cost(words: list[str], given: int, *, memory: bool = False) -> Cost:
    """Run a command in this process. With ``memory`` each allocation is counted, which makes it slow."""
    sink = Sink()
    if memory:
        tracemalloc.start()
    start = time.process_time()
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            code = run(words)
        seconds = time.process_time() - start
        peak = tracemalloc.get_traced_memory()[1] if memory else 0
    finally:
        if memory:
            tracemalloc.stop()
    return Cost(code, given, seconds, peak, sink.length)


def growth(small: float, large: float, ratio: float) -> float:
    """The power with which something grew when its cause became ``ratio`` times as large."""
    return math.log(max(large, 1e-9) / max(small, 1e-9)) / math.log(ratio)


def calls(work: Callable[[], object]) -> int:
    """How many functions some work calls, of Python and of C: what it costs, whatever else the machine does."""
    count = 0

    def called(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def steps(at: Callable[[int], Callable[[], object]], sizes: tuple[int, int, int]) -> float:
    """How much more the second step of three sizes costs than the first, for the same growth: 1 when it is linear."""
    work = [at(size) for size in sizes]
    work[0]()  # what is done once for all is done
    small, middle, large = map(calls, work)
    assert middle - small > sizes[1] - sizes[0], "what grows is not looked at"
    return (large - middle) / (middle - small) / ((sizes[2] - sizes[1]) / (sizes[1] - sizes[0]))
