"""What the first process tells the second: pieces of the trainer's output with the time at which they came."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

STDOUT, STDERR, ENDED = 1, 2, 3
SOURCES = {STDOUT: "stdout", STDERR: "stderr"}
# A line longer than this is cut: it is read for metrics only.
MOST_PENDING = 1 << 16

_HEAD = struct.Struct("<BdI")


@dataclass(frozen=True)
class Frame:
    kind: int
    time: float
    data: bytes


def encode(frame: Frame) -> bytes:
    return _HEAD.pack(frame.kind, frame.time, len(frame.data)) + frame.data


class Decoder:
    """Frames from the bytes of a pipe, whatever pieces they come in."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._buffer += data
        while len(self._buffer) >= _HEAD.size:
            kind, time, size = _HEAD.unpack_from(self._buffer)
            if len(self._buffer) < _HEAD.size + size:
                return
            yield Frame(kind, time, bytes(self._buffer[_HEAD.size : _HEAD.size + size]))
            del self._buffer[: _HEAD.size + size]


class Lines:
    """The whole lines of one stream; the rest waits for what follows. A carriage return ends one too."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> str:
        data = self._rest + data
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        self._rest = data[end:][-MOST_PENDING:]
        return data[:end].decode("utf-8", "replace")

    def rest(self) -> str:
        text, self._rest = self._rest.decode("utf-8", "replace"), b""
        return text
