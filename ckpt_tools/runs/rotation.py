"""What a rotation makes of a log: ``train.log.2``, ``train.log.2024-05-01``, ``train.log-20240501.gz``."""

from __future__ import annotations

import os
import re

from ckpt_tools.errors import CorruptError, StorageError
from ckpt_tools.format import packed
from ckpt_tools.fs import paths

_ROTATED = re.compile(
    r"(?P<log>.+\.(?:log|out|err|jsonl))(?:\.(?P<number>\d{1,4})|[-.](?P<date>\d{4}-?\d\d-?\d\d[\d_-]*))"
)


# A file of a megabyte may be a gigabyte of zeros.
MOST_UNPACKED = 1 << 28


def unpacked_name(path: str) -> str:
    """What a file is called without the ending of what packed it."""
    name = os.path.basename(path)
    return next((name.removesuffix(ending) for ending in packed.ENDINGS if name.endswith(ending)), name)


def log_name(path: str) -> str:
    """The name of the log that a file is, or is an older part of."""
    name = unpacked_name(path)
    rotated = _ROTATED.fullmatch(name)
    return rotated["log"] if rotated else name


def age(path: str) -> tuple[str, str, int, str]:
    """Sorts files by name, and the parts of a log as they were written: the highest number first, dates in their order,
    then the log itself."""
    name = unpacked_name(path)
    rotated = _ROTATED.fullmatch(name)
    if rotated is None:
        return os.path.dirname(path), name, 1, ""
    return os.path.dirname(path), rotated["log"], -int(rotated["number"] or 0), rotated["date"] or ""


def read_log(path: str, *, limit: int) -> bytes:
    """A log, unpacked where it is packed. Raises UnsafeError when it is larger than ``limit`` either way, StorageError
    when it cannot be unpacked (what it holds is not known then), and what `paths.read_file` raises."""
    try:
        return packed.unpacked(paths.read_file(path, limit=limit), min(limit, MOST_UNPACKED))
    except CorruptError as error:
        raise StorageError(
            f"cannot be unpacked: {error.message}", path=path, hint="unpack it, or move it away"
        ) from error
