from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from toys import ITEMS, small_config

from trainer.arrays import NumpyArrays
from trainer.models import ITEM_EMBEDDING, model_class
from trainer.variables import initial_variables

MODELS = ["DNN", "ComiRec-DR"]


def batch(config: Any, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    mask = (np.arange(config.maxlen) < random.integers(0, config.maxlen + 1, 9)[:, None]).astype(np.float32)
    history = random.integers(1, ITEMS, mask.shape) * mask
    return history.astype(np.int32), mask, random.integers(1, ITEMS, 9).astype(np.int32)


def slow_user_vectors(config: Any, weights: dict[str, np.ndarray], items: list[int]) -> np.ndarray:
    """One user, loop by loop, from the definition."""
    embedded = [weights[ITEM_EMBEDDING][item].astype(np.float64) for item in items]
    if config.model_type == "DNN":
        mean = sum(embedded, np.zeros(config.embedding_dim)) / (len(items) + 1e-9)
        return (mean @ weights["model/proj/kernel"] + weights["model/proj/bias"])[None]
    count, dim = config.num_interest, config.embedding_dim
    maps = weights["model/capsule/weights"][0]
    votes = [[maps[place, k * dim : (k + 1) * dim] @ e for k in range(count)] for place, e in enumerate(embedded)]
    logits = [[0.0] * count for _ in items]
    capsules = np.zeros((count, dim))
    for _ in range(3):
        for k in range(count):
            total = np.zeros(dim)
            for place in range(len(items)):
                share = math.exp(logits[place][k]) / sum(math.exp(logit) for logit in logits[place])
                total += share * votes[place][k]
            norm = float(total @ total)
            capsules[k] = total * norm / (1 + norm) / math.sqrt(norm + 1e-9)
        for place in range(len(items)):
            for k in range(count):
                logits[place][k] += float(votes[place][k] @ capsules[k])
    return capsules


@pytest.mark.parametrize("variant", ["paper", "keras"])
@pytest.mark.parametrize("model_type", MODELS)
def test_user_vectors_are_the_literal_ones(model_type: str, variant: str) -> None:
    config = small_config(model_type, variant=variant)
    weights = initial_variables(config)
    history, mask, _ = batch(config)
    vectors = model_class(model_type)(config, weights, NumpyArrays()).user_vectors(history, mask)
    assert vectors.shape == (9, 2 if model_type == "ComiRec-DR" else 1, 4)
    for row, length, found in zip(history, mask.sum(axis=1).astype(int), vectors, strict=True):
        np.testing.assert_allclose(found, slow_user_vectors(config, weights, row[:length].tolist()), atol=1e-12)


@pytest.mark.tensorflow
@pytest.mark.parametrize("model_type", MODELS)
def test_tensorflow_and_numpy_run_one_definition(model_type: str) -> None:
    from trainer.tensors import TensorArrays

    config = small_config(model_type)
    weights = initial_variables(config)
    history, mask, target = batch(config)
    ours = model_class(model_type)(config, weights, NumpyArrays())
    theirs = model_class(model_type)(config, weights, TensorArrays())
    vectors = theirs.user_vectors(history, mask).numpy()
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, ours.user_vectors(history, mask), atol=1e-6)
    np.testing.assert_allclose(
        theirs.training_vectors(history, mask, target).numpy(),
        ours.training_vectors(history, mask, target),
        atol=1e-6,
    )


def test_training_takes_the_interest_nearest_to_the_target() -> None:
    config = small_config(num_interest=3)
    weights = initial_variables(config)
    history, mask, target = batch(config)
    model = model_class("ComiRec-DR")(config, weights, NumpyArrays())
    interests, chosen = model.user_vectors(history, mask), model.training_vectors(history, mask, target)
    for row in range(9):
        scores = interests[row] @ weights[ITEM_EMBEDDING][target[row]]
        assert np.array_equal(chosen[row], interests[row][np.argmax(scores)])


@pytest.mark.tensorflow
def test_gradients_pass_through_the_last_routing_iteration_only() -> None:
    """The gradient is that of fixed shares times the votes: earlier iterations are constants."""
    import tensorflow as tf

    from trainer.models import route
    from trainer.tensors import TensorArrays

    random = np.random.default_rng(2)
    votes = tf.constant(random.standard_normal((3, 2, 5, 4)), tf.float64)
    mask = tf.constant(np.arange(5) < np.array([[5], [2], [1]]), tf.float64)
    direction = tf.constant(random.standard_normal((3, 2, 4)), tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(votes)
        value = tf.reduce_sum(route(TensorArrays(), votes, mask) * direction)
    found = tape.gradient(value, votes).numpy()

    logits = np.zeros((3, 2, 5))
    share = np.zeros_like(logits)
    for _ in range(3):
        share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) * mask.numpy()[:, None]
        capsules = np.einsum("bkl,bkld->bkd", share, votes)
        norm = (capsules**2).sum(-1, keepdims=True)
        logits = logits + np.einsum("bkld,bkd->bkl", votes, capsules * norm / (1 + norm) / np.sqrt(norm + 1e-9))
    with tf.GradientTape() as tape:
        tape.watch(votes)
        capsules = tf.einsum("bkl,bkld->bkd", tf.constant(share), votes)
        norm = tf.reduce_sum(capsules**2, -1, keepdims=True)
        value = tf.reduce_sum(capsules * norm / (1 + norm) / tf.sqrt(norm + 1e-9) * direction)
    np.testing.assert_allclose(found, tape.gradient(value, votes).numpy(), atol=1e-12)


@pytest.mark.parametrize(
    ("variant", "name", "low", "high"),
    [
        ("paper", "model/item_embedding", -math.sqrt(6 / 124), math.sqrt(6 / 124)),
        ("keras", "model/item_embedding", -0.05, 0.05),
        ("paper", "model/proj/kernel", -math.sqrt(6 / 8), math.sqrt(6 / 8)),
        ("paper", "model/proj/bias", 0, 0),
        ("paper", "model/item_bias", 0, 0),
    ],
)
def test_initial_weights_fill_their_range(variant: str, name: str, low: float, high: float) -> None:
    value = initial_variables(small_config("DNN", variant=variant))[name]
    assert value.dtype == np.float32
    assert low <= value.min() <= 0.6 * low
    assert 0.6 * high <= value.max() <= high


@pytest.mark.parametrize(("variant", "deviation"), [("paper", 1.0), ("keras", 0.05)])
def test_capsule_weights_start_normal(variant: str, deviation: float) -> None:
    value = initial_variables(small_config(maxlen=50, variant=variant))["model/capsule/weights"]
    assert value.shape == (1, 50, 8, 4)
    assert value.std() == pytest.approx(deviation, rel=0.05)


def test_initial_weights_are_a_function_of_the_seed() -> None:
    one, again, other = (initial_variables(small_config(seed=seed)) for seed in (7, 7, 8))
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert not np.array_equal(one[ITEM_EMBEDDING], other[ITEM_EMBEDDING])
