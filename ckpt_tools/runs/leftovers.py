"""What a save leaves behind when it is killed, for every command alike. Only what carries one of the names that
TensorFlow and this project give to what is unfinished counts (`ckpt_tools.format.filenames`): anything else may be
somebody's last copy. What changed lately may be being written now.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ckpt_tools.errors import CkptError
from ckpt_tools.format.filenames import (
    bundle_part,
    index_name,
    is_part_of_unfinished,
    is_unfinished,
    is_unfinished_folder,
)
from ckpt_tools.fs import paths
from ckpt_tools.fs.local import Status

FRESH_SECONDS = 600


@dataclass(frozen=True)
class Leftover:
    """A file or directory that an unfinished save left; ``age`` in seconds since it was last written to."""

    path: str
    age: float
    directory: bool = False

    @property
    def fresh(self) -> bool:
        """Too young to be sure that nobody writes it. What is of the future tells of a clock that was moved."""
        return abs(self.age) < FRESH_SECONDS


def leftovers_in(directory: str, now: float, found: Mapping[str, Status] | None = None) -> Iterator[Leftover]:
    """What unfinished saves left in a directory; ``now`` in seconds since 1970.

    ``found``: what is in the directory, where it has been looked at already.
    """
    for name, status in (paths.scan(directory) if found is None else found).items():
        path = os.path.join(directory, name)
        if not (is_unfinished_folder(name) if status.directory else is_unfinished(name)) or paths.is_link(path):
            continue
        written = status.fingerprint.mtime_ns
        if status.directory:
            with contextlib.suppress(CkptError):  # its save has ended in the meantime, or it is nobody's to look into
                parts = paths.scan(path)
                if all(is_part_of_unfinished(part, name) for part in parts):
                    written = max([written, *(part.fingerprint.mtime_ns for part in parts.values())])
                    yield Leftover(path, now - written / 1e9, directory=True)
        else:
            yield Leftover(path, now - written / 1e9)


def orphans_in(directory: str) -> list[str]:
    """The data files of a directory whose index is missing."""
    names = {*paths.list_directory(directory)}
    parts = {name: part for name in sorted(names) if (part := bundle_part(name)) and part.part == "data"}
    return [os.path.join(directory, name) for name, part in parts.items() if index_name(part.prefix) not in names]
