"""The names of the files of a checkpoint of version 1: one file, or the shards of a set.

PREFIX                                 all in one file
PREFIX-00000-of-00002, ...-00001-...   sharded; TensorFlow calls the set PREFIX-?????-of-00002
"""

from __future__ import annotations

import re

from ckpt_tools.errors import CkptError, UnsafeError
from ckpt_tools.fs import paths

MAX_SHARDS = 100_000
_SHARD = re.compile(r"(?P<prefix>.+)-(?:\d{5}|\?{5})-of-(?P<count>\d{5})", re.DOTALL)


def shard_set(path: str) -> str | None:
    """``PREFIX-?????-of-N`` for that pattern itself and for the name of any shard of it; None for other names."""
    match = _SHARD.fullmatch(path)
    return f"{match['prefix']}-?????-of-{match['count']}" if match else None


def shard_names(path: str) -> list[str]:
    """The files that a path stands for: those of a set, or the one file."""
    match = _SHARD.fullmatch(path)
    if match is None or "?????" not in path[len(match["prefix"]) :]:
        return [path]
    count = int(match["count"])
    if not 1 <= count <= MAX_SHARDS:
        raise UnsafeError(f"{count} shards are outside 1 to {MAX_SHARDS}", path=path)
    return [f"{match['prefix']}-{shard:05d}-of-{count:05d}" for shard in range(count)]


def shard_sets_in(directory: str, name: str) -> list[str]:
    """The patterns of all sharded checkpoints called ``name`` in a directory."""
    try:
        files = paths.list_directory(directory)
    except CkptError:
        return []
    sets = {shard_set(file) for file in files if file.startswith(f"{name}-")}
    return sorted(found for found in sets if found is not None and found.startswith(f"{name}-?"))


def shards_of(path: str) -> bool:
    """Whether at least one file of a set is there."""
    return any(paths.has_file(name) for name in shard_names(path))
