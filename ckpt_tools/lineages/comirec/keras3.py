"""The Keras port under TensorFlow 2.16 and later (Keras 3).

The optimizer holds the weights themselves in ``_trainable_variables``: a weight's place in that list, found by
the identity of the object, is the place of its moments in ``_momentums`` and ``_velocities``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ckpt_tools.format.graph import ObjectGraph, Variable
from ckpt_tools.lineages.comirec import keras_port
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.readers.base import Checkpoint

ID = "comirec-keras3"
_LISTS = {"m": "optimizer/_momentums", "v": "optimizer/_velocities"}


def describe(checkpoint: Checkpoint, fields: Mapping[str, Any]) -> ComiRecLineage | None:
    graph = checkpoint.graph
    if graph is None or graph.child("optimizer/_trainable_variables") is None:
        return None
    return keras_port.describe(
        checkpoint,
        fields,
        id=ID,
        producer="ComiRec Keras port, TensorFlow 2.16 or later (Keras 3)",
        step_path="optimizer/_iterations",
        moments=_moments,
    )


def _moments(graph: ObjectGraph, variable: Variable) -> dict[str, str | None]:
    weights = graph.child("optimizer/_trainable_variables")
    places = (
        [] if weights is None else [p for p, node in graph.nodes[weights].children.items() if node == variable.node]
    )
    if len(places) != 1:
        return {}
    moments = {slot: graph.variable(f"{path}/{places[0]}") for slot, path in _LISTS.items()}
    return {slot: found.key if found else None for slot, found in moments.items()}
