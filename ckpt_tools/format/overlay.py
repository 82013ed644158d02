"""A file with changes that are kept beside it: what a library writes into it is told, and not yet done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ckpt_tools.errors import UnsafeError
from ckpt_tools.format.seekable import Seekable

# A change is of a few words in the metadata of a file: what writes more does something else.
MAX_BYTES, MAX_PIECES = 1 << 20, 4096


@dataclass(frozen=True)
class Patch:
    """What becomes of a file: its first ``kept`` bytes stay, the ``pieces`` (offset, bytes) are put over them in their
    order, and ``size`` is its new size. What is beyond all of them is zeros."""

    kept: int
    size: int
    pieces: tuple[tuple[int, bytes], ...]

    @property
    def nbytes(self) -> int:
        """How many bytes are put over the old ones."""
        return sum(len(data) for _, data in self.pieces)


class Overlay(Seekable):
    """A file object to read from and write into; ``patch`` is what was written.

    Args:
        read: gives ``size`` bytes at an offset of the file as it is.
        size: how many bytes that has.

    Writing raises UnsafeError for more than ``MAX_BYTES``.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read = read
        self._kept = self._size = size
        self._pieces: list[tuple[int, bytes]] = []
        self._written = 0

    def patch(self) -> Patch:
        return Patch(self._kept, self._size, tuple(self._pieces))

    def writable(self) -> bool:
        return True

    def _end(self) -> int:
        return self._size

    def readinto(self, buffer: Any) -> int:
        start = self._position
        end = min(self._size, start + len(buffer))
        if end <= start:
            return 0
        found = bytearray(end - start)
        if start < self._kept:
            stored = self._read(start, min(end, self._kept) - start)
            found[: len(stored)] = stored
        for offset, data in self._pieces:
            first, last = max(offset, start), min(offset + len(data), end)
            if first < last:
                found[first - start : last - start] = data[first - offset : last - offset]
        buffer[: end - start] = found
        self._position = end
        return end - start

    def write(self, data: Any) -> int:
        """Keep what is written beside the bytes below. Raises UnsafeError over `MAX_BYTES` bytes of it."""
        content = bytes(data)
        self._written += len(content)
        if self._written > MAX_BYTES or len(self._pieces) >= MAX_PIECES:
            raise UnsafeError(f"a change of more than {MAX_BYTES} bytes was to be made, for a value")
        self._pieces.append((self._position, content))
        self._position += len(content)
        self._size = max(self._size, self._position)
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        self._kept = min(self._kept, size)
        self._pieces = [(offset, data[: size - offset]) for offset, data in self._pieces if offset < size]
        self._size = size
        return size
