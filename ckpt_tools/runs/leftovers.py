"""What a save leaves behind when it is killed. Only what carries one of the names that TensorFlow and this project
give to unfinished files counts, and nothing that changed lately: somebody may be writing it now.

    NAME_temp/ NAME_temp_HEX/    parts of a bundle, before they are put together; this project's unfinished saves
    *.tempstateN                 a file that TensorFlow 1 had not yet given its name
    checkpoint.tmpHEX            the ``checkpoint`` file, or NAME.meta, before it is put into place
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ckpt_tools.errors import NotFoundError
from ckpt_tools.fs import local

FRESH_SECONDS = 600

_FOLDER = re.compile(r".+_temp(_[0-9a-f]{32})?", re.DOTALL)
_PART = re.compile(r"(part-\d{5}-of-\d{5}|ckpt-\d+)\.(index|data-\d{5}-of-\d{5})(\.tempstate\d+)?|ckpt-\d+_temp")
_FILE = re.compile(r".+\.tempstate\d+|(checkpoint|.+\.meta)\.tmp-?[0-9a-f]{8,32}", re.DOTALL)
_DATA = re.compile(r"(?P<prefix>.+)\.data-\d{5}-of-\d{5}", re.DOTALL)


@dataclass(frozen=True)
class Leftover:
    """A file or directory that an unfinished save left; ``age`` in seconds since it was last written to."""

    path: str
    age: float

    @property
    def fresh(self) -> bool:
        """Too young to be sure that nobody writes it. What is of the future tells of a clock that was moved."""
        return abs(self.age) < FRESH_SECONDS


def leftovers_in(directory: str, now: float) -> Iterator[Leftover]:
    """What unfinished saves left in a directory; ``now`` in seconds since 1970."""
    for name in local.list_directory(directory):
        path = os.path.join(directory, name)
        if not local.is_link(path):
            with contextlib.suppress(NotFoundError):  # its save has ended in the meantime
                if local.is_file(path) and _FILE.fullmatch(name):
                    yield Leftover(path, now - _written(path))
                elif local.is_directory(path) and _FOLDER.fullmatch(name):
                    parts = local.list_directory(path)
                    if all(_PART.fullmatch(part) for part in parts):
                        newest = max(map(_written, (path, *(os.path.join(path, part) for part in parts))))
                        yield Leftover(path, now - newest)


def orphans_in(directory: str) -> list[str]:
    """The data files of a directory whose index is missing."""
    names = local.list_directory(directory)
    return [
        os.path.join(directory, name)
        for name in names
        if (match := _DATA.fullmatch(name)) and f"{match['prefix']}.index" not in names
    ]


def _written(path: str) -> float:
    return local.fingerprint(path).mtime_ns / 1e9
