"""What an Orbax checkpoint says of itself in JSON: its tree, its arrays, its metrics; and how its steps are called.

    ROOT/STEP/_CHECKPOINT_METADATA     metrics, when it was begun and committed
    ROOT/STEP/ITEM/_METADATA           the tree: {"tree_metadata": {"('a', 'b')": {"key_metadata": [{"key": "a"}, ...],
                                       "value_metadata": {"value_type": "jax.Array"}}, ...}, "use_ocdbt": true, ...}
    ROOT/STEP/ITEM/manifest.ocdbt      the arrays, each in Zarr 2 or 3 under the name a.b
    ROOT/STEP/ITEM/_strings.json       the texts, by the same names
    ROOT/STEP/metrics/metrics          metrics of a CheckpointManager, in JSON

Source: github.com/google/orbax (checkpoint/orbax/checkpoint/_src/metadata, .../path/step.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ckpt_tools.errors import CorruptError
from ckpt_tools.format.dtypes import BY_NAME
from ckpt_tools.format.json_text import parse

CHECKPOINT_METADATA = "_CHECKPOINT_METADATA"
TREE_METADATA = "_METADATA"
MANIFEST = "manifest.ocdbt"
STRINGS = "_strings.json"
METRICS = "metrics"
UNFINISHED = ".orbax-checkpoint-tmp"
ZARR_2, ZARR_3 = ".zarray", "zarr.json"
MAX_JSON_BYTES = 256 << 20

_STEP = re.compile(r"(?:[A-Za-z][\w-]{0,60}_)?(\d{1,18})")
_ZARR_TYPE = re.compile(r"[<>|=]([biufc])(\d{1,2})")
_KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}
_MOST_BYTES = 1 << 62
_MOST_DIMENSIONS = 32
_TYPES = frozenset(dtype.name for dtype in BY_NAME.values() if dtype.size and dtype.numpy == dtype.name)
# What has no value of its own.
_EMPTY = ("None", "Dict", "List", "Tuple", "NamedTuple")


@dataclass(frozen=True)
class Leaf:
    """A leaf of the tree: ``name`` is its path, ``stored`` its name in the store, ``kind`` what it was when saved."""

    name: str
    stored: str
    kind: str


@dataclass(frozen=True)
class Tree:
    """The leaves that have a value, by their names in the store. ``sparse``: chunks that are nothing but the fill value
    may be left out; every other chunk has to be there."""

    leaves: Mapping[str, Leaf]
    sparse: bool


@dataclass(frozen=True)
class Array:
    """An array as Zarr describes it: ``dtype`` is TensorFlow's name, ``opaque`` for a type that it does not have;
    ``rows`` are those of the first dimension that are stored together."""

    dtype: str
    shape: tuple[int, ...]
    rows: int


def step_of(name: str) -> int | None:
    """The step that a directory is of: ``7``, ``0007``, ``checkpoint_7``; None for another name."""
    match = _STEP.fullmatch(name)
    return int(match[1]) if match else None


def decode_tree(data: bytes) -> Tree:
    """The tree of an item. Raises CorruptError for what is none."""
    document = _document(data)
    leaves: dict[str, Leaf] = {}
    for described in _map(document.get("tree_metadata", {})).values():
        row = _map(described)
        keys = [str(_map(each).get("key")) for each in _list(row.get("key_metadata"))]
        kind = str(_map(row.get("value_metadata")).get("value_type"))
        if kind not in _EMPTY:
            leaves[".".join(keys)] = Leaf("/".join(keys), ".".join(keys), kind)
    if len({leaf.name for leaf in leaves.values()}) != len(leaves):
        raise CorruptError("two leaves of the tree have one name")
    return Tree(leaves, not document.get("store_array_data_equal_to_fill_value", False))


def decode_strings(data: bytes) -> dict[str, bytes]:
    """The texts of an item by their names in the store. Raises CorruptError for what are none."""
    try:
        return {str(name): text.encode() for name, text in _document(data).items() if isinstance(text, str)}
    except UnicodeError as error:
        raise CorruptError(f"a text that is none: {error}") from error


def decode_metrics(data: bytes, *, within: str | None = None) -> dict[str, float]:
    """The finite numbers among the metrics of a step, by name. Raises CorruptError for what is no JSON."""
    document = _document(data)
    found = document if within is None else document.get(within)
    return {name: float(value) for name, value in (found or {}).items() if _is_number(value)} if _is_map(found) else {}


def decode_array(data: bytes) -> Array:
    """What the ``.zarray`` or ``zarr.json`` of an array says. Raises CorruptError when it makes no sense."""
    document = _document(data)
    shape = _sizes(document.get("shape"))
    if "zarr_format" not in document or len(shape) > _MOST_DIMENSIONS:
        raise CorruptError("what describes an array makes no sense")
    if document["zarr_format"] == 2:
        chunks, dtype = document.get("chunks"), _type_of_zarr_2(document.get("dtype"))
    else:
        grid = _map(_map(document.get("chunk_grid")).get("configuration"))
        chunks, told = grid.get("chunk_shape"), document.get("data_type")
        dtype = told if isinstance(told, str) and told in _TYPES else "opaque"
    stored = _sizes(chunks)
    if len(stored) != len(shape) or 0 in stored:
        raise CorruptError(f"chunks of {list(stored)} do not divide an array of {list(shape)}")
    size = 1 if dtype == "opaque" else BY_NAME[dtype].size
    for length in shape:
        size *= length
        if size > _MOST_BYTES:
            raise CorruptError(f"an array of {list(shape)} is larger than anything")
    return Array(dtype, shape, stored[0] if stored else 1)


def _type_of_zarr_2(told: object) -> str:
    if not isinstance(told, str):
        return "opaque"
    match = _ZARR_TYPE.fullmatch(told)
    name = told if match is None else _KINDS[match[1]] + ("" if match[1] == "b" else str(8 * int(match[2])))
    return name if name in _TYPES else "opaque"


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = parse(data)
    except ValueError as error:
        raise CorruptError(f"no JSON: {str(error)[:200]}") from error
    return _map(document)


def _map(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CorruptError("its JSON is not what Orbax writes")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise CorruptError("its JSON is not what Orbax writes")
    return value


def _sizes(value: object) -> tuple[int, ...]:
    sizes = _list(value)
    if not all(type(each) is int and 0 <= each <= _MOST_BYTES for each in sizes):
        raise CorruptError("a shape in its JSON makes no sense")
    return tuple(sizes)


def _is_map(value: object) -> bool:
    return isinstance(value, dict)


def _is_number(value: object) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300 and math.isfinite(value)
    )
