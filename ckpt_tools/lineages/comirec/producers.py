"""The five producers of ComiRec checkpoints, asked one after the other."""

from __future__ import annotations

from ckpt_tools.lineages.comirec import keras2_slots, keras2_vars, keras3, tf1, trainer
from ckpt_tools.lineages.comirec.experiment_name import fields_above
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.readers.base import Checkpoint

_PRODUCERS = (trainer, keras3, keras2_vars, keras2_slots, tf1)


def describe(checkpoint: Checkpoint) -> ComiRecLineage | None:
    """The lineage of a checkpoint of ComiRec; None for anybody else's.

    The name of the experiment it lies in fills in what names, object graph and shapes do not tell.

    Raises what reading the few small tensors that tell it raises.
    """
    fields = fields_above(checkpoint.prefix)
    for producer in _PRODUCERS:
        lineage: ComiRecLineage | None = producer.describe(checkpoint, fields)
        if lineage is not None:
            return lineage
    return None
