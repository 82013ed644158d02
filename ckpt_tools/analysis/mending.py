"""The one command that mends most of what was found in many runs."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Wanting:
    """A run at ``path``, the command that would mend it, and whether its data lies where it is looked for."""

    path: str
    fix: str
    has_data: bool = False


@dataclass(frozen=True)
class Mending:
    """A command as one types it, and how many runs it mends."""

    command: str
    runs: int


def most_mending(wanting: Sequence[Wanting], root: str) -> Mending | None:
    """The command that mends most: all runs below ``root`` that lack their best at once, where several do; else the
    command of one run. None when no run has any."""
    ends: dict[str, list[Wanting]] = {}
    for each in wanting:
        begin = f"ckpt backfill {shlex.quote(each.path)}"
        if each.fix.startswith(begin):
            ends.setdefault(each.fix[len(begin) :], []).append(each)
    end, together = max(ends.items(), key=lambda item: len(item[1]), default=("", []))
    if len(together) < 2:
        return Mending(wanting[0].fix, 1) if wanting else None
    if all(each.has_data for each in together):
        end = end.replace(" --data DIR", "")
    return Mending(f"ckpt backfill --all {shlex.quote(root)}{end}", len(together))


def common_root(paths: Sequence[str]) -> str:
    """The directory that all these runs lie below, as short as they were written."""
    try:
        return os.path.commonpath([os.path.dirname(os.path.normpath(path)) for path in paths]) or os.curdir
    except ValueError:  # some from the root of the file system, some not
        return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])


def reasons(sentences: Sequence[str]) -> list[tuple[str, int]]:
    """Each sentence once with how often it was said, the most frequent first."""
    return Counter(sentences).most_common()
