"""Which of several jobs works on what: by names alone, so that no job has to know of the others."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from ckpt_tools.errors import UsageError

_SHARD = re.compile(r"(?P<number>\d{1,6})/(?P<count>\d{1,6})")


@dataclass(frozen=True)
class Shard:
    """One of ``count`` shares, numbered from 1."""

    number: int
    count: int

    def holds(self, name: str) -> bool:
        """Whether a name belongs to this share; it belongs to exactly one, on every machine."""
        return zlib.crc32(name.encode("utf-8", "surrogateescape")) % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


WHOLE = Shard(1, 1)


def parse_shard(text: str) -> Shard:
    """``3/20``. Raises UsageError for what is no share of a whole."""
    match = _SHARD.fullmatch(text.strip())
    if match is None or not 1 <= int(match["number"]) <= int(match["count"]):
        raise UsageError(f"--shard {text}: must be one of several shares, such as 3/20")
    return Shard(int(match["number"]), int(match["count"]))
