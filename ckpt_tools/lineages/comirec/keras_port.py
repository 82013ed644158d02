"""What the three lineages of the Keras port share: its objects' attributes, seen through the object graph.

Source of the attribute names: github.com/LittleGreen3/comirec, src/model.py, and checkpoints that it wrote
with TensorFlow 2.10, 2.15 and 2.21.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ckpt_tools.format.graph import ObjectGraph, Variable
from ckpt_tools.lineages import base
from ckpt_tools.lineages.base import Source
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage, name_hyper
from ckpt_tools.lineages.comirec.models import ITEM_EMBEDDING, OLD_MEANING, model_type_of, shape_hyper
from ckpt_tools.lineages.names import BEST_METRIC, LEARNING_RATE, SAVE_COUNTER, STEP, moment_name
from ckpt_tools.readers.base import Checkpoint

# Canonical name -> the paths that Keras 2 and Keras 3 give the same variable.
_PATHS = {
    "model/item_embedding": ("model/item_embedding/embeddings", "model/item_embedding/_embeddings"),
    "model/item_bias": ("model/item_bias",),
    "model/proj/kernel": ("model/proj/kernel", "model/proj/_kernel"),
    "model/proj/bias": ("model/proj/bias",),
    "model/gru/kernel": ("model/gru/cell/kernel", "model/gru/cell/_kernel"),
    "model/gru/recurrent_kernel": ("model/gru/cell/recurrent_kernel", "model/gru/cell/_recurrent_kernel"),
    "model/gru/bias": ("model/gru/cell/bias",),
    "model/capsule/bilinear/kernel": ("model/capsule/item_bilinear/kernel", "model/capsule/item_bilinear/_kernel"),
    "model/capsule/proj/kernel": ("model/capsule/proj_layer/kernel", "model/capsule/proj_layer/_kernel"),
    "model/capsule/proj/bias": ("model/capsule/proj_layer/bias",),
    "model/capsule/weights": ("model/capsule/w", "model/capsule/capsule_w"),
    "model/attention/hidden/kernel": ("model/ffn/kernel", "model/ffn/_kernel"),
    "model/attention/hidden/bias": ("model/ffn/bias",),
    "model/attention/heads/kernel": ("model/head_proj/kernel", "model/head_proj/_kernel"),
    "model/attention/heads/bias": ("model/head_proj/bias",),
}

# (graph, variable) -> the keys of its first and second moment.
Moments = Callable[[ObjectGraph, Variable], Mapping[str, str | None]]


def describe(
    checkpoint: Checkpoint, fields: Mapping[str, Any], *, id: str, producer: str, step_path: str, moments: Moments
) -> ComiRecLineage | None:
    """A lineage of the port, given where its optimizer keeps the step and the moments; None for other models."""
    graph = checkpoint.graph
    if graph is None:
        return None
    tensors: dict[str, Source] = {}
    for name, paths in _PATHS.items():
        variable = next((found for found in map(graph.variable, paths) if found), None)
        if variable is None:
            continue
        tensors[name] = Source((variable.key,))
        shape = checkpoint.tensors[variable.key].shape
        for slot, key in moments(graph, variable).items():
            # The graph says which moment belongs to which variable; the shape only confirms it.
            if key is not None and checkpoint.tensors[key].shape == shape:
                tensors[moment_name(slot, name)] = Source((key,))
    model_type = model_type_of(tensors)
    if ITEM_EMBEDDING not in tensors or model_type is None:
        return None
    step = graph.variable(step_path)
    for name, found in (
        (STEP, step),
        (LEARNING_RATE, _learning_rate(graph)),
        (BEST_METRIC, graph.variable(BEST_METRIC)),
        (SAVE_COUNTER, graph.variable(SAVE_COUNTER)),
    ):
        if found is not None:
            tensors[name] = Source((found.key,))
    hyper, sources = shape_hyper(checkpoint, tensors, model_type)
    name_hyper(hyper, sources, fields)
    best = tensors.get(BEST_METRIC)
    return ComiRecLineage(
        id=id,
        producer=producer,
        variant="keras",
        model_type=model_type,
        hyper=hyper,
        sources=sources,
        step=base.read_step(checkpoint, step.key) if step else None,
        tensors=tensors,
        best_metric=base.read_best_metric(checkpoint, best.keys[0] if best else None, OLD_MEANING),
    )


def _learning_rate(graph: ObjectGraph) -> Variable | None:
    return graph.variable("optimizer/learning_rate") or graph.variable("optimizer/_learning_rate")
