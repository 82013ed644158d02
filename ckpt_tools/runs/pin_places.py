"""Where the pins of a run lie: looked for by each inspection, so it loads nothing; what they say is in `runs.pins`."""

from __future__ import annotations

import os

from ckpt_tools.fs import paths

SUFFIX = ".pins"
# How far above a checkpoint its run may begin.
_LEVELS = 3


def pins_directory(run: str) -> str:
    """Where the pins of a run lie, told as the run was. The run's directory need not exist."""
    plain = os.path.normpath(run)
    return (os.path.abspath(run) if os.path.basename(plain) in ("", os.curdir, os.pardir) else plain) + SUFFIX


def pins_above(path: str) -> str | None:
    """The directory of pins of the run at a path, or in which it lies; None where none of them is guarded.

    A guard runs beside its trainer: what lies in a store has no pins.
    """
    if paths.is_url(path):
        return None
    here = paths.absolute(path)
    for _ in range(_LEVELS + 1):
        if paths.is_directory(here + SUFFIX):
            return here + SUFFIX
        parent = paths.parent(here)
        if parent == here or here.endswith(SUFFIX):
            return None
        here = parent
    return None
