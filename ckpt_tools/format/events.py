"""The scalars in a TensorBoard event file.

    file:   record*
    record: length:u64  crc:u32 (masked, of the length)  Event  crc:u32 (masked, of the Event)
    Event   wall_time=1 (double) step=2 summary=5{value=1{tag=1 simple_value=2 (float) tensor=8}}
    tensor  dtype=1 tensor_content=4 float_val=5

TensorFlow 1 and tensorboardX write ``simple_value``, TensorFlow 2 a scalar ``tensor``.
Sources: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto, framework/summary.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ckpt_tools.errors import CorruptError
from ckpt_tools.format import checksum
from ckpt_tools.format.wire import FIXED32, FIXED64, Field, fields


class Scalar(NamedTuple):
    tag: str
    step: int
    value: float


class Event(NamedTuple):
    """``end`` is the offset behind its record, ``time`` when it was made in seconds since 1970."""

    end: int
    time: float
    scalars: tuple[Scalar, ...]


def read_scalars(data: bytes) -> Iterator[Scalar]:
    """The scalars in order. A last record that was cut off ends the file, as it does when a run is killed.

    Raises CorruptError for damage anywhere else.
    """
    for event in read_events(data):
        yield from event.scalars


def read_events(data: bytes) -> Iterator[Event]:
    """The same, event by event; what follows the last ``end`` is not whole yet. Raises CorruptError."""
    offset = 0
    while len(data) - offset >= 12:
        header = data[offset : offset + 8]
        size, crc = struct.unpack_from("<QI", data, offset)
        if checksum.masked(header) != crc:
            raise CorruptError("checksum of a record's length does not match", offset=offset)
        end = offset + 12 + size + 4
        if end > len(data):
            return
        event = data[offset + 12 : end - 4]
        if checksum.masked(event) != struct.unpack_from("<I", data, end - 4)[0]:
            raise CorruptError("checksum of a record does not match", offset=offset)
        yield _event(event, end)
        offset = end


def _event(event: bytes, end: int) -> Event:
    step, time = 0, 0.0
    summaries = []
    for field in fields(event):
        if field.number == 1 and field.type == FIXED64:
            (time,) = struct.unpack("<d", struct.pack("<Q", field.value))
        elif field.number == 2:
            step = field.integer()
        elif field.number == 5:
            summaries.append(field.content())
    return Event(end, time, tuple(_scalars(summaries, step)))


def _scalars(summaries: Iterable[bytes], step: int) -> Iterator[Scalar]:
    for summary in summaries:
        for value in fields(summary):
            if value.number == 1:
                tag, number = _tag_and_value(value.content())
                if number is not None:
                    yield Scalar(tag, step, number)


def _tag_and_value(message: bytes) -> tuple[str, float | None]:
    tag, number = "", None
    for field in fields(message):
        if field.number == 1:
            tag = field.text()
        elif field.number == 2:
            number = _float(field)
        elif field.number == 8:
            number = _scalar_tensor(field.content())
    return tag, number


def _scalar_tensor(message: bytes) -> float | None:
    parts = {field.number: field for field in fields(message)}
    if 1 not in parts or parts[1].value != 1:  # DT_FLOAT
        return None
    content = parts.get(4) or parts.get(5)
    return None if content is None else _float(content)


def _float(field: Field) -> float | None:
    raw = struct.pack("<I", field.value) if field.type == FIXED32 else field.value
    return struct.unpack("<f", raw)[0] if isinstance(raw, bytes) and len(raw) == 4 else None
