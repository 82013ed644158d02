"""Which tensors a verification reads that is to read a part: a share chosen anew each time, or one part of several.

5%      tensors chosen by chance until they are a twentieth of the bytes
3/20    the third of twenty parts of about the same size, which together are all: one a night, say
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ckpt_tools.errors import UsageError
from ckpt_tools.readers.base import TensorInfo

_SHARE = re.compile(r"(?P<percent>\d{1,3}(?:\.\d{1,9})?)%", re.ASCII)
_PART = re.compile(r"(?P<number>\d{1,9})/(?P<count>\d{1,9})", re.ASCII)


@dataclass(frozen=True)
class Share:
    """So many percent of the bytes, by chance."""

    percent: float

    def choose(self, tensors: Mapping[str, TensorInfo]) -> list[str]:
        """The names of the chosen ones, in their order; at least one where there is one."""
        wanted = sum(info.nbytes for info in tensors.values()) * self.percent / 100
        names = list(tensors)
        random.SystemRandom().shuffle(names)
        chosen: set[str] = set()
        for name in names:
            if chosen and wanted <= 0:
                break
            chosen.add(name)
            wanted -= tensors[name].nbytes
        return [name for name in tensors if name in chosen]

    def __str__(self) -> str:
        return f"{self.percent:g}%"


@dataclass(frozen=True)
class Part:
    """Part ``number`` (from 1) of ``count``: the same tensors every time, and each in one of the parts."""

    number: int
    count: int

    def choose(self, tensors: Mapping[str, TensorInfo]) -> list[str]:
        """The names of those whose middle lies in this part of all bytes; what has no bytes counts as one."""
        total = sum(max(1, info.nbytes) for info in tensors.values())
        chosen = []
        start = 0
        for name, info in tensors.items():
            size = max(1, info.nbytes)
            if (2 * start + size) * self.count // (2 * total) == self.number - 1:
                chosen.append(name)
            start += size
        return chosen

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


Selection = Share | Part


def parse_share(text: str) -> Share:
    """``5%``. Raises UsageError for anything that is no share above 0% and up to 100%."""
    match = _SHARE.fullmatch(text.strip())
    if match is None or not 0 < float(match["percent"]) <= 100:
        raise UsageError(f"--sample {text}: must be a share of the bytes, such as 5%")
    return Share(float(match["percent"]))


def parse_part(text: str) -> Part:
    """``3/20``. Raises UsageError for anything that is no part of a whole."""
    match = _PART.fullmatch(text.strip())
    if match is None or not 1 <= int(match["number"]) <= int(match["count"]):
        raise UsageError(f"--part {text}: must be one of several parts, such as 3/20")
    return Part(int(match["number"]), int(match["count"]))
