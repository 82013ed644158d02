"""The part that is the same of all file objects for libraries: where one is in the bytes."""

from __future__ import annotations

import io


class Seekable(io.RawIOBase):
    """Bytes to read at a position. A subclass has ``readinto`` and says how many bytes there are."""

    _position = 0

    def _end(self) -> int:
        """How many bytes there are."""
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end()}[whence]
        self._position = max(0, base + offset)
        return self._position
