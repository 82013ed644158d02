"""Names and comparisons of the files that a change works on.

Nothing here takes a refused look for "not there": `ckpt_tools.fs.local.look` raises then.
"""

from __future__ import annotations

import hashlib
import os
import stat

from ckpt_tools.errors import BusyError, CorruptError, NotFoundError, StorageError, UnsafeError, UnsupportedError
from ckpt_tools.format.bundle import HEADER_KEY, Header
from ckpt_tools.format.filenames import bundle_part, index_name
from ckpt_tools.format.table import read_table
from ckpt_tools.fs import durable, local, paths
from ckpt_tools.fs.local import PathLike
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.readers.bundle import MAX_INDEX_BYTES, Bundle
from ckpt_tools.transactions.workplace import Workplace

_PIECE = 1 << 22


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def file_digest(path: PathLike) -> str:
    with local.RandomAccessFile(path) as file:
        return paths.sha256_of(file)


def digest_if_there(path: PathLike) -> str | None:
    """The digest of a file; None when nothing has its name."""
    return file_digest(path) if local.is_there(path) else None


def is_same(one: PathLike, other: PathLike) -> bool:
    """Whether two names stand for the same bytes: they are of one file, or of a file and its copy."""
    first, second = local.look(one), local.look(other)
    if first is None or second is None:
        return False
    if stat.S_ISLNK(first.st_mode) and stat.S_ISLNK(second.st_mode):
        return local.read_link(one) == local.read_link(other)  # seen from a backup they may lead nowhere
    first, second = local.look(one, follow=True), local.look(other, follow=True)
    if first is None or second is None:
        return False
    if (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino):
        return True
    if first.st_size != second.st_size or not stat.S_ISREG(first.st_mode) or not stat.S_ISREG(second.st_mode):
        return False
    with local.RandomAccessFile(one) as left, local.RandomAccessFile(other) as right:
        return left.size == right.size and all(
            left.read(offset, size) == right.read(offset, size)
            for offset in range(0, left.size, _PIECE)
            for size in [min(_PIECE, left.size - offset)]
        )


def begins_with(path: str, content: bytes) -> bool:
    """Whether a file is what its writer would have made of ``content``, perhaps cut off."""
    with local.RandomAccessFile(path) as file:
        return file.size <= len(content) and content.startswith(file.read(0, file.size))


def is_whole(prefix: str) -> bool:
    """Whether a checkpoint is one: its index can be read, and every byte of its data is what the index says.

    ``prefix`` may be the path of a Keras file: then all that can be checked of it.
    """
    try:
        single = not local.is_there(index_name(prefix)) and local.is_file(prefix, follow=True)
        with open_checkpoint(prefix) if single else Bundle(prefix) as bundle:
            return all(finding.severity == "note" for finding in bundle.verify())
    except (CorruptError, NotFoundError, UnsafeError, UnsupportedError):
        return False


def is_whole_beside(prefix: str, other: str) -> bool:
    """Whether a bundle is whole in all that it does not share with another one, whose data files are named alike.

    Reads only what differs: of a change that added one value, that value.
    """
    try:
        with Bundle(prefix) as bundle, Bundle(other) as standing:
            for name, entry in bundle.entries.items():
                if name not in standing.entries or (entry, bundle.stored(name)) != (
                    standing.entries[name],
                    standing.stored(name),
                ):
                    for _ in bundle.check(name):
                        pass
    except (CorruptError, NotFoundError, UnsafeError, UnsupportedError):
        return False
    return True


def named_by(place: Workplace, name: str) -> str | None:
    """The index that needs a data file of a directory: looked for just before the file is removed; None without one.

    That is the index beside it, when it names it (one that cannot be read may name any file of its prefix), or the
    index in a backup that has no such file of its own.
    """
    part = bundle_part(name)
    if part is None or part.count is None:
        return None
    index = index_name(part.prefix)
    if local.is_there(place.path(index)) and _names(place.path(index), part.count, unreadable=True):
        return place.path(index)
    for backup in place.each_backup():
        lacks = local.is_there(backup / index) and not local.is_there(backup / name)
        if lacks and _names(backup / index, part.count, unreadable=False):
            return os.fspath(backup / index)
    return None


def _names(index: PathLike, count: int, *, unreadable: bool) -> bool:
    try:
        table = read_table(local.read_file(index, limit=MAX_INDEX_BYTES))
        return Header.decode(table[HEADER_KEY]).num_shards == count
    except (CorruptError, UnsupportedError, UnsafeError, KeyError):
        return unreadable


def put_back(saved: PathLike, path: str) -> None:
    """Give a kept original its name again. Raises BusyError when that name is taken."""
    try:
        durable.link_or_copy(saved, path)
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
