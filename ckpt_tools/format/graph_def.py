"""Graphs of TensorFlow as files hold them: nodes, their attributes, and the tensors among these.

    MetaGraphDef   graph_def=2  signature_def=5{key=1 value=2}
    GraphDef       node=1  library=2{function=1}
    NodeDef        name=1 op=2 input=3 device=4 attr=5{key=1 value=2}
    AttrValue      list=1 s=2 i=3 f=4 b=5 type=6 shape=7 tensor=8 placeholder=9 func=10
    ListValue            s=2 i=3 f=4 b=5 type=6 shape=7 tensor=8
    SignatureDef   inputs=1{key=1 value=2}  outputs=2{key=1 value=2}
    TensorInfo     name=1
    TensorShape    dim=2{size=1} unknown_rank=3

An input is ``NODE``, ``NODE:NUMBER`` of its output, or ``^NODE``: to be run before, its value is not used.

Source: tensorflow/core/protobuf/meta_graph.proto, and graph.proto, node_def.proto, attr_value.proto and
tensor_shape.proto of tensorflow/core/framework.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ckpt_tools.errors import CorruptError, UnsafeError
from ckpt_tools.format.dtypes import BY_NUMBER
from ckpt_tools.format.wire import Field, fields

# The graphs of large public models have some 10^5 nodes.
MAX_NODES = 1_000_000
# References to variables have the number of their type and this.
_REFERENCE = 100

Shape = tuple[int | None, ...]


class Output(NamedTuple):
    """One of the outputs of a node."""

    node: str
    number: int = 0

    def __str__(self) -> str:
        return f"{self.node}:{self.number}"


@dataclass(frozen=True, slots=True)
class Node:
    """``inputs`` are values, ``before`` the names of nodes that only have to be run before.

    ``attributes`` are bytes, int, float, bool, a name of a dtype, a shape (None: not known), `TensorBytes`, or lists.
    """

    name: str
    op: str
    inputs: tuple[Output, ...] = ()
    before: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TypeName:
    """A data type by its name, as ``float32``; ``reference`` for that of a variable itself."""

    name: str
    reference: bool = False


@dataclass(frozen=True, slots=True)
class ShapeAttribute:
    """``dims`` is None where not even the number of dimensions is known."""

    dims: Shape | None


@dataclass(frozen=True, slots=True)
class TensorBytes:
    """A TensorProto, not decoded."""

    data: bytes


@dataclass(frozen=True)
class GraphDef:
    """The nodes by name, and the names of the inputs and outputs of each signature."""

    nodes: Mapping[str, Node]
    signatures: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]] = field(default_factory=dict)


def decode_meta_graph(data: bytes) -> GraphDef:
    """The graph of a ``.meta`` file.

    Raises CorruptError for what is no MetaGraphDef, UnsafeError for more than `MAX_NODES` nodes.
    """
    nodes: dict[str, Node] = {}
    signatures = {}
    for part in fields(data):
        if part.number == 2:
            nodes.update(decode_graph_def(part.content()))
        elif part.number == 5:
            name, value = _entry(part)
            signatures[name] = _signature(value)
    if not nodes:
        raise CorruptError("holds no graph")
    return GraphDef(nodes, signatures)


def decode_graph_def(data: bytes) -> dict[str, Node]:
    """The nodes of a GraphDef by name.

    Raises CorruptError for what is no GraphDef, UnsafeError for more than `MAX_NODES` nodes.
    """
    nodes: dict[str, Node] = {}
    for row in fields(data):
        if row.number != 1:
            continue
        node = _node(row)
        if node.name in nodes:
            raise CorruptError(f"two nodes are called {node.name!r:.200}", offset=row.start)
        if len(nodes) >= MAX_NODES:
            raise UnsafeError(f"a graph of more than {MAX_NODES} nodes")
        nodes[node.name] = node
    return nodes


def parse_output(name: str) -> Output:
    """``NODE`` or ``NODE:NUMBER``. Raises CorruptError for an impossible number."""
    node, colon, number = name.rpartition(":")
    if not colon:
        return Output(name)
    if not (number.isascii() and number.isdigit()) or len(number) > 6:
        raise CorruptError(f"{name!r:.200} is no output of a node")
    return Output(node, int(number))


def _node(row: Field) -> Node:
    name = op = ""
    inputs: list[Output] = []
    before: list[str] = []
    attributes: dict[str, Any] = {}
    for part in fields(row.content()):
        if part.number == 1:
            name = part.text()
        elif part.number == 2:
            op = part.text()
        elif part.number == 3:
            text = part.text()
            if text.startswith("^"):
                before.append(text[1:])
            else:
                inputs.append(parse_output(text))
        elif part.number == 5:
            key, value = _entry(part)
            attributes[key] = _attribute(value)
    if not name:
        raise CorruptError("a node without a name", offset=row.start)
    return Node(name, op, tuple(inputs), tuple(before), attributes)


def _entry(part: Field) -> tuple[str, bytes]:
    key, value = "", b""
    for each in fields(part.content()):
        if each.number == 1:
            key = each.text()
        elif each.number == 2:
            value = each.content()
    return key, value


def _attribute(data: bytes) -> Any:
    """The value of an attribute; None for one that says nothing, or names a function."""
    for each in fields(data):
        if each.number == 1:
            return [value for part in fields(each.content()) for value in _values(part)]
        for value in _values(each):
            return value
    return None


def _values(part: Field) -> Iterator[Any]:
    if part.number == 2:
        yield part.content()
    elif part.number == 3:
        yield from part.integers()
    elif part.number == 4:
        yield from part.reals("f")
    elif part.number == 5:
        yield from map(bool, part.integers())
    elif part.number == 6:
        yield from map(_type, part.integers())
    elif part.number == 7:
        yield ShapeAttribute(decode_shape(part.content()))
    elif part.number == 8:
        yield TensorBytes(part.content())


def _type(number: int) -> TypeName:
    reference = number > _REFERENCE
    known = BY_NUMBER.get(number - _REFERENCE if reference else number)
    return TypeName(known.name if known is not None else f"type {number}", reference)


def decode_shape(data: bytes) -> Shape | None:
    """The dimensions of a TensorShapeProto, None for one that is not known; None when their number is not."""
    dims: list[int | None] = []
    for part in fields(data):
        if part.number == 2:
            size = next((each.integer() for each in fields(part.content()) if each.number == 1), 0)
            dims.append(None if size < 0 else size)
        elif part.number == 3 and part.integer():
            return None
    return tuple(dims)


def _signature(data: bytes) -> tuple[dict[str, str], dict[str, str]]:
    found: tuple[dict[str, str], dict[str, str]] = {}, {}
    for part in fields(data):
        if part.number in (1, 2):
            key, value = _entry(part)
            name = next((each.text() for each in fields(value) if each.number == 1), "")
            found[part.number - 1][key] = name
    return found
