"""The variables of a run as TensorFlow's, and the one operation that changes them. Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.config import TrainConfig
from trainer.models import ITEM_BIAS, ITEM_EMBEDDING, model_class
from trainer.optimizer import Adam
from trainer.sampling import Batch
from trainer.tensors import TensorArrays
from trainer.variables import IDLE, MODEL, trainable

_IMPOSSIBLE = -1e30


class Learner:
    """Holds every variable under its canonical name; they exist, with their values, from the first moment on."""

    def __init__(self, config: TrainConfig, variables: Mapping[str, np.ndarray]) -> None:
        # So that the same inputs give the same bits, on devices that would otherwise add in any order. Nothing here
        # draws from TensorFlow's generator, but determinism asks for its seed all the same.
        tf.config.experimental.enable_op_determinism()
        tf.random.set_seed(config.seed)
        self._config = config
        names = trainable(config)
        self._variables = {
            name: tf.Variable(value, trainable=name in names)
            for name, value in variables.items()
            if not name.startswith(IDLE)
        }
        self._dense = [name for name in names if name != ITEM_EMBEDDING]
        self._adam = Adam(self._variables, config.adam_epsilon)
        self._all_current = True
        if behind := {name.removeprefix(IDLE): value for name, value in variables.items() if name.startswith(IDLE)}:
            self._adam.put_behind(behind)
            self._all_current = False
        batch, history, samples = config.batch_size, config.maxlen, config.negatives
        self._update = tf.function(
            self._traced_update,
            input_signature=[
                tf.TensorSpec([None], tf.int64),
                tf.TensorSpec([batch * history + batch + samples], tf.int32),
                tf.TensorSpec([batch, history], tf.float32),
                tf.TensorSpec([batch, 1], tf.float32),
                tf.TensorSpec([samples], tf.float32),
                tf.TensorSpec([batch, config.num_interest, history] if config.draws_routing_noise else [0], tf.float32),
            ],
        )

    def update(self, batch: Batch) -> float:
        """One step of training; returns the batch's loss before it."""
        self._all_current = False
        self._adam.note(batch.rows)
        noise = np.zeros(0, np.float32) if batch.noise is None else batch.noise
        inputs = (batch.rows, batch.places, batch.mask, batch.target_count, batch.sampled_count, noise)
        return float(self._update(*map(tf.constant, inputs)))

    def catch_up(self) -> None:
        """Bring every row of the item table up to date, as evaluation and an ordinary checkpoint need it."""
        self._adam.catch_up()
        self._all_current = True

    def weights(self) -> dict[str, np.ndarray]:
        """The model's weights as numpy arrays, after ``catch_up``; valid until the next update."""
        return {name: variable.numpy() for name, variable in self._variables.items() if name.startswith(MODEL)}

    def stored(self) -> dict[str, Any]:
        """What a checkpoint holds of the learner: an ordinary state of Adam, every row up to date.

        Between two evaluations rows are behind. To continue from there with the same bits, the checkpoint also gets
        those rows as they are (``state/idle/...``); nobody else needs them.
        """
        if self._all_current:
            return dict(self._variables)
        behind = {f"{IDLE}{key}": value for key, value in self._adam.behind().items()}
        return {**self._variables, **self._adam.current(), **behind}

    def _traced_update(
        self,
        rows: tf.Tensor,
        places: tf.Tensor,
        mask: tf.Tensor,
        target_count: tf.Tensor,
        sampled_count: tf.Tensor,
        noise: tf.Tensor,
    ) -> tf.Tensor:
        config = self._config
        users, samples = config.batch_size, config.negatives
        history, target, sampled = tf.split(places, [users * config.maxlen, users, samples])
        fresh = self._adam.rows(rows)
        dense = [self._variables[name] for name in self._dense]
        with tf.GradientTape() as tape:
            tape.watch(fresh.values)
            # The model sees a table of the batch's own rows, and ids that are places in it.
            weights = {**self._variables, ITEM_EMBEDDING: fresh.values}
            model = model_class(config.model_type)(config, weights, TensorArrays())
            vectors = model.training_vectors(
                tf.reshape(history, [users, config.maxlen]),
                mask,
                target,
                noise if config.draws_routing_noise else None,
            )
            bias = tf.gather(self._variables[ITEM_BIAS], rows)
            loss = sampled_softmax(fresh.values, bias, vectors, target, sampled, target_count, sampled_count)
        row_gradient, *gradients = tape.gradient(loss, [fresh.values, *dense])
        self._adam.apply(fresh, _summed(row_gradient, rows), dict(zip(self._dense, gradients, strict=True)))
        return loss


def sampled_softmax(
    table: tf.Tensor,
    bias: tf.Tensor,
    vectors: tf.Tensor,
    target: tf.Tensor,
    sampled: tf.Tensor,
    target_count: tf.Tensor,
    sampled_count: tf.Tensor,
) -> tf.Tensor:
    """The mean of ``tf.nn.sampled_softmax_loss`` over a batch, with accidental hits removed (Jean et al., 2015).

    ``table`` [R, D], ``bias`` [R], ``vectors`` [B, D], ``target`` [B] and ``sampled`` [S] as places in the table,
    ``target_count`` [B, 1] and ``sampled_count`` [S]: how often the sampler was expected to draw each.
    """
    true = tf.reduce_sum(vectors * tf.gather(table, target), axis=1, keepdims=True)
    true = true + tf.gather(bias, target)[:, None] - tf.math.log(target_count)
    others = tf.matmul(vectors, tf.gather(table, sampled), transpose_b=True)
    others = others + tf.gather(bias, sampled) - tf.math.log(sampled_count)
    others = tf.where(target[:, None] == sampled, _IMPOSSIBLE, others)
    return tf.reduce_mean(tf.reduce_logsumexp(tf.concat([true, others], axis=1), axis=1) - true[:, 0])


def _summed(gradient: tf.Tensor | tf.IndexedSlices, rows: tf.Tensor) -> tf.Tensor:
    """The gradient of the batch's rows [R, D]; repeated rows add up in the order of the batch."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, tf.shape(rows)[0])
    return gradient
