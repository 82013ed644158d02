"""Operations that make each element from the elements at its place, with TensorFlow's broadcasting and types.

Source: tensorflow/core/ops/math_ops.cc and nn_ops.cc. TensorFlow never converts by itself: both sides have one type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ckpt_tools.graphs.call import Call, Op

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def unary(function: Callable[[np.ndarray], Any]) -> Op:
    def run(call: Call, x: np.ndarray) -> np.ndarray:
        call.room(x.shape, x.dtype)
        return np.asarray(function(x), x.dtype)

    return run


def predicate(function: Callable[[np.ndarray], Any]) -> Op:
    def run(call: Call, x: np.ndarray) -> np.ndarray:
        call.room(x.shape, np.dtype(bool))
        return np.asarray(function(x), bool)

    return run


def binary(function: Callable[[np.ndarray, np.ndarray], Any], *, result: type | None = None) -> Op:
    """``result``: the type of the values where it is not that of the inputs."""

    def run(call: Call, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        same_type(x, y)
        dtype = np.dtype(result) if result is not None else x.dtype
        call.room(np.broadcast_shapes(x.shape, y.shape), dtype)
        return np.asarray(function(x, y), dtype)

    return run


def same_type(x: np.ndarray, y: np.ndarray) -> None:
    """Raises ValueError for two arrays of different types."""
    if x.dtype != y.dtype:
        raise ValueError(f"{x.dtype} and {y.dtype} are not of one type")


def _sigmoid(x: np.ndarray) -> Any:
    return np.reciprocal(1 + np.exp(-x))


def _softplus(x: np.ndarray) -> Any:
    return np.logaddexp(x, np.zeros((), x.dtype))


def _rsqrt(x: np.ndarray) -> Any:
    return np.reciprocal(np.sqrt(x))


def _elu(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0, np.expm1(np.minimum(x, 0)), x)


def _selu(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0, _SELU_SCALE * _SELU_ALPHA * np.expm1(np.minimum(x, 0)), _SELU_SCALE * x)


def _erf(x: np.ndarray) -> Any:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x.astype(np.float64)), x.dtype)


def _require_divisor(y: np.ndarray) -> None:
    if y.dtype.kind in "iu" and not y.all():
        raise ZeroDivisionError("integer division by zero")


def _floor_div(x: np.ndarray, y: np.ndarray) -> Any:
    _require_divisor(y)
    return np.floor_divide(x, y)


def _floor_mod(x: np.ndarray, y: np.ndarray) -> Any:
    _require_divisor(y)
    return np.mod(x, y)


def _truncate_mod(x: np.ndarray, y: np.ndarray) -> Any:
    _require_divisor(y)
    return np.fmod(x, y)


def _truncate_div(x: np.ndarray, y: np.ndarray) -> Any:
    """C's division: integers are cut off towards zero."""
    if x.dtype.kind not in "iu":
        return np.divide(x, y)
    _require_divisor(y)
    # floor_divide differs where the signs do and something is left over; exact for all integers.
    floor = np.floor_divide(x, y)
    return floor + ((np.mod(x, y) != 0) & ((x < 0) != (y < 0))).astype(x.dtype)


def _real_div(x: np.ndarray, y: np.ndarray) -> Any:
    if x.dtype.kind not in "fcV":
        raise ValueError(f"not of {x.dtype}")
    return np.divide(x, y)


def _div_no_nan(x: np.ndarray, y: np.ndarray) -> Any:
    return np.where(y == 0, np.zeros((), x.dtype), np.divide(x, y))


def _square(x: np.ndarray) -> Any:
    return x * x


def _leaky(call: Call, x: np.ndarray) -> np.ndarray:
    call.room(x.shape, x.dtype)
    return np.where(x > 0, x, x * np.asarray(call.attribute("alpha", 0.2), x.dtype))


def _cast(call: Call, x: np.ndarray) -> np.ndarray:
    dtype = call.dtype("DstT", "float32")
    call.room(x.shape, dtype)
    return x.astype(dtype)


def _add_n(call: Call, *inputs: np.ndarray) -> np.ndarray:
    total = inputs[0]
    for each in inputs[1:]:
        same_type(total, each)
        if each.shape != total.shape:
            raise ValueError(f"shapes {list(total.shape)} and {list(each.shape)} differ")
        call.room(total.shape, total.dtype)
        total = np.asarray(total + each, total.dtype)
    return total


def _select(call: Call, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """As of TensorFlow 1: the condition has the shape of both, is a scalar, or chooses whole rows."""
    same_type(x, y)
    if x.shape != y.shape:
        raise ValueError(f"shapes {list(x.shape)} and {list(y.shape)} differ")
    if condition.shape != x.shape and condition.ndim:
        if condition.shape != x.shape[:1]:
            raise ValueError(f"a condition {list(condition.shape)} cannot choose of {list(x.shape)}")
        condition = condition.reshape(condition.shape + (1,) * (x.ndim - 1))
    call.room(x.shape, x.dtype)
    return np.where(condition.astype(bool), x, y)


def _select_v2(call: Call, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    same_type(x, y)
    call.room(np.broadcast_shapes(condition.shape, x.shape, y.shape), x.dtype)
    return np.where(condition.astype(bool), x, y)


_UNARY: Mapping[str, Callable[[np.ndarray], Any]] = {
    "Abs": np.abs,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Elu": _elu,
    "Erf": _erf,
    "Exp": np.exp,
    "Expm1": np.expm1,
    "Floor": np.floor,
    "Inv": np.reciprocal,
    "Log": np.log,
    "Log1p": np.log1p,
    "Neg": np.negative,
    "OnesLike": np.ones_like,
    "Reciprocal": np.reciprocal,
    "Relu": lambda x: np.maximum(x, np.zeros((), x.dtype)),
    "Relu6": lambda x: np.clip(x, np.asarray(0, x.dtype), np.asarray(6, x.dtype)),
    "Rint": np.rint,
    "Round": np.rint,
    "Rsqrt": _rsqrt,
    "Selu": _selu,
    "Sigmoid": _sigmoid,
    "Sign": np.sign,
    "Sin": np.sin,
    "Softplus": _softplus,
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sqrt": np.sqrt,
    "Square": _square,
    "Tanh": np.tanh,
    "ZerosLike": np.zeros_like,
}
_BINARY: Mapping[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "Add": np.add,
    "AddV2": np.add,
    "Div": _truncate_div,
    "DivNoNan": _div_no_nan,
    "FloorDiv": _floor_div,
    "FloorMod": _floor_mod,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Mod": _truncate_mod,
    "Mul": np.multiply,
    "Pow": np.power,
    "RealDiv": _real_div,
    "SquaredDifference": lambda x, y: _square(x - y),
    "Sub": np.subtract,
    "TruncateDiv": _truncate_div,
    "TruncateMod": _truncate_mod,
}
_COMPARING: Mapping[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
    "NotEqual": np.not_equal,
}

OPS: Mapping[str, Op] = {
    **{name: unary(function) for name, function in _UNARY.items()},
    "IsFinite": predicate(np.isfinite),
    "IsInf": predicate(np.isinf),
    "IsNan": predicate(np.isnan),
    "LogicalNot": predicate(np.logical_not),
    **{name: binary(function) for name, function in _BINARY.items()},
    **{name: binary(function, result=bool) for name, function in _COMPARING.items()},
    "AddN": _add_n,
    "Cast": _cast,
    "LeakyRelu": _leaky,
    "Select": _select,
    "SelectV2": _select_v2,
}
