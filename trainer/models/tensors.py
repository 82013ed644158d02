"""The array operations on TensorFlow, for training. Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from trainer.models.arrays import Array


class TensorArrays:
    """float32, differentiable. The gradient of ``gather`` stays sparse (``tf.IndexedSlices``)."""

    def gather(self, table: Array, ids: Array) -> Array:
        return tf.gather(table, ids)

    def product(self, left: Array, right: Array, transpose_right: bool = False) -> Array:
        return tf.matmul(left, right, transpose_b=transpose_right)

    def matmul(self, left: Array, right: Array, transpose_right: bool = False) -> Array:
        if len(right.shape) == 2 and len(left.shape) > 2 and not transpose_right:
            # One product for all: as a batch, the gradient of ``right`` would be made for each row and then summed.
            return _like(left, self.product(tf.reshape(left, [-1, left.shape[-1]]), right))
        return self.product(left, right, transpose_right)

    def dense(self, array: Array, kernel: Array, bias: Array) -> Array:
        # The bias joins the flat product: TensorFlow does both in one operation, and has one for the bias's gradient.
        flat = self.product(tf.reshape(array, [-1, array.shape[-1]]), kernel)
        return _like(array, tf.nn.bias_add(flat, bias))

    def split(self, array: Array, sizes: Sequence[int]) -> Sequence[Array]:
        # The gradient of slices would be as many arrays of the whole size, and their sum.
        parts: Sequence[Array] = tf.split(array, sizes, axis=-1)
        return parts

    def unstack(self, array: Array) -> Sequence[Array]:
        parts: Sequence[Array] = tf.unstack(array)
        return parts

    def transpose(self, array: Array, order: Sequence[int]) -> Array:
        return tf.transpose(array, order)

    def reshape(self, array: Array, shape: Sequence[int]) -> Array:
        return tf.reshape(array, shape)

    def sum(self, array: Array, axis: int, keepdims: bool = False) -> Array:
        return tf.reduce_sum(array, axis=axis, keepdims=keepdims)

    def sqrt(self, array: Array) -> Array:
        return tf.sqrt(array)

    def tanh(self, array: Array) -> Array:
        return tf.tanh(array)

    def sigmoid(self, array: Array) -> Array:
        return tf.sigmoid(array)

    def relu(self, array: Array) -> Array:
        return tf.nn.relu(array)

    def softmax(self, array: Array, axis: int) -> Array:
        if axis in (-1, len(array.shape) - 1):
            return tf.nn.softmax(array, axis=axis)
        # TensorFlow's own would turn the array around, and back.
        powers = tf.exp(array - tf.stop_gradient(tf.reduce_max(array, axis=axis, keepdims=True)))
        return powers / tf.reduce_sum(powers, axis=axis, keepdims=True)

    def stop_gradient(self, array: Array) -> Array:
        return tf.stop_gradient(array)

    def pick(self, array: Array, index: Array) -> Array:
        return tf.gather(array, index, batch_dims=1)

    def argmax(self, array: Array, axis: int) -> Array:
        return tf.argmax(array, axis=axis, output_type=tf.int32)


class LookedUp(TensorArrays):
    """For a model whose ids stand for themselves: in their place come vectors that have been looked up already.

    With ``precision`` bfloat16 products are of numbers with eight digits in binary, forwards and backwards; what they
    add up to is float32 again, as is all else. That range is float32's, so that no loss has to be scaled.
    """

    def __init__(self, precision: str = "float32") -> None:
        self._precision = precision

    def product(self, left: Array, right: Array, transpose_right: bool = False) -> Array:
        if self._precision == "float32":
            return super().product(left, right, transpose_right)
        left, right = (tf.cast(factor, self._precision) for factor in (left, right))
        return tf.cast(super().product(left, right, transpose_right), tf.float32)

    def gather(self, table: Array, ids: Array) -> Array:  # noqa: ARG002
        return ids


def _like(array: Array, flat: Array) -> Array:
    """``flat`` [N, H] with the leading dimensions of ``array``."""
    leading = array.shape[:-1].as_list()
    if None in leading:
        found = tf.shape(array)
        leading = [found[place] if size is None else size for place, size in enumerate(leading)]
    return tf.reshape(flat, [*leading, flat.shape[-1]])
