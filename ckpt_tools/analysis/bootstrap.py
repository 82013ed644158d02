"""Whether two means over the same users differ by more than chance: the paired bootstrap. Pure numpy.

The users of a split are a sample: with others the means would have been others. Users are drawn again, as many, with
replacement, and the mean difference of each draw is noted (Efron & Tibshirani, 1993, chapter 13; for ranked retrieval
Sakai, SIGIR 2006). Users stay paired: what is hard about a user is hard for both, and cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

DRAWS = 10_000
LEVEL = 0.95
# So many different differences are drawn at once; more are drawn user by user, in parts.
_MOST_VALUES = 4096
_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class PairedDifference:
    """The mean of a value minus that of another, over the same ``users``; ``low`` and ``high`` hold the middle 95 % of
    the draws, ``deviation`` is their standard deviation."""

    mean: float
    low: float
    high: float
    deviation: float
    users: int

    @property
    def within_noise(self) -> bool:
        """Whether the two cannot be told apart: no difference is within the interval."""
        return self.low <= 0.0 <= self.high

    def to_json(self) -> dict[str, Any]:
        return {
            "difference": self.mean,
            "low": self.low,
            "high": self.high,
            "deviation": self.deviation,
            "users": self.users,
            "within_noise": self.within_noise,
        }


def paired_difference(a: np.ndarray, b: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> PairedDifference:
    """Compare two values of each user.

    Args:
        a, b: float64 [U], finite, the same users in the same order.
        draws: how often users are drawn again.
        seed: of the draws, so that an answer repeats.

    Raises ValueError for another shape, or without users.
    """
    import numpy as np

    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"two lists of one value for each user are compared, not {a.shape} and {b.shape}")
    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    random = np.random.default_rng(seed)
    values, counts = np.unique(differences, return_counts=True)
    users = len(differences)
    means: list[np.ndarray] = []
    if len(values) <= _MOST_VALUES:
        # How often each value is drawn is all that counts: of recalls there are few different ones.
        step = max(1, _AT_ONCE // len(values))
        for start in range(0, draws, step):
            drawn = random.multinomial(users, counts / users, size=min(step, draws - start))
            means.append(drawn @ values / users)
    else:
        step = max(1, _AT_ONCE // users)
        for start in range(0, draws, step):
            drawn = random.integers(0, users, size=(min(step, draws - start), users))
            means.append(differences[drawn].mean(axis=1))
    found = np.concatenate(means)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return PairedDifference(float(differences.mean()), float(low), float(high), float(found.std()), users)
