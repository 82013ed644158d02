"""Measuring a model on a split.

Needs no TensorFlow. During training, on resume and in ``ckpt backfill`` it is this one function that measures,
so a recall means the same wherever it is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from trainer.arrays import NumpyArrays
from trainer.config import TrainConfig
from trainer.data import Interactions, require_ids_below
from trainer.metrics import Metrics, metrics_at
from trainer.models import Recommender, model_class
from trainer.retrieval import Catalogue, ranks_of

METRIC = "recall"
_USERS_AT_ONCE = 512

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Ranking:
    """Where the true items of each user stand among all items, up to a limit: enough for every N below it.

    ``ranks`` int64 [P] and ``owner`` int64 [P] are of the pairs (user, true item), ``truths`` int64 [U] counts each
    user's true items, repeats included.
    """

    ranks: np.ndarray
    owner: np.ndarray
    truths: np.ndarray

    def at(self, top_n: int) -> Metrics:
        return metrics_at(self.ranks, self.owner, self.truths, top_n)


def rank(
    model: Recommender,
    split: Interactions,
    *,
    maxlen: int,
    limit: int,
    noise_seed: int = 0,
    part: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> Ranking:
    """Rank with a numpy-backed model: the first 80 % of each user's items predict the rest.

    The cut is int(0.8 * length), as both older trainers compute it in floating point. ``progress`` is told
    (users done, users). ``noise_seed`` decides the routing noise of MIND: the same for every evaluation of a run, so
    that two of them differ by the weights alone. ``part`` (number, of): ranks only one in so many blocks of users and
    leaves the others' ranks at 0, so that the parts add up to the whole. Raises MismatchError for an item that the
    model has no row for.
    """
    items = np.asarray(model.item_embedding)
    require_ids_below(split, len(items))
    cuts = first_true(split)
    truths = split.lengths - cuts
    owner, wanted = true_pairs(split, cuts)
    catalogue = Catalogue.of(items)
    ranks = np.zeros(len(wanted), np.int64)
    number, count = part
    for start in range(number * _USERS_AT_ONCE, len(truths), count * _USERS_AT_ONCE):
        users = np.arange(start, min(start + _USERS_AT_ONCE, len(truths)))
        vectors = vectors_of(model, split, users, cuts[users], maxlen, noise_seed)
        pairs = slice(*np.searchsorted(owner, [users[0], users[-1] + 1]))
        ranks[pairs] = ranks_of(
            vectors,
            catalogue,
            owner[pairs] - start,
            wanted[pairs],
            limit=limit,
            exclude_first=model.excludes_padding,
        )
        if progress is not None:
            progress(int(users[-1]) + 1, len(truths))
    return Ranking(ranks, owner, truths)


def first_true(split: Interactions) -> np.ndarray:
    """int64 [U]: where each user's history ends and the items to be predicted begin."""
    return (split.lengths * 0.8).astype(np.int64)


def vectors_of(
    model: Recommender, split: Interactions, users: np.ndarray, cuts: np.ndarray, maxlen: int, noise_seed: int = 0
) -> np.ndarray:
    """float64 [B, K, D]: the vectors of some of a split's users, each cut where ``cuts`` say."""
    history, mask = split.windows(users, cuts, maxlen)
    vectors: np.ndarray = model.user_vectors(history, mask, model.noise(noise_seed, int(users[0]), len(users)))
    return vectors


def evaluate(
    model: Recommender, split: Interactions, *, maxlen: int, top_n: int, progress: Progress | None = None
) -> Metrics:
    """Measure a numpy-backed model; see ``rank``."""
    return rank(model, split, maxlen=maxlen, limit=top_n, progress=progress).at(top_n)


def true_pairs(split: Interactions, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each user's different true items: (owner, wanted), both [P], by user and then by item."""
    user = np.repeat(np.arange(len(cuts)), split.lengths)
    true = np.arange(len(split.items)) - split.offsets[user] >= cuts[user]
    pairs = np.unique(np.stack([user[true], split.items[true].astype(np.int64)]), axis=1)
    return pairs[0], pairs[1]


def numpy_model(config: TrainConfig, weights: Mapping[str, np.ndarray]) -> Recommender:
    """A model over numpy weights, ready for ``evaluate``."""
    return model_class(config.model_type)(config, weights, NumpyArrays())


def weight_names(config: TrainConfig) -> list[str]:
    """The canonical names of a model's weights."""
    return list(model_class(config.model_type).parameters(config))
