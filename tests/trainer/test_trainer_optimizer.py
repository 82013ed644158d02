from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow


def test_adam_is_dense_adam_for_sparse_gradients_with_repeats() -> None:
    import tensorflow as tf

    from trainer.optimizer import Adam

    random = np.random.default_rng(1)
    table, kernel = random.standard_normal((6, 3)), random.standard_normal((3, 3))
    variables = {
        name: tf.Variable(value, dtype=tf.float32)
        for name, value in {
            "model/item_embedding": table,
            "model/proj/kernel": kernel,
            **{f"optimizer/{m}/item_embedding": np.zeros((6, 3)) for m in "mv"},
            **{f"optimizer/{m}/proj/kernel": np.zeros((3, 3)) for m in "mv"},
            "optimizer/learning_rate": 0.01,
        }.items()
    }
    variables["optimizer/step"] = tf.Variable(0, dtype=tf.int64)
    adam = Adam(variables, epsilon=1e-8)
    expected = {"model/item_embedding": table.copy(), "model/proj/kernel": kernel.copy()}
    first = {name: np.zeros_like(value) for name, value in expected.items()}
    second = {name: np.zeros_like(value) for name, value in expected.items()}
    for step in range(1, 30):
        rows = random.integers(0, 4, 5)
        values = random.standard_normal((5, 3))
        dense = {"model/item_embedding": np.zeros((6, 3)), "model/proj/kernel": random.standard_normal((3, 3))}
        np.add.at(dense["model/item_embedding"], rows, values)
        adam.apply(
            {
                "model/item_embedding": tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(rows)),
                "model/proj/kernel": tf.constant(dense["model/proj/kernel"], tf.float32),
            }
        )
        rate = 0.01 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        for name, gradient in dense.items():
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            expected[name] -= rate * first[name] / (np.sqrt(second[name]) + 1e-8)
    assert int(variables["optimizer/step"]) == 29
    for name, value in expected.items():
        np.testing.assert_allclose(variables[name].numpy(), value, atol=2e-6)
    assert np.array_equal(variables["model/item_embedding"].numpy()[4:], table[4:].astype(np.float32))


def test_an_unknown_step_means_no_bias_correction() -> None:
    import tensorflow as tf

    from trainer.optimizer import Adam
    from trainer.variables import UNKNOWN_STEP

    variables = {
        "model/proj/bias": tf.Variable([0.0]),
        "optimizer/m/proj/bias": tf.Variable([0.0]),
        "optimizer/v/proj/bias": tf.Variable([0.0]),
        "optimizer/learning_rate": tf.Variable(1.0),
        "optimizer/step": tf.Variable(UNKNOWN_STEP, dtype=tf.int64),
    }
    Adam(variables, epsilon=0.0).apply({"model/proj/bias": tf.constant([1.0])})
    assert variables["model/proj/bias"].numpy()[0] == pytest.approx(-0.1 / np.sqrt(0.001), rel=1e-5)
