"""One evaluation of a run, as it is logged and printed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from trainer.metrics import Metrics
from trainer.standing import Standing

Event = Literal["start", "resume", "eval", "stop"]


@dataclass(frozen=True)
class Row:
    """One evaluation, as it is logged and printed. ``loss`` is the mean since the one before, None without a step."""

    event: Event
    step: int
    loss: float | None
    recall: float
    ndcg: float
    hitrate: float
    best_metric: float
    best_step: int
    trials: int

    @staticmethod
    def of(event: Event, standing: Standing, loss: float | None, metrics: Metrics) -> Row:
        return Row(
            event=event,
            step=standing.step,
            loss=loss,
            recall=metrics.recall,
            ndcg=metrics.ndcg_hits_ideal,
            hitrate=metrics.hitrate,
            best_metric=standing.best_metric,
            best_step=standing.best_step,
            trials=standing.trials,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
