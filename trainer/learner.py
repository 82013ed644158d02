"""The variables of a run as TensorFlow's, and the one operation that changes them. Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from trainer.config import TrainConfig
from trainer.models import ITEM_BIAS, ITEM_EMBEDDING, model_class
from trainer.optimizer import Adam
from trainer.sampling import Batch
from trainer.tensors import TensorArrays
from trainer.variables import MODEL, trainable


class Learner:
    """Holds every variable under its canonical name; they exist, with their values, from the first moment on."""

    def __init__(self, config: TrainConfig, variables: Mapping[str, np.ndarray]) -> None:
        # So that the same inputs give the same bits, on devices that would otherwise add in any order. Nothing here
        # draws from TensorFlow's generator, but determinism asks for its seed all the same.
        tf.config.experimental.enable_op_determinism()
        tf.random.set_seed(config.seed)
        self._config = config
        self.variables = {
            name: tf.Variable(value, trainable=name in trainable(config)) for name, value in variables.items()
        }
        self._model = model_class(config.model_type)(config, self.variables, TensorArrays())
        self._adam = Adam(self.variables, config.adam_epsilon)
        self._update = tf.function(self._traced_update)

    def update(self, batch: Batch) -> float:
        """One step of training; returns the batch's loss before it."""
        return float(
            self._update(
                tf.constant(batch.history),
                tf.constant(batch.mask),
                tf.constant(batch.target),
                tf.constant(batch.sampled),
                tf.constant(batch.target_count),
                tf.constant(batch.sampled_count),
                None if batch.noise is None else tf.constant(batch.noise),
            )
        )

    def weights(self) -> dict[str, np.ndarray]:
        """The model's weights as numpy arrays, for evaluation; valid until the next update."""
        return {name: variable.numpy() for name, variable in self.variables.items() if name.startswith(MODEL)}

    def _traced_update(
        self,
        history: tf.Tensor,
        mask: tf.Tensor,
        target: tf.Tensor,
        sampled: tf.Tensor,
        target_count: tf.Tensor,
        sampled_count: tf.Tensor,
        noise: tf.Tensor | None,
    ) -> tf.Tensor:
        names = trainable(self._config)
        with tf.GradientTape() as tape:
            vectors = self._model.training_vectors(history, mask, target, noise)
            loss = tf.reduce_mean(
                tf.nn.sampled_softmax_loss(
                    weights=self.variables[ITEM_EMBEDDING],
                    biases=self.variables[ITEM_BIAS],
                    labels=target[:, None],
                    inputs=vectors,
                    num_sampled=self._config.negatives,
                    num_classes=self._config.item_count,
                    sampled_values=(sampled, target_count, sampled_count),
                )
            )
        gradients = tape.gradient(loss, [self.variables[name] for name in names])
        self._adam.apply(dict(zip(names, gradients, strict=True)))
        return loss
