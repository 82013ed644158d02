"""Object-based checkpoints made by hand, with full names and slots as TensorFlow stores them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from checkpoints import build_bundle

from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY
from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.format.wire import bytes_field, text_field, varint_field


def object_graph(
    variables: Mapping[str, str], slots: Mapping[str, tuple[str, str]] | None = None, optimizer: str = "optimizer"
) -> bytes:
    """``variables`` maps paths to full names; ``slots`` the key of a slot to its variable's path and its name."""
    children: list[dict[str, int]] = [{}]
    attributes: dict[int, tuple[str, str]] = {}
    nodes: dict[str, int] = {"": 0}
    for path, full_name in variables.items():
        node, walked = 0, ""
        for name in path.split("/"):
            walked = f"{walked}/{name}".strip("/")
            if name not in children[node]:
                children.append({})
                children[node][name] = len(children) - 1
            node = nodes[walked] = children[node][name]
        attributes[node] = (full_name, path + VALUE_SUFFIX)
    references: dict[int, list[bytes]] = {}
    for key, (path, name) in (slots or {}).items():
        children.append({})
        attributes[len(children) - 1] = (f"{variables[path]}/{name}", key)
        message = varint_field(1, nodes[path]) + text_field(2, name) + varint_field(3, len(children) - 1)
        references.setdefault(nodes[optimizer], []).append(message)
    out = b""
    for number, names in enumerate(children):
        message = b"".join(bytes_field(1, varint_field(1, n) + text_field(2, name)) for name, n in names.items())
        if number in attributes:
            full_name, key = attributes[number]
            value = text_field(1, "VARIABLE_VALUE") + text_field(2, full_name) + text_field(3, key)
            message += bytes_field(2, value)
        message += b"".join(bytes_field(3, slot) for slot in references.get(number, ()))
        out += bytes_field(1, message)
    return out


def build_objects(
    prefix: str | Path,
    variables: Mapping[str, tuple[str, np.ndarray]],
    slots: Mapping[tuple[str, str], np.ndarray] | None = None,
) -> str:
    """A checkpoint of ``variables`` (path: full name and value) with slots ((path, name): value) of ``optimizer``."""
    keys = {f"{path}/.OPTIMIZER_SLOT/optimizer/{name}{VALUE_SUFFIX}": (path, name) for path, name in (slots or {})}
    graph = object_graph({path: full_name for path, (full_name, _) in variables.items()}, keys)
    tensors = {path + VALUE_SUFFIX: value for path, (_, value) in variables.items()}
    tensors |= {key: (slots or {})[which] for key, which in keys.items()}
    return build_bundle(prefix, {**tensors, OBJECT_GRAPH_KEY: [graph]}, change={OBJECT_GRAPH_KEY: {"shape": ()}})
