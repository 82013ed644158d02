"""Graphs that TensorFlow 1.15 made, beside what it computed; and graphs that nobody should trust."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import FIXTURES

from ckpt_tools.errors import CkptError, CorruptError, MismatchError, UnsafeError, UnsupportedError, UsageError
from ckpt_tools.format.graph_def import Node, Output, ShapeAttribute, TypeName, parse_output
from ckpt_tools.graphs.call import Limits
from ckpt_tools.graphs.interpreter import Interpreter
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.runs.run_graph import read_run_graph

GRAPHS = FIXTURES / "graphs"
FLOAT, INT = TypeName("float32"), TypeName("int32")


def run_fixture(name: str, feeds: dict[str, Any] | None = None, seed: int | None = None) -> dict[str, tuple[Any, Any]]:
    """What is computed and what TensorFlow 1.15 computed, by the output's name."""
    with np.load(GRAPHS / f"{name}.npz") as stored, open_checkpoint(str(GRAPHS / name)) as checkpoint:
        given = {parse_output(key[5:]): stored[key] for key in stored.files if key.startswith("feed|")}
        given |= {parse_output(key): value for key, value in (feeds or {}).items()}
        wanted = [key[4:] for key in stored.files if key.startswith("out|")]
        draws = None if seed is None else np.random.default_rng(seed)
        found = (
            read_run_graph(checkpoint)
            .interpreter(checkpoint, draws=draws)
            .run([parse_output(each) for each in wanted], given)
        )
        return {name: (value, stored[f"out|{name}"]) for name, value in zip(wanted, found, strict=True)}


@pytest.mark.parametrize("name", ["textcnn", "pictures", "gru", "loops"])
def test_what_is_computed_is_what_tensorflow_1_15_computed(name: str) -> None:
    for found, expected in run_fixture(name, seed=1).values():
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_branch_of_a_condition_depends_on_what_is_fed() -> None:
    """With n of 2 the other one is taken: the sum of the loop's rows, not the constant."""
    found = run_fixture("loops", {"n": np.int32(2)})
    assert found["chosen/Merge:0"][0] == pytest.approx(found["total:0"][0].sum())
    assert run_fixture("loops")["chosen/Merge:0"][0] == 7


def test_a_draw_needs_a_generator() -> None:
    with pytest.raises(UnsupportedError, match=r"dropout.* \(RandomUniform\): draws random numbers"):
        run_fixture("textcnn")
    drawn = [run_fixture("textcnn", {"keep_prob": np.float32(0.5)}, seed)["probabilities:0"][0] for seed in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_what_is_not_fed_or_does_not_fit_is_said_by_name() -> None:
    with pytest.raises(UsageError, match="'input_x' does not take the shape"):
        run_fixture("textcnn", {"input_x": np.zeros((4, 8), np.int32)})
    with pytest.raises(UsageError, match="'input_x' takes int32, and is fed float64"):
        run_fixture("textcnn", {"input_x": np.full((4, 9), 0.5)})
    with pytest.raises(MismatchError, match=r"node 'embedding_lookup' \(GatherV2\): row 11 is none of 11"):
        run_fixture("textcnn", {"input_x": np.full((4, 9), 11, np.int64)}, 1)


# ------------------------------------------------------------------------------------------------ graphs by hand


def node(name: str, op: str, *inputs: str, before: tuple[str, ...] = (), **attributes: Any) -> Node:
    return Node(name, op, tuple(map(parse_output, inputs)), before, attributes)


def run(wanted: str, *nodes: Node, limits: Limits | None = None, **feeds: Any) -> np.ndarray:
    def read(each: Node) -> np.ndarray:
        raise AssertionError(each)

    interpreter = Interpreter({each.name: each for each in nodes}, read, limits=limits)
    (found,) = interpreter.run([parse_output(wanted)], {Output(name): np.asarray(v) for name, v in feeds.items()})
    return found


X = node("x", "Placeholder", dtype=FLOAT, shape=ShapeAttribute(None))
N = node("n", "Placeholder", dtype=INT, shape=ShapeAttribute(None))
ONE = np.ones((), np.float32)

HOSTILE: dict[str, tuple[type[CkptError], str, Callable[[], Any]]] = {
    "an operation nobody knows": (
        UnsupportedError,
        r"node 'y' \(Evil\): the operation 'Evil' is not interpreted",
        lambda: run("y", X, node("y", "Evil", "x"), x=ONE),
    ),
    "a placeholder without a value": (UsageError, "node 'x'.*has to be fed", lambda: run("x", X)),
    "a node that is nowhere": (CorruptError, "no node 'gone'", lambda: run("y", node("y", "Neg", "gone"))),
    "an output that a node has not": (
        CorruptError,
        "'z' has no output 3",
        lambda: run("y", X, node("z", "Neg", "x"), node("y", "Neg", "z:3"), x=ONE),
    ),
    "a circle": (
        CorruptError,
        "in a circle through 'a'",
        lambda: run("b", node("a", "Neg", "b"), node("b", "Neg", "a")),
    ),
    "more memory than there is": (
        UnsafeError,
        "over the limit",
        lambda: run("y", N, X, node("y", "Fill", "n", "x"), n=np.full(3, 100_000, np.int32), x=ONE),
    ),
    "memory that grows by broadcasting": (
        UnsafeError,
        "over the limit",
        lambda: run(
            "y", X, N, node("y", "Add", "x", "z"), node("z", "Transpose", "x", "n"),
            x=np.ones((100_000, 1), np.float32), n=np.array([1, 0], np.int32),
        ),
    ),
    "a shape that is none": (
        MismatchError,
        "impossible shape",
        lambda: run("y", N, X, node("y", "Fill", "n", "x"), n=np.array([-2], np.int32), x=ONE),
    ),
    "a shape of too many dimensions": (
        MismatchError,
        "impossible shape",
        lambda: run("y", N, X, node("y", "Fill", "n", "x"), n=np.ones(65, np.int32), x=ONE),
    ),
    "a constant that lies": (CorruptError, "without a value", lambda: run("c", node("c", "Const"))),
    "too few inputs": (MismatchError, "positional argument", lambda: run("y", X, node("y", "Add", "x"), x=ONE)),
    "too many inputs": (MismatchError, "positional argument", lambda: run("y", X, node("y", "Neg", "x", "x"), x=ONE)),
    "types that TensorFlow does not mix": (
        MismatchError,
        "not of one type",
        lambda: run("y", X, N, node("y", "Add", "x", "n"), x=ONE, n=np.int32(1)),
    ),
    "an attribute of another type": (
        CorruptError,
        "attribute 'transpose_a'",
        lambda: run("y", X, node("y", "MatMul", "x", "x", transpose_a=[1]), x=np.ones((2, 2), np.float32)),
    ),
    "a division by nothing": (
        MismatchError,
        "division by zero",
        lambda: run("y", N, node("y", "FloorMod", "n", "n"), n=np.int32(0)),
    ),
    "an array where rows are wanted": (
        CorruptError,
        "input 0 is no array of tensors",
        lambda: run("y", X, N, node("y", "TensorArrayReadV3", "x", "n", "x"), x=ONE, n=np.int32(0)),
    ),
    "a way into a loop from nowhere": (
        CorruptError,
        "'in'.*has 0 inputs",
        lambda: run("out", *ENDLESS[1:], node("in", "Enter", frame_name=b"f")),
    ),
    "a type that is none": (
        CorruptError,
        "a data type is none",
        lambda: run("x", node("x", "Placeholder", dtype=1), x=ONE),
    ),
    "a way out of no loop": (CorruptError, "leaves a loop", lambda: run("y", X, node("y", "Exit", "x"), x=ONE)),
    "a loop that does not end": (
        UnsafeError,
        "a loop that does not end",
        lambda: run("out", X, *ENDLESS, limits=Limits(steps=1000), x=ONE),
    ),
    "a loop that takes too long": (
        UnsafeError,
        "within 0 seconds",
        lambda: run("out", X, *ENDLESS, limits=Limits(seconds=0), x=ONE),
    ),
}  # fmt: skip
ENDLESS = (
    node("in", "Enter", "x", frame_name=b"f"),
    node("turn", "Merge", "in", "next"),
    node("on", "Greater", "turn", "in"),
    node("not", "LogicalNot", "on"),
    node("cond", "LoopCond", "not"),
    node("way", "Switch", "turn", "cond"),
    node("next", "NextIteration", "way:1"),
    node("out", "Exit", "way:0"),
)


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_graph_ends_in_an_error_of_ours(case: str) -> None:
    kind, message, attempt = HOSTILE[case]
    with pytest.raises(kind, match=message):
        attempt()


def test_a_graph_may_be_as_deep_as_it_likes() -> None:
    chain = [node(f"n{k}", "Identity", f"n{k - 1}") for k in range(1, 20_000)]
    assert run("n19999", node("n0", "Placeholder", dtype=FLOAT), *chain, n0=ONE) == 1


def test_what_is_not_needed_any_more_makes_room() -> None:
    """Ten values of a megabyte, one after the other, fit where three do; all at once they do not."""
    chain = [node(f"n{k}", "Neg", f"n{k - 1}") for k in range(1, 11)]
    start, value = node("n0", "Placeholder", dtype=FLOAT), np.ones(1 << 18, np.float32)
    limits = Limits(held_bytes=3 << 20)
    assert run("n10", start, *chain, limits=limits, n0=value)[0] == 1
    gc.collect()
    every = node("all", "AddN", *(f"n{k}" for k in range(1, 11)))
    with pytest.raises(UnsafeError, match="beside what is held"):
        run("all", start, *chain, every, limits=limits, n0=value)


def test_a_view_keeps_what_it_is_a_view_of() -> None:
    """Else a graph could keep any number of large arrays by one element of each."""
    parts = []
    for k in range(5):
        parts += [node(f"a{k}", "Neg", "x"), node(f"b{k}", "Slice", f"a{k}", "zero", "one")]
    pack = node("all", "AddN", *(f"b{k}" for k in range(5)))
    vectors = {"zero": np.zeros(1, np.int32), "one": np.ones(1, np.int32), "x": np.ones(1 << 18, np.float32)}
    given = [node(name, "Placeholder") for name in ("zero", "one")]
    with pytest.raises(UnsafeError, match="beside what is held"):
        run("all", X, *given, *parts, pack, limits=Limits(held_bytes=3 << 20), **vectors)


def test_a_file_without_a_graph_is_told(tmp_path: Path) -> None:
    for name in ("gru.index", "gru.data-00000-of-00001"):
        (tmp_path / name).write_bytes((GRAPHS / name).read_bytes())
    with open_checkpoint(str(tmp_path / "gru")) as checkpoint:
        with pytest.raises(CkptError, match="no graph beside"):
            read_run_graph(checkpoint)
        (tmp_path / "gru.meta").write_bytes(b"\x0a\x05what?")
        with pytest.raises(CorruptError, match="holds no graph"):
            read_run_graph(checkpoint)
