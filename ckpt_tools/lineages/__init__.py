"""Who wrote a checkpoint: one folder, or module, for each family of producers that is known."""

from __future__ import annotations

from ckpt_tools.lineages.base import BestMetric, Lineage, OtherBest, Source
from ckpt_tools.lineages.comirec.producers import describe as describe_comirec
from ckpt_tools.readers.base import Checkpoint

__all__ = ["BestMetric", "Lineage", "OtherBest", "Source", "identify"]

_DESCRIBE = (describe_comirec,)


def identify(checkpoint: Checkpoint) -> Lineage | None:
    """The lineage of a checkpoint, from its names, its object graph and its shapes; None when it is not known.

    Raises what reading the few small tensors that tell it raises.
    """
    for describe in _DESCRIBE:
        lineage: Lineage | None = describe(checkpoint)
        if lineage is not None:
            return lineage
    return None
