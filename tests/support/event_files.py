"""TensorBoard files as its writers make them.

Sources: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from ckpt_tools.format import checksum
from ckpt_tools.format.wire import bytes_field, varint_field


def event(step: int, time: float | None = None, **values: float) -> bytes:
    """One record; in names of tags two underscores stand for a slash."""
    summary = b""
    for tag, value in values.items():
        said = bytes_field(1, tag.replace("__", "/").encode()) + b"\x15" + struct.pack("<f", value)
        summary += bytes_field(1, said)
    made = b"" if time is None else b"\x09" + struct.pack("<d", time)
    data = made + varint_field(2, step) + bytes_field(5, summary)
    length = struct.pack("<Q", len(data))
    return length + _crc(length) + data + _crc(data)


def _crc(part: bytes) -> bytes:
    return struct.pack("<I", checksum.masked(part))


def write_events(path: Path, rows: Iterable[tuple[float, str, int, float]]) -> None:
    """A file with one event for each row: its time, tag, step and value."""
    path.write_bytes(b"".join(event(step, time, **{tag: value}) for time, tag, step, value in rows))
