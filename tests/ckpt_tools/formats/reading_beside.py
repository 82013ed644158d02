"""Read an HDF5 file through a thread that collects garbage, as that of a remote file may. In a process of its own,
for where that goes wrong nothing ever comes back.

    python reading_beside.py FILE    FILE has a dataset ``a`` of three numbers, int64
"""

from __future__ import annotations

import gc
import sys
from concurrent.futures import ThreadPoolExecutor

import h5py

from ckpt_tools.places import open_file
from ckpt_tools.readers.hdf5 import Hdf5File

_NEVER = 1_000_000


class Remote:
    """The bytes of a file, from another thread, which collects garbage as soon as it makes an object."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open_file(path)
        self._pool = ThreadPoolExecutor(1)
        self.size = self._file.size

    def read(self, offset: int, size: int) -> bytes:
        return self._pool.submit(self._read, offset, size).result()

    def _read(self, offset: int, size: int) -> bytes:
        gc.set_threshold(1, 1, 1)
        assert len([[] for _ in range(1000)]) == 1000
        gc.set_threshold(_NEVER)
        return self._file.read(offset, size)


def leave_garbage(path: str) -> None:
    """An object of the library that only a collection frees."""
    circle: list[object] = [h5py.File(path)["a"]]
    circle.append(circle)


def main(path: str) -> None:
    gc.set_threshold(_NEVER)
    leave_garbage(path)
    file = Hdf5File(Remote(path))
    leave_garbage(path)
    value = file.read("a")
    leave_garbage(path)
    assert b"".join(file.chunks("a")) == value.tobytes()
    assert len(value) == 3
    file.close()
    assert gc.isenabled()


if __name__ == "__main__":
    main(*sys.argv[1:])
