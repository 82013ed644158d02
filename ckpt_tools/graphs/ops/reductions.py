"""Operations that make fewer elements of many: sums, means, extremes, and where they are.

Source: tensorflow/core/ops/math_ops.cc. Sums keep the type of what is summed, integers wrap around.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ckpt_tools.graphs.call import Call, Op


def axes_of(axes: np.ndarray, rank: int) -> tuple[int, ...]:
    """Axes as numpy takes them. Raises ValueError for one that is not there, or there twice."""
    given = [int(axis) for axis in axes.ravel()]
    if any(not -rank <= axis < rank for axis in given):
        raise ValueError(f"axes {given} are not those of {rank} dimensions")
    found = tuple(axis % rank for axis in given)
    if len({*found}) != len(found):
        raise ValueError(f"axes {given} name one twice")
    return found


def _reduction(function: Callable[..., Any], *, typed: bool = False) -> Op:
    def run(call: Call, x: np.ndarray, axes: np.ndarray) -> np.ndarray:
        kept = call.attribute("keep_dims", False)
        also = {"dtype": x.dtype} if typed else {}
        return np.asarray(function(x, axis=axes_of(axes, x.ndim), keepdims=kept, **also), x.dtype)

    return run


def _mean(call: Call, x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    found = axes_of(axes, x.ndim)
    total = np.sum(x, axis=found, keepdims=call.attribute("keep_dims", False), dtype=x.dtype)
    count = 1
    for axis in found:
        count *= x.shape[axis]
    if x.dtype.kind in "iu":
        if not count:
            raise ZeroDivisionError("the mean of no integers")
        return np.asarray(np.trunc(total / count), x.dtype)
    return np.asarray(total / np.asarray(count, x.dtype), x.dtype)


def _place(function: Callable[..., Any]) -> Op:
    def run(call: Call, x: np.ndarray, axis: np.ndarray) -> np.ndarray:
        (along,) = axes_of(axis, x.ndim)
        return np.asarray(function(x, axis=along), call.dtype("output_type", "int64"))

    return run


def _cumulated(function: Callable[..., Any], first: int) -> Op:
    def run(call: Call, x: np.ndarray, axis: np.ndarray) -> np.ndarray:
        (along,) = axes_of(axis, x.ndim)
        call.room(x.shape, x.dtype)
        backwards = call.attribute("reverse", False)
        x = np.flip(x, along) if backwards else x
        found = np.asarray(function(x, axis=along, dtype=x.dtype))
        if call.attribute("exclusive", False) and x.shape[along]:
            before = np.full((*x.shape[:along], 1, *x.shape[along + 1 :]), first, x.dtype)
            found = np.concatenate([before, np.delete(found, -1, along)], axis=along)
        return np.flip(found, along) if backwards else found

    return run


def _top_k(call: Call, x: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest first; of equal ones the first."""
    count = int(k)
    if not x.ndim or not 0 <= count <= x.shape[-1]:
        raise ValueError(f"the {count} largest of {list(x.shape)}")
    call.room(x.shape, np.dtype(np.int64))
    # A stable sort of the reversed row, read backwards: equal ones stay in the order of their places.
    order = x.shape[-1] - 1 - np.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1][..., :count]
    return np.take_along_axis(x, order, axis=-1), order.astype(np.int32)


def _in_top_k(call: Call, scores: np.ndarray, targets: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Whether fewer than k score higher than the target's, and all are finite up to there."""
    own = scores[np.arange(len(targets)), targets]
    call.room(scores.shape, np.dtype(bool))
    higher = np.count_nonzero(scores > own[:, None], axis=1)
    found: np.ndarray = (higher < int(k)) & np.isfinite(own)
    return found


OPS: Mapping[str, Op] = {
    "All": _reduction(np.all),
    "Any": _reduction(np.any),
    "ArgMax": _place(np.argmax),
    "ArgMin": _place(np.argmin),
    "Cumprod": _cumulated(np.cumprod, 1),
    "Cumsum": _cumulated(np.cumsum, 0),
    "InTopKV2": _in_top_k,
    "Max": _reduction(np.max),
    "Mean": _mean,
    "Min": _reduction(np.min),
    "Prod": _reduction(np.prod, typed=True),
    "Sum": _reduction(np.sum, typed=True),
    "TopKV2": _top_k,
}
