"""The message that says which Python object each tensor of an object-based checkpoint belongs to.

    TrackableObjectGraph  nodes=1
    node                  children=1{node_id=1 local_name=2}
                          attributes=2{name=1 full_name=2 checkpoint_key=3}
                          slot_variables=3{original_variable_node_id=1 slot_name=2 slot_variable_node_id=3}
                          registered_saver=4  has_checkpoint_values=5{value=1}

Node 0 is the root; an attribute named VARIABLE_VALUE is a variable's value, stored under ``checkpoint_key``.
Source: tensorflow/core/protobuf/trackable_object_graph.proto.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ckpt_tools.errors import CorruptError
from ckpt_tools.format.wire import Field, bytes_field, fields, text_field, varint_field

VARIABLE_VALUE = "VARIABLE_VALUE"
# What TensorFlow appends to the path of a variable to make the key of its value.
VALUE_SUFFIX = f"/.ATTRIBUTES/{VARIABLE_VALUE}"
MAX_NODES = 5_000_000
# The content of a node that may be there again and again, in bytes.
_SHORT = 32


@dataclass(frozen=True, slots=True)
class Attribute:
    name: str
    full_name: str
    key: str


@dataclass(frozen=True, slots=True)
class Slot:
    """An optimizer's variable that belongs to another variable; both are node numbers."""

    variable: int
    name: str
    node: int


@dataclass(frozen=True, slots=True)
class Node:
    """``children`` are the numbers of nodes by name; it is not to be changed: nodes that are alike are one object."""

    children: Mapping[str, int]
    attributes: tuple[Attribute, ...]
    slots: tuple[Slot, ...]


def decode_graph(data: bytes) -> tuple[Node, ...]:
    """All nodes, the root first. Raises CorruptError when a node refers to one that is not there."""
    nodes: list[Node] = []
    known: dict[bytes, Node] = {}
    for field in fields(data):
        if field.number == 1:
            if len(nodes) == MAX_NODES:
                raise CorruptError(f"more than {MAX_NODES} nodes", offset=field.start)
            content = field.content()
            # Most of the objects of some graphs are alike: empty, or with the same children.
            node = known.get(content)
            if node is None:
                node = _decode_node(content)
                if len(content) <= _SHORT:
                    known[content] = node
            nodes.append(node)
    if not nodes:
        raise CorruptError("the object graph has no root")
    for node in nodes:
        for reference in (*node.children.values(), *(n for slot in node.slots for n in (slot.variable, slot.node))):
            if not 0 <= reference < len(nodes):
                raise CorruptError(f"node {reference} of {len(nodes)} does not exist")
    return tuple(nodes)


def _decode_node(data: bytes) -> Node:
    children: dict[str, int] = {}
    attributes = []
    slots = []
    for field in fields(data):
        if field.number == 1:
            number, name = _decode_parts(field.content(), integers=(1,), texts=(2,))
            children[str(name)] = int(number)
        elif field.number == 2:
            attributes.append(Attribute(*map(str, _decode_parts(field.content(), integers=(), texts=(1, 2, 3)))))
        elif field.number == 3:
            variable, node, name = _decode_parts(field.content(), integers=(1, 3), texts=(2,))
            slots.append(Slot(int(variable), str(name), int(node)))
    return Node(children, tuple(attributes), tuple(slots))


def _decode_parts(data: bytes, *, integers: tuple[int, ...], texts: tuple[int, ...]) -> list[int | str]:
    """The values of the numbered fields, in the order asked for, with proto3's defaults."""
    values: dict[int, int | str] = {**dict.fromkeys(integers, 0), **dict.fromkeys(texts, "")}
    for field in fields(data):
        if field.number in integers:
            values[field.number] = field.integer()
        elif field.number in texts:
            values[field.number] = field.text()
    return [values[number] for number in (*integers, *texts)]


def add_variable(data: bytes, *, name: str, key: str) -> bytes:
    """The graph with one more variable as a child of the root; everything else stays as it was, byte for byte.

    In a protocol buffer a repeated field grows by appending: the new node goes behind the last one, the new
    child behind the root's last field.
    """
    count = len(decode_graph(data))
    child = varint_field(1, count) + text_field(2, name)
    root = next(field for field in fields(data) if field.number == 1)
    return b"".join(
        [
            data[: root.start],
            bytes_field(1, root.content() + bytes_field(1, child)),
            data[root.end :],
            bytes_field(1, _variable_node(name, key)),
        ]
    )


def without_keys(data: bytes, lost: Collection[str]) -> bytes:
    """The graph without the values stored under some keys; every other field stays as it was, byte for byte.

    The references to an object go with the last of its values: TensorFlow believes every object that it finds in the
    graph to be restored, also one whose value is not there.
    """
    nodes = decode_graph(data)
    gone = {
        number
        for number, node in enumerate(nodes)
        if number and node.attributes and all(attribute.key in lost for attribute in node.attributes)
    }

    def stays(part: Field) -> bool:
        if part.number == 1:
            return _decode_parts(part.content(), integers=(1,), texts=())[0] not in gone
        if part.number == 2:
            return _decode_parts(part.content(), integers=(), texts=(3,))[0] not in lost
        return part.number != 3 or _decode_parts(part.content(), integers=(3,), texts=())[0] not in gone

    out = bytearray()
    for field in fields(data):
        if field.number == 1:
            content = field.content()
            kept = b"".join(content[part.start : part.end] for part in fields(content) if stays(part))
            out += data[field.start : field.end] if kept == content else bytes_field(1, kept)
        else:
            out += data[field.start : field.end]
    return bytes(out)


def pruned(data: bytes, lost: Collection[str]) -> bytes:
    """The graph without the values stored under some keys, and without the objects that only led to them.

    An object stays when it can be reached without passing one that has lost all of its own (an optimizer, whose
    iterations and slots are gone), or when a value that is left hangs below it. The nodes are numbered anew; all other
    fields stay byte for byte.
    """
    nodes = decode_graph(data)
    emptied = {
        number
        for number, node in enumerate(nodes)
        if number and node.attributes and all(attribute.key in lost for attribute in node.attributes)
    }
    parents: dict[int, set[int]] = {}
    for number, node in enumerate(nodes):
        for child in node.children.values():
            parents.setdefault(child, set()).add(number)
    # What owns such values directly, such as an optimizer's iterations, went with them.
    owners = {
        parent
        for number in emptied
        for parent in parents.get(number, ())
        if parent and all(child in emptied or not nodes[child].attributes for child in nodes[parent].children.values())
    }
    owners |= {number for number, node in enumerate(nodes) if number and any(s.node in emptied for s in node.slots)}
    kept = _reached(nodes, {0}, gone=emptied | owners)
    upwards = [
        number
        for number, node in enumerate(nodes)
        if number not in kept and any(attribute.key not in lost for attribute in node.attributes)
    ]
    while upwards:
        number = upwards.pop()
        if number not in kept:
            kept.add(number)
            upwards += parents.get(number, ())
    numbers = {old: new for new, old in enumerate(sorted(kept))}

    def part_of(part: Field) -> bytes:
        content = part.content() if part.number in (1, 2, 3) else b""
        if part.number == 2:
            return bytes_field(2, content) if _decode_parts(content, integers=(), texts=(3,))[0] not in lost else b""
        if part.number == 1:
            child, name = _decode_parts(content, integers=(1,), texts=(2,))
            return bytes_field(1, _reference(numbers[child], str(name))) if child in numbers else b""
        variable, slot, name = _decode_parts(content, integers=(1, 3), texts=(2,))
        if variable not in numbers or slot not in numbers:
            return b""
        return bytes_field(
            3, varint_field(1, numbers[variable]) + text_field(2, str(name)) + varint_field(3, numbers[slot])
        )

    out = bytearray()
    number = -1
    for field in fields(data):
        if field.number != 1:
            out += data[field.start : field.end]
            continue
        number += 1
        if number in kept:
            content = field.content()
            out += bytes_field(
                1,
                b"".join(
                    part_of(part) if part.number in (1, 2, 3) else content[part.start : part.end]
                    for part in fields(content)
                ),
            )
    return bytes(out)


def _reference(node: int, name: str) -> bytes:
    return varint_field(1, node) + text_field(2, name)


def _reached(nodes: tuple[Node, ...], start: set[int], *, gone: Collection[int]) -> set[int]:
    """All nodes that lead from some on, without those that are gone."""
    seen, todo = set(start), list(start)
    while todo:
        for child in nodes[todo.pop()].children.values():
            if child not in seen and child not in gone:
                seen.add(child)
                todo.append(child)
    return seen


def build_graph(keys: Mapping[str, str]) -> bytes:
    """The graph of plain nested objects: ``keys`` maps the path of each variable, ``a/b/c``, to its key."""
    children: list[dict[str, int]] = [{}]
    variables: dict[int, tuple[str, str]] = {}
    for path, key in keys.items():
        node = 0
        for name in path.split("/"):
            if name not in children[node]:
                children.append({})
                children[node][name] = len(children) - 1
            node = children[node][name]
        variables[node] = (path, key)
    out = bytearray()
    for number, names in enumerate(children):
        message = b"".join(
            bytes_field(1, varint_field(1, child) + text_field(2, name)) for name, child in names.items()
        )
        if number in variables:
            message += _variable_node(*variables[number])
        out += bytes_field(1, message)
    return bytes(out)


def _variable_node(full_name: str, key: str) -> bytes:
    """The fields of a node that holds a variable's value."""
    attribute = text_field(1, VARIABLE_VALUE) + text_field(2, full_name) + text_field(3, key)
    return bytes_field(2, attribute) + bytes_field(5, varint_field(1, 1))
