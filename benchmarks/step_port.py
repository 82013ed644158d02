"""A training step of the Keras port of ComiRec, written down from what it computes: a contender of ``step_twins``.

LittleGreen3/comirec at 48bc6fa: the models of src/model.py and ``train_one_step`` of src/train.py, with the layers, the
loss and the optimizer of the installed TensorFlow and Keras. Interests are read by item 0, as the port trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.config import TrainConfig
from trainer.data.sampling import Batch

ITERATIONS = 3


class Port:
    def __init__(self, config: TrainConfig, variables: Mapping[str, np.ndarray]) -> None:
        self._config = config
        dim, interests, layers = config.embedding_dim, config.num_interest, tf.keras.layers
        self._items = layers.Embedding(config.item_count, dim)
        self._layers: list[Any] = []
        self._capsule_map: Any = None
        if config.model_type == "DNN":
            self._layers = [layers.Dense(dim)]
        elif config.model_type == "GRU4REC":
            self._layers = [layers.GRU(dim)]
        elif config.model_type == "MIND":
            self._layers = [layers.Dense(dim, use_bias=False)]
            if config.relu_projection:
                self._layers.append(layers.Dense(dim, activation="relu"))
        elif config.model_type == "ComiRec-SA":
            self._layers = [layers.Dense(4 * dim, activation="tanh"), layers.Dense(interests)]
        self._items.build(None)
        width = dim
        for layer in self._layers:
            layer.build((None, config.maxlen, width))
            width = layer.units
        own = [self._items, *self._layers]
        weights = [weight for layer in own for weight in layer.trainable_variables]
        if config.model_type == "ComiRec-DR":
            self._capsule_map = tf.Variable(tf.zeros([1, config.maxlen, interests * dim, dim]))
            weights.append(self._capsule_map)
        # Layers and the configuration's parameters come in the same order.
        names = [name for name in variables if name.startswith("model/") and name != "model/item_bias"]
        for name, weight in zip(names, weights, strict=True):
            weight.assign(variables[name])
        self._weights = weights
        self._bias = tf.Variable(variables["model/item_bias"], trainable=False)
        self._adam = tf.keras.optimizers.Adam(config.learning_rate)
        self._adam.build(weights)
        self._update = tf.function(self._traced)

    def step(self, batch: Batch) -> float:
        """With negatives of TensorFlow's own drawing, inside the step, as the port does."""
        return float(self._update(*_inputs(batch)))

    def compared(self, batch: Batch) -> float:
        """With the negatives of the batch."""
        sampled = (batch.sampled, batch.target_count, batch.sampled_count)
        return float(self._update(*_inputs(batch), tuple(tf.constant(part) for part in sampled)))

    def _traced(self, nobody: Any, history: Any, mask: Any, target: Any, sampled: Any = None) -> Any:
        config = self._config
        with tf.GradientTape() as tape:
            vector = self._vector(self._items(nobody), self._items(history), mask)
            loss = tf.reduce_mean(
                tf.nn.sampled_softmax_loss(
                    weights=self._items.weights[0],
                    biases=self._bias,
                    labels=tf.cast(target[:, None], tf.int64),
                    inputs=vector,
                    num_sampled=config.neg_num * config.batch_size,
                    num_classes=config.item_count,
                    sampled_values=sampled,
                )
            )
        self._adam.apply_gradients(zip(tape.gradient(loss, self._weights), self._weights, strict=True))
        return loss

    def _vector(self, wanted: Any, items: Any, mask: Any) -> Any:
        """What the loss compares with items [B, D], out of the history [B, L, D]."""
        kind = self._config.model_type
        if kind == "DNN":
            there = tf.reduce_sum(mask, axis=1, keepdims=True) + 1e-9
            return self._layers[0](tf.reduce_sum(items * mask[:, :, None], axis=1) / there)
        if kind == "GRU4REC":
            return self._layers[0](items, mask=tf.cast(mask, tf.bool))
        if kind == "ComiRec-SA":
            hidden, heads = self._layers
            logits = tf.transpose(heads(hidden(items)), [0, 2, 1])
            logits = tf.where(mask[:, None, :] == 1, logits, -1e9 * tf.ones_like(logits))
            interests = tf.matmul(tf.nn.softmax(logits), items)
            nearness = tf.squeeze(tf.matmul(interests, wanted[:, :, None]), -1)
            return tf.einsum("bk,bkd->bd", tf.nn.softmax(nearness), interests)
        interests = self._routed(items, mask)
        if kind == "MIND" and self._config.relu_projection:
            interests = self._layers[1](interests)
        nearness = tf.nn.softmax(tf.squeeze(tf.matmul(interests, wanted[:, :, None]), -1))
        count = self._config.num_interest
        first = tf.range(tf.shape(items)[0]) * count
        nearest = tf.argmax(nearness, axis=1, output_type=tf.int32)
        return tf.gather(tf.reshape(interests, [-1, self._config.embedding_dim]), first + nearest)

    def _routed(self, items: Any, mask: Any) -> Any:
        """Interests [B, K, D] by dynamic routing."""
        count, length, dim = self._config.num_interest, self._config.maxlen, self._config.embedding_dim
        if self._capsule_map is None:
            votes = tf.tile(self._layers[0](items), [1, 1, count])
        else:
            votes = tf.reduce_sum(self._capsule_map * items[:, :, None, :], axis=3)
        votes = tf.transpose(tf.reshape(votes, [-1, length, count, dim]), [0, 2, 1, 3])
        fixed = tf.stop_gradient(votes)
        there = tf.tile(mask[:, None, :], [1, count, 1])
        logits = tf.zeros_like(there)
        for iteration in range(ITERATIONS):
            last = iteration == ITERATIONS - 1
            shares = tf.where(there == 0, tf.zeros_like(there), tf.nn.softmax(logits, axis=1))
            capsules = tf.matmul(shares[:, :, None, :], votes if last else fixed)
            norm = tf.reduce_sum(tf.square(capsules), axis=-1, keepdims=True)
            capsules *= norm / (1 + norm) / tf.sqrt(norm + 1e-9)
            if not last:
                agreement = tf.matmul(fixed, tf.transpose(capsules, [0, 1, 3, 2]))
                logits += tf.reshape(agreement, [-1, count, length])
        return tf.reshape(capsules, [-1, count, dim])


def _inputs(batch: Batch) -> list[Any]:
    nobody = np.zeros(len(batch.target), np.int32)
    return [tf.constant(part) for part in (nobody, batch.history, batch.mask, batch.target)]
