"""The object graph: decoding, and adding a variable without touching anything else."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.errors import CkptError, CorruptError
from ckpt_tools.format.graph import ObjectGraph
from ckpt_tools.format.object_graph import (
    Attribute,
    Node,
    Slot,
    add_variable,
    build_graph,
    decode_graph,
    pruned,
    without_keys,
)
from ckpt_tools.format.wire import bytes_field, fields, text_field, varint_field


def child(number: int, name: str) -> bytes:
    return bytes_field(1, varint_field(1, number) + text_field(2, name))


def attribute(key: str, full_name: str = "") -> bytes:
    return bytes_field(2, text_field(1, "VARIABLE_VALUE") + text_field(2, full_name) + text_field(3, key))


def slot(variable: int, name: str, node: int) -> bytes:
    return bytes_field(3, varint_field(1, variable) + text_field(2, name) + varint_field(3, node))


def graph(*nodes: bytes) -> bytes:
    return b"".join(bytes_field(1, node) for node in nodes)


# A registered saver, and fields that no version has yet.
SAVER = bytes_field(4, text_field(1, "saver") + text_field(2, "object"))
UNKNOWN = SAVER + bytes_field(77, b"later") + b"\xf9\x04" + bytes(8)


def test_decoding() -> None:
    nodes = decode_graph(graph(child(1, "a") + child(2, "b") + slot(1, "m", 2), attribute("a/key", "full"), b""))
    assert nodes[0].children == {"a": 1, "b": 2}
    assert nodes[0].slots == (Slot(1, "m", 2),)
    assert nodes[1].attributes == (Attribute("VARIABLE_VALUE", "full", "a/key"),)


@pytest.mark.parametrize(
    "data", [graph(child(1, "a")), graph(child(-1, "a")), graph(slot(0, "m", 1)), graph(slot(5, "m", 0))]
)
def test_references_to_nodes_that_do_not_exist(data: bytes) -> None:
    with pytest.raises(CorruptError, match="does not exist"):
        decode_graph(data)


@pytest.mark.parametrize("data", [b"", bytes_field(9, b"")])
def test_a_graph_without_a_root(data: bytes) -> None:
    with pytest.raises(CorruptError, match="no root"):
        decode_graph(data)


def test_cycles_are_legal() -> None:
    data = graph(child(1, "a") + child(0, "self"), child(0, "parent") + attribute("k"))
    assert ObjectGraph(data).paths == {"k": "a"}


def test_a_deep_chain_needs_no_recursion() -> None:
    count = 2_000
    data = graph(*(child(number + 1, "n") for number in range(count)), attribute("deep"))
    (path,) = ObjectGraph(data).paths.values()
    assert path.count("/") == count - 1


def test_paths_that_are_much_longer_than_the_graph_are_left_out() -> None:
    count = 20_000
    data = graph(*(child(number + 1, "n") + attribute(str(number)) for number in range(count)), attribute("deep"))
    found = ObjectGraph(data)
    assert len([*found.keys]) == count + 1
    assert found.paths["100"].count("/") == 99
    assert sum(map(len, found.paths.values())) < 8 * len(data) + (4 << 20)


def test_the_shortest_path_names_a_variable_that_can_be_reached_by_several() -> None:
    data = graph(child(1, "long") + child(2, "short"), child(2, "way"), attribute("k", "full"))
    found = ObjectGraph(data)
    assert found.paths == {"k": "short"}
    assert [variable.path for variable in found.variables_below("long")] == ["long/way"]
    assert found.variable("long/way").full_name == "full"
    assert found.variable("long") is None
    assert found.variable("nowhere/at/all") is None


def test_adding_a_variable_keeps_everything_else_byte_for_byte() -> None:
    root = child(1, "model") + UNKNOWN
    other = attribute("model/key") + UNKNOWN
    behind = bytes_field(42, b"unknown field of the graph")
    before = graph(root, other) + behind
    after = add_variable(before, name="best_metric", key="best/key")

    assert decode_graph(after)[0].children == {"model": 1, "best_metric": 2}
    assert ObjectGraph(after).variable("best_metric").key == "best/key"
    found = [field for field in fields(after) if field.number == 1]
    assert found[0].content().startswith(root)
    assert found[1].content() == other
    assert behind in after
    # has_checkpoint_values {value: true}: without it older readers guess.
    assert found[2].content().endswith(bytes_field(5, varint_field(1, 1)))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_graph_or_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(CkptError):
        decode_graph(data)


@pytest.mark.parametrize("data", [graph(child(0, "a"))[:-1], graph(bytes_field(1, bytes_field(2, b"\xff")))])
def test_truncated_graphs_and_names_that_are_not_utf8(data: bytes) -> None:
    with pytest.raises(CorruptError):
        decode_graph(data)


@pytest.mark.tensorflow
@given(st.integers(0, 5), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10))
def test_the_protocol_buffer_library_agrees(extra: int, name: str) -> None:
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    message = TrackableObjectGraph()
    message.nodes.add()
    for number in range(extra):
        message.nodes[0].children.add(node_id=number + 1, local_name=f"n{number}")
        message.nodes.add()
    before = message.SerializeToString()
    message.nodes[0].children.add(node_id=extra + 1, local_name=name)
    node = message.nodes.add()
    node.attributes.add(name="VARIABLE_VALUE", full_name=name, checkpoint_key="k")
    node.has_checkpoint_values.value = True
    assert TrackableObjectGraph.FromString(add_variable(before, name=name, key="k")) == message


def test_keys_that_are_taken_out_take_the_references_to_their_objects_along() -> None:
    unknown = varint_field(900, 7)
    root, *others = [field.content() for field in fields(build_graph({"a": "key-a", "b": "key-b"}))]
    made = graph(root + slot(1, "m", 2) + unknown, *others) + unknown
    found = without_keys(made, {"key-b"})
    assert decode_graph(found) == (
        Node({"a": 1}, (), ()),
        Node({}, (Attribute("VARIABLE_VALUE", "a", "key-a"),), ()),
        Node({}, (), ()),
    )
    assert found.endswith(unknown)
    assert unknown in next(fields(found)).content()
    assert without_keys(made, set()) == made
    assert without_keys(made, {"key-c"}) == made


def test_a_pruned_graph_has_what_is_left_and_what_leads_there() -> None:
    keys = {"model/w": "k1", "model/b": "k2", "optimizer/iter": "k3", "optimizer/rate": "k4", "step": "k5"}
    graph = ObjectGraph(pruned(build_graph(keys), {"k3", "k4"}))
    assert graph.paths == {"k1": "model/w", "k2": "model/b", "k5": "step"}
    assert graph.child("optimizer") is None
    assert len(graph.nodes) == 5
    assert ObjectGraph(pruned(build_graph(keys), set())).paths == ObjectGraph(build_graph(keys)).paths
    # A weight that only the optimizer leads to keeps it.
    shared = ObjectGraph(pruned(build_graph({"optimizer/weights/0": "k1", "optimizer/iter": "k2"}), {"k2"}))
    assert shared.paths == {"k1": "optimizer/weights/0"}
    # An object without values that was there beside the model stays: older TensorFlow asks for it.
    assert (
        ObjectGraph(pruned(build_graph({"model/w": "k1", "model/dropout/seed": "k2"}), {"k2"})).child("model")
        is not None
    )


@given(st.sets(st.sampled_from([f"{a}{b}" for a in "abc" for b in "xyz"])))
def test_pruning_keeps_every_value_that_is_not_lost(lost: set[str]) -> None:
    keys = {f"{a}/{b}/v": f"{a}{b}" for a in "abc" for b in "xyz"}
    graph = ObjectGraph(pruned(build_graph(keys), lost))
    assert graph.paths == {key: path for path, key in keys.items() if key not in lost}
