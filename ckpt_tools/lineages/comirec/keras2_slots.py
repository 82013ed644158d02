"""The Keras port under TensorFlow up to 2.10: the optimizer's moments are slot variables of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ckpt_tools.format.graph import ObjectGraph, Variable
from ckpt_tools.lineages.comirec import keras_port
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.readers.base import Checkpoint

ID = "comirec-keras2-slots"


def describe(checkpoint: Checkpoint, fields: Mapping[str, Any]) -> ComiRecLineage | None:
    graph = checkpoint.graph
    if graph is None or graph.child("optimizer/iter") is None:
        return None
    return keras_port.describe(
        checkpoint,
        fields,
        id=ID,
        producer="ComiRec Keras port, TensorFlow up to 2.10 (Keras 2, slot variables)",
        step_path="optimizer/iter",
        moments=_moments,
    )


def _moments(graph: ObjectGraph, variable: Variable) -> dict[str, str | None]:
    return {slot.name: graph.key_of(slot.node) for slot in graph.slots if slot.variable == variable.node}
