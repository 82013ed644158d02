from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from toys import ITEMS, small_config

from ckpt_tools.lineages.comirec.models import ITEM_EMBEDDING
from trainer.config import READOUTS
from trainer.models.arrays import NumpyArrays
from trainer.models.recommenders import model_class
from trainer.models.variables import initial_variables

MODELS = ["DNN", "GRU4REC", "MIND", "ComiRec-DR", "ComiRec-SA"]
SINGLE = ("DNN", "GRU4REC")


def batch(config: Any, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    mask = (np.arange(config.maxlen) < random.integers(0, config.maxlen + 1, 9)[:, None]).astype(np.float32)
    history = random.integers(1, ITEMS, mask.shape) * mask
    return history.astype(np.int32), mask, random.integers(1, ITEMS, 9).astype(np.int32)


def slow_user_vectors(
    config: Any, weights: dict[str, np.ndarray], items: list[int], noise: np.ndarray | None
) -> np.ndarray:
    """One user, loop by loop, from the definition."""
    embedded = [weights[ITEM_EMBEDDING][item].astype(np.float64) for item in items]
    if config.model_type == "DNN":
        mean = sum(embedded, np.zeros(config.embedding_dim)) / (len(items) + 1e-9)
        return (mean @ weights["model/proj/kernel"] + weights["model/proj/bias"])[None]
    if config.model_type == "GRU4REC":
        return slow_gru(config, weights, embedded)[None]
    if config.model_type == "ComiRec-SA":
        return slow_attention(config, weights, embedded)
    count, dim = config.num_interest, config.embedding_dim
    if config.model_type == "MIND":
        kernel = weights["model/capsule/bilinear/kernel"]
        bias = weights.get("model/capsule/bilinear/bias", np.zeros(dim))
        votes = [[e @ kernel + bias] * count for e in embedded]
    else:
        maps = weights["model/capsule/weights"][0]
        votes = [[maps[place, k * dim : (k + 1) * dim] @ e for k in range(count)] for place, e in enumerate(embedded)]
    logits = [[0.0 if noise is None else float(noise[k, place]) for k in range(count)] for place in range(len(items))]
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
    if config.relu_projection:
        return np.maximum(capsules @ weights["model/capsule/proj/kernel"] + weights["model/capsule/proj/bias"], 0)
    return capsules


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def slow_gru(config: Any, weights: dict[str, np.ndarray], embedded: list[np.ndarray]) -> np.ndarray:
    z, r, h = (slice(i * config.hidden_size, (i + 1) * config.hidden_size) for i in range(3))
    w, u, b = (weights[f"model/gru/{name}"].astype(np.float64) for name in ("kernel", "recurrent_kernel", "bias"))
    state = np.zeros(config.hidden_size)
    for e in embedded:
        if config.variant == "paper":
            update, reset = sigmoid(e @ w[:, z] + state @ u[:, z] + b[z]), sigmoid(e @ w[:, r] + state @ u[:, r] + b[r])
            candidate = np.tanh(e @ w[:, h] + (reset * state) @ u[:, h] + b[h])
        else:
            update = sigmoid(e @ w[:, z] + b[0, z] + state @ u[:, z] + b[1, z])
            reset = sigmoid(e @ w[:, r] + b[0, r] + state @ u[:, r] + b[1, r])
            candidate = np.tanh(e @ w[:, h] + b[0, h] + reset * (state @ u[:, h] + b[1, h]))
        state = update * state + (1 - update) * candidate
    return state


def slow_attention(config: Any, weights: dict[str, np.ndarray], embedded: list[np.ndarray]) -> np.ndarray:
    if not embedded and config.variant == "keras":
        return np.tile(weights[ITEM_EMBEDDING][0].astype(np.float64), (config.num_interest, 1))
    scores = []
    for place, e in enumerate(embedded):
        seen = e + (weights["model/position_embedding"][0, place] if config.variant == "paper" else 0)
        hidden = np.tanh(seen @ weights["model/attention/hidden/kernel"] + weights["model/attention/hidden/bias"])
        scores.append(hidden @ weights["model/attention/heads/kernel"] + weights["model/attention/heads/bias"])
    interests = np.zeros((config.num_interest, config.embedding_dim))
    for k in range(config.num_interest):
        for e, score in zip(embedded, scores, strict=True):
            interests[k] += math.exp(score[k]) / sum(math.exp(other[k]) for other in scores) * e
    return interests


@pytest.mark.parametrize("variant", ["paper", "keras"])
@pytest.mark.parametrize("model_type", MODELS)
def test_user_vectors_are_the_literal_ones(model_type: str, variant: str) -> None:
    config = small_config(model_type, variant=variant, relu_projection=model_type == "MIND")
    weights = {
        name: value + 0.1 if name.endswith("bias") else value for name, value in initial_variables(config).items()
    }
    history, mask, _ = batch(config)
    model = model_class(model_type)(config, weights, NumpyArrays())
    noise = model.noise(3, 0, len(history))
    assert (noise is not None) is ((model_type, variant) == ("MIND", "paper"))
    vectors = model.user_vectors(history, mask, noise)
    assert vectors.shape == (9, 1 if model_type in SINGLE else 2, 4)
    for user, (row, length) in enumerate(zip(history, mask.sum(axis=1).astype(int), strict=True)):
        expected = slow_user_vectors(config, weights, row[:length].tolist(), None if noise is None else noise[user])
        np.testing.assert_allclose(vectors[user], expected, atol=1e-7)


def test_routing_noise_is_truncated_and_repeats() -> None:
    config = small_config("MIND")
    model = model_class("MIND")(config, initial_variables(config), NumpyArrays())
    one, again, other = (model.noise(seed, 0, 200) for seed in (1, 1, 2))
    assert one is not None
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert np.abs(one).max() <= 2
    assert one.std() == pytest.approx(0.88, abs=0.03)  # that of a normal cut at two deviations


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("model_type", ["MIND", "ComiRec-DR", "ComiRec-SA"])
def test_each_readout_trains_the_interest_that_its_name_says(model_type: str, readout: str) -> None:
    config = small_config(model_type, readout=readout, num_interest=3)
    weights = initial_variables(config)
    history, mask, target = batch(config)
    model = model_class(model_type)(config, weights, NumpyArrays())
    noise = model.noise(3, 0, len(history))
    wanted = np.zeros_like(target) if config.reads_by_padding else target
    found = model.training_vectors(history, mask, wanted, noise)
    for interests, item, vector in zip(model.user_vectors(history, mask, noise), wanted, found, strict=True):
        scores = interests @ weights[ITEM_EMBEDDING][item]
        shares = np.exp(scores) / np.exp(scores).sum()
        expected = {
            "first": interests[0],
            "mean": interests.mean(axis=0),
            "max": interests,
            "target": interests[np.argmax(scores)],
            "padding": interests[np.argmax(scores)],
        }.get(readout, shares @ interests)
        np.testing.assert_allclose(vector, expected, atol=1e-12)


@pytest.mark.parametrize("model_type", ["MIND", "ComiRec-DR", "ComiRec-SA"])
def test_the_soft_readout_is_a_mixture(model_type: str) -> None:
    config = small_config(model_type, readout="soft")
    weights = initial_variables(config)
    history, mask, target = batch(config)
    model = model_class(model_type)(config, weights, NumpyArrays())
    interests, mixed = model.user_vectors(history, mask), model.training_vectors(history, mask, target)
    for row in range(9):
        powers = np.exp(interests[row] @ weights[ITEM_EMBEDDING][target[row]])
        np.testing.assert_allclose(mixed[row], powers / powers.sum() @ interests[row], atol=1e-12)


@pytest.mark.tensorflow
@pytest.mark.parametrize("variant", ["paper", "keras"])
@pytest.mark.parametrize("model_type", MODELS)
def test_tensorflow_and_numpy_run_one_definition(model_type: str, variant: str) -> None:
    from trainer.models.tensors import TensorArrays

    config = small_config(model_type, variant=variant, relu_projection=model_type == "MIND")
    weights = initial_variables(config)
    history, mask, target = batch(config)
    ours = model_class(model_type)(config, weights, NumpyArrays())
    theirs = model_class(model_type)(config, weights, TensorArrays())
    noise = ours.noise(1, 0, len(history))
    vectors = theirs.user_vectors(history, mask, noise).numpy()
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, ours.user_vectors(history, mask, noise), atol=1e-6)
    np.testing.assert_allclose(
        theirs.training_vectors(history, mask, target, noise).numpy(),
        ours.training_vectors(history, mask, target, noise),
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
def test_the_keras_gru_is_that_of_keras() -> None:
    import tensorflow as tf

    config = small_config("GRU4REC", variant="keras")
    weights = initial_variables(config)
    random = np.random.default_rng(4)
    weights["model/gru/bias"] = random.standard_normal((2, 12)).astype(np.float32)
    history, mask, _ = batch(config)
    mask[0] = [1, 1, 0, 0, 0, 0]
    gru = tf.keras.layers.GRU(4)
    embedded = tf.constant(weights[ITEM_EMBEDDING][history] * mask[:, :, None])
    gru.build(embedded.shape)
    gru.set_weights([weights[f"model/gru/{name}"] for name in ("kernel", "recurrent_kernel", "bias")])
    expected = gru(embedded, mask=tf.constant(mask > 0)).numpy()
    found = model_class("GRU4REC")(config, weights, NumpyArrays()).user_vectors(history, mask)[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.tensorflow
def test_gradients_pass_through_the_last_routing_iteration_only() -> None:
    """The gradient is that of fixed shares times the votes: earlier iterations are constants."""
    import tensorflow as tf

    from trainer.models.recommenders import route
    from trainer.models.tensors import TensorArrays

    random = np.random.default_rng(2)
    votes = tf.constant(random.standard_normal((3, 2, 5, 4)), tf.float64)
    mask = tf.constant(np.arange(5) < np.array([[5], [2], [1]]), tf.float64)
    direction = tf.constant(random.standard_normal((3, 2, 4)), tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(votes)
        value = tf.reduce_sum(route(TensorArrays(), votes, mask, tf.zeros((3, 2, 5), tf.float64))[0] * direction)
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
        ("paper", "model/gru/recurrent_kernel", -math.sqrt(6 / 12), math.sqrt(6 / 12)),
        ("keras", "model/gru/kernel", -math.sqrt(6 / 16), math.sqrt(6 / 16)),
        ("paper", "model/gru/bias", 0, 1),
        ("keras", "model/gru/bias", 0, 0),
        ("paper", "model/capsule/bilinear/kernel", -math.sqrt(6 / 8), math.sqrt(6 / 8)),
        ("paper", "model/position_embedding", -math.sqrt(6 / 10), math.sqrt(6 / 10)),
        ("paper", "model/attention/hidden/kernel", -math.sqrt(6 / 20), math.sqrt(6 / 20)),
    ],
)
def test_initial_weights_fill_their_range(variant: str, name: str, low: float, high: float) -> None:
    models = {"gru": "GRU4REC", "capsule": "MIND", "position_embedding": "ComiRec-SA", "attention": "ComiRec-SA"}
    model_type = models.get(name.split("/")[1], "DNN")
    value = initial_variables(small_config(model_type, variant=variant))[name]
    assert value.dtype == np.float32
    assert low <= value.min() <= 0.6 * low
    assert 0.6 * high <= value.max() <= high


@pytest.mark.parametrize(("variant", "deviation"), [("paper", 1.0), ("keras", 0.05)])
def test_capsule_weights_start_normal(variant: str, deviation: float) -> None:
    value = initial_variables(small_config(maxlen=50, variant=variant))["model/capsule/weights"]
    assert value.shape == (1, 50, 8, 4)
    assert value.std() == pytest.approx(deviation, rel=0.05)


def test_the_recurrent_kernel_of_keras_starts_orthogonal() -> None:
    kernel = initial_variables(small_config("GRU4REC", variant="keras"))["model/gru/recurrent_kernel"]
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(4), atol=1e-6)


def test_initial_weights_are_a_function_of_the_seed() -> None:
    one, again, other = (initial_variables(small_config(seed=seed)) for seed in (7, 7, 8))
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert not np.array_equal(one[ITEM_EMBEDDING], other[ITEM_EMBEDDING])
