"""Names and comparisons of the files that a change works on."""

from __future__ import annotations

import hashlib
import os

from ckpt_tools import storage
from ckpt_tools.errors import BusyError, StorageError

_PIECE = 1 << 22


def temporary_index(prefix: str) -> str:
    return f"{prefix}.index.ckpt-tools"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def file_digest(path: str) -> str:
    digest = hashlib.sha256()
    with storage.RandomAccessFile(path) as file:
        for offset in range(0, file.size, _PIECE):
            digest.update(file.read(offset, min(_PIECE, file.size - offset)))
    return digest.hexdigest()


def comes_from(original: str, path: str) -> bool:
    """Whether a file is a second name of another, or a copy of it, perhaps one that was cut off."""
    if os.path.islink(original) and os.path.islink(path):  # where they lead may not be there, seen from the backup
        return os.readlink(original) == os.readlink(path)
    if not os.path.exists(path) or not os.path.exists(original):
        return False
    if os.path.samefile(original, path):
        return True
    with storage.RandomAccessFile(original) as whole, storage.RandomAccessFile(path) as part:
        return part.size <= whole.size and all(
            whole.read(offset, size) == part.read(offset, size)
            for offset in range(0, part.size, _PIECE)
            for size in [min(_PIECE, part.size - offset)]
        )


def begins_with(path: str, content: bytes) -> bool:
    """Whether a file is what its writer would have made of ``content``, perhaps cut off."""
    with storage.RandomAccessFile(path) as file:
        return file.size <= len(content) and content.startswith(file.read(0, file.size))


def put_back(saved: str, path: str) -> None:
    """Give a kept original its name again. Raises BusyError when that name is taken."""
    try:
        storage.link_or_copy(saved, path)
    except StorageError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise taken(path) from error
        raise


def taken(path: str) -> BusyError:
    return BusyError(
        "a file with the name of an original was put here after the change",
        path=path,
        hint="move it somewhere else, then run the same command again",
    )
