"""The different ids of an array, and where they stand in it. Needs numpy alone."""

from __future__ import annotations

import numpy as np


def compact(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of ``ids`` [N], each from 0 on and below 2^32: the different ones [R], ascending; int32 [N], where each stands
    among them; and int32 [N], the places of ``ids`` sorted by what they hold, equal ones as they come."""
    ascending, order, first = _sorted(ids)
    inverse = np.empty(len(ids), np.int32)
    inverse[order] = np.cumsum(first) - 1
    return ascending[first], inverse, order.astype(np.int32)


def first_places(ids: np.ndarray) -> np.ndarray:
    """int64 [R], ascending: where in ``ids`` [N], as above, each of the different ones comes first."""
    _, order, first = _sorted(ids)
    return np.sort(order[first])


def _sorted(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``ids`` ascending, the places they had, and bool [N]: whether each differs from the one before it.

    An id and its place are sorted as one number: numpy sorts numbers several times faster than it finds their order,
    and equal ids stay as they come.
    """
    bits = len(ids).bit_length()
    joined = np.sort((ids.astype(np.int64) << bits) | np.arange(len(ids)))
    ascending, order = joined >> bits, joined & ((1 << bits) - 1)
    return ascending, order, np.concatenate([[True], ascending[1:] != ascending[:-1]])
