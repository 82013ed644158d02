"""One evaluation of a run, as a log tells it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# Half a unit of the last digit that the old trainers print, and the rounding of float32 on top of it.
SIX_DIGITS = 0.5e-6 + 1e-8


@dataclass(frozen=True, slots=True)
class LoggedEvaluation:
    """One evaluation as a source has it; ``step`` counts what that source counts, 0 when it does not say.

    ``resumed``: made before the first step of a resumed run, of the model that it went on from. ``measure``: at which N
    and on which split, where the source says so. ``measure_before``, of a resumed one: what another trainer's log of
    the run measured, where that is known.
    """

    step: int
    loss: float | None
    recall: float
    ndcg: float | None
    hitrate: float | None
    source: str
    resumed: bool = False
    measure: str | None = None
    measure_before: str | None = None

    def agrees_with(self, recall: float) -> bool:
        """Whether a value is the logged one, to the six digits that logs print."""
        return abs(self.recall - recall) <= SIX_DIGITS

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
