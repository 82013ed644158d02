"""Which stored tensor a variable of a graph has: the graph's own ``SaveV2`` says it.

    SaveV2   prefix, tensor_names [n], shape_and_slices [n], then n tensors

A slice is ``SHAPE START,LENGTH:-...``: the part of a larger variable that is kept in pieces; ``-`` means all.
Source: tensorflow/core/ops/io_ops.cc, tensorflow/core/framework/tensor_slice.cc.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ckpt_tools.errors import CkptError, CorruptError
from ckpt_tools.format.graph_def import Node, Output, TensorBytes
from ckpt_tools.format.tensor_proto import decode_tensor

VARIABLES = frozenset({"Variable", "VariableV2", "VarHandleOp"})
_LARGEST_LIST = 64 << 20
_READS = frozenset({"Identity", "RefIdentity", "ReadVariableOp", "Enter"})
_DEEPEST = 8


@dataclass(frozen=True)
class Stored:
    """The ``key`` of the stored tensor; ``part`` is the slice of it, empty for all."""

    key: str
    part: tuple[slice, ...] = ()


def stored_names(nodes: Mapping[str, Node]) -> dict[str, Stored]:
    """For each variable's node what is saved of it; of several savers the first counts. What cannot be told is not
    there: such a variable has its own name."""
    found: dict[str, Stored] = {}
    for node in nodes.values():
        if node.op != "SaveV2" or len(node.inputs) < 3:
            continue
        names, slices = (_texts(nodes.get(each.node)) for each in node.inputs[1:3])
        for output, name, part in zip(node.inputs[3:], names, slices, strict=False):
            variable = _variable_of(output, nodes)
            if variable is not None:
                found.setdefault(variable, Stored(name, _slices(part)))
    return found


def own_name(node: Node) -> str:
    """The name that a saver gives a variable when nobody says another."""
    shared = node.attributes.get("shared_name")
    if node.op == "VarHandleOp" and isinstance(shared, bytes) and shared:
        return shared.decode("utf-8", "replace")
    return node.name


def part_of(value: np.ndarray, stored: Stored) -> np.ndarray:
    """The part of a stored tensor that a node has. Raises CorruptError when there is no such part."""
    if not stored.part:
        return value
    if len(stored.part) != value.ndim:
        raise CorruptError(f"a part of {len(stored.part)} dimensions of {list(value.shape)}", key=stored.key)
    return value[stored.part]


def _texts(node: Node | None) -> list[str]:
    value = node.attributes.get("value") if node is not None and node.op == "Const" else None
    if not isinstance(value, TensorBytes):
        return []
    try:
        found = decode_tensor(value.data, limit=_LARGEST_LIST)
    except CkptError:
        return []
    return [each.decode("utf-8", "replace") for each in found.ravel() if isinstance(each, bytes)]


def _variable_of(output: Output, nodes: Mapping[str, Node]) -> str | None:
    """The variable that a saved tensor is read from."""
    for _ in range(_DEEPEST):
        node = nodes.get(output.node)
        if node is None:
            return None
        if node.op in VARIABLES:
            return node.name
        if node.op not in _READS or not node.inputs:
            return None
        output = node.inputs[0]
    return None


def _slices(text: str) -> tuple[slice, ...]:
    if not text:
        return ()
    found = []
    for each in text.rpartition(" ")[2].split(":"):
        match = re.fullmatch(r"([0-9]{1,18}),([0-9]{1,18})", each)
        found.append(slice(None) if match is None else slice(int(match[1]), int(match[1]) + int(match[2])))
    return tuple(found)
