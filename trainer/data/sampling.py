"""What a training step sees, as a pure function of (seed, step)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ckpt_tools.errors import UsageError
from trainer.config import TrainConfig
from trainer.data.interactions import Interactions
from trainer.random_streams import Stream, generator, truncated_normal


@dataclass(frozen=True)
class Batch:
    """B users, each cut before one target, and S negatives that they share.

    ``history`` int32 [B, L], ``mask`` float32 [B, L], ``target`` int32 [B], ``sampled`` int64 [S]: ids.
    ``rows`` int64 [R]: the different ids among them, ascending; ``places`` int32 [B*L + B + S]: where in ``rows`` the
    ids of history, target and sample stand, one after the other. A readout by the padding item adds B places of id 0.
    ``target_count`` float32 [B, 1] and ``sampled_count`` float32 [S]: how often the sampler was expected to draw each.
    ``noise`` float32 [B, K, L]: where MIND's routing starts, None for the other models.
    """

    history: np.ndarray
    mask: np.ndarray
    target: np.ndarray
    sampled: np.ndarray
    rows: np.ndarray
    inverse: np.ndarray
    target_count: np.ndarray
    sampled_count: np.ndarray
    noise: np.ndarray | None


class BatchSampler:
    """Draws batches from the training split. ``skipped`` users have fewer than ``shortest`` items: too few to be
    cut anywhere."""

    def __init__(self, split: Interactions, config: TrainConfig) -> None:
        """Raises UsageError when fewer users than a batch needs can be cut."""
        self.split = split
        self._config = config
        self.shortest = config.min_history + 1
        self._users = np.flatnonzero(split.lengths >= self.shortest)
        self.skipped = len(split.users) - len(self._users)
        if not len(self._users):
            raise UsageError(
                f"no training user has {self.shortest} items or more, and a batch needs {config.batch_size}",
                path=split.path,
                hint="check --data-dir, or make the files again: trainer prepare keeps users with 5 items or more",
            )
        if config.batch_size > len(self._users):
            raise UsageError(
                f"a batch needs {config.batch_size} different users, but only {len(self._users)} of "
                f"{len(split.users)} have {self.shortest} items or more in {split.path}",
                hint=f"use --batch-size {len(self._users)} or less",
            )
        self._negatives = LogUniform(config.item_count, config.negatives)

    @property
    def digest(self) -> str:
        """Of the training split: see ``Interactions.digest``."""
        return self.split.digest

    def __call__(self, step: int) -> Batch:
        """The batch of the update that follows ``step`` updates."""
        random = generator(self._config.seed, Stream.BATCHES, step)
        users = random.choice(self._users, self._config.batch_size, replace=False)
        cuts = random.integers(self._config.min_history, self.split.lengths[users])
        history, mask = self.split.windows(users, cuts, self._config.maxlen)
        if self._config.history_dropout:
            history, mask = self._thinned(step, history, mask)
        target = self.split.items[self.split.offsets[users] + cuts]
        sampled, tries = self._negatives.draw(random)
        ids = [history.ravel(), target, sampled]
        if self._config.reads_by_padding:
            ids.append(np.zeros(self._config.batch_size, np.int64))
        rows, inverse = np.unique(np.concatenate(ids), return_inverse=True)
        return Batch(
            history=history,
            mask=mask,
            target=target,
            sampled=sampled,
            rows=rows,
            inverse=inverse.ravel().astype(np.int32),
            target_count=self._negatives.expected_count(target, tries).astype(np.float32)[:, None],
            sampled_count=self._negatives.expected_count(sampled, tries).astype(np.float32),
            noise=self._noise(step),
        )

    def _thinned(self, step: int, history: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Histories without the items that fall out by chance, moved up; one that would be empty stays whole."""
        random = generator(self._config.seed, Stream.DROPOUT, step)
        there = mask > 0
        kept = there & (random.random(mask.shape) >= self._config.history_dropout)
        kept |= there & ~kept.any(axis=1, keepdims=True)
        order = np.argsort(~kept, axis=1, kind="stable")
        kept = np.take_along_axis(kept, order, axis=1)
        return np.where(kept, np.take_along_axis(history, order, axis=1), 0), kept.astype(np.float32)

    def _noise(self, step: int) -> np.ndarray | None:
        config = self._config
        if not config.draws_routing_noise:
            return None
        random = generator(config.seed, Stream.ROUTING, step)
        return truncated_normal(random, (config.batch_size, config.num_interest, config.maxlen))


class LogUniform:
    """Unique ids from a log-uniform distribution, as ``tf.random.log_uniform_candidate_sampler`` draws them.

    P(id) = (log(id + 2) - log(id + 1)) / log(range + 1): Zipf-like, so ids have to be in order of frequency.
    Drawing goes on until ``size`` different ids have turned up (tensorflow/core/kernels/range_sampler.cc).
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
            _, first = np.unique(drawn, return_index=True)
            if len(first) >= self._size:
                first = np.sort(first)[: self._size]
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
