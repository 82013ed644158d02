"""A catalogue of any size and users with interests in it, made up: what the benchmarks train and measure on."""

from __future__ import annotations

import numpy as np

from trainer.config import TrainConfig, default_config, override
from trainer.data.interactions import Interactions

BOOKS = 367_983


def interactions(items: int, users: int, seed: int = 0) -> Interactions:
    """Users with two groups of items each; popular ids first, as the trainer's files have them."""
    random = np.random.default_rng(seed)
    lengths = random.integers(6, 50, users)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    groups = max(items // 400, 1)
    group = random.integers(0, groups, (users, 2))
    owner = np.repeat(np.arange(users), lengths)
    place = np.exp(random.random(len(owner)) * np.log(items / groups)).astype(np.int64) - 1
    drawn = place * groups + group[owner, random.integers(0, 2, len(owner))]
    return Interactions("made up", np.arange(users), offsets, np.clip(drawn, 1, items - 1).astype(np.int32))


def config(model_type: str, items: int = BOOKS) -> TrainConfig:
    """The paper's settings for Amazon Books: D = 64, batch 128, 20 items of history, 1,280 negatives."""
    return override(default_config("book", model_type, items), {"learning_rate": 0.005})
