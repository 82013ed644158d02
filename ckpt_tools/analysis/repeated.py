"""Measurements of one thing that were repeated: their mean, and whether two means of a few each differ by more than
chance, by Welch's interval. No numpy.

Source: B. L. Welch, Biometrika 34 (1947); the degrees of freedom by Satterthwaite (1946).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# The 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom; beyond them 1.96 + 2.4 / degrees is as good.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


@dataclass(frozen=True)
class Repeated:
    """The ``values`` of all measurements, one or more."""

    values: tuple[float, ...]

    @property
    def value(self) -> float:
        """Their mean; where all agree, what they agree on to the bit."""
        return self.values[0] if len({*self.values}) == 1 else statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    @property
    def spread(self) -> str:
        """What is said of several."""
        return f"the mean of {len(self.values)} (deviation {self.deviation:.3g})"

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "values": list(self.values), "deviation": self.deviation}


def lead(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """The mean of ``a`` minus that of ``b``, and half the width of its 95 % interval.

    Measurements that all agree have no noise: then the width is 0, as it is where a single one is all there is.
    Raises ValueError without a measurement.
    """
    if not a or not b:
        raise ValueError("a mean is of one measurement or more")
    difference = statistics.fmean(a) - statistics.fmean(b)
    parts = [(statistics.variance(values) / len(values), len(values) - 1) for values in (a, b) if len(values) > 1]
    total = sum(part for part, _ in parts)
    if not total:
        return difference, 0.0
    freedom = total**2 / sum(part**2 / count for part, count in parts)
    return difference, _quantile(freedom) * math.sqrt(total)


def _quantile(freedom: float) -> float:
    whole = max(1, math.floor(freedom))
    return _T[whole - 1] if whole <= len(_T) else 1.96 + 2.4 / whole
