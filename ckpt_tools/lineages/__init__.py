"""Who wrote a checkpoint: one module for each producer that is known."""

from __future__ import annotations

from ckpt_tools.lineages.base import BestMetric, Lineage, OtherBest, Source
from ckpt_tools.lineages.comirec import keras2_slots, keras2_vars, keras3, tf1, trainer
from ckpt_tools.lineages.experiment_name import fields_above
from ckpt_tools.readers.base import Checkpoint

__all__ = ["BestMetric", "Lineage", "OtherBest", "Source", "identify"]

_PRODUCERS = (trainer, keras3, keras2_vars, keras2_slots, tf1)


def identify(checkpoint: Checkpoint) -> Lineage | None:
    """The lineage of a checkpoint, from its names, its object graph and its shapes; None when it is not known.

    The name of the experiment it lies in fills in what these do not tell.
    """
    fields = fields_above(checkpoint.prefix)
    for producer in _PRODUCERS:
        lineage: Lineage | None = producer.describe(checkpoint, fields)
        if lineage is not None:
            return lineage
    return None
