from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from toys import small_config

from ckpt_tools.lineages.base import UNKNOWN_STEP
from trainer.data.interactions import Interactions
from trainer.data.sampling import BatchSampler
from trainer.models.variables import initial_variables
from trainer.training.rates import BETA_1, Schedule, corrections, rate_table

pytestmark = pytest.mark.tensorflow

TABLE = "model/item_embedding"


def adam(
    table: np.ndarray, *, step: int = 0, rate: float = 0.01, epsilon: float = 1e-8, **options: Any
) -> tuple[Any, dict[str, Any]]:
    import tensorflow as tf

    from trainer.training.row_wise_adam import Adam

    variables = {
        TABLE: tf.Variable(table, dtype=tf.float32),
        **{f"optimizer/{m}/item_embedding": tf.Variable(tf.zeros(table.shape)) for m in "mv"},
        "optimizer/learning_rate": tf.Variable(rate),
        "optimizer/step": tf.Variable(step, dtype=tf.int64),
    }
    return Adam(variables, epsilon, **options), variables


class Dense:
    """The definition, row by row and step by step, in float64."""

    def __init__(
        self,
        table: np.ndarray,
        rate: float = 0.01,
        epsilon: float = 1e-8,
        factors: np.ndarray | None = None,
        weight_decay: float = 0.0,
    ) -> None:
        self.value, self.m, self.v = table.astype(np.float64), np.zeros(table.shape), np.zeros(table.shape)
        self.step, self._rate, self._epsilon = 0, rate, epsilon
        self._factors, self._weight_decay = factors, weight_decay

    def apply(self, gradient: np.ndarray) -> None:
        self.step += 1
        beta_1, beta_2 = (float(np.float32(beta)) for beta in (0.9, 0.999))  # in the powers, as Keras has them
        scheduled = self._rate * (1 if self._factors is None else self._factors[self.step])
        rate = scheduled * np.sqrt(1 - beta_2**self.step) / (1 - beta_1**self.step)
        self.value -= self._weight_decay * scheduled * self.value
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        self.value -= rate * self.m / (np.sqrt(self.v) + self._epsilon)


def compiled(optimizer: Any, width: int) -> Any:
    """Updates as training makes them, in one operation."""
    import tensorflow as tf

    signature = [tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, width], tf.float32)]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def step(rows: Any, gradient: Any) -> None:
        optimizer.apply(optimizer.rows(rows), gradient, gradient * gradient, {})

    def update(rows: np.ndarray, gradient: np.ndarray) -> None:
        optimizer.mark_touched(rows)
        step(tf.constant(rows), tf.constant(gradient, tf.float32))

    return update


def update(optimizer: Any, rows: Any, gradient: Any) -> None:
    """One update of rows that a batch has once each."""
    import tensorflow as tf

    of_rows = tf.constant(gradient, tf.float32)
    optimizer.apply(rows, of_rows, of_rows * of_rows, {})


@pytest.mark.parametrize("size", [1.0, 1e-6, 1e-9], ids=["large", "small", "as small as epsilon"])
def test_idle_rows_move_as_dense_adam_moves_them(size: float) -> None:
    """Gradients around epsilon are the hard case: there 1 / (sqrt(v) + eps) cannot be factored."""
    random = np.random.default_rng(1)
    table = random.standard_normal((40, 3))
    ours, variables = adam(table)
    update = compiled(ours, 3)
    dense = Dense(table.astype(np.float32))
    for step in range(400):
        # Some rows come often, some once, some never.
        rows = np.unique(random.geometric(0.08, 3) % 38) if step < 250 else np.array([0])
        gradient = np.zeros((40, 3))
        gradient[rows] = size * random.standard_normal((len(rows), 3))
        dense.apply(gradient)
        update(rows, gradient[rows])
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


def some_updates(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of 300 and their dense gradient: rows differ in how often they come and in how large their gradients are."""
    random = np.random.default_rng(5)
    scale = 10.0 ** -random.integers(0, 9, (300, 1))
    for _ in range(count):
        rows = np.unique(random.geometric(0.02, 12) % 290)
        gradient = np.zeros((300, 4), np.float32)
        gradient[rows] = scale[rows] * random.standard_normal((len(rows), 4))
        yield rows, gradient


def test_a_thousand_updates_are_those_of_keras() -> None:
    """The same gradients into both."""
    import tensorflow as tf

    table = np.random.default_rng(4).standard_normal((300, 4)).astype(np.float32)
    ours, variables = adam(table, rate=0.005, epsilon=1e-7)
    update = compiled(ours, 4)
    theirs = tf.Variable(table)
    keras = tf.keras.optimizers.Adam(0.005, epsilon=1e-7)
    keras.build([theirs])
    update_theirs = tf.function(lambda gradient: keras.apply_gradients([(gradient, theirs)]))
    for rows, gradient in some_updates(1000):
        update(rows, gradient[rows])
        update_theirs(tf.constant(gradient))
    ours.catch_up()
    require_close(variables[TABLE], theirs.numpy(), "values")
    first, second = (variable.numpy() for variable in keras.variables if variable.shape == theirs.shape)
    require_close(variables["optimizer/m/item_embedding"], first, "first moment")
    require_close(variables["optimizer/v/item_embedding"], second, "second moment")


@pytest.mark.parametrize("schedule", [Schedule("cosine", 100, 700), Schedule("linear", 0, 900), Schedule()], ids=str)
def test_a_thousand_updates_with_a_schedule_and_decay_are_those_of_dense_adam(schedule: Schedule) -> None:
    """In float64: Keras's AdamW takes a thousandth of a weight away in float32, whose rounding adds up to 1e-5."""
    table = np.random.default_rng(4).standard_normal((300, 4)).astype(np.float32)
    ours, variables = adam(table, rate=0.005, epsilon=1e-7, schedule=schedule, weight_decay=0.2)
    dense = Dense(table, 0.005, 1e-7, schedule.factors(1000), 0.2)
    update = compiled(ours, 4)
    for rows, gradient in some_updates(1000):
        update(rows, gradient[rows])
        dense.apply(gradient)
    ours.catch_up()
    require_close(variables[TABLE], dense.value, "values")
    require_close(variables["optimizer/m/item_embedding"], dense.m, "first moment")


def test_weight_decay_is_that_of_keras() -> None:
    """Taken off before the step and multiplied by the scheduled rate; few updates, for the rounding."""
    import tensorflow as tf

    schedule = Schedule("linear", 10, 60)
    rates = 0.005 * schedule.factors(60)
    table = np.random.default_rng(4).standard_normal((300, 4)).astype(np.float32)
    ours, variables = adam(table, rate=0.005, epsilon=1e-7, schedule=schedule, weight_decay=0.2)
    update = compiled(ours, 4)
    theirs = tf.Variable(table)
    keras = tf.keras.optimizers.AdamW(0.005, epsilon=1e-7, weight_decay=0.2)
    keras.build([theirs])
    update_theirs = tf.function(lambda gradient: keras.apply_gradients([(gradient, theirs)]))
    for step, (rows, gradient) in enumerate(some_updates(60), 1):
        update(rows, gradient[rows])
        keras.learning_rate.assign(rates[step])
        update_theirs(tf.constant(gradient))
    ours.catch_up()
    require_close(variables[TABLE], theirs.numpy(), "values")


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
                    num_sampled=config.sample_size,
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


def test_the_gradient_of_the_loss_is_that_of_tensorflow() -> None:
    import tensorflow as tf

    from trainer.training.learner import sampled_softmax

    random = np.random.default_rng(7)
    shapes = ((6, 4), (6, 4), (9, 4))
    given = [tf.constant(30 * random.standard_normal(shape).astype(np.float32)) for shape in shapes]
    hits = random.random((6, 9)) < 0.3
    hits[0] = True  # all that was drawn for this user is its own target
    nothing = tf.zeros(6), tf.zeros(9)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(given)
        vectors, target, sampled = given
        ours = 5 * sampled_softmax(*given, *nothing, tf.constant(hits))
        others = tf.where(hits, -1e30, tf.matmul(vectors, sampled, transpose_b=True))
        logits = tf.concat([tf.reduce_sum(vectors * target, axis=1, keepdims=True), others], axis=1)
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.zeros(6, tf.int32), logits)
        theirs = 5 * tf.reduce_mean(each)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)
    for found, expected in zip(tape.gradient(ours, given), tape.gradient(theirs, given), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------ what a recipe may change


def test_a_rate_rises_falls_and_stays() -> None:
    assert Schedule().factors(3).tolist() == [1, 1, 1, 1]
    assert Schedule("constant", 4).factors(6).tolist() == [0, 0.25, 0.5, 0.75, 1, 1, 1]
    line = Schedule("linear", 2, 6).factors(8)
    assert line[1:3].tolist() == [0.5, 1]
    assert line[6:].tolist() == [0.01, 0.01, 0.01]
    assert line[4] == pytest.approx(0.505)
    cosine = Schedule("cosine", 0, 10).factors(12)
    assert cosine[[0, 5, 10, 12]] == pytest.approx([1, 0.505, 0.01, 0.01])
    assert (np.diff(cosine[:11]) < 0).all()


def test_sums_over_scheduled_rates_are_what_adding_up_gives() -> None:
    schedule = Schedule("cosine", 30, 200)
    table = rate_table(schedule, decay=0.02)
    last = 1500
    factors = schedule.factors(last)
    rates, left = corrections(last) * factors, 1 - 0.02 * factors
    for t in (0, 7, 150, 400):
        i = np.arange(1, 1000)
        weights = rates[t + i] * BETA_1**i / np.cumprod(left[t + i])
        expected = [(weights * i**n).sum() for n in range(3)]
        np.testing.assert_allclose(table.tails[t], expected, rtol=1e-10)
        assert table.kept[t] == pytest.approx(np.log(left[1 : t + 1]).sum(), abs=1e-12)


def test_hard_negatives_count_more_and_as_many_as_before() -> None:
    import tensorflow as tf

    from trainer.training.learner import sampled_softmax

    random = np.random.default_rng(6)
    vectors, target, sampled = (random.standard_normal(shape).astype(np.float32) for shape in ((5, 4), (5, 4), (8, 4)))
    offsets = random.standard_normal(13).astype(np.float32)
    hits = random.random((5, 8)) < 0.3
    hits[0] = True  # a user whose every negative is the target itself
    given = [*map(tf.constant, (vectors, target, sampled, offsets[:5], offsets[5:], hits))]
    each = []
    for user in range(5):
        own = vectors[user] @ target[user] + offsets[user]
        scores = (sampled @ vectors[user])[~hits[user]]
        weights = np.exp(0.7 * scores)
        weights = weights / weights.mean() if len(scores) else weights
        others = weights * np.exp(scores + offsets[5:][~hits[user]])
        each.append(np.log(np.exp(own) + others.sum()) - own)
    assert float(sampled_softmax(*given, 0.7)) == pytest.approx(np.mean(each), rel=1e-5)
    assert float(sampled_softmax(*given, 0.7)) > float(sampled_softmax(*given))


def test_routing_that_rests_on_one_item_costs() -> None:
    import tensorflow as tf

    from trainer.training.learner import routing_variance

    shares = np.zeros((2, 2, 4), np.float32)
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], np.float32)
    shares[0] = [[1, 0, 0, 0], [1 / 3, 1 / 3, 1 / 3, 0]]
    shares[1] = 0.25
    expected = np.var([1, 0, 0]) / 2  # the mean over two users, of whom one spreads evenly
    assert float(routing_variance(tf.constant(shares), tf.constant(mask))) == pytest.approx(expected, abs=1e-5)


def test_gradients_are_clipped_all_together() -> None:
    import tensorflow as tf

    from trainer.training.learner import clip_factor

    gradients = [tf.constant([[3.0, 0.0]]), tf.constant([4.0])]
    assert float(clip_factor(gradients, 1.0)) == pytest.approx(0.2)
    assert float(clip_factor(gradients, 10.0)) == 1.0
