"""Where the parts of a bundle are when they lie in its directory under other names: a browser adds `` (1)`` or
``.txt``, a download ends in ``.download``, somebody renamed the index alone. Sizes and checksums tell, not names."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ckpt_tools.errors import CkptError, CorruptError
from ckpt_tools.format import checksum
from ckpt_tools.format.bundle import HEADER_KEY, Entry, Header
from ckpt_tools.format.filenames import INDEX, bundle_part, index_name, is_data
from ckpt_tools.format.table import MAGIC, Table
from ckpt_tools.fs import local, paths

# A few megabytes of a few tensors tell whether a file is the right one; small ones (a step, a flag) are alike in many.
_SAMPLES, _SAMPLE_BYTES, _TELLING = 3, 1 << 20, 8
_MOST_FILES, _MOST_SHARDS = 64, 16
_MAGIC = MAGIC.to_bytes(8, "little")
_CALLED = re.compile(r"[ ._-]?index", re.IGNORECASE)


@dataclass(frozen=True)
class Renamed:
    """``files`` maps the names of data files that are missing to those that hold their bytes.

    ``repairable``: these are the data files of a prefix whose index is missing, which a repair gives it.
    """

    directory: str
    files: Mapping[str, str]
    repairable: bool

    @property
    def sentence(self) -> str:
        pairs = list(self.files.items())
        told = ", ".join(f"the bytes of {name} are in {other!r}" for name, other in pairs[:4])
        told += f", and {len(pairs) - 4} more" if len(pairs) > 4 else ""
        if self.repairable:
            return f"{told}: the index has another name than its data"
        return f"{told}: give {'it its name' if len(pairs) == 1 else 'them their names'} again"

    @property
    def command(self) -> str:
        """What gives them their names again, to be typed."""
        if self.repairable:
            return f"ckpt repair {shlex.quote(self.directory)}"
        moves = []
        for name, other in self.files.items():
            # The data of another checkpoint stay where they are.
            part, own = bundle_part(other), bundle_part(name)
            another = part is not None and own is not None and part.prefix != own.prefix
            shared = another and part and paths.has_file(index_name(os.path.join(self.directory, part.prefix)))
            here = (shlex.quote(os.path.join(self.directory, each)) for each in (other, name))
            moves.append(" ".join(("cp" if shared else "mv", *here)))
        return " && ".join(moves)


def renamed_data(shard_paths: Sequence[str], missing: Mapping[int, Sequence[Entry]]) -> Renamed | None:
    """Which files of the directory hold the bytes of the data files that are ``missing`` (by number, with the entries
    of their tensors); None unless they are found, every one."""
    directory = local.directory_of(shard_paths[0])
    own = {os.path.basename(path) for path in shard_paths}
    try:
        names = [name for name in paths.list_files(directory) if name not in own and not name.endswith(INDEX)]
    except CkptError:
        return None
    if not missing or len(missing) > _MOST_SHARDS:
        return None
    found: dict[str, str] = {}
    for number, entries in missing.items():
        name = os.path.basename(shard_paths[number])
        end = max((entry.offset + entry.size for entry in entries), default=0)
        # The likeliest first: called almost like the missing one.
        likely = sorted(names, key=lambda other: (not other.startswith(name), other))[:_MOST_FILES]
        other = next((other for other in likely if holds(os.path.join(directory, other), entries, end)), None)
        if other is None:
            return None
        found[name] = other
    return Renamed(directory, found, _is_repairable(directory, found))


@dataclass(frozen=True)
class RenamedIndex:
    """A file that is the index of a bundle and is not called so; ``command`` gives it back its name."""

    name: str
    command: str


def renamed_index(directory: str, *, called_so: bool = False) -> RenamedIndex | None:
    """The first such file of a directory that can get a name: one that is a copy beside the index itself is none.

    ``called_so``: of those that have the word in their names.
    """
    names = [os.path.basename(path) for path in renamed_indexes(directory, called_so=called_so)]
    if not names:
        return None
    try:
        parts = [part for part in map(bundle_part, paths.list_files(directory)) if part and part.part == "data"]
    except CkptError:
        return None
    if any(not paths.has_file(index_name(os.path.join(directory, part.prefix))) for part in parts):
        return RenamedIndex(names[0], f"ckpt repair {shlex.quote(directory)}")
    for name in names:
        own = os.path.join(directory, index_name(_CALLED.split(name, maxsplit=1)[0] or name))
        if not paths.has_file(own):
            move = f"mv {shlex.quote(os.path.join(directory, name))} {shlex.quote(own)}"
            return RenamedIndex(name, move)
    return None


def renamed_indexes(directory: str, *, called_so: bool = False) -> list[str]:
    """The files of a directory that are the index of a bundle by what they hold, and do not end in ``.index``."""
    try:
        names = [name for name in paths.list_files(directory) if not name.endswith(INDEX) and not is_data(name)]
    except CkptError:
        return []
    likely = [name for name in names if _CALLED.search(name)]
    if not called_so and not paths.is_url(directory):  # each file of a store is a journey
        likely += [name for name in names if not _CALLED.search(name)]
    found = []
    for name in likely[:_MOST_FILES]:
        path = os.path.join(directory, name)
        try:
            with paths.open_file(path) as file:
                if is_index(file):
                    found.append(path)
        except CkptError:
            continue
    return found


def is_index(file: paths.File) -> bool:
    """Whether a file, whatever its name, is the index of a bundle: a file of version 1 has another header."""
    if file.size <= len(_MAGIC) or file.read(file.size - len(_MAGIC), len(_MAGIC)) != _MAGIC:
        return False
    try:
        Header.decode(Table(file.read, file.size).get(HEADER_KEY) or b"")
    except CorruptError:
        return False
    return True


def _is_repairable(directory: str, found: Mapping[str, str]) -> bool:
    """Whether the files are all the data of one other prefix, in their places, that has no index."""
    prefixes = set()
    for name, other in found.items():
        here, there = bundle_part(name), bundle_part(other)
        if there is None or here is None or (there.shard, there.count) != (here.shard, here.count):
            return False
        if there.prefix.startswith(here.prefix):  # the data got a longer name: "NAME (1).data-00000-of-00001"
            return False
        prefixes.add(there.prefix)
    count = next((part.count for name in found if (part := bundle_part(name)) is not None), None)
    return (
        len(prefixes) == 1
        and count == len(found)
        and not paths.has_file(index_name(os.path.join(directory, prefixes.pop())))
    )


def holds(path: str, entries: Sequence[Entry], end: int | None = None) -> bool:
    """Whether a file has the bytes of these tensors: those of the largest are compared by their checksums.

    ``end``: how long the file is when it is the very one; then also small tensors tell.
    """
    samples = [entry for entry in entries if entry.dtype.size and 0 < entry.size <= _SAMPLE_BYTES]
    samples = sorted(samples, key=lambda entry: -entry.size)[:_SAMPLES]
    if not samples:
        return False
    try:
        with paths.open_file(path) as file:
            if samples[0].size < _TELLING and file.size != end:
                return False
            return all(checksum.masked(file.read(entry.offset, entry.size)) == entry.crc for entry in samples)
    except CkptError:
        return False
