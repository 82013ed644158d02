"""Where the steps and the items of an Orbax checkpoint are; what a step says of its metrics."""

from __future__ import annotations

import contextlib
import os

from ckpt_tools.errors import CorruptError
from ckpt_tools.format import orbax
from ckpt_tools.fs import paths

_MOST_STEPS = 10_000


def place_of(directory: str) -> str | None:
    """The step, or the item, that a directory means: itself, or the newest step in it; None for another directory.

    What a save that was killed left is none.
    """
    if items_of(directory):
        return directory
    steps = steps_in(directory)
    return steps[max(steps)] if steps else None


def steps_in(directory: str) -> dict[int, str]:
    """The directories of the committed steps of a run, by step."""
    found: dict[int, str] = {}
    names = paths.list_directory(directory)[:_MOST_STEPS]
    for name in names:
        step, path = orbax.step_of(name), os.path.join(directory, name)
        if step is not None and paths.is_directory(path) and items_of(path):
            found[step] = path
    return found


def items_of(directory: str) -> list[str]:
    """The names of the items of a step, sorted: of what is an item itself ``""``; of another directory none."""
    if _is_item(directory):
        return [""]
    committed = paths.has_file(os.path.join(directory, orbax.CHECKPOINT_METADATA))
    if not committed or orbax.UNFINISHED in os.path.basename(os.path.normpath(directory)):
        return []
    names = paths.list_directory(directory)[:_MOST_STEPS]
    return [name for name in names if orbax.UNFINISHED not in name and _is_item(os.path.join(directory, name))]


def stored_metrics(path: str) -> dict[str, float]:
    """The metrics that a program stored with a step: its own, or those that a manager was given; finite numbers."""
    found: dict[str, float] = {}
    for name, within in ((orbax.CHECKPOINT_METADATA, orbax.METRICS), (f"{orbax.METRICS}/{orbax.METRICS}", None)):
        with contextlib.suppress(CorruptError):
            data = optional_file(os.path.join(path, name))
            found |= {} if data is None else orbax.decode_metrics(data, within=within)
    return found


def _is_item(directory: str) -> bool:
    return any(paths.has_file(os.path.join(directory, name)) for name in (orbax.MANIFEST, orbax.TREE_METADATA))


def optional_file(path: str) -> bytes | None:
    return paths.read_file(path, limit=orbax.MAX_JSON_BYTES) if paths.has_file(path) else None
