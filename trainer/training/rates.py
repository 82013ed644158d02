"""The learning rate of every update, and the sums over it that rows without a gradient need. Needs no TensorFlow.

With the scheduled rate r(t), Adam's bias correction c(t) and what decoupled weight decay leaves of a weight at an
update, d(t) = 1 - decay * r(t) (Loshchilov & Hutter, ICLR 2019), k updates without a gradient after update t multiply a
weight by d(t + 1) ... d(t + k), and what they add needs, for n = 0, 1, 2,

    sum over i = 1..k of  r(t + i) c(t + i) * beta1^i * i^n / (d(t + 1) ... d(t + i))

which are differences of the infinite sums of ``RateTable.tails``. Rates are in units of the run's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BETA_1 = 0.9
BETA_2 = 0.999

# From here on the bias correction is 1 to the last digit of float64.
SETTLED = 40_000
# What is left of the rate at the end of its decay: with nothing left, a run that goes on would learn nothing.
_LEFT = 0.01


@dataclass(frozen=True)
class Schedule:
    """The rate rises along a line over ``warmup_steps``, then falls (``linear``, ``cosine``) until ``decay_steps``, and
    stays at a hundredth; ``constant`` stays where it is."""

    name: str = "constant"
    warmup_steps: int = 0
    decay_steps: int = 0

    @property
    def end(self) -> int:
        """The last update whose rate differs from those that follow."""
        return max(self.warmup_steps, self.decay_steps)

    def factors(self, count: int) -> np.ndarray:
        """float64 [count + 1]: the factor of update t; that of update 0 is unused."""
        steps = np.arange(count + 1, dtype=np.float64)
        factors = np.minimum(1.0, steps / self.warmup_steps) if self.warmup_steps else np.ones(count + 1)
        if self.name == "constant":
            return factors
        length = max(self.decay_steps - self.warmup_steps, 1)
        done = np.clip((steps - self.warmup_steps) / length, 0, 1)
        left = 1 - done if self.name == "linear" else (1 + np.cos(np.pi * done)) / 2
        falling: np.ndarray = factors * (_LEFT + (1 - _LEFT) * left)
        return falling


@dataclass(frozen=True)
class RateTable:
    """By the number of an update up to ``last``; every later one has the rate, without correction, of ``last``.

    ``rates`` float64 [last + 2]: scheduled rate times correction, the last of them for all that come after.
    ``factors`` float64 [last + 2]: the schedule's alone. ``tails`` float64 [last + 1, 3]: the sums above for infinitely
    many updates after t. ``kept`` float64 [last + 1]: the logarithm of d(1) ... d(t), zero without decay;
    ``kept_at_end``: that of one later d.
    """

    last: int
    rates: np.ndarray
    factors: np.ndarray
    tails: np.ndarray
    kept: np.ndarray
    kept_at_end: float


def rate_table(schedule: Schedule, decay: float = 0.0) -> RateTable:
    """``decay``: the weight decay times the run's learning rate, below 0.1."""
    last = max(SETTLED, schedule.end)
    factors = schedule.factors(last)
    corrected = corrections(last) * factors
    kept = np.log1p(-decay * factors)
    kept[0] = 0.0
    tails = _tails(corrected, factors[last], 1 - decay * factors)
    end = float(factors[last])
    return RateTable(
        last, np.append(corrected, end), np.append(factors, end), tails, np.cumsum(kept), float(kept[last])
    )


def corrections(count: int) -> np.ndarray:
    """float64 [count + 1]: the factor that bias correction puts on the rate of update t; that of update 0 is unused.

    Keras and TensorFlow raise beta as a float32, and float32(0.999) makes 1 - beta2^t differ by 1e-5 of it.
    """
    steps = np.arange(1, count + 1, dtype=np.float64)
    log_1, log_2 = (math.log(float(np.float32(beta))) for beta in (BETA_1, BETA_2))
    return np.concatenate([[0.0], np.sqrt(-np.expm1(steps * log_2)) / -np.expm1(steps * log_1)])


def _tails(rates: np.ndarray, end: float, left: np.ndarray) -> np.ndarray:
    """The infinite sums after each t, from the last one on backwards; ``left`` are the d(t)."""
    count = len(rates) - 1
    fades = (BETA_1 / left).tolist()
    by_update = rates.tolist()
    fade = fades[count]
    rest = 1 - fade
    zero, one, two = (end * part for part in (fade / rest, fade / rest**2, fade * (1 + fade) / rest**3))
    sums = [(zero, one, two)]
    for t in range(count - 1, -1, -1):
        fade, rate = fades[t + 1], by_update[t + 1]
        zero, one, two = fade * (rate + zero), fade * (rate + zero + one), fade * (rate + zero + 2 * one + two)
        sums.append((zero, one, two))
    return np.array(sums[::-1])
