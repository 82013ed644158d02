"""What can still be used of a damaged bundle: a second checkpoint of only the whole tensors.

No data is copied: the new checkpoint is a new index over second names of the same files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ckpt_tools.errors import CkptError
from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY
from ckpt_tools.format.graph import ObjectGraph
from ckpt_tools.format.object_graph import without_keys
from ckpt_tools.readers import Bundle
from ckpt_tools.transactions import Plan, Value, plan_values

REASON = "salvage"

# The state of optimizers where no object graph tells: the names of TensorFlow 1's slots, and Keras' keys.
_OPTIMIZER_NAMES = re.compile(
    r".+/(Adam|AdaMax|Adagrad|Adadelta|RMSProp|Ftrl|Momentum)(_\d)?|(.+/)?beta[12]_power(_\d+)?"
    r"|.+/\.OPTIMIZER_SLOT/.+|optimizer/(?!_trainable_variables/).+"
)


@dataclass(frozen=True)
class Lost:
    """A tensor of ``prefix`` that cannot be had any more, or is of no use without others."""

    prefix: str
    key: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Salvage:
    """The plan of the new checkpoint, and what is not in it."""

    plan: Plan
    lost: tuple[Lost, ...]


def plan_salvage(bundle: Bundle, damaged: Mapping[str, str], *, target: str) -> Salvage | None:
    """Keep what is whole; ``damaged`` says for each tensor that is not what is wrong with it.

    A moment without the others, or without the step, continues nothing: the optimizer's state is kept as a whole or
    not at all. None when nothing is left, or nothing but the state of an optimizer.
    """
    lost = dict(damaged)
    graph = _graph(bundle, lost)
    if graph is not None:
        lost = _with_their_objects(graph, bundle, lost)
        optimizer = _stored_under(graph.optimizer_keys(), bundle)
    else:
        optimizer = {key for key in bundle.entries if _OPTIMIZER_NAMES.fullmatch(key)}
    cause = min(optimizer & lost.keys(), default=None)
    if cause is not None:
        reason = f"the optimizer's state is of no use without {cause}"
        lost = {**dict.fromkeys(optimizer, reason), **lost}
    kept = [key for key in bundle.entries if key not in lost and key != OBJECT_GRAPH_KEY]
    if not set(kept) - optimizer:
        return None
    values = {}
    if graph is not None:
        keys = {attribute.key for node in graph.nodes for attribute in node.attributes}
        gone = {key for key in keys if not _stored_under([key], bundle).isdisjoint(lost)}
        values[OBJECT_GRAPH_KEY] = Value.of_string(without_keys(bundle.graph_bytes, gone), "without what is lost")
    plan = plan_values(
        bundle,
        values,
        keep={key: key for key in kept},
        reason=REASON,
        evidence={"salvaged_from": bundle.prefix, "lost": dict(sorted(lost.items()))},
        target=target,
    )
    return Salvage(plan, tuple(Lost(bundle.prefix, key, reason) for key, reason in sorted(lost.items())))


def _graph(bundle: Bundle, lost: dict[str, str]) -> ObjectGraph | None:
    """The object graph; None, and noted as lost, when it is damaged."""
    if OBJECT_GRAPH_KEY not in bundle.entries:
        return None
    try:
        return bundle.graph if OBJECT_GRAPH_KEY not in lost else None
    except CkptError as error:
        lost[OBJECT_GRAPH_KEY] = error.message
        return None


def _stored_under(keys: Iterable[str], bundle: Bundle) -> set[str]:
    """The tensors that keys of the graph stand for: an object may store several, as a lookup table does."""
    found: set[str] = set()
    for key in keys:
        found |= {key} if key in bundle.entries else {name for name in bundle.entries if name.startswith(key)}
    return found


def _with_their_objects(graph: ObjectGraph, bundle: Bundle, lost: Mapping[str, str]) -> dict[str, str]:
    """With a tensor goes what its object stored beside it."""
    found = dict(lost)
    for node in graph.nodes:
        for attribute in node.attributes:
            tensors = _stored_under([attribute.key], bundle)
            for cause in sorted(tensors & lost.keys())[:1]:
                found.update({key: f"is of no use without {cause}" for key in tensors if key not in found})
    return found
