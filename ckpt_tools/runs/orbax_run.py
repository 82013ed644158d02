"""The steps of a run that Orbax saved, and the best of them by the metrics that are stored with each.

A CheckpointManager stores the metrics that it is given. Keras's callback is given none, but saves the state of the
model's metrics: each mean as its total and its count, of the last evaluation before the save.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ckpt_tools.errors import CkptError
from ckpt_tools.format import orbax
from ckpt_tools.fs import local
from ckpt_tools.lineages.base import BestMetric, OtherBest
from ckpt_tools.lineages.scalars import is_number, read_number
from ckpt_tools.readers import Checkpoint, open_checkpoint
from ckpt_tools.readers.orbax_places import items_of, steps_in, stored_metrics
from ckpt_tools.runs.metric_lines import Mode, mode_of

_KERAS = "metrics_variables"
_TOTAL, _COUNT = "total", "count"
# Of several metrics the one that is meant, where nobody says which.
_FIRST = ("val_loss", "loss")
# Of longer runs the newest are looked at.
_MOST_STEPS = 1000


@dataclass(frozen=True)
class OrbaxStep:
    """A committed step: its directory, and its metrics by name."""

    step: int
    path: str
    metrics: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return {"step": self.step, "path": self.path, "metrics": dict(self.metrics)}


def step_directory(path: str) -> str | None:
    """The directory of the step that a step or one of its items is of; None for a checkpoint that is no step."""
    path = os.path.normpath(path)
    for place in (path, os.path.dirname(path)):
        if orbax.step_of(os.path.basename(place)) is not None and items_of(place):
            return place
    return None


def steps_beside(checkpoint: Checkpoint) -> tuple[OrbaxStep, ...]:
    """The steps of the run that an open checkpoint of Orbax is of, the oldest first. A step that cannot be read has no
    metrics here."""
    own = step_directory(checkpoint.prefix)
    if own is None:
        return ()
    found = []
    for step, path in sorted(steps_in(local.directory_of(own)).items())[-_MOST_STEPS:]:
        try:
            metrics = stored_metrics(path) or _of_keras(checkpoint if path == own else None, path)
        except CkptError:
            metrics = {}
        found.append(OrbaxStep(step, path, metrics))
    return tuple(found)


def _of_keras(checkpoint: Checkpoint | None, path: str) -> dict[str, float]:
    if checkpoint is None:
        with open_checkpoint(path) as opened:
            return _of_keras(opened, path)
    found = {}
    for name in checkpoint.tensors:
        scope, _, leaf = name.rpartition("/")
        parts, count = scope.split("/"), f"{scope}/{_COUNT}"
        if leaf != _TOTAL or _KERAS not in parts or count not in checkpoint.tensors:
            continue
        if is_number(checkpoint.tensors[name]) and is_number(checkpoint.tensors[count]):
            total, number = float(read_number(checkpoint, name)), float(read_number(checkpoint, count))
            if number > 0 and abs(total) < 1e300:
                found["/".join(parts[parts.index(_KERAS) + 1 :])] = total / number
    return found


def best_metric(steps: Sequence[OrbaxStep]) -> BestMetric:
    """The best value among the steps, of the metric that is meant: the only one, or the loss of several.

    The bests of the other metrics are beside it; which of two values is better, the name of a metric tells.
    """
    bests = {}
    for name in dict.fromkeys(name for step in steps for name in step.metrics):
        mode = mode_of(name)
        if mode is not None:
            bests[name] = (mode, _best(steps, name, mode))
    others = {name: OtherBest(_key(name), step.metrics[name]) for name, (_, step) in bests.items()}
    meant = next((name for name in _FIRST if name in bests), None)
    if meant is None and len({name for step in steps for name in step.metrics}) == 1:
        meant = next(iter(bests), None)
    if meant is None:
        return BestMetric("absent", others=tuple(others.values()))
    mode, best = bests[meant]
    words = f"{meant} ({mode}), the best of {len(steps)} steps, at step {best.step}: {best.path}"
    rest = tuple(other for name, other in others.items() if name != meant)
    return BestMetric("present", best.metrics[meant], _key(meant), words, rest)


def _best(steps: Sequence[OrbaxStep], name: str, mode: Mode) -> OrbaxStep:
    """Of equals the first."""
    sign = 1 if mode == "min" else -1
    return min((step for step in steps if name in step.metrics), key=lambda step: sign * step.metrics[name])


def _key(name: str) -> str:
    return f"{orbax.METRICS}/{name}"
