"""Where things lie that are read: a path of this machine, or a URL (``s3://``, ``gs://``, ``https://`` and others).

Readers and questions ask here, and do not know which it is. Local paths go to `ckpt_tools.fs.local` as they are; what
is needed for URLs is imported when there is one.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import os
import posixpath
import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Protocol

from ckpt_tools.errors import CkptError, NotFoundError, UnsafeError
from ckpt_tools.fs import local, witness
from ckpt_tools.fs.local import Fingerprint, PathLike, Status

_glances: contextvars.ContextVar[dict[str, Status | None] | None] = contextvars.ContextVar("glances", default=None)
_URL = re.compile(r"(?P<host>[A-Za-z][A-Za-z0-9+.:-]*://[^/]*)(?P<path>.*)", re.DOTALL)
# So many bytes are read at once to make a digest.
_PIECE = 1 << 22


class File(Protocol):
    """A file opened for bounded reads at any offset; all it gives is of the version that ``fingerprint`` tells."""

    path: str
    fingerprint: Fingerprint

    @property
    def size(self) -> int: ...

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes from ``offset``. Raises CorruptError when the file does not have them."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> File: ...

    def __exit__(self, *exception: object) -> None: ...


def is_url(path: PathLike) -> bool:
    return "://" in (text := os.fspath(path)) and _URL.fullmatch(text) is not None


def is_lone(path: PathLike) -> bool:
    """Whether it is a URL with a query, which is signed for, or means, one file: nothing is beside it."""
    return is_url(path) and "?" in os.fspath(path)


# ------------------------------------------------------------------------------------------ what is there


@contextlib.contextmanager
def one_look() -> Iterator[None]:
    """What is there behind a URL is asked once only in this block; what it holds is not remembered.

    Asking takes a journey through the network, and the same few names are asked for again and again.
    """
    token = _glances.set({})
    try:
        yield
    finally:
        _glances.reset(token)


def exists(path: PathLike) -> bool:
    """Whether something has this name, a link to nowhere too. Raises StorageError when a store does not say."""
    return _glance(path) is not None if is_url(path) else _noted(local.is_there, path)


def is_directory(path: PathLike) -> bool:
    if is_url(path):
        found = _glance(path)
        return found is not None and found.directory
    return _noted(_is_directory, path)


def is_file(path: PathLike) -> bool:
    if is_url(path):
        found = _glance(path)
        return found is not None and not found.directory
    return _noted(_is_file, path)


def has_file(path: PathLike) -> bool:
    """Whether something that is no directory has this name: a file, or what cannot be opened as one and should be told
    of, such as a link to nowhere. A directory may bear the name of any file, and is then not meant."""
    return is_file(path) if is_url(path) else _noted(_is_no_directory, path)


def is_link(path: PathLike) -> bool:
    """Whether it is a symbolic link; a URL has none."""
    return not is_url(path) and local.is_link(path)


def fingerprint(path: PathLike) -> Fingerprint:
    """What tells that a file is still the one that was looked at. Raises NotFoundError when there is none."""
    if not is_url(path):
        return local.fingerprint(path)
    found = _look(path)
    if found is None:
        raise NotFoundError("cannot look at: nothing is there", path=path)
    return found.fingerprint


def identity(path: PathLike) -> Hashable:
    """The same for two paths of one directory or file; None when there is none. A URL has no links, and is its own.

    Raises StorageError when the system does not say.
    """
    if is_url(path):
        return normal(path)
    status = local.look(path, follow=True)
    return None if status is None else (status.st_dev, status.st_ino)


# ---------------------------------------------------------------------------------------------- reading


def open_file(path: PathLike) -> File:
    """Open a file for bounded reads. Raises NotFoundError, UnsafeError for what is no file, StorageError."""
    if not is_url(path):
        return local.RandomAccessFile(path)
    from ckpt_tools.fs.remote import RemoteFile

    return RemoteFile(os.fspath(path))


def read_file(path: PathLike, *, limit: int) -> bytes:
    """The whole file. Raises UnsafeError when it is larger than ``limit`` bytes, and what `open_file` raises."""
    with open_file(path) as file:
        return read_all(file, limit=limit)


def read_all(file: File, *, limit: int) -> bytes:
    """The same of an open file. Raises UnsafeError when it is larger than ``limit`` bytes."""
    if file.size > limit:
        raise UnsafeError(f"{file.size} bytes are more than the limit of {limit}", path=file.path)
    return file.read(0, file.size)


def read_many(files: Sequence[tuple[str, int]], at_once: int) -> Iterator[bytes | CkptError]:
    """The bytes of many small files, each with its size as it was listed, in their order; of one that cannot be read
    the error. From a store ``at_once`` of them are asked for at the same time."""
    if not files or not is_url(files[0][0]):
        for path, size in files:
            try:
                yield read_file(path, limit=size)
            except CkptError as error:
                yield error
        return
    from ckpt_tools.fs import remote

    yield from remote.read_many(files, at_once)


def sha256_of(file: File) -> str:
    """The digest of all bytes of an open file, in hexadecimal digits."""
    import hashlib  # it loads a library of cryptography, which only digests need

    digest = hashlib.sha256()
    for offset in range(0, file.size, _PIECE):
        digest.update(file.read(offset, min(_PIECE, file.size - offset)))
    return digest.hexdigest()


def list_directory(path: PathLike) -> list[str]:
    """The names in a directory, sorted."""
    return list(_scan(path)) if is_url(path) else local.list_directory(path)


def list_files(directory: PathLike, ending: str = "") -> list[str]:
    """The names in a directory that end so and are not those of directories, sorted."""
    if is_url(directory):
        return [name for name, status in _scan(directory).items() if name.endswith(ending) and not status.directory]
    here = os.fspath(directory)
    return [name for name in list_directory(here) if name.endswith(ending) and has_file(os.path.join(here, name))]


def scan(directory: PathLike) -> dict[str, Status]:
    """The names in a directory, sorted, and what they are; links to nowhere, or to where one may not look, are left
    out. Raises NotFoundError, and StorageError when the system does not say what a name is (EIO, ESTALE)."""
    if is_url(directory):
        return _scan(directory)
    found = {}
    for name in local.list_directory(directory):
        path = os.path.join(directory, name)
        try:
            found[name] = Status.of(os.stat(path))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except OSError as error:
            if error.errno != errno.ELOOP:
                with local.translated(path, "look at"):
                    raise
    return found


def files_below(directory: str) -> Iterator[str]:
    """Every file in a directory and in those below it, links not followed; what cannot be listed is left out."""
    if not is_url(directory):
        if local.is_possible(directory):
            yield from (os.path.join(where, name) for where, _, names in os.walk(directory) for name in names)
        return
    waiting = [directory]
    while waiting:
        here = waiting.pop()
        try:
            found = _scan(here)
        except CkptError:
            continue
        for name, status in found.items():
            path = os.path.join(here, name)
            if status.directory:
                waiting.append(path)
            else:
                yield path


# ------------------------------------------------------------------------------------------------ names
# os.path.join, split, dirname and basename do for URLs what they do for paths; the others are here.


def normal(path: PathLike) -> str:
    """The path without ``.``, ``..`` and doubled slashes; a URL never loses its host."""
    match = _URL.fullmatch(text := os.fspath(path))
    if match is None:
        return os.path.normpath(text)
    rest = posixpath.normpath(f"/{match['path'].lstrip('/')}")
    return match["host"] + ("" if rest == "/" else rest)


def absolute(path: PathLike) -> str:
    return normal(path) if is_url(path) else os.path.abspath(path)


def real(path: PathLike) -> str:
    """The path with all links followed; a URL has none, nor has what no file can be called."""
    if is_url(path) or not local.is_possible(os.fspath(path)):
        return normal(path)
    return os.path.realpath(path)


def parent(path: PathLike) -> str:
    """The directory of an absolute path or of a URL; the topmost is its own."""
    return normal(os.path.join(os.fspath(path), os.pardir)) if is_url(path) else os.path.dirname(path)


def lies_in(path: PathLike, directory: PathLike) -> bool:
    """Whether a path is of a name in a directory, as both are written; no link is followed."""
    return normal(os.path.dirname(path)) == normal(directory)


def is_absolute(path: PathLike) -> bool:
    return is_url(path) or os.path.isabs(path)


def relative(path: str, start: str) -> str:
    """The way from one directory to a path; both are local or both URLs of one host."""
    return os.path.relpath(absolute(path), absolute(start))


def _is_no_directory(path: str) -> bool:
    return local.is_there(path) and not local.is_directory(path, follow=True)


def _is_directory(path: str) -> bool:
    return local.is_directory(path, follow=True)


def _is_file(path: str) -> bool:
    return local.is_file(path, follow=True)


def _noted(look: Callable[[str], bool], path: PathLike) -> bool:
    found = look(os.fspath(path))
    witness.saw(look, os.fspath(path), found)
    return found


def _look(path: PathLike) -> Status | None:
    from ckpt_tools.fs.remote import look

    found = look(os.fspath(path))
    witness.saw(look, os.fspath(path), found)
    return found


def _glance(path: PathLike) -> Status | None:
    known = _glances.get()
    if known is None:
        return _look(path)
    url = os.fspath(path)
    if url not in known:
        known[url] = _look(url)
    return known[url]


def _scan(path: PathLike) -> dict[str, Status]:
    from ckpt_tools.fs.remote import scan

    return scan(os.fspath(path))
