"""From what a user types to the prefix of a checkpoint.

Nothing here globs: names with ``[`` or ``*`` in them are names.
"""

from __future__ import annotations

import os
import re

from ckpt_tools import storage
from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, UnsafeError
from ckpt_tools.format.state import FILE_NAME, MAX_BYTES, State, decode_state

_INDEX = re.compile(r"(?P<prefix>.+)\.index")
_DATA = re.compile(r"(?P<prefix>.+)\.data-\d{5}-of-\d{5}")
_META = re.compile(r"(?P<prefix>.+)\.meta")


def locate(path: str | os.PathLike[str]) -> str:
    """The prefix meant by a path.

    Raises NotFoundError when there is no checkpoint, CorruptError when the ``checkpoint`` file is damaged,
    UnsafeError when it names a place outside its directory.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        return latest_in(path)
    if os.path.basename(path) == FILE_NAME and os.path.lexists(path):
        return latest_in(os.path.dirname(path) or ".")
    for pattern in (_INDEX, _DATA, _META):
        match = pattern.fullmatch(path)
        if match and os.path.lexists(path):
            return _existing(match["prefix"])
    return _existing(path)


def _existing(prefix: str) -> str:
    if os.path.lexists(f"{prefix}.index"):
        return prefix
    directory = os.path.dirname(prefix) or "."
    if os.path.lexists(prefix):
        raise NotFoundError(
            "this file is not a TensorFlow checkpoint",
            path=prefix,
            hint="pass the prefix (the name without .index), the .index file, or the directory",
        )
    there = prefixes_in(directory) if os.path.isdir(directory) else []
    hint = f"there is: {', '.join(os.path.join(directory, name) for name in there[:4])}" if there else None
    raise NotFoundError("no checkpoint with this prefix (no .index file)", path=prefix, hint=hint)


def latest_in(directory: str) -> str:
    """The prefix that a directory's ``checkpoint`` file names as its newest; else the only one that is there."""
    if os.path.lexists(os.path.join(directory, FILE_NAME)):
        state = read_state(directory)
        return _existing(inside(directory, state.latest))
    there = prefixes_in(directory)
    if len(there) == 1:
        return os.path.join(directory, there[0])
    if there:
        raise NotFoundError(
            f"no 'checkpoint' file, and {len(there)} checkpoints to choose from",
            path=directory,
            hint=f"pass one of: {', '.join(os.path.join(directory, name) for name in there[:8])}",
        )
    raise NotFoundError("no checkpoint in this directory", path=directory)


def read_state(directory: str) -> State:
    """The directory's ``checkpoint`` file."""
    path = os.path.join(directory, FILE_NAME)
    try:
        return decode_state(storage.read_file(path, limit=MAX_BYTES))
    except CorruptError as error:
        error.path = path
        there = prefixes_in(directory)
        error.hint = f"pass a prefix instead: {', '.join(os.path.join(directory, n) for n in there)}" if there else None
        raise


def inside(directory: str, stored: str) -> str:
    """The path that a ``checkpoint`` file means, never outside its directory.

    An absolute path is usually that of the machine where the run was made: the checkpoint of the same name
    here is meant. TensorFlow would follow it, and silently read another directory when one is there.
    """
    if os.path.isabs(stored):
        return os.path.join(directory, os.path.basename(stored))
    path = os.path.normpath(os.path.join(directory, stored))
    if os.path.relpath(path, directory).split(os.sep)[0] == os.pardir:
        raise UnsafeError(
            f"names {stored!r}, a place outside its directory",
            path=os.path.join(directory, FILE_NAME),
            hint="pass the checkpoint that you mean by its own path",
        )
    return path


def prefixes_in(directory: str) -> list[str]:
    """The names of all prefixes with an index in a directory, sorted; empty where it cannot be listed."""
    try:
        names = storage.list_directory(directory)
    except CkptError:
        return []
    return [match["prefix"] for match in map(_INDEX.fullmatch, names) if match]
