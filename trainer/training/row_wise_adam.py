"""Adam over named variables, at the cost of the rows that a batch touches. Needs TensorFlow.

Adam (Kingma & Ba, 2015) as TensorFlow and Keras compute it: the bias correction is part of the rate, and epsilon is
added to the uncorrected root (the paper's "epsilon hat", tensorflow/core/kernels/training_ops.cc). It moves every row
at every update, with a gradient or without, because the moments of a row go on decaying. A row of the item table is
therefore brought up to date just before it is read: k updates without a gradient are a sum in closed form.

With m and s = sqrt(v) of the row at update t, q = sqrt(beta2) and the rate r of each update, they move it by

    m * sum over i = 1..k of  r(t + i) * beta1^i / (s * q^i + eps)

Epsilon counts: s of a row that was only ever a negative is as small as epsilon. The fraction is expanded to second
order in i, with a = s / (s + eps) and c = -ln(q):  (1 + a*c*i + a*(a - 1/2)*c^2*i^2) / (s + eps).  What is left are
sums of r(t + i) * beta1^i * i^n, which depend on t and k alone (``idle_sums``). Terms beyond the second are below
1e-6 of the movement, because beta1^i fades before c*i grows. With a schedule of the rate and decoupled weight decay of
the table the sums are others (``trainer.training.rates``), and the rest is the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from ckpt_tools.lineages.comirec.models import ITEM_EMBEDDING
from ckpt_tools.lineages.names import LEARNING_RATE, STEP, moment_name
from trainer.training.rates import BETA_1, BETA_2, Schedule, rate_table

# Rows that are brought up to date at once when all are: 16 MB for each of the three tables at D = 64.
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Rows:
    """Some rows of the table, brought up to date: their numbers [R], values and moments [R, D]."""

    numbers: tf.Tensor
    values: tf.Tensor
    first: tf.Tensor
    second: tf.Tensor


class Adam:
    """Dense Adam in its results; in its cost, only over the rows of the item table that a batch reads.

    Between two calls of ``catch_up`` the table and its moments are behind in rows that no batch has read; ``behind``
    tells which, and ``current`` what they are. Both are functions of the run's steps alone, so that nothing depends on
    when somebody looked.
    """

    def __init__(
        self,
        variables: Mapping[str, tf.Variable],
        epsilon: float,
        schedule: Schedule = Schedule(),
        weight_decay: float = 0.0,
    ) -> None:
        """``variables`` holds the step, the learning rate and the moments, under their canonical names.
        ``weight_decay`` is of the item table alone."""
        self._variables = variables
        self._epsilon = epsilon
        self._decay = weight_decay * float(variables[LEARNING_RATE])
        self._table_of_rates = rate_table(schedule, self._decay)
        self._tails = tf.constant(self._table_of_rates.tails)
        self._rates = tf.constant(self._table_of_rates.rates)
        self._factors = tf.constant(self._table_of_rates.factors)
        self._logs_of_left = tf.constant(self._table_of_rates.kept)
        self._table = [variables[name] for name in _table_names()] if ITEM_EMBEDDING in variables else []
        rows = self._table[0].shape[0] if self._table else 0
        self._updated_at = tf.Variable(tf.fill([rows], variables[STEP].read_value()), trainable=False)
        # Rows whose moments are zero stay where they are, however long, unless they decay.
        self._moving = np.full(rows, self._decay > 0)
        for moment in self._table[1:]:
            self._moving |= moment.numpy().any(axis=1)
        signature = [tf.TensorSpec([None], tf.int64)]
        self._read_block = tf.function(self._traced_read, input_signature=signature, autograph=False)
        self._write_block = tf.function(self._traced_write, input_signature=signature, autograph=False)

    # ------------------------------------------------------------------------------------- one update

    def rows(self, numbers: tf.Tensor) -> Rows:
        """Rows of the item table as dense Adam has them now. ``numbers`` [R], each once."""
        value, first, second = (tf.gather(variable, numbers) for variable in self._table)
        return Rows(numbers, *self._caught_up(value, first, second, tf.gather(self._updated_at, numbers)))

    def apply(
        self, rows: Rows, row_gradient: tf.Tensor, row_squares: tf.Tensor, gradients: Mapping[str, tf.Tensor]
    ) -> None:
        """One update: of the rows with their gradient and what counts as its square [R, D], and of other variables with
        their gradients, by name."""
        step = self._variables[STEP]
        now = step.assign_add(1, read_value=True)
        place = tf.minimum(now, self._table_of_rates.last + 1)
        rate = tf.cast(tf.cast(self._variables[LEARNING_RATE], tf.float64) * tf.gather(self._rates, place), tf.float32)
        values = rows.values
        if self._decay:
            left = 1 - self._decay * tf.gather(self._factors, place)
            values = values * tf.cast(left, tf.float32)
        moved = self._moved(values, rows.first, rows.second, row_gradient, row_squares, rate)
        for variable, value in zip(self._table, moved, strict=True):
            variable.scatter_update(tf.IndexedSlices(value, rows.numbers))
        self._updated_at.scatter_update(tf.IndexedSlices(tf.fill(tf.shape(rows.numbers), now), rows.numbers))
        for name, gradient in gradients.items():
            # TensorFlow's own ResourceApplyAdam takes 1 - beta2 of float32, which is off by 5e-5 of itself.
            value, first, second = (
                self._variables[part] for part in (name, moment_name("m", name), moment_name("v", name))
            )
            for variable, result in zip(
                (value, first, second),
                self._moved(value, first, second, gradient, gradient * gradient, rate),
                strict=True,
            ):
                variable.assign(result)

    def _moved(
        self,
        value: tf.Tensor,
        first: tf.Tensor,
        second: tf.Tensor,
        gradient: tf.Tensor,
        square: tf.Tensor,
        rate: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        first = first + (gradient - first) * (1 - BETA_1)
        second = second + (square - second) * (1 - BETA_2)
        return value - rate * first / (tf.sqrt(second) + self._epsilon), first, second

    # ------------------------------------------------------------------------------------- idle rows

    def mark_touched(self, numbers: np.ndarray) -> None:
        """Remember which rows an update has moved: from now on they are to be caught up."""
        self._moving[numbers] = True

    def catch_up(self) -> None:
        """Bring every row up to date, in place. Made at fixed steps of the run, it belongs to its results."""
        for numbers in self._blocks():
            self._write_block(tf.constant(numbers))
        self._updated_at.assign(tf.fill(self._updated_at.shape, self._variables[STEP].read_value()))

    def current(self) -> dict[str, np.ndarray]:
        """Table and moments with every row up to date, by canonical name; changes nothing."""
        arrays = [variable.numpy().copy() for variable in self._table]
        for numbers in self._blocks():
            for array, value in zip(arrays, self._read_block(tf.constant(numbers)), strict=True):
                array[numbers] = value
        return dict(zip(_table_names(), arrays, strict=True))

    def stale_rows(self) -> dict[str, np.ndarray]:
        """The rows that ``catch_up`` would change, as they are: ``rows`` [I], ``step`` [I] and, [I, D], the three of
        the table; empty when there are none. Given to ``put_behind``, they continue this very run."""
        updated_at = self._updated_at.numpy()
        rows = np.flatnonzero((updated_at < int(self._variables[STEP])) & self._moving)
        if not len(rows):
            return {}
        values = [tf.gather(variable, rows).numpy() for variable in self._table]
        return {"rows": rows, "step": updated_at[rows], **dict(zip(("value", "m", "v"), values, strict=True))}

    def restore_stale_rows(self, rows: Mapping[str, np.ndarray]) -> None:
        """Undo a catching up: the rows that ``behind`` gave."""
        numbers = tf.constant(rows["rows"])
        for variable, key in zip(self._table, ("value", "m", "v"), strict=True):
            variable.scatter_update(tf.IndexedSlices(tf.constant(rows[key]), numbers))
        self._updated_at.scatter_update(tf.IndexedSlices(tf.constant(rows["step"]), numbers))

    def _blocks(self) -> Iterator[np.ndarray]:
        moving = np.flatnonzero(self._moving)
        return (moving[start : start + _BLOCK] for start in range(0, len(moving), _BLOCK))

    def _traced_read(self, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        rows = self.rows(numbers)
        return rows.values, rows.first, rows.second

    def _traced_write(self, numbers: tf.Tensor) -> None:
        for variable, value in zip(self._table, self._traced_read(numbers), strict=True):
            variable.scatter_update(tf.IndexedSlices(value, numbers))

    def _caught_up(
        self, value: tf.Tensor, first: tf.Tensor, second: tf.Tensor, updated_at: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        now = self._variables[STEP].read_value()
        idle = tf.cast(now - updated_at, tf.float64)
        zero, one, two = self.idle_sums(updated_at, now, idle)
        speed = -0.5 * math.log(BETA_2)  # c
        factors = [tf.cast(factor, tf.float32)[:, None] for factor in (zero, speed * one, speed**2 * two)]
        root = tf.sqrt(second)
        share = root / (root + self._epsilon)  # a
        total = factors[0] + share * (factors[1] + (share - 0.5) * factors[2])
        faded = [tf.cast(tf.exp(idle * math.log(beta)), tf.float32)[:, None] for beta in (BETA_1, BETA_2)]
        value = value - first / (root + self._epsilon) * total
        if self._decay:
            value = value * tf.cast(tf.exp(self._kept(now) - self._kept(updated_at)), tf.float32)[:, None]
        return value, first * faded[0], second * faded[1]

    def _kept(self, step: tf.Tensor) -> tf.Tensor:
        """The logarithm of what weight decay has left of a weight after so many updates, float64."""
        table = self._table_of_rates
        after = tf.cast(tf.maximum(step - table.last, 0), tf.float64)
        return tf.gather(self._logs_of_left, tf.minimum(step, table.last)) + after * table.kept_at_end

    def idle_sums(self, since: tf.Tensor, now: tf.Tensor, idle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """float64 [R] each: the sums over i = 1..idle of rate(since + i) * beta1^i * i^n for n = 0, 1, 2; with weight
        decay each divided by what it leaves from ``since`` to there.

        A tail from ``since`` on, less the tail from ``now`` on with its i counted from ``since``.
        """
        rate = tf.cast(self._variables[LEARNING_RATE], tf.float64)
        last = self._table_of_rates.last
        begun = tf.unstack(tf.gather(self._tails, tf.minimum(since, last)), axis=1)
        ended = tf.unstack(tf.gather(self._tails, tf.minimum(now, last)))
        fade = tf.exp(idle * math.log(BETA_1))
        if self._decay:
            fade = fade * tf.exp(self._kept(since) - self._kept(now))
        return (
            rate * (begun[0] - fade * ended[0]),
            rate * (begun[1] - fade * (ended[1] + idle * ended[0])),
            rate * (begun[2] - fade * (ended[2] + idle * (2 * ended[1] + idle * ended[0]))),
        )


def _table_names() -> tuple[str, str, str]:
    return ITEM_EMBEDDING, moment_name("m", ITEM_EMBEDDING), moment_name("v", ITEM_EMBEDDING)
