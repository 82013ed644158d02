"""What the beginning of a path that is being typed may go on to, and which typed paths mean the same checkpoint."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ckpt_tools.errors import CkptError
from ckpt_tools.format.filenames import KERAS_ENDINGS, KERAS_MAPS
from ckpt_tools.readers.location import prefixes_in
from ckpt_tools.runs.experiments import resolve


def matching(incomplete: str) -> list[str]:
    """The prefixes, Keras files and directories (with a slash behind) whose path begins so, sorted."""
    directory, start = os.path.split(incomplete)
    # A tilde stays as it was typed.
    place = os.path.expanduser(directory) or os.curdir
    names = set(prefixes_in(place))
    try:
        for entry in os.scandir(place):
            if entry.is_dir():
                names.add(f"{entry.name}{os.sep}")
            elif entry.name.endswith((*KERAS_ENDINGS, *KERAS_MAPS)):
                names.add(entry.name)
    except OSError:
        return []
    shown = (name for name in names if name.startswith(start) and (start or not name.startswith(".")))
    return sorted(os.path.join(directory, name) for name in shown)


def distinct(paths: Sequence[str]) -> list[str]:
    """The paths, of several that mean one checkpoint the first; a file of one becomes its prefix."""
    if len(paths) == 1:
        return list(paths)
    first: dict[str, str] = {}
    for path in paths:
        try:
            prefix = resolve(path)
        except CkptError:
            prefix = path
        # One of the files of a checkpoint is no name for it.
        first.setdefault(os.path.normpath(prefix), path if os.path.isdir(path) else prefix)  # noqa: TID251 - only shown
    return list(first.values())
