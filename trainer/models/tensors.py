"""The array operations on TensorFlow, for training. Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from trainer.models.arrays import Array


class TensorArrays:
    """float32, differentiable. The gradient of ``gather`` stays sparse (``tf.IndexedSlices``)."""

    def gather(self, table: Array, ids: Array) -> Array:
        return tf.gather(table, ids)

    def matmul(self, left: Array, right: Array) -> Array:
        if len(right.shape) == 2 and len(left.shape) > 2:
            # One product for all: as a batch, the gradient of ``right`` would be made for each row and then summed.
            flat = tf.matmul(tf.reshape(left, [-1, left.shape[-1]]), right)
            sizes = left.shape[:-1] if left.shape[:-1].is_fully_defined() else tf.unstack(tf.shape(left)[:-1])
            return tf.reshape(flat, [*sizes, right.shape[-1]])
        return tf.matmul(left, right)

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
        return tf.nn.softmax(array, axis=axis)

    def stop_gradient(self, array: Array) -> Array:
        return tf.stop_gradient(array)

    def pick(self, array: Array, index: Array) -> Array:
        return tf.gather(array, index, batch_dims=1)

    def argmax(self, array: Array, axis: int) -> Array:
        return tf.argmax(array, axis=axis, output_type=tf.int32)


class LookedUp(TensorArrays):
    """For a model whose ids stand for themselves: in their place come vectors that have been looked up already."""

    def gather(self, table: Array, ids: Array) -> Array:  # noqa: ARG002
        return ids
