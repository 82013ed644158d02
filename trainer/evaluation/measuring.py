"""Measuring a model on a split.

Needs no TensorFlow. During training, on resume and in ``ckpt backfill`` it is this one function that measures,
so a recall means the same wherever it is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from trainer.config import TrainConfig
from trainer.data.interactions import Interactions, require_ids_below
from trainer.evaluation.ranking_metrics import Metrics, Published, metrics_at, published_at, recall_of_users
from trainer.evaluation.retrieval import Catalogue, fetched, merged, ranks_of
from trainer.models.arrays import NumpyArrays
from trainer.models.recommenders import Recommender, model_class

METRIC = "recall"
_USERS_AT_ONCE = 512

OnProgress = Callable[[int, int], None]


class Ranked(Protocol):
    """What ranking asks of a model; a `Recommender` over numpy weights is one."""

    @property
    def excludes_padding(self) -> bool: ...

    @property
    def padding_takes_a_place(self) -> bool: ...

    @property
    def item_embedding(self) -> Any: ...

    def noise(self, seed: int, index: int, users: int) -> np.ndarray | None: ...

    def user_vectors(self, history: Any, mask: Any, noise: Any = None) -> Any: ...


@dataclass(frozen=True)
class Ranking:
    """Where the true items of each user stand among all items, up to a limit: enough for every N below it.

    ``ranks`` int64 [P] and ``owner`` int64 [P] are of the pairs (user, true item), ``truths`` int64 [U] counts each
    user's true items, repeats included. ``wanted`` int64 [P] are the items. ``crowded``: the ids and scores that each
    interest fetches [K, limit], of the users in whose lists the padding item takes a place (``padding_place``).
    ``occurrences`` int64 [T] are the pairs of all true items in the order of time, ``places`` int64 [T] their numbers
    among their user's.
    """

    ranks: np.ndarray
    owner: np.ndarray
    truths: np.ndarray
    wanted: np.ndarray
    occurrences: np.ndarray
    places: np.ndarray
    crowded: Mapping[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def at(self, top_n: int) -> Metrics:
        return metrics_at(self.ranks_at(top_n), self.owner, self.truths, top_n)

    def recalls_at(self, top_n: int) -> np.ndarray:
        """float64 [U]: each user's recall."""
        return recall_of_users(self.ranks_at(top_n), self.owner, self.truths, top_n)

    def as_published(self, top_n: int) -> Published:
        """Recall and NDCG by the definitions of the paper's own figures."""
        return published_at(self.ranks_at(top_n), self.owner, self.truths, self.occurrences, self.places, top_n)

    def ranks_at(self, top_n: int) -> np.ndarray:
        """The ranks, where the padding item costs a list its last place with what comes in instead.

        Each interest fetches N items, the padding item perhaps among them; merged by score, repeats and padding
        dropped, cut at N. All but the last are the top N - 1 by the best interest; the last may be another.
        """
        if not self.crowded:
            return self.ranks
        ranks: np.ndarray = self.ranks.copy()
        first = np.searchsorted(self.owner, np.arange(len(self.truths) + 1))
        for user, (ids, scores) in self.crowded.items():
            found, _ = merged(ids[:, :top_n], scores[:, :top_n])
            pairs = slice(int(first[user]), int(first[user + 1]))
            place = {int(item): rank for rank, item in enumerate(found[:top_n])}
            ranks[pairs] = [place.get(int(item), top_n) for item in self.wanted[pairs]]
        return ranks


def rank(
    model: Ranked,
    split: Interactions,
    *,
    maxlen: int,
    limit: int,
    noise_seed: int = 0,
    part: tuple[int, int] = (0, 1),
    progress: OnProgress | None = None,
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
    owner, wanted, occurrences, places = truth(split, cuts)
    catalogue = Catalogue.of(items)
    ranks = np.zeros(len(wanted), np.int64)
    crowded: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    number, count = part
    for start in range(number * _USERS_AT_ONCE, len(truths), count * _USERS_AT_ONCE):
        users = np.arange(start, min(start + _USERS_AT_ONCE, len(truths)))
        vectors = vectors_of(model, split, users, cuts[users], maxlen, noise_seed)
        pairs = slice(*np.searchsorted(owner, [users[0], users[-1] + 1]))
        padding = users - start if model.padding_takes_a_place else np.empty(0, np.int64)
        found = ranks_of(
            vectors,
            catalogue,
            np.concatenate([owner[pairs] - start, padding]),
            np.concatenate([wanted[pairs], np.zeros_like(padding)]),
            limit=limit,
            exclude_first=model.excludes_padding,
            rank_first=model.padding_takes_a_place,
        )
        ranks[pairs] = found[: pairs.stop - pairs.start]
        if model.padding_takes_a_place:
            ranks[pairs][wanted[pairs] == 0] = limit
            for user in np.flatnonzero(found[pairs.stop - pairs.start :] < limit):
                crowded[start + int(user)] = fetched(vectors[user], items, limit)
        if progress is not None:
            progress(int(users[-1]) + 1, len(truths))
    return Ranking(ranks, owner, truths, wanted, occurrences, places, crowded)


def first_true(split: Interactions) -> np.ndarray:
    """int64 [U]: where each user's history ends and the items to be predicted begin."""
    return (split.lengths * 0.8).astype(np.int64)


def vectors_of(
    model: Ranked, split: Interactions, users: np.ndarray, cuts: np.ndarray, maxlen: int, noise_seed: int = 0
) -> np.ndarray:
    """float64 [B, K, D]: the vectors of some of a split's users, each cut where ``cuts`` say."""
    history, mask = split.windows(users, cuts, maxlen)
    vectors: np.ndarray = model.user_vectors(history, mask, model.noise(noise_seed, int(users[0]), len(users)))
    return vectors


def evaluate(
    model: Recommender, split: Interactions, *, maxlen: int, top_n: int, progress: OnProgress | None = None
) -> Metrics:
    """Measure a numpy-backed model; see ``rank``."""
    return rank(model, split, maxlen=maxlen, limit=top_n, progress=progress).at(top_n)


def true_pairs(split: Interactions, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each user's different true items: (owner, wanted), both [P], by user and then by item."""
    owner, wanted, _, _ = truth(split, cuts)
    return owner, wanted


def truth(split: Interactions, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Owner and wanted [P] of the different true items, and of all [T] the pair and the number among the user's."""
    user = np.repeat(np.arange(len(cuts)), split.lengths)
    place = np.arange(len(split.items)) - split.offsets[user] - cuts[user]
    true = place >= 0
    both = np.stack([user[true], split.items[true].astype(np.int64)])
    pairs, occurrences = np.unique(both, axis=1, return_inverse=True)
    return pairs[0], pairs[1], occurrences.ravel(), place[true]


def numpy_model(config: TrainConfig, weights: Mapping[str, np.ndarray]) -> Recommender:
    """A model over numpy weights, ready for ``evaluate``."""
    return model_class(config.model_type)(config, weights, NumpyArrays())


def weight_names(config: TrainConfig) -> list[str]:
    """The canonical names of a model's weights."""
    return list(model_class(config.model_type).parameters(config))
