"""A metric from scores and targets, as the ``[graph]`` of a ``ckpt.toml`` names it. Pure numpy.

    accuracy          the class of the highest score (or the class itself, as integers) is the target
    auc               area under the ROC curve: the chance that a positive scores above a negative, equal ones half
    mae mse rmse      of scores and targets of one shape
    recall@N          for each user (row) the part of the true items among the N best; N and all below
    hitrate@N         whether any is
    ndcg@N            the usual one: its ideal has all true items, at most N, at the top

Of items, ``targets`` are ids [U] or [U, T], -1 where there is none; equal scores rank by id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ckpt_tools.errors import MismatchError

# So many scores are compared at once.
_AT_ONCE = 1 << 24


def measure_of(name: str, scores: np.ndarray, targets: np.ndarray) -> float:
    """The metric of a name. Raises MismatchError for scores and targets that do not fit together."""
    if not len(targets) or len(scores) != len(targets):
        raise MismatchError(f"{len(scores)} rows of scores and {len(targets)} of targets")
    if scores.dtype.kind == "f" and np.isnan(scores).any():
        raise MismatchError("NaN is among the scores")
    kind, _, top_n = name.partition("@")
    if top_n:
        return _OF_LISTS[kind](*_ranks(scores, targets), int(top_n))
    return _OF_ROWS[kind](scores, targets)


def _accuracy(scores: np.ndarray, targets: np.ndarray) -> float:
    classes = scores.argmax(axis=1) if scores.ndim == 2 and scores.shape[1] > 1 else scores.reshape(len(scores), -1)
    if scores.ndim > 2 or (classes.ndim == 2 and (classes.shape[1] != 1 or scores.dtype.kind not in "iub")):
        raise MismatchError(f"of scores {scores.dtype} {list(scores.shape)} no class can be told")
    wanted = targets.argmax(axis=1) if targets.ndim == 2 and targets.shape[1] > 1 else targets.reshape(len(targets), -1)
    if targets.ndim > 2 or (wanted.ndim == 2 and wanted.shape[1] != 1):
        raise MismatchError(f"targets {list(targets.shape)} are no classes")
    return float(np.mean(classes.ravel() == wanted.ravel()))


def _auc(scores: np.ndarray, targets: np.ndarray) -> float:
    """By the rank sum (Mann and Whitney, 1947); of two columns the second is the positive class."""
    column = scores[:, 1] if scores.ndim == 2 and scores.shape[1] == 2 else scores.reshape(len(scores), -1)
    truth = targets[:, 1] if targets.ndim == 2 and targets.shape[1] == 2 else targets.reshape(len(targets), -1)
    if column.size != len(scores) or truth.size != len(targets):
        raise MismatchError(f"scores {list(scores.shape)} and targets {list(targets.shape)} are not of two classes")
    positive = truth.ravel() == 1
    if not (positive | (truth.ravel() == 0)).all() or positive.all() or not positive.any():
        raise MismatchError("targets are not 0 and 1, some of each")
    _, inverse, counts = np.unique(column.ravel(), return_inverse=True, return_counts=True)
    last = np.cumsum(counts, dtype=np.float64)
    ranks = (last - (counts - 1) / 2)[inverse.ravel()]
    above = ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    return float(above / (positive.sum() * (~positive).sum()))


def _apart(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    if scores.size != targets.size:
        raise MismatchError(f"scores {list(scores.shape)} and targets {list(targets.shape)} have not one shape")
    apart: np.ndarray = scores.ravel().astype(np.float64) - targets.ravel()
    return apart


def _ranks(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many items come before each true one, and which are there: both [U, T]."""
    wanted = targets.reshape(len(targets), -1)
    if scores.ndim != 2 or wanted.dtype.kind not in "iu" or targets.ndim > 2:
        raise MismatchError(
            f"scores {list(scores.shape)} and targets {wanted.dtype} {list(targets.shape)} are no lists"
        )
    there = wanted >= 0
    if (wanted >= scores.shape[1]).any() or not there.any(axis=1).all():
        raise MismatchError("a target has no score, or a row no target")
    ranks = np.zeros(wanted.shape, np.int64)
    step = max(1, _AT_ONCE // max(1, scores.shape[1]))
    for column in range(wanted.shape[1]):
        for start in range(0, len(scores), step):
            rows = scores[start : start + step]
            item = np.where(there[start : start + step, column], wanted[start : start + step, column], 0)[:, None]
            own = np.take_along_axis(rows, item, axis=1)
            before = (rows > own) | ((rows == own) & (np.arange(rows.shape[1]) < item))
            ranks[start : start + step, column] = np.count_nonzero(before, axis=1)
    return ranks, there


def _recall(ranks: np.ndarray, there: np.ndarray, top_n: int) -> float:
    return float(np.mean(((ranks < top_n) & there).sum(axis=1) / there.sum(axis=1)))


def _hitrate(ranks: np.ndarray, there: np.ndarray, top_n: int) -> float:
    return float(np.mean(((ranks < top_n) & there).any(axis=1)))


def _ndcg(ranks: np.ndarray, there: np.ndarray, top_n: int) -> float:
    gain = np.where((ranks < top_n) & there, 1 / np.log2(ranks + 2.0), 0).sum(axis=1)
    most = min(top_n, ranks.shape[1])
    ideals = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(most) + 2.0))])
    return float(np.mean(gain / ideals[np.minimum(there.sum(axis=1), most)]))


_OF_ROWS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": _accuracy,
    "auc": _auc,
    "mae": lambda scores, targets: float(np.mean(np.abs(_apart(scores, targets)))),
    "mse": lambda scores, targets: float(np.mean(_apart(scores, targets) ** 2)),
    "rmse": lambda scores, targets: float(np.sqrt(np.mean(_apart(scores, targets) ** 2))),
}
_OF_LISTS: Mapping[str, Callable[[np.ndarray, np.ndarray, int], float]] = {
    "hitrate": _hitrate,
    "ndcg": _ndcg,
    "recall": _recall,
}
