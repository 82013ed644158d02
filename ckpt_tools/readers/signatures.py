"""What a file is, by its first and last bytes: names lie, and most "damaged" checkpoints are other files."""

from __future__ import annotations

import re

from ckpt_tools.format.filenames import KERAS_MAPS
from ckpt_tools.format.table import MAGIC
from ckpt_tools.fs.paths import File
from ckpt_tools.readers.kinds import PASS_OTHER, Kind

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAD_BYTES = 4096

# The first entry of every index and of every file of version 1: an empty key, then a message that begins with its
# first field. It tells a table that was cut off, and so has no magic number, from a stranger.
_TABLE_START = re.compile(rb"\0\0[\x80-\xff]{0,4}[\x01-\x7f][\x08\x0a]", re.DOTALL)


def sniff(file: File) -> Kind | None:
    """What the file is; None when nothing is known that begins (or, of a table, ends) so."""
    head = file.read(0, min(file.size, _HEAD_BYTES))
    if file.size >= 8 and int.from_bytes(file.read(file.size - 8, 8), "little") == MAGIC:
        return Kind("table")
    if head.startswith(b"MATLAB 7.3 MAT-file"):
        return Kind("matlab", "a MATLAB file (HDF5)", PASS_OTHER)
    if _is_hdf5(file):
        return Kind("hdf5")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Kind("zip")
    if not head:
        return Kind("empty", "an empty file", "it was never written, or its download failed: get it again")
    if not head.strip(b"\0") and _is_zeros(file):
        return Kind("zeros", "a file of zeros", "its space was reserved, but it was never written: get it again")
    if _TABLE_START.match(head):
        return Kind("table")
    if head.lstrip().startswith(b"{") and (
        (b'"weight_map"' in head and b'.h5"' in head)  # other libraries have maps of this form too
        or file.path.endswith(KERAS_MAPS)
    ):
        return Kind("json")
    from ckpt_tools.readers.strangers import stranger  # what can be read does not wait for it

    return stranger(file, head)


def _is_zeros(file: File) -> bool:
    """Whether there is nothing but zeros at the beginning, in the middle and at the end."""
    places = (0, max(0, file.size // 2 - _HEAD_BYTES), max(0, file.size - _HEAD_BYTES))
    return not any(any(file.read(at, min(_HEAD_BYTES, file.size - at))) for at in places)


def _is_hdf5(file: File) -> bool:
    """HDF5 may begin behind a block of the user: at 0, 512, 1024, 2048 and so on."""
    offset = 0
    while offset + len(HDF5_SIGNATURE) <= file.size:
        if file.read(offset, len(HDF5_SIGNATURE)) == HDF5_SIGNATURE:
            return True
        offset = 2 * offset or 512
    return False
