"""Which files a checkpoint of version 1 has in a directory: one, or the shards of a set."""

from __future__ import annotations

from ckpt_tools.errors import CkptError, UnsafeError
from ckpt_tools.format.filenames import shard_of_v1, v1_set, v1_shard_name
from ckpt_tools.fs import paths

MAX_SHARDS = 100_000


def shard_names(path: str) -> list[str]:
    """The files that a path stands for: those of a set, or the one file.

    Raises UnsafeError for a set of more than `MAX_SHARDS`.
    """
    found = shard_of_v1(path)
    if found is None or found.shard is not None:
        return [path]
    count = int(found.count)
    if not 1 <= count <= MAX_SHARDS:
        raise UnsafeError(f"{count} shards are outside 1 to {MAX_SHARDS}", path=path)
    return [v1_shard_name(found.prefix, shard, count) for shard in range(count)]


def shard_sets_in(directory: str, name: str) -> list[str]:
    """The patterns of all sharded checkpoints called ``name`` in a directory."""
    try:
        files = paths.list_directory(directory)
    except CkptError:
        return []
    sets = {v1_set(file) for file in files if file.startswith(f"{name}-")}
    return sorted(found for found in sets if found is not None and found.startswith(f"{name}-?"))


def shards_of(path: str) -> bool:
    """Whether at least one file of a set is there."""
    return any(paths.has_file(name) for name in shard_names(path))
