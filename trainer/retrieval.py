"""The exact rank of a few items among all, without building anybody's list."""

from __future__ import annotations

import numpy as np

# 4,096 items keep a block of scores for 512 users and 4 interests at 64 MiB.
_ITEM_BLOCK = 4096


def ranks_of(
    vectors: np.ndarray,
    items: np.ndarray,
    owner: np.ndarray,
    wanted: np.ndarray,
    *,
    limit: int,
    exclude_first: bool,
) -> np.ndarray:
    """How many items score higher than each wanted item: int64 [P], cut off at ``limit``.

    ``vectors`` float64 [U, K, D]: an item's score for a user is its largest inner product with the K ·
    ``items`` float32 [n, D] · ``owner`` [P] and ``wanted`` [P]: the pairs (row of the user, item id) ·
    equal scores rank by id · ``exclude_first``: id 0 is padding and ranks last.

    The catalogue is scanned in blocks from id 0 on. Ids are in order of frequency, so most pairs are beaten
    ``limit`` times early on, and a user whose pairs are all settled costs nothing from there.
    """
    interests, dim = vectors.shape[1:]
    ranks = np.zeros(len(wanted), np.int64)
    if exclude_first:
        ranks[wanted == 0] = limit
    own = np.einsum("pkd,pd->pk", vectors[owner], items[wanted].astype(np.float64)).max(axis=1)
    for start in range(0, len(items), _ITEM_BLOCK):
        pending = np.flatnonzero(ranks < limit)
        if not len(pending):
            break
        users, row = np.unique(owner[pending], return_inverse=True)
        block = items[start : start + _ITEM_BLOCK].astype(np.float64)
        scores = (vectors[users].reshape(-1, dim) @ block.T).reshape(len(users), interests, -1).max(axis=1)
        if exclude_first and start == 0:
            scores[:, 0] = -np.inf
        for pairs, rows in _chunks(pending, row):
            ranks[pairs] += _beaten(scores[rows], start, own[pairs], wanted[pairs])
    return np.minimum(ranks, limit)


def _beaten(scores: np.ndarray, start: int, own: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """How many of a block's items come before each wanted one. ``scores`` [P, b] is the caller's to spoil."""
    width = scores.shape[1]
    place = wanted - start
    inside = np.flatnonzero((place >= 0) & (place < width))
    scores[inside, place[inside]] = -np.inf  # an item never beats itself, however its score was rounded
    higher = np.count_nonzero(scores > own[:, None], axis=1)
    tied = scores == own[:, None]
    if not tied.any():
        return higher
    return higher + np.count_nonzero(tied & (np.arange(width) < place[:, None]), axis=1)


def _chunks(pairs: np.ndarray, rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs a thousand at a time: each takes a row of scores of its own."""
    size = 1024
    return [(pairs[i : i + size], rows[i : i + size]) for i in range(0, len(pairs), size)]
