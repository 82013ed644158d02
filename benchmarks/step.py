"""The time of a training step with 367,983 items, D = 64, batch 128; and how it grows with the catalogue.

Goals: at least 20 times faster than the dense reference for DNN and ComiRec-SA, 30 times for ComiRec-DR; at 3,700,000
items at most 1.3 times the time at 37,000. The reference is literal: the routing of the original as a broadcast
product, ``tf.nn.sampled_softmax_loss`` with its own sampler, and Keras's Adam over whole tables.

Each is a process of its own, as a run is: the trainer settles TensorFlow's threads before TensorFlow starts, and asks
it for deterministic operations, which the reference need not have.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from made_up import BOOKS, config, interactions

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from trainer.config import TrainConfig
from trainer.data.prefetch import Prefetch
from trainer.data.sampling import BatchSampler
from trainer.models.variables import initial_variables
from trainer.training.learner import Learner

GOALS = {"DNN": 20, "ComiRec-SA": 20, "ComiRec-DR": 30}


def vectors_of(kind: str, settings: TrainConfig, weights: dict[str, Any], items: Any, mask: Any, target: Any) -> Any:
    """What the loss sees, as the original trainer writes it down. ``items`` [B, L, D], masked."""
    interests, length, dim = settings.num_interest, settings.maxlen, settings.embedding_dim
    if kind == "DNN":
        mean = tf.reduce_sum(items, 1) / (tf.reduce_sum(mask, 1, keepdims=True) + 1e-9)
        return tf.matmul(mean, weights["model/proj/kernel"]) + weights["model/proj/bias"]
    if kind == "ComiRec-SA":
        hidden = tf.matmul(items + weights["model/position_embedding"], weights["model/attention/hidden/kernel"])
        hidden = tf.tanh(hidden + weights["model/attention/hidden/bias"])
        logits = tf.matmul(hidden, weights["model/attention/heads/kernel"]) + weights["model/attention/heads/bias"]
        logits = tf.where(tf.transpose(mask[:, :, None] * tf.ones_like(logits), [0, 2, 1]) == 0, -(2.0**32) + 1,
                          tf.transpose(logits, [0, 2, 1]))  # fmt: skip
        found = tf.matmul(tf.nn.softmax(logits), items)
    else:
        votes = tf.reduce_sum(weights["model/capsule/weights"] * items[:, :, None, :], 3)
        votes = tf.transpose(tf.reshape(votes, [-1, length, interests, dim]), [0, 2, 1, 3])
        fixed, logits = tf.stop_gradient(votes), tf.zeros([tf.shape(items)[0], interests, length])
        for iteration in range(3):
            last = iteration == 2
            share = tf.where(tf.tile(mask[:, None], [1, interests, 1]) == 0, 0.0, tf.nn.softmax(logits, axis=1))
            found = tf.matmul(share[:, :, None, :], votes if last else fixed)
            norm = tf.reduce_sum(tf.square(found), -1, keepdims=True)
            found = norm / (1 + norm) / tf.sqrt(norm + 1e-9) * found
            if not last:
                logits += tf.reshape(tf.matmul(fixed, tf.transpose(found, [0, 1, 3, 2])), [-1, interests, length])
        found = tf.reshape(found, [-1, interests, dim])
    fit = tf.nn.softmax(tf.reshape(tf.matmul(found, target[:, :, None]), [-1, interests]))
    return tf.gather(found, tf.argmax(fit, 1), batch_dims=1)


def dense_step(settings: TrainConfig, sampler: BatchSampler) -> Callable[[int], None]:
    weights = {
        name: tf.Variable(value, trainable=name != "model/item_bias")
        for name, value in initial_variables(settings).items()
        if name.startswith("model/")
    }
    table, bias = weights["model/item_embedding"], weights["model/item_bias"]
    trained = [variable for variable in weights.values() if variable.trainable]
    adam = tf.keras.optimizers.Adam(settings.learning_rate, epsilon=1e-8)
    adam.build(trained)

    @tf.function
    def update(history: Any, mask: Any, target: Any) -> Any:
        with tf.GradientTape() as tape:
            items = tf.nn.embedding_lookup(table, history) * mask[:, :, None]
            wanted = tf.nn.embedding_lookup(table, target)
            vectors = vectors_of(settings.model_type, settings, weights, items, mask, wanted)
            loss = tf.reduce_mean(
                tf.nn.sampled_softmax_loss(
                    table, bias, tf.cast(target[:, None], tf.int64), vectors, settings.sample_size, settings.item_count
                )
            )
        gradients = tape.gradient(loss, trained)
        adam.apply_gradients(zip(gradients, trained, strict=True))
        return loss

    def step(number: int) -> None:
        batch = sampler(number)
        float(update(tf.constant(batch.history), tf.constant(batch.mask), tf.constant(batch.target)))

    return step


def median_ms(step: Callable[[int], Any], warm: int, count: int) -> float:
    for number in range(warm):
        step(number)
    times = []
    for number in range(warm, warm + count):
        begun = time.perf_counter()
        step(number)
        times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times)


def our_ms(settings: TrainConfig, sampler: BatchSampler) -> float:
    batches = Prefetch(sampler)
    learner = Learner(settings, initial_variables(settings))
    found = median_ms(lambda number: learner.update(batches(number)), 20, 100)
    batches.close()
    return found


def dense_ms(settings: TrainConfig, sampler: BatchSampler) -> float:
    return median_ms(dense_step(settings, sampler), 3, 12)


CONTENDERS = {"ours": our_ms, "dense": dense_ms}


def alone(contender: str, model_type: str, items: int = BOOKS) -> float:
    """Milliseconds of a step, in a process of its own."""
    command = [sys.executable, __file__, contender, model_type, str(items)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    if len(sys.argv) > 1:
        contender, model_type, items = sys.argv[1:]
        settings = config(model_type, int(items))
        print(CONTENDERS[contender](settings, BatchSampler(interactions(int(items), 20_000), settings)))
        return
    for model_type, goal in GOALS.items():
        dense, ours = alone("dense", model_type), alone("ours", model_type)
        print(
            f"{model_type:10} {ours:7.1f} ms, dense reference {dense:7.1f} ms: "
            f"{dense / ours:.1f} times faster (goal {goal})"
        )
    for model_type in GOALS:
        small, large = alone("ours", model_type, 37_000), alone("ours", model_type, 3_700_000)
        print(
            f"{model_type:10} {small:7.1f} ms at 37,000 items, {large:7.1f} ms at 3,700,000: {large / small:.2f} times "
            "(goal at most 1.3)"
        )


if __name__ == "__main__":
    main()
