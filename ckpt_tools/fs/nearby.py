"""The path that is meant by one that is not there."""

from __future__ import annotations

import os
import shlex
from difflib import SequenceMatcher, get_close_matches

from ckpt_tools.format.filenames import INDEX, index_name
from ckpt_tools.fs import paths

_MOST_NAMES = 2_000
# So alike that no other is meant.
_SURE = 0.95


def names_near(path: str | os.PathLike[str]) -> list[str]:
    """Paths of this machine that are there and are called nearly so, the nearest first; none of a URL."""
    path = os.fspath(path)
    if paths.is_url(path) or not path:
        return []
    parts: list[str] = []
    here = os.path.normpath(path)
    while here and not os.path.isdir(here):  # noqa: TID251 - only shown
        here, part = os.path.split(here)
        parts.insert(0, part)
        if not part:
            return []
    if not parts:
        return []
    try:
        names = [name for _, name in zip(range(_MOST_NAMES), os.listdir(here or "."), strict=False)]
    except OSError:
        return []
    # A prefix is no file, but the beginning of the names of several.
    prefixes = [name.removesuffix(INDEX) for name in names if name.endswith(INDEX)]
    likely = get_close_matches(parts[0], dict.fromkeys([*prefixes, *sorted(names)]), n=3, cutoff=0.7)
    if likely and SequenceMatcher(None, parts[0], likely[0]).ratio() >= _SURE:
        likely = likely[:1]
    found = [os.path.join(here, name, *parts[1:]) for name in likely]
    found = [each for each in found if each != os.path.normpath(path)]  # of a prefix, some file may be called so
    shown = (each for each in found if any(map(os.path.lexists, (each, index_name(each)))))  # noqa: TID251 - only shown
    return list(shown)


def did_you_mean(path: str | os.PathLike[str]) -> str | None:
    """The question that shows them; None when there are none."""
    found = names_near(path)
    return f"did you mean {' or '.join(map(shlex.quote, found))}?" if found else None
