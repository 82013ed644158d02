"""Where a run stands: everything beside the variables that a continuation needs. Pure data and arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ckpt_tools.lineages.names import BEST_METRIC

# Field -> its name in a checkpoint and its type there.
STORED: Mapping[str, tuple[str, type[np.generic]]] = {
    BEST_METRIC: (BEST_METRIC, np.float32),
    "step": ("state/step", np.int64),
    "best_step": ("state/best_step", np.int64),
    "trials": ("state/trials", np.int64),
    "stopped": ("state/stopped", np.bool_),
    "recall": ("state/recall", np.float32),
    "loss_sum": ("state/loss_sum", np.float64),
    "loss_steps": ("state/loss_steps", np.int64),
}


@dataclass(frozen=True)
class RunState:
    """``step`` counts updates, ``trials`` evaluations since the best one.

    ``best_metric`` is a float32 value: the type it is stored in, so that a restored best never beats itself. 0 means
    that there is no best yet: what was measured at step 0 was not trained, and counts only when that is asked for.
    ``recall`` belongs to exactly these weights, NaN when they were not measured. ``loss_sum`` adds up the loss of
    the ``loss_steps`` updates since the last evaluation; measured weights still have the sum that led to them, so that
    the row of their evaluation can be told from the checkpoint alone.
    """

    step: int = 0
    best_metric: float = 0.0
    best_step: int = 0
    trials: int = 0
    stopped: bool = False
    recall: float = math.nan
    loss_sum: float = 0.0
    loss_steps: int = 0

    @property
    def mean_loss(self) -> float | None:
        """The mean loss since the last evaluation (before this one), None when there was no update."""
        return self.loss_sum / self.loss_steps if self.loss_steps else None

    @property
    def has_best(self) -> bool:
        return self.best_metric > 0

    @property
    def is_best(self) -> bool:
        """Whether these weights are the best so far."""
        return self.has_best and self.best_step == self.step and self.recall == self.best_metric

    def after_update(self, loss: float) -> RunState:
        total, steps = (self.loss_sum, self.loss_steps) if math.isnan(self.recall) else (0.0, 0)
        return replace(self, step=self.step + 1, recall=math.nan, loss_sum=total + loss, loss_steps=steps + 1)

    def after_evaluation(self, recall: float, patience: int) -> RunState:
        """With a new measurement: the new best, or one more trial; stopped after more than ``patience`` trials."""
        measured = float(np.float32(recall))
        evaluated = replace(self, recall=measured)
        if measured > self.best_metric:
            return replace(evaluated, best_metric=measured, best_step=self.step, trials=0)
        return replace(evaluated, trials=self.trials + 1, stopped=self.trials + 1 > patience)

    def as_measured(self, recall: float) -> RunState:
        """With the recall of these weights, which changes nothing about the best."""
        return replace(self, recall=float(np.float32(recall)))

    def as_best(self, recall: float) -> RunState:
        """With ``recall`` as the best, whatever was best before."""
        measured = float(np.float32(recall))
        return replace(self, recall=measured, best_metric=measured, best_step=self.step, trials=0, stopped=False)

    def to_tensors(self) -> dict[str, np.generic]:
        """Scalars by canonical name."""
        return {name: kind(getattr(self, field)) for field, (name, kind) in STORED.items()}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Any]) -> RunState:
        return RunState(**{field: np.asarray(tensors[name]).item() for field, (name, _) in STORED.items()})
