from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from toys import small_config

from ckpt_tools.lineages.base import UNKNOWN_STEP
from trainer.data.interactions import Interactions
from trainer.data.sampling import BatchSampler
from trainer.models.variables import initial_variables

pytestmark = pytest.mark.tensorflow

TABLE = "model/item_embedding"


def adam(table: np.ndarray, *, step: int = 0, rate: float = 0.01, epsilon: float = 1e-8) -> tuple[Any, dict[str, Any]]:
    import tensorflow as tf

    from trainer.training.row_wise_adam import Adam

    variables = {
        TABLE: tf.Variable(table, dtype=tf.float32),
        **{f"optimizer/{m}/item_embedding": tf.Variable(tf.zeros(table.shape)) for m in "mv"},
        "optimizer/learning_rate": tf.Variable(rate),
        "optimizer/step": tf.Variable(step, dtype=tf.int64),
    }
    return Adam(variables, epsilon), variables


class Dense:
    """The definition, row by row and step by step, in float64."""

    def __init__(self, table: np.ndarray, rate: float = 0.01, epsilon: float = 1e-8) -> None:
        self.value, self.m, self.v = table.astype(np.float64), np.zeros(table.shape), np.zeros(table.shape)
        self.step, self._rate, self._epsilon = 0, rate, epsilon

    def apply(self, gradient: np.ndarray) -> None:
        self.step += 1
        beta_1, beta_2 = (float(np.float32(beta)) for beta in (0.9, 0.999))  # in the powers, as Keras has them
        rate = self._rate * np.sqrt(1 - beta_2**self.step) / (1 - beta_1**self.step)
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        self.value -= rate * self.m / (np.sqrt(self.v) + self._epsilon)


def update(optimizer: Any, rows: Any, gradient: Any) -> None:
    """One update of rows that a batch has once each."""
    import tensorflow as tf

    of_rows = tf.constant(gradient, tf.float32)
    optimizer.apply(rows, of_rows, of_rows * of_rows, {})


@pytest.mark.parametrize("size", [1.0, 1e-6, 1e-9], ids=["large", "small", "as small as epsilon"])
def test_idle_rows_move_as_dense_adam_moves_them(size: float) -> None:
    """Gradients around epsilon are the hard case: there 1 / (sqrt(v) + eps) cannot be factored."""
    import tensorflow as tf

    random = np.random.default_rng(1)
    table = random.standard_normal((40, 3))
    ours, variables = adam(table)
    dense = Dense(table.astype(np.float32))
    for step in range(400):
        # Some rows come often, some once, some never.
        rows = np.unique(random.geometric(0.08, 3) % 38) if step < 250 else np.array([0])
        gradient = np.zeros((40, 3))
        gradient[rows] = size * random.standard_normal((len(rows), 3))
        dense.apply(gradient)
        ours.mark_touched(rows)
        fresh = ours.rows(tf.constant(rows))
        update(ours, fresh, gradient[rows])
    current = ours.current()
    np.testing.assert_allclose(current[TABLE], dense.value, atol=2e-6)
    for moment, expected in (("m", dense.m), ("v", dense.v)):
        found = current[f"optimizer/{moment}/item_embedding"]
        np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())
    # Looking changed nothing, and catching up in place gives what was seen.
    assert not np.array_equal(variables[TABLE].numpy(), current[TABLE])
    ours.catch_up()
    assert np.array_equal(variables[TABLE].numpy(), current[TABLE])
    assert not ours.stale_rows()
    assert np.array_equal(current[TABLE][38:], table[38:].astype(np.float32))


def test_rows_that_are_behind_can_be_put_back() -> None:
    import tensorflow as tf

    random = np.random.default_rng(2)
    table = random.standard_normal((10, 2))

    def steps(optimizer: Any, first: int, last: int) -> None:
        for step in range(first, last):
            rows = np.array([step % 7])
            optimizer.mark_touched(rows)
            update(optimizer, optimizer.rows(tf.constant(rows)), [[0.1, -0.2 * step]])

    whole, expected = adam(table)
    steps(whole, 0, 40)
    halves, variables = adam(table)
    steps(halves, 0, 17)
    stale_rows, current = halves.stale_rows(), halves.current()
    assert sorted(stale_rows) == ["m", "rows", "step", "v", "value"]
    assert set(stale_rows["rows"]) == set(range(7)) - {16 % 7}
    again, restored = adam(current[TABLE], step=17)
    for name, value in current.items():
        restored[name].assign(value)
    again.restore_stale_rows(stale_rows)
    steps(again, 17, 40)
    for name in expected:
        assert expected[name].numpy().tobytes() == restored[name].numpy().tobytes(), name
    assert variables["optimizer/step"] == 17


def test_an_unknown_step_means_no_bias_correction() -> None:
    import tensorflow as tf

    ours, variables = adam(np.zeros((1, 1)), step=UNKNOWN_STEP, rate=1.0, epsilon=1e-12)
    update(ours, ours.rows(tf.constant([0])), [[1.0]])
    assert variables[TABLE].numpy()[0, 0] == pytest.approx(-0.1 / np.sqrt(0.001), rel=1e-5)


def random_users(items: int, users: int = 3000) -> Interactions:
    random = np.random.default_rng(6)
    offsets = np.concatenate([[0], np.cumsum(random.integers(5, 30, users))])
    drawn = np.exp(random.random(offsets[-1]) * np.log(items)).astype(np.int32)
    return Interactions("random", np.arange(users), offsets, drawn % items)


def require_close(found: Any, expected: np.ndarray, what: str) -> None:
    assert np.abs(np.asarray(found) - expected).max() <= 1e-5 * np.abs(expected).max(), what


def test_a_thousand_updates_are_those_of_keras() -> None:
    """The same gradients into both; rows differ in how often they come and in how large their gradients are."""
    import tensorflow as tf

    random = np.random.default_rng(5)
    table = random.standard_normal((300, 4)).astype(np.float32)
    scale = 10.0 ** -random.integers(0, 9, (300, 1))
    ours, variables = adam(table, rate=0.005, epsilon=1e-7)
    theirs = tf.Variable(table)
    keras = tf.keras.optimizers.Adam(0.005, epsilon=1e-7)
    keras.build([theirs])
    for _ in range(1000):
        rows = np.unique(random.geometric(0.02, 12) % 290)
        gradient = np.zeros((300, 4), np.float32)
        gradient[rows] = scale[rows] * random.standard_normal((len(rows), 4))
        ours.mark_touched(rows)
        update(ours, ours.rows(tf.constant(rows)), gradient[rows])
        keras.apply_gradients([(tf.constant(gradient), theirs)])
    ours.catch_up()
    require_close(variables[TABLE], theirs.numpy(), "values")
    first, second = (variable.numpy() for variable in keras.variables if variable.shape == theirs.shape)
    require_close(variables["optimizer/m/item_embedding"], first, "first moment")
    require_close(variables["optimizer/v/item_embedding"], second, "second moment")


@pytest.mark.parametrize("repeated_rows", ["summed", "apart"])
def test_a_thousand_steps_of_training_are_those_of_keras(repeated_rows: str) -> None:
    """The whole step against Keras's own Adam and TensorFlow's own loss. Given a dense gradient, Keras 3 squares it as
    Adam is defined; given the slices that a lookup has, it squares each of them.

    For DNN, whose training is smooth: where a hard readout chooses between interests, two dense runs that differ in
    the last digit of one weight are as far apart as these two.
    """
    import tensorflow as tf

    from trainer.models.recommenders import model_class
    from trainer.models.tensors import TensorArrays
    from trainer.models.variables import trainable
    from trainer.training.learner import Learner

    config = small_config(
        "DNN", variant="keras", item_count=2000, learning_rate=0.005, batch_size=32, repeated_rows=repeated_rows
    )
    sampler = BatchSampler(random_users(2000), config)
    start = initial_variables(config)
    learner = Learner(config, start)

    weights = {name: tf.Variable(value) for name, value in start.items() if name.startswith("model/")}
    names = trainable(config)
    model = model_class("DNN")(config, weights, TensorArrays())
    keras = tf.keras.optimizers.Adam(config.learning_rate, epsilon=config.adam_epsilon)
    keras.build([weights[name] for name in names])

    @tf.function
    def step(history: Any, mask: Any, target: Any, sampled: Any, target_count: Any, sampled_count: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                tf.nn.sampled_softmax_loss(
                    weights=weights[TABLE],
                    biases=weights["model/item_bias"],
                    labels=target[:, None],
                    inputs=model.training_vectors(history, mask, target),
                    num_sampled=config.negatives,
                    num_classes=config.item_count,
                    sampled_values=(sampled, target_count, sampled_count),
                )
            )
        gradients = tape.gradient(loss, [weights[name] for name in names])
        if repeated_rows == "summed":
            gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        keras.apply_gradients(zip(gradients, [weights[name] for name in names], strict=True))

    for number in range(1000):
        batch = sampler(number)
        learner.update(batch)
        step(*map(tf.constant, (batch.history, batch.mask, batch.target, batch.sampled, batch.target_count,
                                batch.sampled_count)))  # fmt: skip
    found = {name: np.asarray(value) for name, value in learner.stored().items()}
    for name in names:
        require_close(found[name], weights[name].numpy(), name)
    first, second = (variable.numpy() for variable in keras.variables if variable.shape == weights[TABLE].shape)
    require_close(found["optimizer/m/item_embedding"], first, "first moment")
    require_close(found["optimizer/v/item_embedding"], second, "second moment")


def test_the_readout_by_the_best_interest_is_the_loss_of_what_retrieval_ranks() -> None:
    import tensorflow as tf

    from trainer.training.learner import sampled_softmax

    random = np.random.default_rng(5)
    vectors, target, sampled = (
        random.standard_normal(shape).astype(np.float32) for shape in ((6, 3, 4), (6, 4), (9, 4))
    )
    offsets = random.standard_normal(15).astype(np.float32)
    hits = random.random((6, 9)) < 0.2
    loss = sampled_softmax(*map(tf.constant, (vectors, target, sampled, offsets[:6], offsets[6:], hits)))
    each = []
    for user in range(6):
        own = max(float(vector @ target[user]) for vector in vectors[user]) + offsets[user]
        others = [
            max(float(vector @ sampled[item]) for vector in vectors[user]) + offsets[6 + item]
            for item in range(9)
            if not hits[user, item]
        ]
        each.append(np.log(np.exp([own, *others]).sum()) - own)
    assert float(loss) == pytest.approx(np.mean(each), rel=1e-5)
