"""The few array operations that a model is written in, so that each model is written once.

Training runs the definition on TensorFlow (``trainer.models.tensors``), for the gradients. Everything that only
looks forward runs it on numpy, in float64: a recall then depends on the weights and not on the order in which
a processor adds, and measuring needs no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

Array = Any  # np.ndarray here, tf.Tensor or tf.Variable in training


class Arrays(Protocol):
    """What both backends do alike. Operators (+ - * /, slicing with None) are the array's own."""

    def gather(self, table: Array, ids: Array) -> Array:
        """Rows of ``table`` [n, D] for ``ids`` [...]: [..., D]."""

    def matmul(self, left: Array, right: Array, transpose_right: bool = False) -> Array: ...

    def dense(self, array: Array, kernel: Array, bias: Array) -> Array:
        """[..., D] through a layer with ``kernel`` [D, H] and ``bias`` [H]: [..., H]."""

    def split(self, array: Array, sizes: Sequence[int]) -> Sequence[Array]:
        """Parts of the last dimension."""

    def unstack(self, array: Array) -> Sequence[Array]:
        """Along the first dimension, whose size is known."""

    def transpose(self, array: Array, order: Sequence[int]) -> Array: ...

    def reshape(self, array: Array, shape: Sequence[int]) -> Array: ...

    def sum(self, array: Array, axis: int, keepdims: bool = False) -> Array: ...

    def sqrt(self, array: Array) -> Array: ...

    def tanh(self, array: Array) -> Array: ...

    def sigmoid(self, array: Array) -> Array: ...

    def relu(self, array: Array) -> Array: ...

    def softmax(self, array: Array, axis: int) -> Array: ...

    def stop_gradient(self, array: Array) -> Array: ...

    def pick(self, array: Array, index: Array) -> Array:
        """Row ``index[b]`` of ``array[b]``: [B, K, D] and [B] give [B, D]."""

    def argmax(self, array: Array, axis: int) -> Array: ...


class NumpyArrays:
    """float64 throughout: rows leave the float32 table as float64, and numpy promotes the rest."""

    def gather(self, table: Array, ids: Array) -> Array:
        return table[ids].astype(np.float64)

    def matmul(self, left: Array, right: Array, transpose_right: bool = False) -> Array:
        return np.matmul(left, np.swapaxes(right, -1, -2) if transpose_right else right)

    def dense(self, array: Array, kernel: Array, bias: Array) -> Array:
        return np.matmul(array, kernel) + bias

    def split(self, array: Array, sizes: Sequence[int]) -> Sequence[Array]:
        return np.split(array, np.cumsum(sizes)[:-1], axis=-1)

    def unstack(self, array: Array) -> Sequence[Array]:
        return list(array)

    def transpose(self, array: Array, order: Sequence[int]) -> Array:
        return np.transpose(array, order)

    def reshape(self, array: Array, shape: Sequence[int]) -> Array:
        return np.reshape(array, shape)

    def sum(self, array: Array, axis: int, keepdims: bool = False) -> Array:
        return np.sum(array, axis=axis, keepdims=keepdims)

    def sqrt(self, array: Array) -> Array:
        return np.sqrt(array)

    def tanh(self, array: Array) -> Array:
        return np.tanh(array)

    def sigmoid(self, array: Array) -> Array:
        return 0.5 * (1 + np.tanh(0.5 * array))  # 1 / (1 + exp(-x)), which would overflow

    def relu(self, array: Array) -> Array:
        return np.maximum(array, 0)

    def softmax(self, array: Array, axis: int) -> Array:
        powers = np.exp(array - array.max(axis=axis, keepdims=True))
        return powers / powers.sum(axis=axis, keepdims=True)

    def stop_gradient(self, array: Array) -> Array:
        return array

    def pick(self, array: Array, index: Array) -> Array:
        return array[np.arange(len(array)), index]

    def argmax(self, array: Array, axis: int) -> Array:
        return np.argmax(array, axis=axis)
