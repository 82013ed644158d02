"""Recall, hit rate and NDCG from the ranks of the true items. Pure numpy.

For one user: ``ranks`` are the 0-based places of the *different* true items in the ranked catalogue, and
``truths`` is the length of the true list, repeats included, because both older trainers divide by that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Metrics:
    """Means over the users of a split. ``ndcg_hits_ideal`` is logged as ``ndcg``; ``ndcg_truth_ideal`` is usual."""

    recall: float
    ndcg_hits_ideal: float
    ndcg_truth_ideal: float
    hitrate: float
    users: int


def metrics_at(ranks: np.ndarray, owner: np.ndarray, truths: np.ndarray, top_n: int) -> Metrics:
    """Metrics at ``top_n`` from all users' ranks.

    ``ranks`` int [P]: one for each pair (user, true item) · ``owner`` int [P]: the pair's user, 0..U-1 ·
    ``truths`` int [U]. ``ndcg_hits_ideal`` compares with a list that has the same *number of hits* at its
    top, as the ComiRec trainers do; ``ndcg_truth_ideal`` with min(top_n, different true items) hits, and is lower.
    """
    users = len(truths)
    hit = ranks < top_n
    hits = np.bincount(owner[hit], minlength=users)
    gain = np.bincount(owner[hit], weights=1 / np.log2(ranks[hit] + 2.0), minlength=users)
    ideals = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(top_n) + 2.0))])
    ideal = ideals[hits]
    possible = ideals[np.minimum(np.bincount(owner, minlength=users), top_n)]
    return Metrics(
        recall=float(np.mean(hits / truths)),
        ndcg_hits_ideal=float(np.mean(np.divide(gain, ideal, out=np.zeros(users), where=hits > 0))),
        ndcg_truth_ideal=float(np.mean(np.divide(gain, possible, out=np.zeros(users), where=possible > 0))),
        hitrate=float(np.mean(hits > 0)),
        users=users,
    )


def recall_of_users(ranks: np.ndarray, owner: np.ndarray, truths: np.ndarray, top_n: int) -> np.ndarray:
    """float64 [U]: each user's recall at ``top_n``; their mean is that of `metrics_at`, which takes the same."""
    hits = np.bincount(owner[ranks < top_n], minlength=len(truths))
    recalls: np.ndarray = hits / truths
    return recalls


@dataclass(frozen=True)
class Published:
    """Recall and NDCG as the paper's figures were computed (THUDM/ComiRec, branch ``paper``, src/train.py).

    There a true item counts as often as it occurs, and its gain goes by its place in the user's own list, not by that
    in the ranking; the ideal has the same number of hits. The hit rate is the usual one.
    """

    recall: float
    ndcg: float


def published_at(
    ranks: np.ndarray, owner: np.ndarray, truths: np.ndarray, occurrences: np.ndarray, places: np.ndarray, top_n: int
) -> Published:
    """``occurrences`` int [T]: the pair of each true item in time · ``places`` int [T]: its number among its user's."""
    hit = ranks[occurrences] < top_n
    users = owner[occurrences][hit]
    hits = np.bincount(users, minlength=len(truths))
    gain = np.bincount(users, weights=1 / np.log2(places[hit] + 2.0), minlength=len(truths))
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(int(truths.max(initial=0))) + 2.0))])[hits]
    return Published(
        recall=float(np.mean(hits / truths)),
        ndcg=float(np.mean(np.divide(gain, ideal, out=np.zeros(len(truths)), where=hits > 0))),
    )
