"""What a training step sees, as a pure function of (seed, step)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ckpt_tools.errors import UsageError
from trainer.config import TrainConfig
from trainer.data.distinct import compact
from trainer.data.interactions import Interactions
from trainer.data.negatives import negatives_of
from trainer.random_streams import RandomStream, generator, truncated_normal


@dataclass(frozen=True)
class Batch:
    """B users, each cut before one target, and S negatives that they share.

    ``history`` int32 [B, L], ``mask`` float32 [B, L], ``target`` int32 [B], ``sampled`` int64 [S]: ids.
    ``rows`` int64 [R]: the different ids among them, ascending; ``inverse`` int32 [B*L + B + S]: where in ``rows`` the
    ids of history, target and sample stand, one after the other. A readout by the padding item adds B places of id 0.
    ``order`` int32, of the same shape: the places by their rows, those of one row as they come.
    ``target_count`` float32 [B, 1] and ``sampled_count`` float32 [S]: how often the sampler was expected to draw each.
    ``noise`` float32 [B, K, L]: where MIND's routing starts, None for the other models.
    """

    history: np.ndarray
    mask: np.ndarray
    target: np.ndarray
    sampled: np.ndarray
    rows: np.ndarray
    inverse: np.ndarray
    order: np.ndarray
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
        self._negatives = negatives_of(split, self._users, config)

    @property
    def digest(self) -> str:
        """Of the training split: see ``Interactions.digest``."""
        return self.split.digest

    def __call__(self, step: int) -> Batch:
        """The batch of the update that follows ``step`` updates."""
        random = generator(self._config.seed, RandomStream.BATCHES, step)
        users = random.choice(self._users, self._config.batch_size, replace=False)
        cuts = random.integers(self._config.min_history, self.split.lengths[users])
        history, mask = self.split.windows(users, cuts, self._config.maxlen)
        if self._config.history_dropout:
            history, mask = self._thinned(step, history, mask)
        target = self.split.items[self.split.offsets[users] + cuts]
        sampled, count = self._negatives(random, target)
        ids = [history.ravel(), target, sampled]
        if self._config.reads_by_padding:
            ids.append(np.zeros(self._config.batch_size, np.int64))
        rows, inverse, order = compact(np.concatenate(ids))
        return Batch(
            history=history,
            mask=mask,
            target=target,
            sampled=sampled,
            rows=rows,
            inverse=inverse,
            order=order,
            target_count=count(target).astype(np.float32)[:, None],
            sampled_count=count(sampled).astype(np.float32),
            noise=self._noise(step),
        )

    def _thinned(self, step: int, history: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Histories without the items that fall out by chance, moved up; one that would be empty stays whole."""
        random = generator(self._config.seed, RandomStream.DROPOUT, step)
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
        random = generator(config.seed, RandomStream.ROUTING, step)
        return truncated_normal(random, (config.batch_size, config.num_interest, config.maxlen))
