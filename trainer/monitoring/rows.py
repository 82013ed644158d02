"""One evaluation of a run, as it is logged and printed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from trainer.checkpoints.run_state import RunState
from trainer.evaluation.ranking_metrics import Metrics

Event = Literal["start", "resume", "eval", "stop"]


@dataclass(frozen=True)
class LogRow:
    """One evaluation, as it is logged and printed. ``loss`` is the mean since the one before, None without a step; the
    metrics are None where a run stopped between two evaluations. ``measure`` tells which metrics may be compared: at
    which N, on which split; ``measure_before`` of a resume that of another trainer's log, which does not tell, None
    where nothing does."""

    event: Event
    step: int
    loss: float | None
    recall: float | None
    ndcg: float | None
    hitrate: float | None
    best_metric: float
    best_step: int
    trials: int
    measure: str | None = None
    measure_before: str | None = None

    @staticmethod
    def of(
        event: Event,
        run_state: RunState,
        loss: float | None,
        metrics: Metrics | None,
        measure: str | None = None,
        measure_before: str | None = None,
    ) -> LogRow:
        return LogRow(
            event=event,
            step=run_state.step,
            loss=loss,
            recall=None if metrics is None else metrics.recall,
            ndcg=None if metrics is None else metrics.ndcg_hits_ideal,
            hitrate=None if metrics is None else metrics.hitrate,
            best_metric=run_state.best_metric,
            best_step=run_state.best_step,
            trials=run_state.trials,
            measure=measure,
            measure_before=measure_before,
        )

    def to_json(self) -> dict[str, Any]:
        row = asdict(self)
        return row if self.event == "resume" else {key: row[key] for key in row if key != "measure_before"}
