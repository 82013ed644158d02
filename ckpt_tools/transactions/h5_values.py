"""Adding a scalar to an HDF5 file of this project's own: a dataset beside the layers, which Keras passes over.

The HDF5 library ends the process when there is no room for what it writes: the room is taken before it begins.
"""

from __future__ import annotations

import os

from ckpt_tools.errors import CorruptError
from ckpt_tools.fs import durable

# What one small dataset and its place in the root group may need.
_ROOM = 64 << 10


def add_float32(path: str | os.PathLike[str], name: str, value: float) -> bool:
    """Add a float32 scalar; False when the file has something of that name. The file is changed in place.

    Raises StorageError when there is no room, CorruptError when the file is none that the library can write to.
    """
    import h5py

    durable.reserve(path, _ROOM)
    try:
        with h5py.File(path, "r+") as file:
            if name in file:
                return False
            file.create_dataset(name, data=value, dtype="float32")
    except (OSError, RuntimeError, ValueError) as error:
        raise CorruptError(f"cannot add {name}: {error}", path=path) from error
    return True
