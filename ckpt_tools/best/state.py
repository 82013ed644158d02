"""What a run knows of its best: pure data and arithmetic, and the file ``best.json`` that keeps it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ckpt_tools.errors import CorruptError, UsageError
from ckpt_tools.format import json_text
from ckpt_tools.fs import durable, local
from ckpt_tools.runs.metric_lines import Mode, better, mode_of

FILE = "best.json"
SCHEMA_VERSION = 1
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class BestState:
    """``best`` is a float64, None before the first; ``wait`` counts evaluations since then without a better one.

    ``step`` and ``epoch`` are how far the run is, ``best_step`` and ``best_epoch`` how far it was at its best; -1 for
    none. Training is ``stopped`` when ``wait`` reached ``patience`` (None: never). ``best_file`` and ``latest_file``
    are relative to the directory of ``best.json``.
    """

    metric: str
    mode: Mode
    best: float | None = None
    best_step: int = -1
    best_epoch: int = -1
    step: int = 0
    epoch: int = -1
    wait: int = 0
    patience: int | None = None
    stopped: bool = False
    best_file: str | None = None
    latest_file: str | None = None

    def is_better(self, value: float, min_delta: float = 0.0) -> bool:
        """Whether a value is better than the best by more than ``min_delta``; NaN and infinities never are."""
        if not math.isfinite(value):
            return False
        if self.best is None:
            return True
        by = min_delta if self.mode == "max" else -min_delta
        return better(self.mode, value, self.best + by)

    def after(self, value: float, *, step: int, epoch: int = -1, min_delta: float = 0.0) -> BestState:
        """The state after an evaluation: a new best, or one more trial."""
        if self.is_better(value, min_delta):
            return replace(
                self, best=value, best_step=step, best_epoch=epoch, step=step, epoch=epoch, wait=0, stopped=False
            )
        wait = self.wait + 1
        stopped = self.patience is not None and wait >= self.patience
        return replace(self, step=step, epoch=epoch, wait=wait, stopped=stopped)


def direction(metric: str, mode: str | None) -> Mode:
    """The direction as given, else the one that the name tells. Raises UsageError when neither does."""
    if mode in ("min", "max"):
        return mode  # type: ignore[return-value]
    found = mode_of(metric) if mode in (None, "auto") else None
    if found is None:
        raise UsageError(
            f"mode={mode!r}: whether a higher or a lower {metric!r} is better must be said",
            hint='pass mode="min" or mode="max"',
        )
    return found


def value_of(metrics: Mapping[str, Any] | float, metric: str) -> float:
    """The metric among those of an evaluation. Raises UsageError, with the names that there are, when it is missing."""
    if isinstance(metrics, Mapping):
        if metric not in metrics:
            there = _listed(metrics)
            raise UsageError(
                f"no metric is called {metric!r}: there are {there}",
                hint="pass one of them; a val_ metric needs validation data"
                if there != "none"
                else "compile the model with a metric, and pass validation data",
            )
        return float(metrics[metric])
    return float(metrics)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names))) or "none"


def read_state(directory: str) -> BestState | None:
    """What a directory's ``best.json`` says; None without one.

    Raises CorruptError when it is damaged: to begin anew would let the first evaluation replace the best.
    """
    path = os.path.join(directory, FILE)
    if not local.is_there(path):
        return None
    try:
        said = json_text.parse(local.read_file(path, limit=_MAX_BYTES))
        fields = {name: said[name] for name in BestState.__dataclass_fields__}
        if fields["mode"] not in ("min", "max") or not isinstance(fields["metric"], str):
            raise ValueError("no metric with a mode")
        for name in ("best_file", "latest_file"):
            file = fields[name]
            if file is not None and (os.path.isabs(file) or os.pardir in file.split("/") or not isinstance(file, str)):
                raise ValueError(f"{name} {file!r} leads out of the directory")
        best = fields["best"]
        return BestState(**{**fields, "best": None if best is None else float(best)})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(
            f"not what keeps a best: {error}", path=path, hint="move it away to begin anew; the checkpoints stay"
        ) from error


def write_state(directory: str, state: BestState) -> None:
    """Replace ``best.json`` as a whole, durably."""
    said = {"schema_version": SCHEMA_VERSION, **asdict(state)}
    durable.write_atomic(os.path.join(directory, FILE), json.dumps(said, indent=1).encode() + b"\n")


def resumed(directory: str, metric: str, mode: Mode, patience: int | None) -> BestState:
    """The state to go on from: what is stored, with this run's patience; a new one when nothing is.

    Raises UsageError when what is stored is of another metric: unlike ones are never compared.
    """
    stored = read_state(directory)
    if stored is None:
        return BestState(metric, mode, patience=patience)
    if (stored.metric, stored.mode) != (metric, mode):
        raise UsageError(
            f"the best here is by {stored.metric} ({stored.mode}), not by {metric} ({mode})",
            path=os.path.join(directory, FILE),
            hint="use another directory, or the same metric",
        )
    stopped = stored.stopped and patience is not None and stored.wait >= patience
    return replace(stored, patience=patience, stopped=stopped)
