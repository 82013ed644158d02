"""The Keras port under TensorFlow 2.11 to 2.15: the moments are numbered, and only their full names tell whose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ckpt_tools.format.graph import ObjectGraph, Variable
from ckpt_tools.lineages.comirec import keras_port
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.readers.base import Checkpoint

ID = "comirec-keras2-vars"


def describe(checkpoint: Checkpoint, fields: Mapping[str, Any]) -> ComiRecLineage | None:
    graph = checkpoint.graph
    if graph is None or graph.child("optimizer/_index_dict") is None:
        return None
    return keras_port.describe(
        checkpoint,
        fields,
        id=ID,
        producer="ComiRec Keras port, TensorFlow 2.11 to 2.15 (Keras 2)",
        step_path="optimizer/_iterations",
        moments=_moments,
    )


def _moments(graph: ObjectGraph, variable: Variable) -> dict[str, str | None]:
    stored: dict[str, list[str]] = {}
    for found in graph.variables_below("optimizer"):
        stored.setdefault(found.full_name, []).append(found.key)
    keys = {slot: stored.get(f"Adam/{slot}/{variable.full_name}", []) for slot in ("m", "v")}
    # Keras 2 lets two layers have one name: then no name tells whose moment it is.
    return {slot: found[0] if len(found) == 1 else None for slot, found in keys.items()}
