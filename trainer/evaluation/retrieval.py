"""The exact rank of a few items among all, without building anybody's list."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Scores that are computed at once: 8 MB of float32, which the caches of most processors hold.
_SCORES_AT_ONCE = 1 << 21
_SMALLEST_BLOCK, _LARGEST_BLOCK = 512, 1 << 16


@dataclass(frozen=True)
class Catalogue:
    """The items of a model, longest first: ``ids`` int64 [n], ``vectors`` float32 [n, D], ``norms`` float32 [n], and
    ``places`` int64 [n], where each id stands."""

    ids: np.ndarray
    vectors: np.ndarray
    norms: np.ndarray
    places: np.ndarray

    @staticmethod
    def of(vectors: np.ndarray) -> Catalogue:
        norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
        ids = np.argsort(-norms, kind="stable")
        places = np.empty(len(ids), np.int64)
        places[ids] = np.arange(len(ids))
        return Catalogue(ids, vectors[ids].astype(np.float32, copy=False), norms[ids], places)


def ranks_of(
    vectors: np.ndarray,
    items: Catalogue,
    owner: np.ndarray,
    wanted: np.ndarray,
    *,
    limit: int,
    exclude_first: bool,
    rank_first: bool = False,
) -> np.ndarray:
    """How many items score higher than each wanted item: int64 [P], cut off at ``limit``.

    ``vectors`` float64 [U, K, D]: an item's score for a user is its largest inner product with the K ·
    ``owner`` [P] and ``wanted`` [P]: the pairs (row of the user, item id) · equal scores rank by id ·
    ``exclude_first``: id 0 is padding and ranks last; with ``rank_first`` it ranks where it would, and beats nobody.

    The catalogue is scanned in blocks, longest vectors first. Most pairs are beaten ``limit`` times early on, and no
    item shorter than its score over the user's length can beat a pair any more (Cauchy-Schwarz): a user whose pairs are
    all settled costs nothing from there. Scores are float32 products; where one is closer to the wanted item's
    than their rounding may be, both are computed again in float64, so the ranks are those of exact arithmetic.
    """
    interests, dim = vectors.shape[1:]
    ranks = np.zeros(len(wanted), np.int64)
    if exclude_first and not rank_first:
        ranks[wanted == 0] = limit
    singles = vectors.astype(np.float32)
    lengths = np.sqrt(np.einsum("ukd,ukd->uk", vectors, vectors)).max(axis=1)
    own = _scores(vectors[owner], items.vectors[items.places[wanted]])
    rounding = (dim + 4) * 2.0**-23
    start, count = 0, len(items.ids)
    pending = np.flatnonzero(ranks < limit)
    while start < count:
        reach = lengths[owner[pending]] * items.norms[start]
        pending = pending[(ranks[pending] < limit) & (reach * (1 + rounding) >= own[pending])]
        if not len(pending):
            break
        users, row = np.unique(owner[pending], return_inverse=True)
        width = max(_SMALLEST_BLOCK, min(_SCORES_AT_ONCE // (len(users) * interests), _LARGEST_BLOCK))
        end = min(start + width, count)
        products = singles[users].reshape(-1, dim) @ items.vectors[start:end].T
        scores = products.reshape(len(users), interests, -1).max(axis=1)
        if exclude_first and start <= items.places[0] < end:
            scores[:, items.places[0] - start] = -np.inf
        margin = lengths[owner[pending]] * items.norms[start] * rounding + 1e-30
        for pairs, rows, slack in _chunks(pending, row.ravel(), margin):
            beaten = _beaten(scores[rows], start, vectors, items, own[pairs], slack, owner[pairs], wanted[pairs])
            ranks[pairs] += beaten
        start = end
    return np.minimum(ranks, limit)


def _beaten(
    scores: np.ndarray,
    start: int,
    vectors: np.ndarray,
    items: Catalogue,
    own: np.ndarray,
    margin: np.ndarray,
    owner: np.ndarray,
    wanted: np.ndarray,
) -> np.ndarray:
    """How many of a block's items come before each wanted one."""
    surely = scores > (own + margin).astype(np.float32)[:, None]
    perhaps = scores > (own - margin).astype(np.float32)[:, None]
    beaten = np.count_nonzero(surely, axis=1)
    unclear = np.flatnonzero(np.count_nonzero(perhaps, axis=1) != beaten)
    pair, place = np.nonzero(perhaps[unclear] & ~surely[unclear])
    pair, item = unclear[pair], items.ids[place + start]
    other = item != wanted[pair]  # an item never beats itself
    pair, item = pair[other], item[other]
    exact = _scores(vectors[owner[pair]], items.vectors[items.places[item]])
    higher = (exact > own[pair]) | ((exact == own[pair]) & (item < wanted[pair]))
    counts: np.ndarray = beaten + np.bincount(pair[higher], minlength=len(own))
    return counts


def fetched(interests: np.ndarray, items: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What each interest of one user fetches by itself: ids and scores [K, count], best first, equal ones by id.

    ``interests`` float64 [K, D], ``items`` float32 [n, D].
    """
    scores = interests @ items.T.astype(np.float64)
    count = min(count, len(items))
    kept = np.argpartition(-scores, count - 1, axis=1)[:, :count] if count < len(items) else None
    ids = np.empty((len(interests), count), np.int64)
    for place, row in enumerate(scores):
        # Which of equal ones at the edge come in goes by id too, so the edge is looked at as a whole.
        least = row[kept[place]].min() if kept is not None else -np.inf
        candidates = np.flatnonzero(row >= least)
        ids[place] = candidates[np.lexsort((candidates, -row[candidates]))[:count]]
    return ids, np.take_along_axis(scores, ids, axis=1)


def merged(ids: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lists of several interests as one: different ids by falling score, without the padding item."""
    ids, scores = ids.ravel(), scores.ravel()
    order = np.lexsort((ids, -scores))
    ids, scores = ids[order], scores[order]
    _, first = np.unique(ids, return_index=True)
    first = np.sort(first)
    first = first[ids[first] != 0]
    return ids[first], scores[first]


def _scores(vectors: np.ndarray, items: np.ndarray) -> np.ndarray:
    """float64 [P]: the largest product of [P, K, D] with [P, D]; the same whatever else is computed with it."""
    best: np.ndarray = np.einsum("pkd,pd->pk", vectors, items.astype(np.float64)).max(axis=1)
    return best


def _chunks(pairs: np.ndarray, rows: np.ndarray, margin: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs a few hundred at a time: each takes a row of scores of its own."""
    size = 256
    parts = [slice(i, i + size) for i in range(0, len(pairs), size)]
    return [(pairs[part], rows[part], margin[part]) for part in parts]
