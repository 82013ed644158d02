"""Names and comparisons of the files that a change works on.

Nothing here takes a refused look for "not there": `storage.look` raises then.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat

from ckpt_tools import storage
from ckpt_tools.errors import BusyError, CorruptError, NotFoundError, StorageError, UnsafeError, UnsupportedError
from ckpt_tools.format.bundle import HEADER_KEY, Header
from ckpt_tools.format.table import read_table
from ckpt_tools.ledger import backups
from ckpt_tools.readers.bundle import MAX_INDEX_BYTES, Bundle, index_name

_PIECE = 1 << 22
_DATA = re.compile(r"(?P<prefix>.+)\.data-(?P<shard>\d{5})-of-(?P<count>\d{5})", re.DOTALL)


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


def digest_if_there(path: str) -> str | None:
    """The digest of a file; None when nothing has its name."""
    return file_digest(path) if storage.is_there(path) else None


def comes_from(original: str, path: str) -> bool:
    """Whether a file is a second name of another, or a copy of it, perhaps one that was cut off."""
    one, other = storage.look(original), storage.look(path)
    if one is None or other is None:
        return False
    if stat.S_ISLNK(one.st_mode) and stat.S_ISLNK(other.st_mode):
        return storage.read_link(original) == storage.read_link(path)  # where they lead may not be there from a backup
    one, other = storage.look(original, follow=True), storage.look(path, follow=True)
    if one is None or other is None:
        return False
    if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino):
        return True
    with storage.RandomAccessFile(original) as whole, storage.RandomAccessFile(path) as part:
        return part.size <= whole.size and all(
            whole.read(offset, size) == part.read(offset, size)
            for offset in range(0, part.size, _PIECE)
            for size in [min(_PIECE, part.size - offset)]
        )


def is_same(one: str, other: str) -> bool:
    """Whether two names stand for the same bytes, all of them."""
    return comes_from(one, other) and comes_from(other, one)


def begins_with(path: str, content: bytes) -> bool:
    """Whether a file is what its writer would have made of ``content``, perhaps cut off."""
    with storage.RandomAccessFile(path) as file:
        return file.size <= len(content) and content.startswith(file.read(0, file.size))


def is_whole(prefix: str) -> bool:
    """Whether a checkpoint is one: its index can be read, and every byte of its data is what the index says."""
    try:
        with Bundle(prefix) as bundle:
            return all(finding.severity == "note" for finding in bundle.verify())
    except (CorruptError, NotFoundError, UnsafeError, UnsupportedError):
        return False


def named_by(directory: str, name: str) -> str | None:
    """The index that needs a data file of a directory: looked for just before the file is removed; None without one.

    That is the index beside it, when it names it (one that cannot be read may name any file of its prefix), or the
    index in a backup that has no such file of its own.
    """
    match = _DATA.fullmatch(name)
    if match is None:
        return None
    own = index_name(os.path.join(directory, match["prefix"]))
    if storage.is_there(own) and _names(own, match, unreadable=True):
        return own
    for backup in backups(directory):
        index = os.path.join(backup, os.path.basename(own))
        lacks = storage.is_there(index) and not storage.is_there(os.path.join(backup, name))
        if lacks and _names(index, match, unreadable=False):
            return index
    return None


def _names(index: str, data: re.Match[str], *, unreadable: bool) -> bool:
    try:
        table = read_table(storage.read_file(index, limit=MAX_INDEX_BYTES))
        return Header.decode(table[HEADER_KEY]).num_shards == int(data["count"])
    except (CorruptError, UnsupportedError, UnsafeError, KeyError):
        return unreadable


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
