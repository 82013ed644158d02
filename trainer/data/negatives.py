"""Negatives of a batch, and how often the sampler was expected to draw each id.

The logarithm of that expectation is taken off every score (log-Q correction; Bengio & Senecal, 2008), so that what a
model learns does not depend on which negatives it was shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from ckpt_tools.errors import UsageError
from trainer.config import TrainConfig
from trainer.data.distinct import first_places
from trainer.data.interactions import Interactions

# Ids to how often each was to be expected in a sample, float64 of the same shape.
Expected = Callable[[np.ndarray], np.ndarray]


class Negatives(Protocol):
    """What ``negatives`` returns: a sample (int64 ids) for a batch with these targets, and what was to be expected."""

    def __call__(self, random: np.random.Generator, target: np.ndarray) -> tuple[np.ndarray, Expected]: ...


def negatives_of(split: Interactions, users: np.ndarray, config: TrainConfig) -> Negatives:
    """The negatives of ``config.negatives`` for batches of some ``users`` of the training split."""
    if config.negatives == "uniform":
        return Drawn(Uniform(config.item_count, config.drawn))
    if config.negatives == "log-uniform":
        return Drawn(LogUniform(config.item_count, config.drawn))
    frequencies = target_frequencies(split, users, config.min_history, config.item_count)
    in_batch = InBatch(config.batch_size * frequencies)
    return in_batch if config.negatives == "in-batch" else Mixed(LogUniform(config.item_count, config.drawn), in_batch)


def target_frequencies(split: Interactions, users: np.ndarray, min_history: int, item_count: int) -> np.ndarray:
    """float64 [n]: the chance of each id to be the target of a user in a batch, exactly: users are drawn alike, and of
    each user every item from number ``min_history`` on. Where Yi et al. (RecSys 2019) have to estimate the frequencies
    of a stream, all of the data is here."""
    lengths = split.lengths[users]
    owner = np.repeat(np.arange(len(users)), lengths)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    owner, place = owner[place >= min_history], place[place >= min_history]
    chances = 1 / ((lengths[owner] - min_history) * len(users))
    frequencies: np.ndarray = np.bincount(split.items[split.offsets[users][owner] + place], chances, item_count)
    return frequencies


class Drawn:
    """Ids that a sampler draws, whoever is in the batch."""

    def __init__(self, sampler: LogUniform | Uniform) -> None:
        self._sampler = sampler

    def __call__(self, random: np.random.Generator, target: np.ndarray) -> tuple[np.ndarray, Expected]:  # noqa: ARG002
        ids, tries = self._sampler.draw(random)
        return ids, lambda wanted: self._sampler.expected_count(wanted, tries)


class InBatch:
    """Every user's target is a negative for all others."""

    def __init__(self, expected: np.ndarray) -> None:
        self._expected = expected

    def __call__(self, random: np.random.Generator, target: np.ndarray) -> tuple[np.ndarray, Expected]:  # noqa: ARG002
        return target.astype(np.int64), lambda wanted: self._expected[wanted]


class Mixed:
    """Ids that are drawn and the targets of the batch (Yang et al., WWW 2020); expectations add up."""

    def __init__(self, sampler: LogUniform, in_batch: InBatch) -> None:
        self._parts = Drawn(sampler), in_batch

    def __call__(self, random: np.random.Generator, target: np.ndarray) -> tuple[np.ndarray, Expected]:
        (drawn, of_drawn), (others, of_others) = (part(random, target) for part in self._parts)
        return np.concatenate([drawn, others]), lambda wanted: of_drawn(wanted) + of_others(wanted)


class Uniform:
    """Different ids from 1 on, all alike."""

    def __init__(self, id_range: int, size: int) -> None:
        self._range = id_range
        self._size = size

    def draw(self, random: np.random.Generator) -> tuple[np.ndarray, int]:
        """The ids (int64 [size]), and how many draws that took."""
        return 1 + random.choice(self._range - 1, self._size, replace=False), self._size

    def expected_count(self, ids: np.ndarray, tries: int) -> np.ndarray:
        """float64, of the shape of ``ids``."""
        return np.full(ids.shape, tries / (self._range - 1))


class LogUniform:
    """Unique ids from a log-uniform distribution, as ``tf.random.log_uniform_candidate_sampler`` draws them.

    P(id) = (log(id + 2) - log(id + 1)) / log(range + 1): Zipf-like, so ids have to be in order of frequency.
    Drawing goes on until ``size`` different ids have turned up (tensorflow/core/kernels/range_sampler.cc).

    Raises UsageError when there are not so many.
    """

    def __init__(self, id_range: int, size: int) -> None:
        if not 0 < size <= id_range:
            raise UsageError(f"cannot draw {size} different ids out of {id_range}")
        self._range = id_range
        self._size = size
        self._log_range = math.log1p(id_range)
        self._usual_tries = self._tries_for(size)

    def draw(self, random: np.random.Generator) -> tuple[np.ndarray, int]:
        """The ids in the order of their first appearance (int64 [size]), and how many draws that took."""
        drawn = self._draw_with_repeats(random, self._usual_tries)
        while True:
            first = first_places(drawn)
            if len(first) >= self._size:
                first = first[: self._size]
                return drawn[first], int(first[-1]) + 1
            more = self._draw_with_repeats(random, self._usual_tries // 4 + 1)
            drawn = np.concatenate([drawn, more])

    def probability(self, ids: np.ndarray) -> np.ndarray:
        """float64, of the shape of ``ids``."""
        return np.log1p(1 / (ids.astype(np.float64) + 1)) / self._log_range

    def expected_count(self, ids: np.ndarray, tries: int) -> np.ndarray:
        """The chance that ``tries`` draws hold the id: 1 - (1 - p)^tries, without its cancellation."""
        expected: np.ndarray = -np.expm1(tries * np.log1p(-self.probability(ids)))
        return expected

    def _draw_with_repeats(self, random: np.random.Generator, count: int) -> np.ndarray:
        drawn = np.exp(random.random(count) * self._log_range).astype(np.int64) - 1
        return drawn % self._range  # rounding may reach the end of the range

    def _tries_for(self, size: int) -> int:
        """About how many draws it takes, so that one round of drawing is usually enough."""
        ids = np.arange(self._range)
        tries = size + 16
        while self.expected_count(ids, tries).sum() < min(size * 1.02, self._range - 0.5):
            tries += tries // 4
        return tries
