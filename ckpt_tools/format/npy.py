"""Arrays as NumPy writes them: ``.npy``, and ``.npz`` archives of these. No object of Python is ever made of them.

    npy:  \\x93NUMPY  major:u8 minor:u8  length:u16 (u32 from version 2 on)  header  elements

Source: numpy.lib.format.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

from ckpt_tools.errors import CorruptError, NotFoundError, UnsafeError

if TYPE_CHECKING:
    import numpy as np

# NumPy's own limit for headers that are not trusted.
_LONGEST_HEADER = 10_000
_KINDS = "biuf"


def decode_npy(data: bytes) -> np.ndarray:
    """The array of a ``.npy`` file, in the byte order of this machine.

    Raises CorruptError for what is none, UnsafeError for one of another kind than numbers.
    """
    import numpy as np

    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = read(file, max_header_size=_LONGEST_HEADER)
        count = math.prod(shape)
        sound = all(isinstance(size, int) and size >= 0 for size in shape)
    except (
        ValueError,
        TypeError,
        KeyError,
        SyntaxError,
        struct.error,
        OverflowError,
        RecursionError,
        MemoryError,
    ) as error:
        raise CorruptError(
            f"is no array of NumPy: {str(error).splitlines()[0] if str(error) else 'its header'}"
        ) from error
    if dtype.kind not in _KINDS:
        raise UnsafeError(f"holds {dtype.str[:40]!r}: only numbers are read")
    if not sound or len(shape) > 32 or count * dtype.itemsize != len(data) - file.tell():
        raise CorruptError(f"{len(data) - file.tell()} bytes are no {dtype} {list(shape)}")
    flat = np.frombuffer(data, dtype, count, file.tell())
    found = flat.reshape(shape[::-1]).T if columns_first else flat.reshape(shape)
    native: np.ndarray = found.astype(dtype.newbyteorder("="), copy=False)
    return native


def decode_npz(data: bytes, member: str, *, limit: int) -> np.ndarray:
    """One array of a ``.npz`` file.

    Raises NotFoundError when there is no such member, CorruptError for what is no archive, UnsafeError for a member of
    more than ``limit`` bytes, and what `decode_npy` raises.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if member not in names:
                told = ", ".join(sorted(names)[:8])
                raise NotFoundError(f"there is no array {member!r:.80} in it", hint=f"it has {told:.300}")
            with archive.open(names[member]) as file:
                inner = file.read(limit + 1)
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        struct.error,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise CorruptError(f"is no archive of NumPy: {error}") from error
    if len(inner) > limit:
        raise UnsafeError(f"{member!r:.80} is larger than the limit of {limit} bytes")
    return decode_npy(inner)
