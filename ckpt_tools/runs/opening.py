"""The one door of all commands: from what a user types, an experiment too, to an open checkpoint and who wrote it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from ckpt_tools.errors import UnsupportedError
from ckpt_tools.format.filenames import meta_name
from ckpt_tools.fs import paths
from ckpt_tools.lineages import Lineage, identify
from ckpt_tools.readers import Checkpoint
from ckpt_tools.readers.opening import open_located
from ckpt_tools.runs.experiments import find

Kind = TypeVar("Kind", bound=Lineage)


def open_meant(path: str | os.PathLike[str]) -> Checkpoint:
    """Open the checkpoint that a path means, as `ckpt_tools.runs.experiments.resolve` understands it.

    Raises what `ckpt_tools.readers.open_checkpoint` raises.
    """
    return open_located(find(path))


def has_graph(checkpoint: Checkpoint) -> bool:
    """Whether the graph of its trainer lies beside a checkpoint (``PREFIX.meta``), for `run_graph` to read."""
    return paths.is_file(meta_name(checkpoint.prefix))


@contextmanager
def open_identified(
    path: str | os.PathLike[str], kind: type[Kind], *, producer: str | None = None
) -> Iterator[tuple[Checkpoint, Kind]]:
    """The same, and who wrote it: somebody of this kind of lineages; with ``producer`` only the one of that id.

    Raises:
        UnsupportedError: nobody who is known wrote it, or somebody else.
        CkptError: what `open_meant` and `identify` raise.
    """
    with open_meant(path) as checkpoint:
        lineage = identify(checkpoint)
        if not isinstance(lineage, kind) or producer not in (None, lineage.id):
            said = "the producer of this checkpoint is not known" if lineage is None else f"was written by {lineage.id}"
            raise UnsupportedError(said, path=checkpoint.prefix, hint=f"ckpt inspect {shlex.quote(checkpoint.prefix)}")
        yield checkpoint, lineage
