"""The files of one checkpoint, however many, of which few are open at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict

from ckpt_tools.errors import BusyError
from ckpt_tools.fs import paths
from ckpt_tools.fs.local import PathLike

# A process may have some hundreds of files open (often 1,024), and others in it want theirs.
LIMIT = 64


class OpenFiles:
    """Opens files so that only the ``limit`` last used ones hold a descriptor; the others get one when they are read.

    Any thread may read from any of the files.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._open: OrderedDict[str, paths.File] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, path: PathLike) -> paths.File:
        """Like ``places.open_file``."""
        return self.keep(paths.open_file(path))

    def keep(self, file: paths.File) -> paths.File:
        """The same for a file that is open already; it belongs to these from now on."""
        self._keep(file)
        return _Reopened(self, file)

    def file(self, wanted: _Reopened) -> paths.File:
        """The open file. Raises BusyError when it is no more the one that it was."""
        with self._lock:
            file = self._open.get(wanted.path)
            if file is not None:
                self._open.move_to_end(wanted.path)
        if file is None:
            file = paths.open_file(wanted.path)
            self._keep(file)
        if file.fingerprint != wanted.fingerprint:
            raise BusyError("was replaced while it was read", path=wanted.path, hint="run the same command again")
        return file

    def close(self, path: str | None = None) -> None:
        """Close one, or all."""
        with self._lock:
            for each in list(self._open) if path is None else [path]:
                file = self._open.pop(each, None)
                if file is not None:
                    file.close()

    def _keep(self, file: paths.File) -> None:
        with self._lock:
            self._open[file.path] = file
            self._open.move_to_end(file.path)
            while len(self._open) > self._limit:
                # Dropped, which closes it, but not before a thread that reads from it just now has ended.
                self._open.popitem(last=False)


class _Reopened:
    """One of the files, as it was when it was opened first."""

    def __init__(self, files: OpenFiles, file: paths.File) -> None:
        self.path = file.path
        self.fingerprint = file.fingerprint
        self._files = files

    @property
    def size(self) -> int:
        return self.fingerprint.size

    def read(self, offset: int, size: int) -> bytes:
        return self._files.file(self).read(offset, size)

    def close(self) -> None:
        self._files.close(self.path)

    def __enter__(self) -> _Reopened:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
