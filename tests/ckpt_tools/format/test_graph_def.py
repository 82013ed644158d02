"""Graphs and the tensors in them, as TensorFlow writes them and as nobody should."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from ckpt_tools.errors import CkptError, CorruptError, UnsafeError, UnsupportedError
from ckpt_tools.format import graph_def
from ckpt_tools.format.graph_def import Output, ShapeAttribute, TypeName, decode_meta_graph, decode_shape, parse_output
from ckpt_tools.format.tensor_proto import decode_tensor
from ckpt_tools.format.wire import bytes_field, encode_varint, text_field, varint_field


def entry(key: str, value: bytes) -> bytes:
    return text_field(1, key) + bytes_field(2, value)


def meta(*nodes: bytes, signatures: bytes = b"") -> bytes:
    return bytes_field(2, b"".join(bytes_field(1, node) for node in nodes)) + signatures


def shape(*dims: int) -> bytes:
    return b"".join(bytes_field(2, encode_varint(1 << 3) + encode_varint(size)) for size in dims)


def test_a_node_has_inputs_and_attributes() -> None:
    values = {
        "s": bytes_field(2, b"SAME"),
        "i": varint_field(3, -2),
        "f": encode_varint(4 << 3 | 5) + struct.pack("<f", 0.5),
        "b": varint_field(5, 1),
        "type": varint_field(6, 101),
        "shape": bytes_field(7, shape(2, -1)),
        "unknown": bytes_field(7, varint_field(3, 1)),
        "list": bytes_field(1, bytes_field(3, b"\x01\x02\x01")),
        "func": bytes_field(10, b""),
    }
    node = text_field(1, "y") + text_field(2, "Op") + text_field(3, "x:1") + text_field(3, "^z") + text_field(3, "w")
    node += b"".join(bytes_field(5, entry(key, value)) for key, value in values.items())
    taken = bytes_field(1, entry("images", text_field(1, "x:0"))) + bytes_field(
        2, entry("scores", text_field(1, "y:0"))
    )
    found = decode_meta_graph(meta(node, signatures=bytes_field(5, entry("serve", taken))))
    assert found.signatures == {"serve": ({"images": "x:0"}, {"scores": "y:0"})}
    y = found.nodes["y"]
    assert (y.op, y.inputs, y.before) == ("Op", (Output("x", 1), Output("w", 0)), ("z",))
    assert y.attributes == {
        "s": b"SAME",
        "i": -2,
        "f": 0.5,
        "b": True,
        "type": TypeName("float32", reference=True),
        "shape": ShapeAttribute((2, None)),
        "unknown": ShapeAttribute(None),
        "list": [1, 2, 1],
        "func": None,
    }


def test_what_is_no_graph_is_told() -> None:
    with pytest.raises(CorruptError, match="holds no graph"):
        decode_meta_graph(b"")
    with pytest.raises(CorruptError, match="two nodes are called 'a'"):
        decode_meta_graph(meta(text_field(1, "a"), text_field(1, "a")))
    with pytest.raises(CorruptError, match="without a name"):
        decode_meta_graph(meta(text_field(2, "Op")))
    for name in ("x:one", "x:", "x:12345678", "x:²"):
        with pytest.raises(CorruptError, match="no output"):
            parse_output(name)


def test_there_is_a_limit_to_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_def, "MAX_NODES", 2)
    decode_meta_graph(meta(text_field(1, "a"), text_field(1, "b")))
    with pytest.raises(UnsafeError, match="more than 2 nodes"):
        decode_meta_graph(meta(text_field(1, "a"), text_field(1, "b"), text_field(1, "c")))


def tensor(dtype: int, dims: tuple[int, ...], *values: bytes) -> bytes:
    return varint_field(1, dtype) + bytes_field(2, shape(*dims)) + b"".join(values)


def test_a_tensor_is_raw_or_one_by_one() -> None:
    cases: list[tuple[bytes, Any]] = [
        (tensor(1, (2,), bytes_field(4, struct.pack("<2f", 1, 2))), np.float32([1, 2])),
        (tensor(1, (2, 2), bytes_field(5, struct.pack("<2f", 1, 2))), np.float32([[1, 2], [2, 2]])),
        (tensor(2, (), bytes_field(6, struct.pack("<d", 0.1))), np.float64(0.1)),
        (tensor(3, (3,), bytes_field(7, encode_varint(-1) + b"\x05")), np.int32([-1, 5, 5])),
        (tensor(9, (2,), varint_field(10, 7)), np.int64([7, 7])),
        (tensor(10, (), varint_field(11, 1)), np.bool_(True)),
        (tensor(19, (), varint_field(13, 0x3C00)), np.float16(1)),
        (tensor(3, (2,)), np.int32([0, 0])),
        (tensor(3, (0,)), np.zeros(0, np.int32)),
    ]
    for data, expected in cases:
        found = decode_tensor(data, limit=100)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    words = decode_tensor(tensor(7, (2,), bytes_field(8, b"a"), bytes_field(8, b"\xff")), limit=100)
    assert words.tolist() == [b"a", b"\xff"]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (tensor(1, (1 << 40,)), UnsafeError),
        (tensor(1, (3,), bytes_field(4, b"\0" * 8)), CorruptError),
        (tensor(1, (-1,)), CorruptError),
        (tensor(1, (1,) * 40), CorruptError),
        (tensor(3, (1,), bytes_field(7, b"\x01\x02")), CorruptError),
        (tensor(4, (1,), varint_field(7, -300)), CorruptError),
        (tensor(1, (1,), bytes_field(5, b"\0\0\0")), CorruptError),
        (tensor(2, (1,), bytes_field(6, b"\0\0\0")), CorruptError),
        (tensor(0, ()), CorruptError),
        (tensor(8, ()), UnsupportedError),
        (tensor(20, ()), UnsupportedError),
    ],
)
def test_a_tensor_that_lies_is_refused_before_room_is_made(data: bytes, error: type[CkptError]) -> None:
    with pytest.raises(error):
        decode_tensor(data, limit=1 << 20)


def test_a_shape_may_not_be_known() -> None:
    assert decode_shape(shape(3, -1)) == (3, None)
    assert decode_shape(varint_field(3, 1)) is None
