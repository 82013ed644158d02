"""Inspect, verify, repair and backfill TensorFlow checkpoints, without TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt_tools.version import __version__

if TYPE_CHECKING:
    import os

    from ckpt_tools.opened import OpenedCheckpoint

__all__ = ["__version__", "open"]


def open(path: str | os.PathLike[str]) -> OpenedCheckpoint:
    """Open a checkpoint of any format: a mapping from names to lazy arrays.

    ``path`` is what ``ckpt inspect`` takes: a prefix, a file of the checkpoint, a directory, an experiment.
    Raises NotFoundError, CorruptError, UnsafeError, UnsupportedError as `ckpt_tools.readers.open_checkpoint` does.
    """
    # Imported when used: the package itself must stay as light as its version number.
    from ckpt_tools.opened import OpenedCheckpoint

    return OpenedCheckpoint(path)
