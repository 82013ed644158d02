"""A part of a file that is read as if it were a file: a member of an archive, for example."""

from __future__ import annotations

from typing import Protocol

from ckpt_tools.errors import CkptError, CorruptError
from ckpt_tools.format.seekable import Seekable
from ckpt_tools.fs.paths import File


class Bytes(Protocol):
    """Something of a known size with bounded reads; `places.File` is one."""

    path: str

    @property
    def size(self) -> int: ...

    def read(self, offset: int, size: int) -> bytes: ...


class Window:
    """``size`` bytes of a file from ``start`` on."""

    def __init__(self, file: File, start: int, size: int) -> None:
        self.path = file.path
        self.size = size
        self.start = start
        self._file = file

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes from ``offset``. Raises CorruptError when there are not so many."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise CorruptError(f"needs {size} bytes at {offset} of a part of {self.size}", path=self.path)
        return self._file.read(self.start + offset, size)


class Memory:
    """Bytes that were unpacked from ``path``."""

    def __init__(self, data: bytes, path: str) -> None:
        self.path = path
        self.size = len(data)
        self._data = data

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes from ``offset``. Raises CorruptError when there are not so many."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise CorruptError(f"needs {size} bytes at {offset} of {self.size}", path=self.path)
        return self._data[offset : offset + size]


class Stream(Seekable):
    """The file object that libraries want. Its last error is kept: they replace it by one of their own."""

    def __init__(self, source: Bytes) -> None:
        self._source = source
        self.error: CkptError | None = None

    def _end(self) -> int:
        return self._source.size

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self._source.size - self._position))
        try:
            buffer[:wanted] = self._source.read(self._position, wanted)
        except CkptError as error:
            self.error = error
            raise OSError(str(error)) from error
        self._position += wanted
        return wanted
