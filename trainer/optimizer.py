"""Adam over named variables. Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from trainer.variables import ADAM_STEP, LEARNING_RATE, moment_name

BETA_1 = 0.9
BETA_2 = 0.999


class Adam:
    """Adam (Kingma & Ba, 2015) as TensorFlow and Keras compute it, on every row at every update.

    The bias correction is part of the rate, so epsilon is added to the uncorrected root (the paper's "epsilon hat",
    tensorflow/core/kernels/training_ops.cc). Both older trainers move rows without a gradient too.
    """

    def __init__(self, variables: Mapping[str, tf.Variable], epsilon: float) -> None:
        """``variables`` holds the step, the learning rate and the moments, under their canonical names."""
        self._variables = variables
        self._epsilon = epsilon

    def apply(self, gradients: Mapping[str, tf.Tensor | tf.IndexedSlices]) -> None:
        """One update. ``gradients`` by the canonical name of the variable."""
        step = self._variables[ADAM_STEP]
        step.assign_add(1)
        rate = self._corrected_rate(tf.cast(step.read_value(), tf.float64))
        for name, gradient in gradients.items():
            variable = self._variables[name]
            gradient = _dense(gradient, len(variable.shape) and variable.shape[0])
            first, second = (self._variables[moment_name(moment, name)] for moment in ("m", "v"))
            mean = first.assign_add((gradient - first) * (1 - BETA_1), read_value=True)
            square = second.assign_add((gradient * gradient - second) * (1 - BETA_2), read_value=True)
            variable.assign_sub(rate * mean / (tf.sqrt(square) + self._epsilon))

    def _corrected_rate(self, step: tf.Tensor) -> tf.Tensor:
        """float32, worked out in float64: 1 - 0.999^t loses digits for small t."""
        one = tf.constant(1, tf.float64)
        correction = tf.sqrt(one - tf.pow(one * BETA_2, step)) / (one - tf.pow(one * BETA_1, step))
        return tf.cast(tf.cast(self._variables[LEARNING_RATE], tf.float64) * correction, tf.float32)


def _dense(gradient: tf.Tensor | tf.IndexedSlices, rows: int) -> tf.Tensor:
    """The gradient of the whole variable; repeated rows add up in the order of the batch."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, rows)
    return gradient
