"""Whether the best of a run is in the run itself, or only in what a guard has pinned beside it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ckpt_tools.errors import CkptError, NotFoundError
from ckpt_tools.findings import Finding
from ckpt_tools.fs import paths
from ckpt_tools.fs.local import is_no_answer
from ckpt_tools.lineages.base import float32
from ckpt_tools.lineages.declared.roles import roles_of
from ckpt_tools.lineages.unknown import best_of
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.runs.pin_places import SUFFIX, pins_above

if TYPE_CHECKING:
    from ckpt_tools.runs.pins import Pin


def lost_to_pin(path: str) -> Pin | None:
    """The pin that holds the best of the run at a path, or in which it lies; None where the run itself has it too."""
    directory = pins_above(path)
    if directory is None:
        return None
    from ckpt_tools.runs.pins import ranked  # most runs have no pins

    best = next((pin for pin in ranked(directory) if is_whole(pin)), None)
    return None if best is None or _is_in_run(best, directory.removesuffix(SUFFIX)) else best


def pinned_best(path: str) -> Iterator[Finding]:
    """A finding where the best of a run is pinned, and not in the run any more."""
    pin = lost_to_pin(path)
    if pin is None or pin.value is None:
        return
    run = os.path.dirname(pin.directory).removesuffix(SUFFIX)
    message = (
        f"the best of this run, {pin.metric} {pin.value:.6g}, is not in it any more: {pin.source} is gone, or was "
        f"written again since; it is pinned in {pin.path}"
    )
    fix = f"ckpt guard {shlex.quote(_as_told(run, path))} --restore"
    yield Finding("best-pinned", "warning", message, path, fix=fix)


def _as_told(run: str, path: str) -> str:
    """The directory of a run, relative where the path to it was."""
    return run if os.path.isabs(path) else paths.relative(run, os.curdir)


def is_whole(pin: Pin, *, quick: bool = True) -> bool:
    """Whether all of a pin can be read; with ``quick`` only whether all of it is there."""
    from ckpt_tools.analysis.verification import verify  # most runs have no pins

    try:
        return verify(pin.path, quick=quick).whole
    except CkptError:
        return False


def _is_in_run(pin: Pin, run: str) -> bool:
    """Whether the run has the pinned files, unchanged, or something under their name that stores as good a value.

    What the system does not tell is not said to be gone.
    """
    there = os.path.normpath(os.path.join(run, pin.source))
    folder = there if pin.kind == "saved-model" else os.path.dirname(there)
    try:
        if pin.origin and all(_is_unchanged(os.path.join(folder, name), size, time) for name, size, time in pin.origin):
            return True
        with open_checkpoint(there) as checkpoint:
            stored = best_of(checkpoint, roles_of(checkpoint.tensors, checkpoint.graph, None))
    except CkptError as error:
        return is_no_answer(error)
    if stored.value is None or stored.status != "present" or pin.value is None:
        return False
    return float32(stored.value) == float32(pin.value) or (stored.value > pin.value) == (pin.mode == "max")


def _is_unchanged(path: str, size: int, mtime_ns: int) -> bool:
    try:
        found = paths.fingerprint(path)
    except NotFoundError:
        return False
    return (found.size, found.mtime_ns) == (size, mtime_ns)
