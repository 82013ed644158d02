"""Each operation of the table beside the installed TensorFlow's, on small inputs of all kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ckpt_tools.format.graph_def import Node, Output, TypeName
from ckpt_tools.graphs.interpreter import Interpreter
from ckpt_tools.graphs.ops import DRAWS, OPS

RNG = np.random.default_rng(3)
F = RNG.normal(0, 2, (4, 3, 5)).astype(np.float32)
G = RNG.normal(0, 2, (3, 5)).astype(np.float32)
SQUARE = RNG.normal(0, 1, (4, 4)).astype(np.float32)
PICTURES = RNG.normal(0, 1, (2, 7, 6, 3)).astype(np.float32)
KERNEL = RNG.normal(0, 1, (3, 2, 3, 4)).astype(np.float32)
I = RNG.integers(-9, 9, (4, 3, 5)).astype(np.int32)  # noqa: E741 - F, G, I: floats, others, integers
J = RNG.integers(1, 5, (3, 5)).astype(np.int32) * np.where(RNG.random((3, 5)) < 0.5, -1, 1).astype(np.int32)
B = F > 0
VECTOR = np.arange(3, dtype=np.float32) - 1


def ints(*values: Any) -> np.ndarray:
    return np.asarray(values, np.int32)


def scalar(value: Any) -> np.ndarray:
    return np.asarray(value, np.int32)


def names(text: str) -> list[str]:
    return text.split()


UNARY = names("""
Abs Ceil Cos Elu Erf Exp Expm1 Floor Neg OnesLike Relu Relu6 Rint Round Selu Sigmoid Sign Sin Softplus Softsign Square
Tanh ZerosLike IsFinite IsInf IsNan Identity Snapshot PreventGradient StopGradient L2Loss Softmax LogSoftmax Where Size
Rank Shape
""")
BINARY = names("""
Add AddV2 Sub Mul RealDiv Div FloorDiv FloorMod Maximum Minimum SquaredDifference Equal NotEqual Less LessEqual Greater
GreaterEqual DivNoNan
""")
OF_INTEGERS = names("Add Sub Mul Div FloorDiv FloorMod Mod TruncateDiv TruncateMod Maximum")
BOTH = (False, True)
STEPS = ((1, 1, "SAME", 1), (2, 2, "SAME", 1), (2, 2, "VALID", 1), (1, 1, "VALID", 2), (1, 1, "SAME", 2))
AREA = {"strides": [1, 2, 2, 1]}
# The operation, its inputs, and its attributes as TensorFlow's raw operations call them.
CASES: list[tuple[str, Sequence[Any], dict[str, Any]]] = [
    *((name, [F], {}) for name in UNARY),
    *((name, [np.abs(F) + 0.1], {}) for name in ("Sqrt", "Rsqrt", "Log", "Log1p", "Inv", "Reciprocal")),
    *((name, [I], {}) for name in ("Abs", "Neg", "Sign", "Square", "Relu", "ZerosLike", "OnesLike")),
    ("Round", [np.array([0.5, 1.5, 2.5, -0.5], np.float32)], {}),
    *((name, [F, G], {}) for name in BINARY),
    ("Pow", [np.abs(F), G], {}),
    ("DivNoNan", [F, np.zeros_like(G)], {}),
    *((name, [I, J], {}) for name in OF_INTEGERS),
    ("LogicalAnd", [B, B[:, :1]], {}),
    ("LogicalOr", [B, B[:, :1]], {}),
    ("LogicalNot", [B], {}),
    ("LeakyRelu", [F], {"alpha": 0.3}),
    ("AddN", [[F, F, F]], {}),
    ("Select", [B, F, -F], {}),
    ("Select", [np.array([True, False, True, False]), F, -F], {}),
    ("SelectV2", [B[:, :1], F, np.float32(2)], {}),
    *(("Cast", [x], {"DstT": to}) for x, to in ((F, "int32"), (F, "bool"), (I, "float32"), (B, "int64"), (I, "uint8"))),
    *((name, [F, ints(*axes)], {"keep_dims": kept}) for name in ("Sum", "Mean", "Max", "Min", "Prod")
      for axes, kept in (((0, 2), False), ((-1,), True), ((), False))),
    *((name, [I, ints(1)], {"keep_dims": False}) for name in ("Sum", "Mean", "Max", "Prod")),
    ("All", [B, ints(1)], {"keep_dims": True}),
    ("Any", [B, ints(0, 1)], {"keep_dims": False}),
    ("ArgMax", [F, scalar(-1)], {}),
    ("ArgMin", [F, scalar(1)], {"output_type": "int32"}),
    *(("Cumsum", [F, scalar(1)], {"exclusive": e, "reverse": r}) for e in (False, True) for r in (False, True)),
    ("Cumprod", [F, scalar(-1)], {"exclusive": True, "reverse": True}),
    ("TopKV2", [np.round(F), scalar(3)], {}),
    ("InTopKV2", [SQUARE, ints(0, 1, 2, 3), scalar(2)], {}),
    *(("MatMul", [SQUARE, SQUARE[:, :]], {"transpose_a": a, "transpose_b": b}) for a in BOTH for b in BOTH),
    ("BatchMatMulV2", [F, G], {"adj_x": False, "adj_y": True}),
    ("BatchMatMul", [F, F], {"adj_x": True, "adj_y": False}),
    ("BiasAdd", [PICTURES, VECTOR], {}),
    ("BiasAdd", [np.moveaxis(PICTURES, 3, 1).copy(), VECTOR], {"data_format": "NCHW"}),
    *(("Conv2D", [PICTURES, KERNEL], {"strides": [1, s, t, 1], "padding": p, "dilations": [1, d, d, 1]})
      for s, t, p, d in STEPS),
    *(("DepthwiseConv2dNative", [PICTURES, KERNEL], {**AREA, "padding": p}) for p in ("SAME", "VALID")),
    *((name, [PICTURES], {"ksize": [1, 3, 2, 1], "strides": [1, 2, 2, 1], "padding": p})
      for name in ("MaxPool", "AvgPool") for p in ("SAME", "VALID")),
    ("FusedBatchNormV3", [PICTURES, VECTOR, VECTOR, VECTOR, VECTOR**2 + 1], {"is_training": False, "epsilon": 0.01}),
    ("SoftmaxCrossEntropyWithLogits", [SQUARE, np.eye(4, dtype=np.float32)], {}),
    ("SparseSoftmaxCrossEntropyWithLogits", [SQUARE, ints(3, 0, 1, 1)], {}),
    ("Reshape", [F, ints(-1, 15)], {}),
    ("ExpandDims", [F, scalar(-2)], {}),
    ("Squeeze", [F[:, :1, :1]], {"axis": [1]}),
    ("Squeeze", [F[:, :1, :1]], {}),
    ("Transpose", [F, ints(2, 0, 1)], {}),
    ("Pack", [[G, G]], {"axis": 1}),
    ("Unpack", [F], {"axis": 1, "num": 3}),
    ("ConcatV2", [[F, F], scalar(-1)], {}),
    ("Concat", [scalar(1), [F, F]], {}),
    ("Split", [scalar(0), F], {"num_split": 2}),
    ("SplitV", [F, ints(1, -1, 2), scalar(2)], {"num_split": 3}),
    ("Slice", [F, ints(1, 0, 2), ints(2, -1, 3)], {}),
    ("StridedSlice", [F, ints(1, 0), ints(4, 3), ints(2, 1)], {}),
    ("StridedSlice", [F, ints(-1, 0, 0), ints(0, 0, 0), ints(-1, 1, 1)], {"end_mask": 3, "shrink_axis_mask": 4}),
    ("StridedSlice", [F, ints(0, 0, 1), ints(0, 0, 2), ints(1, 1, 1)], {"ellipsis_mask": 2, "new_axis_mask": 1}),
    ("Tile", [G, ints(2, 3)], {}),
    ("Fill", [ints(2, 3), np.float32(4)], {}),
    ("BroadcastTo", [G, ints(2, 3, 5)], {}),
    ("Range", [scalar(2), scalar(11), scalar(4)], {}),
    ("Range", [scalar(7), scalar(1), scalar(-2)], {}),
    ("Range", [np.float32(0), np.float32(1), np.float32(0.3)], {}),
    ("LinSpace", [np.float32(0), np.float32(1), scalar(4)], {}),
    ("Pad", [G, np.array([[1, 2], [0, 1]], np.int32)], {}),
    ("PadV2", [G, np.array([[1, 2], [0, 1]], np.int32), np.float32(7)], {}),
    *(("MirrorPad", [G, np.array([[1, 2], [0, 1]], np.int32)], {"mode": mode}) for mode in ("REFLECT", "SYMMETRIC")),
    ("ReverseV2", [F, ints(0, 2)], {}),
    ("ReverseSequence", [F, ints(3, 0, 2, 1)], {"seq_dim": 1, "batch_dim": 0}),
    ("Gather", [F, ints(3, 0)], {}),
    ("GatherV2", [F, np.array([[1, 0], [2, 2]], np.int32), scalar(1)], {}),
    ("GatherV2", [F, ints([0, 1], [2, 2], [1, 0], [0, 0]), scalar(1)], {"batch_dims": 1}),
    ("GatherNd", [F, np.array([[1, 0], [2, 2]], np.int32)], {}),
    ("SparseToDense", [ints([0, 1], [2, 0]), ints(3, 2), np.float32([1, 2]), np.float32(-1)], {}),
    ("ScatterNd", [ints([0], [2], [0]), np.float32([1, 2, 3]), ints(4)], {}),
    ("OneHot", [ints(0, 3, -1), scalar(3), np.float32(2), np.float32(-1)], {"axis": -1}),
    ("OneHot", [ints(0, 2), scalar(3), np.float32(1), np.float32(0)], {"axis": 0}),
    ("Unique", [ints(3, 1, 3, 0)], {}),
    ("InvertPermutation", [ints(2, 0, 1)], {}),
    ("DynamicStitch", [[ints(0, 2), ints(1, 2)], [G[:2], G[1:]]], {}),
    ("ParallelDynamicStitch", [[ints(0, 2), scalar(1)], [G[:2], G[2]]], {}),
    ("DynamicPartition", [G, ints(1, 0, 1)], {"num_partitions": 2}),
    ("MatrixBandPart", [F, scalar(1), scalar(0)], {}),
    ("ShapeN", [[F, G]], {}),
    ("IdentityN", [[F, G]], {}),
    ("CheckNumerics", [F], {"message": "no"}),
]  # fmt: skip
# What is compared elsewhere (graphs of TensorFlow 1.15), or has no inputs to be compared on.
ELSEWHERE = {"Const", "PlaceholderWithDefault", "FusedBatchNorm", "FusedBatchNormV2", "BiasAddV1"} | DRAWS
_RAW = {"DstT", "output_type", "out_type"}


def interpreted(op: str, inputs: Sequence[np.ndarray], attributes: dict[str, Any], count: int) -> list[np.ndarray]:
    """The outputs of one operation in a graph of its own."""
    stored = {
        name: TypeName(value) if name in _RAW else value.encode() if isinstance(value, str) else value
        for name, value in attributes.items()
    }
    stored |= {"squeeze_dims": stored["axis"]} if op == "Squeeze" and "axis" in stored else {}
    names = [f"x{number}" for number in range(len(inputs))]
    nodes = {name: Node(name, "Placeholder") for name in names}
    nodes["y"] = Node("y", op, tuple(map(Output, names)), (), stored)
    feeds = {Output(name): value for name, value in zip(names, inputs, strict=True)}
    return Interpreter(nodes, lambda _: inputs[0]).run([Output("y", number) for number in range(count)], feeds)


@pytest.mark.tensorflow
def test_every_operation_gives_what_tensorflow_gives() -> None:
    import tensorflow as tf

    wrong = []
    for op, inputs, attributes in CASES:
        raw = getattr(tf.raw_ops, op)
        names = [name for name in raw.__signature__.parameters if name not in (*attributes, "name")][: len(inputs)]
        with tf.device("CPU"):
            expected = raw(**dict(zip(names, inputs, strict=True)), **attributes)
        several = isinstance(expected, (list, tuple))
        arrays = [np.asarray(each) for each in (expected if several else [expected])]
        arrays = arrays[:1] if op == "FusedBatchNormV3" else arrays
        flat = [np.asarray(x) for each in inputs for x in (each if isinstance(each, list) else [each])]
        for found, reference in zip(interpreted(op, flat, attributes, len(arrays)), arrays, strict=True):
            same = found.shape == reference.shape and found.dtype == reference.dtype
            if not same or not np.allclose(found, reference, rtol=2e-6, atol=2e-6, equal_nan=True):
                wrong.append((op, attributes, found.dtype, found.shape, reference.dtype, reference.shape))
    assert wrong == []


def test_no_operation_is_left_out() -> None:
    assert set(OPS) == {op for op, _, _ in CASES} | ELSEWHERE
