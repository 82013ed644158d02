"""Protocol buffers that people take for checkpoints. They have no signature: their fields tell what they are.

    GraphDef       node = 1 {name = 1, op = 2}                          tensorflow/core/framework/graph.proto
    MetaGraphDef   meta_info_def = 1, graph_def = 2, saver_def = 3      tensorflow/core/protobuf/meta_graph.proto
    SavedModel     saved_model_schema_version = 1, meta_graphs = 2      tensorflow/core/protobuf/saved_model.proto
    ModelProto     ir_version = 1, producer_name = 2, graph = 7, ...    onnx/onnx.proto
    Model          specificationVersion = 1, description = 2, 200...    coremltools, Model.proto
    NetParameter   name = 1, layers = 2, layer = 100                    caffe/src/caffe/proto/caffe.proto
    ProgramDesc    blocks = 1 {idx = 1, parent_idx = 2}, version = 4    paddle/fluid/framework/framework.proto

A message counts as one of these only when all that is looked at of it is: the numbers and types of its fields, that
they lie one behind the other inside the file, and the names inside the first of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from ckpt_tools.errors import CkptError
from ckpt_tools.format.wire import BYTES, FIXED32, FIXED64, VARINT, decode_varint
from ckpt_tools.fs.paths import File
from ckpt_tools.readers.kinds import EXPORTED, PASS_OTHER, Kind

_MOST_FIELDS = 64
_MOST_INSIDE = 4096
_HEADER = 20
_FIXED = {FIXED64: 8, FIXED32: 4}

GRAPH = Kind(
    "graph",
    "a graph of TensorFlow (.meta or .pb): if it is frozen, its constants hold the values; no checkpoint can be read "
    "from it here",
    "pass the checkpoint beside it or that it was frozen from, or the directory of the SavedModel",
)
_SAVED = Kind(
    "saved-model-graph",
    "the graph of a SavedModel (saved_model.pb), whose values are in variables/ beside it",
    "pass the directory of the SavedModel, with saved_model.pb and variables/ in it",
)
_ONNX = Kind("onnx", "an ONNX model", EXPORTED)
_COREML = Kind("coreml", "a Core ML model", EXPORTED)
_CAFFE = Kind("caffe", "a Caffe model", PASS_OTHER)
_PADDLE = Kind("paddle-program", "a program of PaddlePaddle, without weights", PASS_OTHER)

_NODE_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
_OP_NAME = re.compile(r"[A-Z_][A-Za-z0-9_>]*")
_LAYER_TYPE = re.compile(r"[A-Z][A-Za-z0-9]*")
_TEXT_GRAPH = re.compile(
    rb"\s*(#[^\n]*\n\s*)*(node|meta_info_def|graph_def)\s*:?\s*\{\s*(name|op|stripped_op_list|meta_graph_version)\b"
)
_ONNX_FIELDS = {
    **dict.fromkeys((1, 5), VARINT),
    **dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25), BYTES),
}


class _Part(NamedTuple):
    """A field: its number and type, its value (of bytes how many), the head of its bytes, and whether it is whole."""

    number: int
    type: int
    value: int
    head: bytes
    whole: bool


def protobuf(file: File, head: bytes) -> Kind | None:
    """Which of these the file is; None when it is none of them."""
    if _TEXT_GRAPH.match(head):
        return GRAPH
    if not head or head[0] not in (0x08, 0x0A):
        return None
    parts = _parts(file)
    if not parts:
        return None
    for kind, test in (
        (GRAPH, _is_graph),
        (GRAPH, _is_meta_graph),
        (_SAVED, _is_saved_model),
        (_ONNX, _is_onnx),
        (_COREML, _is_coreml),
        (_CAFFE, _is_caffe),
        (_PADDLE, _is_paddle),
    ):
        if test(parts):
            return kind
    return None


def _is_graph(parts: list[_Part]) -> bool:
    return _only(parts, {1: BYTES, 2: BYTES, 3: VARINT, 4: BYTES, 5: BYTES}) and _is_node(parts[0].head)


def _is_meta_graph(parts: list[_Part]) -> bool:
    if not _only(parts, dict.fromkeys(range(1, 9), BYTES)):
        return False
    # The versions and the list of operations are in the first, the nodes in the second field.
    graph = next((part.head for part in parts if part.number == 2), b"")
    return parts[0].number == 1 and bool(_texts(parts[0].head, 2) or _inner(parts[0].head)) and _begins_with_node(graph)


def _is_saved_model(parts: list[_Part]) -> bool:
    if not _only(parts, {1: VARINT, 2: BYTES}) or parts[0].number != 1 or parts[0].value > 16 or len(parts) < 2:
        return False
    # The meta_info_def of the first graph lists the operations, or at least has tags.
    about = _content(parts[1].head, 1)
    operations = _texts(_content(_content(about, 2), 1), 1)
    return any(map(_OP_NAME.fullmatch, operations)) or bool(_texts(about, 4))


def _is_onnx(parts: list[_Part]) -> bool:
    numbers = {part.number for part in parts}
    if not _only(parts, _ONNX_FIELDS) or parts[0].number != 1 or not 1 <= parts[0].value <= 64 or 7 not in numbers:
        return False
    graph = next(part for part in parts if part.number == 7)
    operations = _texts(_content(graph.head, 1), 4)
    return (8 in numbers or not graph.whole) and any(map(_LAYER_TYPE.fullmatch, operations))


def _is_coreml(parts: list[_Part]) -> bool:
    kinds = [part for part in parts if 200 <= part.number < 4000 and part.type == BYTES]
    rest = [part for part in parts if part not in kinds]
    if not kinds or not _only(rest, {1: VARINT, 2: BYTES, 10: VARINT}) or not 1 <= rest[0].value <= 64:
        return False
    # The description names an input or an output.
    about = next((part.head for part in rest if part.number == 2), b"")
    return bool(_texts(_content(about, 1), 1) or _texts(_content(about, 10), 1))


def _is_caffe(parts: list[_Part]) -> bool:
    allowed = {1: BYTES, 2: BYTES, 3: BYTES, 4: VARINT, 5: VARINT, 6: BYTES, 7: VARINT, 8: BYTES, 100: BYTES}
    if not _only(parts, allowed):
        return False
    layers = [part.head for part in parts if part.number in (2, 100)]
    return len(layers) > 1 and all(map(_is_layer, layers))


def _is_layer(data: bytes) -> bool:
    """A layer has a name and a type: in fields 1 and 2, or in version 1 in fields 4 and 5."""
    if _texts(data, 1) and any(map(_LAYER_TYPE.fullmatch, _texts(data, 2))):
        return True
    return bool(_texts(data, 4)) and (5, VARINT) in _inner(data)


def _is_paddle(parts: list[_Part]) -> bool:
    inner = _inner(parts[0].head)
    return (
        _only(parts, {1: BYTES, 2: BYTES, 4: BYTES, 5: BYTES})
        and inner[:2] == [(1, VARINT), (2, VARINT)]
        and bool(_texts(_content(parts[0].head, 3), 1))
    )


def _is_node(data: bytes) -> bool:
    names, operations = _texts(data, 1), _texts(data, 2)
    return (
        len(names) == len(operations) == 1
        and _NODE_NAME.fullmatch(names[0]) is not None
        and _OP_NAME.fullmatch(operations[0]) is not None
    )


def _begins_with_node(graph: bytes) -> bool:
    nodes = _inside(graph)
    return bool(nodes) and nodes[0].number == 1 and _is_node(nodes[0].head)


def _only(parts: list[_Part], allowed: dict[int, int]) -> bool:
    return bool(parts) and all(allowed.get(part.number) == part.type for part in parts)


def _parts(file: File) -> list[_Part]:
    """The fields at the top of a message, in order. None at all when one of them is impossible.

    The last field may be cut off with the file.
    """
    return _split(file.read, file.size)


def _inside(data: bytes) -> list[_Part]:
    """The fields in the head of a message; none at all when one is impossible. The last may be cut off."""
    return _split(lambda offset, size: data[offset : offset + size], len(data))


def _split(read: Callable[[int, int], bytes], total: int) -> list[_Part]:
    found: list[_Part] = []
    offset = 0
    while offset < total and len(found) < _MOST_FIELDS:
        head = read(offset, min(_HEADER, total - offset))
        value, inside = 0, b""
        try:
            tag, at = decode_varint(head, 0)
            number, kind = tag >> 3, tag & 7
            if kind in (VARINT, BYTES):
                value, at = decode_varint(head, at)
        except CkptError:
            # What is cut off in the middle of a number is no fault of what stands before it.
            return found if total - offset < _HEADER else []
        if not 0 < number < 1 << 29 or (kind not in _FIXED and kind not in (VARINT, BYTES)):
            return []
        start = offset + at
        offset = start + (value if kind == BYTES else _FIXED.get(kind, 0))
        if kind == BYTES:
            inside = read(start, max(0, min(_MOST_INSIDE, value, total - start)))
        found.append(_Part(number, kind, value, inside, offset <= total))
    return found


def _inner(data: bytes) -> list[tuple[int, int]]:
    """The numbers and types of the fields in the head of a message; empty when it is none."""
    return [(part.number, part.type) for part in _inside(data)]


def _content(data: bytes, number: int) -> bytes:
    """The head of the first field of this number in the head of a message; empty when there is none."""
    found = (part.head for part in _inside(data) if (part.number, part.type) == (number, BYTES))
    return next(found, b"")


def _texts(data: bytes, number: int) -> list[str]:
    """The strings in fields of this number in the head of a message; none when one is no text."""
    try:
        found = [
            part.head.decode() for part in _inside(data) if (part.number, part.type) == (number, BYTES) and part.whole
        ]
    except UnicodeDecodeError:
        return []
    return found if all(text and text.isprintable() for text in found) else []
