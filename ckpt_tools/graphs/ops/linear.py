"""Operations of layers: products of matrices, convolutions, pooling, softmax, cross entropies, normalisation.

Source: tensorflow/core/ops/nn_ops.cc and math_ops.cc; the padding of SAME as in
tensorflow/core/framework/kernel_shape_util.cc: what is left over goes behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ckpt_tools.errors import UnsupportedError
from ckpt_tools.graphs.call import Call, Op
from ckpt_tools.graphs.ops.elementwise import same_type


def _product(call: Call, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    same_type(x, y)
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-2]:
        raise ValueError(f"{list(x.shape)} and {list(y.shape)} have no product")
    call.room((*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1]), x.dtype)
    return np.asarray(np.matmul(x, y), x.dtype)


def _matmul(call: Call, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.ndim != 2 or y.ndim != 2:
        raise ValueError(f"{list(x.shape)} and {list(y.shape)} are not two matrices")
    x = x.T if call.attribute("transpose_a", False) else x
    return _product(call, x, y.T if call.attribute("transpose_b", False) else y)


def _batch_matmul(call: Call, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.ndim < 2 or y.ndim < 2:
        raise ValueError(f"{list(x.shape)} and {list(y.shape)} are not rows of matrices")
    x = np.conj(np.swapaxes(x, -1, -2)) if call.attribute("adj_x", False) else x
    return _product(call, x, np.conj(np.swapaxes(y, -1, -2)) if call.attribute("adj_y", False) else y)


def _bias_add(call: Call, x: np.ndarray, bias: np.ndarray) -> np.ndarray:
    same_type(x, bias)
    if bias.ndim != 1:
        raise ValueError(f"a bias {list(bias.shape)}")
    if call.text("data_format", "NHWC") == "NCHW":
        bias = bias.reshape(bias.shape + (1,) * (x.ndim - 2))
    if np.broadcast_shapes(x.shape, bias.shape) != x.shape:
        raise ValueError(f"a bias {list(bias.shape)} of {list(x.shape)}")
    call.room(x.shape, x.dtype)
    return np.asarray(x + bias, x.dtype)


def _of_shifted(function: Callable[[np.ndarray], Any]) -> Op:
    """Of each row less its largest element, so that no exponential overflows."""

    def run(call: Call, x: np.ndarray) -> np.ndarray:
        if not x.ndim:
            raise ValueError("of a scalar")
        call.room(x.shape, x.dtype)
        return np.asarray(function(x - x.max(axis=-1, keepdims=True)), x.dtype) if x.size else x

    return run


@_of_shifted
def _softmax(shifted: np.ndarray) -> Any:
    powers = np.exp(shifted)
    return powers / powers.sum(axis=-1, keepdims=True, dtype=powers.dtype)


@_of_shifted
def _log_softmax(shifted: np.ndarray) -> Any:
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True, dtype=shifted.dtype))


def _cross_entropy(call: Call, logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    same_type(logits, labels)
    if np.broadcast_shapes(logits.shape, labels.shape) != logits.shape or logits.ndim != 2:
        raise ValueError(f"logits {list(logits.shape)} and labels {list(labels.shape)}")
    logs = _log_softmax(call, logits)
    return np.asarray(-(labels * logs).sum(axis=-1), logits.dtype), np.asarray(np.exp(logs) - labels, logits.dtype)


def _sparse_cross_entropy(call: Call, logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logs = _log_softmax(call, logits)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not ((labels >= 0) & (labels < logits.shape[1])).all():
        raise ValueError(f"labels {list(labels.shape)} that are not those of {list(logits.shape)}")
    rows = np.arange(len(labels))
    change = np.exp(logs)
    change[rows, labels] -= 1
    return -logs[rows, labels], change


def _l2_loss(call: Call, x: np.ndarray) -> np.ndarray:
    call.room(x.shape, x.dtype)
    return np.asarray((x * x).sum(dtype=x.dtype) / 2, x.dtype)


# ------------------------------------------------------------------------------------------------ windows


class _Windows:
    """How a window of a size moves over [B, H, W, C]: strides, gaps, and what is put around."""

    def __init__(self, call: Call, x: np.ndarray, size: Sequence[int], strides: Sequence[int], gaps: Sequence[int]):
        self.size, self.strides, self.gaps = size, strides, gaps
        if min((*size, *strides, *gaps)) < 1:
            raise ValueError(f"a window {list(size)} by steps of {list(strides)}")
        self.reach = [(extent - 1) * gap + 1 for extent, gap in zip(size, gaps, strict=True)]
        self.around = self._around(call, x.shape[1:3])
        padded = [length + sum(pair) for length, pair in zip(x.shape[1:3], self.around, strict=True)]
        self.out = [max(0, (p - r) // s + 1) for p, r, s in zip(padded, self.reach, strides, strict=True)]
        call.room((x.shape[0], *padded, x.shape[3]), x.dtype)
        call.room((x.shape[0], *self.out, *size, x.shape[3]), x.dtype)

    def _around(self, call: Call, lengths: Sequence[int]) -> list[tuple[int, int]]:
        padding = call.text("padding", "VALID")
        if padding == "VALID":
            return [(0, 0), (0, 0)]
        if padding != "SAME":
            raise UnsupportedError(f"padding {padding} is not interpreted")
        found = []
        for length, reach, stride in zip(lengths, self.reach, self.strides, strict=True):
            missing = max(0, (-(-length // stride) - 1) * stride + reach - length)
            found.append((missing // 2, missing - missing // 2))
        return found

    def of(self, x: np.ndarray, fill: float) -> np.ndarray:
        """The windows [B, H', W', h, w, C]: a view of the padded array."""
        padded = np.pad(x, [(0, 0), *self.around, (0, 0)], constant_values=np.asarray(fill, x.dtype))
        if not all(self.out):
            return np.empty((x.shape[0], *self.out, *self.size, x.shape[3]), x.dtype)
        views = np.lib.stride_tricks.sliding_window_view(padded, self.reach, axis=(1, 2))
        down, across = self.strides
        views = views[:, ::down, ::across, :, :: self.gaps[0], :: self.gaps[1]]
        return np.moveaxis(views, 3, 5)


def _laid_out(function: Callable[..., np.ndarray]) -> Op:
    """The same for both orders of the dimensions."""

    def run(call: Call, x: np.ndarray, *others: np.ndarray) -> np.ndarray:
        if x.ndim != 4:
            raise ValueError(f"{list(x.shape)} is no row of pictures")
        layout = call.text("data_format", "NHWC")
        if layout not in ("NHWC", "NCHW"):
            raise UnsupportedError(f"data_format {layout} is not interpreted")
        first = layout == "NCHW"
        found = function(
            call, np.moveaxis(x, 1, 3) if first else x, *others, plane=slice(2, 4) if first else slice(1, 3)
        )
        return np.moveaxis(found, 3, 1) if first else found

    return run


def _kernel_windows(call: Call, x: np.ndarray, kernel: np.ndarray, plane: slice) -> _Windows:
    same_type(x, kernel)
    if kernel.ndim != 4 or kernel.shape[2] != x.shape[3]:
        raise ValueError(f"a kernel {list(kernel.shape)} of {list(x.shape)}")
    strides, gaps = call.integers("strides", (1,) * 4)[plane], call.integers("dilations", (1,) * 4)[plane]
    return _Windows(call, x, kernel.shape[:2], strides, gaps)


def _conv2d(call: Call, x: np.ndarray, kernel: np.ndarray, *, plane: slice) -> np.ndarray:
    windows = _kernel_windows(call, x, kernel, plane)
    call.room((x.shape[0], *windows.out, kernel.shape[3]), x.dtype)
    return np.asarray(np.tensordot(windows.of(x, 0), kernel, axes=3), x.dtype)


def _depthwise(call: Call, x: np.ndarray, kernel: np.ndarray, *, plane: slice) -> np.ndarray:
    windows = _kernel_windows(call, x, kernel, plane)
    call.room((x.shape[0], *windows.out, kernel.shape[2] * kernel.shape[3]), x.dtype)
    found = np.einsum("bhwijc,ijcm->bhwcm", windows.of(x, 0), kernel)
    return np.asarray(found.reshape(*found.shape[:3], -1), x.dtype)


def _pool_windows(call: Call, x: np.ndarray, plane: slice) -> _Windows:
    sizes, strides = call.integers("ksize", (1,) * 4), call.integers("strides", (1,) * 4)
    for each in (sizes, strides):
        outside = [*each[: plane.start], *each[plane.stop :]]
        if len(each) != 4 or any(value != 1 for value in outside):
            raise UnsupportedError("pooling over rows or channels is not interpreted")
    return _Windows(call, x, sizes[plane], strides[plane], (1, 1))


def _max_pool(call: Call, x: np.ndarray, *, plane: slice) -> np.ndarray:
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    return np.asarray(_pool_windows(call, x, plane).of(x, lowest).max(axis=(3, 4)), x.dtype)


def _avg_pool(call: Call, x: np.ndarray, *, plane: slice) -> np.ndarray:
    """What was put around does not count."""
    windows = _pool_windows(call, x, plane)
    total = windows.of(x, 0).sum(axis=(3, 4), dtype=x.dtype)
    count = windows.of(np.ones((1, *x.shape[1:3], 1), x.dtype), 0).sum(axis=(3, 4))
    return np.asarray(total / count, x.dtype)


def _batch_norm(
    call: Call, x: np.ndarray, scale: np.ndarray, offset: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, ...]:
    """With the mean and variance that were learned; those of a batch are training's."""
    if call.attribute("is_training", True):
        raise UnsupportedError("normalises by the batch, as in training", hint="feed what switches training off")
    shape = (1, -1, 1, 1) if call.text("data_format", "NHWC") == "NCHW" else (-1,)
    epsilon = np.asarray(call.attribute("epsilon", 1e-4), variance.dtype)
    factor = scale / np.sqrt(variance + epsilon)
    call.room(x.shape, x.dtype)
    found = x * factor.reshape(shape) + (offset - mean * factor).reshape(shape)
    return np.asarray(found, x.dtype), mean, variance


OPS: Mapping[str, Op] = {
    "AvgPool": _laid_out(_avg_pool),
    "BatchMatMul": _batch_matmul,
    "BatchMatMulV2": _batch_matmul,
    "BiasAdd": _bias_add,
    "BiasAddV1": _bias_add,
    "Conv2D": _laid_out(_conv2d),
    "DepthwiseConv2dNative": _laid_out(_depthwise),
    "FusedBatchNorm": _batch_norm,
    "FusedBatchNormV2": _batch_norm,
    "FusedBatchNormV3": _batch_norm,
    "L2Loss": _l2_loss,
    "LogSoftmax": _log_softmax,
    "MatMul": _matmul,
    "MaxPool": _laid_out(_max_pool),
    "Softmax": _softmax,
    "SoftmaxCrossEntropyWithLogits": _cross_entropy,
    "SparseSoftmaxCrossEntropyWithLogits": _sparse_cross_entropy,
}
