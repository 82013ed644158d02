"""What a trained model has to beat: popularity, neighbours of items, and one linear map in closed form. Needs scipy.

All three see the training users' different items and nothing of their order, and score every item for a user from all
of the history that is given: the same cut, the same ranks and the same metrics as for a model (``measuring``).

``popularity``: how many training users have the item.
``item-knn``: cosine of two items' users with a shrunk denominator, c_ij / (sqrt(c_i c_j) + shrink), the nearest
``neighbors`` of each item alone (Sarwar et al., WWW 2001; Dacrema et al., RecSys 2019).
``ease``: B = I - P / diag(P) with P = (X'X + regularization I)^-1, the ridge regression of each item on all others
(Steck, WWW 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ckpt_tools.errors import UnsafeError, UsageError
from trainer.data.interactions import Interactions
from trainer.evaluation.measuring import OnProgress, Ranking, first_true, truth

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Method = Literal["popularity", "item-knn", "ease"]
METHODS: tuple[Method, ...] = ("popularity", "item-knn", "ease")

# Scores, or columns of a Gram matrix, that are made at once: 16 MB of float32.
_VALUES_AT_ONCE = 1 << 22
_BLOCK = 1024

# From histories [B, n] of ones to scores [B, n].
Scores = Callable[["csr_array"], np.ndarray]


@dataclass(frozen=True)
class Settings:
    """``neighbors`` and ``shrink`` are of ``item-knn``, ``regularization`` is of ``ease`` (its lambda)."""

    neighbors: int = 100
    shrink: float = 30.0
    regularization: float = 300.0

    def of(self, method: Method) -> dict[str, float]:
        """Those that a method has."""
        if method == "item-knn":
            return {"neighbors": self.neighbors, "shrink": self.shrink}
        return {"regularization": self.regularization} if method == "ease" else {}


def methods(names: Sequence[str] | None) -> list[Method]:
    """The methods of these names, each once; all without names. Raises UsageError for an unknown one."""
    if unknown := [name for name in names or () if name not in METHODS]:
        raise UsageError(f"there is no method {unknown[0]!r}", hint=f"choose one of {', '.join(METHODS)}")
    return [method for method in METHODS if not names or method in names]


def memory_needed(method: Method, item_count: int, settings: Settings) -> int:
    """Bytes at the most, beside the data: EASE has one n x n matrix of float32 and inverts it in place."""
    block = 12 * item_count * min(item_count, _BLOCK)
    if method == "ease":
        return 4 * item_count**2 + block
    if method == "item-knn":
        return 12 * item_count * min(settings.neighbors, item_count) + 2 * block
    return 8 * item_count


def require_memory(method: Method, item_count: int, settings: Settings, limit: int) -> None:
    """Raise UnsafeError when a method needs more than ``limit`` bytes."""
    needed = memory_needed(method, item_count, settings)
    if needed > limit:
        less = [each for each in METHODS if memory_needed(each, item_count, settings) <= limit]
        others = f"; within the limit: --method {' --method '.join(less)}" if less else ""
        raise UnsafeError(
            f"{method} of {item_count} items needs {gigabytes(needed)} GB of memory, and the limit is "
            f"{gigabytes(limit)} GB",
            hint=f"--memory {_upwards(needed)} allows it{others}",
        )


def gigabytes(size: int) -> str:
    """Three digits at the most that say something: 509, 4, 0.0233."""
    found = size / 2**30
    return f"{found:.0f}" if found >= 100 else f"{found:.3g}"


def _upwards(size: int) -> str:
    """Gigabytes that are enough, as a flag takes them."""
    found = size / 2**30
    unit = 10.0 ** (math.floor(math.log10(found)) - 1)
    return f"{math.ceil(found)}" if found >= 10 else f"{math.ceil(found / unit) * unit:.8g}"


def fit(method: Method, train: Interactions, item_count: int, settings: Settings) -> Scores:
    """The scores of a method that has seen the training users. Ids are below ``item_count``."""
    users = histories(train, train.lengths, item_count)
    if method == "popularity":
        counts = np.asarray(users.sum(axis=0), np.float64).ravel()
        return lambda given: np.tile(counts, (given.shape[0], 1))
    linear = _neighbors(users, settings) if method == "item-knn" else _ease(users, settings.regularization)
    return lambda given: _dense(given @ linear)


def histories(split: Interactions, cuts: np.ndarray, item_count: int) -> csr_array:
    """float32 [U, n] of ones: the different items of each user before the cut."""
    from scipy.sparse import csr_array

    user = np.repeat(np.arange(len(cuts)), split.lengths)
    seen = np.arange(len(split.items)) - split.offsets[user] < cuts[user]
    pairs = np.unique(np.stack([user[seen], split.items[seen].astype(np.int64)]), axis=1)
    ones = np.ones(pairs.shape[1], np.float32)
    return csr_array((ones, (pairs[0], pairs[1])), shape=(len(cuts), item_count))


def rank_by(
    scores: Scores, split: Interactions, item_count: int, *, limit: int, progress: OnProgress | None = None
) -> Ranking:
    """Where each user's true items stand among all by ``scores``; equal ones by id, id 0 (the padding) last."""
    cuts = first_true(split)
    owner, wanted, occurrences, places = truth(split, cuts)
    given = histories(split, cuts, item_count)
    ranks = np.empty(len(wanted), np.int64)
    at_once = max(1, _VALUES_AT_ONCE // item_count)
    for start in range(0, len(cuts), at_once):
        end = min(start + at_once, len(cuts))
        block = scores(given[start:end])
        block[:, 0] = -np.inf
        for pair in range(*np.searchsorted(owner, [start, end])):
            row, item = block[owner[pair] - start], wanted[pair]
            ranks[pair] = np.count_nonzero(row > row[item]) + np.count_nonzero(row[:item] == row[item])
        if progress is not None:
            progress(end, len(cuts))
    return Ranking(np.minimum(ranks, limit), owner, split.lengths - cuts, wanted, occurrences, places)


def _neighbors(users: csr_array, settings: Settings) -> Any:
    """Sparse [n, n]: how much each item of a history (row) speaks for each other item (column)."""
    from scipy.sparse import csr_array, vstack

    counts = np.asarray(users.sum(axis=0), np.float64).ravel()
    items = users.T.tocsr()
    parts = []
    for start in range(0, len(counts), _BLOCK):
        together = _dense(items[start : start + _BLOCK] @ users)
        rows = np.arange(len(together))
        together[rows, start + rows] = 0
        similar = together / (np.sqrt(np.outer(counts[start : start + _BLOCK], counts)) + settings.shrink + 1e-12)
        if settings.neighbors < similar.shape[1]:
            least = np.partition(similar, -settings.neighbors, axis=1)[:, -settings.neighbors, None]
            similar[similar < least] = 0
        parts.append(csr_array(similar.astype(np.float32)))
    return vstack(parts).T.tocsr()


def _ease(users: csr_array, regularization: float) -> np.ndarray:
    """float32 [n, n], with a diagonal of zeros. In one matrix: X'X, its Cholesky factor, its inverse, B."""
    from scipy.linalg import lapack

    count = users.shape[1]
    items = users.T.tocsr()
    matrix = np.empty((count, count), np.float32, order="F")
    for start in range(0, count, _BLOCK):
        matrix[:, start : start + _BLOCK] = _dense(items @ users[:, start : start + _BLOCK])
    diagonal = np.arange(count)
    matrix[diagonal, diagonal] += np.float32(regularization)
    factor, failed = lapack.spotrf(matrix, lower=1, clean=0, overwrite_a=1)
    if not failed:
        matrix, failed = lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise UnsafeError(
            f"X'X + {regularization:g} I cannot be inverted in float32", hint="use a larger --regularization"
        )
    for start in range(0, count, _BLOCK):  # the lower triangle is the inverse's, the upper one is left over
        end = min(start + _BLOCK, count)
        matrix[start:end, end:] = matrix[end:, start:end].T
        inner = matrix[start:end, start:end]
        matrix[start:end, start:end] = np.tril(inner) + np.tril(inner, -1).T
    matrix /= -matrix[diagonal, diagonal].copy()
    matrix[diagonal, diagonal] = 0
    return matrix


def _dense(array: Any) -> np.ndarray:
    dense: np.ndarray = array if isinstance(array, np.ndarray) else array.toarray()
    return dense
