"""What a run's own logs say of its metrics: ``train.log``, TensorBoard events, ``metrics.jsonl``."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from ckpt_tools import storage
from ckpt_tools.errors import CkptError
from ckpt_tools.experiments import Experiment
from ckpt_tools.findings import Finding
from ckpt_tools.format.events import read_scalars

MAX_LOG_BYTES = 1 << 30
# Half a unit of the last digit that the old trainers print, and the rounding of float32 on top of it.
SIX_DIGITS = 0.5e-6 + 1e-8

_EVALUATION = re.compile(
    r"iter: (?P<step>\d+), train loss: (?P<loss>[-+.\w]+), valid recall: (?P<recall>[-+.\w]+)"
    r"(?:, valid ndcg: (?P<ndcg>[-+.\w]+))?(?:, valid hitrate: (?P<hitrate>[-+.\w]+))?"
)


@dataclass(frozen=True)
class LoggedEvaluation:
    """One evaluation as a log has it."""

    step: int
    loss: float | None
    recall: float
    ndcg: float | None
    hitrate: float | None
    source: str

    def agrees_with(self, recall: float) -> bool:
        """Whether a value is the logged one, to the six digits that logs print."""
        return abs(self.recall - recall) <= SIX_DIGITS

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Evidence:
    """All logged evaluations, source by source, and what could not be read."""

    evaluations: tuple[LoggedEvaluation, ...] = ()
    findings: tuple[Finding, ...] = field(default=())

    @property
    def best(self) -> LoggedEvaluation | None:
        """The first evaluation with the highest recall; None without logs."""
        return max(self.evaluations, key=lambda evaluation: evaluation.recall, default=None)

    def matching(self, recall: float) -> LoggedEvaluation | None:
        """The logged evaluation that a value agrees with, None when there is none."""
        return next((evaluation for evaluation in self.evaluations if evaluation.agrees_with(recall)), None)


def collect(experiment: Experiment) -> Evidence:
    """Read every log of an experiment. A log that is damaged is a finding, never an error."""
    evaluations: list[LoggedEvaluation] = []
    findings: list[Finding] = []
    try:
        names = storage.list_directory(experiment.runs)
    except CkptError:
        return Evidence()
    for name in names:
        path = os.path.join(experiment.runs, name)
        try:
            if name == "metrics.jsonl":
                evaluations += _from_metrics(_text(path), path)
            elif name == "train.log":
                evaluations += _from_log(_text(path), path)
            elif ".tfevents." in name:
                evaluations += _from_events(storage.read_file(path, limit=MAX_LOG_BYTES), path)
        except CkptError as error:
            findings.append(Finding("log-unreadable", "warning", error.message, path, offset=error.offset))
    plausible = (evaluation for evaluation in evaluations if math.isfinite(evaluation.recall))
    return Evidence(tuple(plausible), tuple(findings))


def _text(path: str) -> str:
    return storage.read_file(path, limit=MAX_LOG_BYTES).decode("utf-8", "replace")


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _from_log(text: str, source: str) -> Iterator[LoggedEvaluation]:
    for match in _EVALUATION.finditer(text):
        recall = _number(match["recall"])
        if recall is not None:
            loss, ndcg, hitrate = (_number(match[name]) for name in ("loss", "ndcg", "hitrate"))
            yield LoggedEvaluation(int(match["step"]), loss, recall, ndcg, hitrate, source)


def _from_events(data: bytes, source: str) -> Iterable[LoggedEvaluation]:
    steps: dict[int, dict[str, float]] = {}
    for tag, step, value in read_scalars(data):
        steps.setdefault(step, {})[tag] = value
    return [
        LoggedEvaluation(
            step,
            scalars.get("train/loss"),
            scalars["eval/recall"],
            scalars.get("eval/ndcg"),
            scalars.get("eval/hitrate"),
            source,
        )
        for step, scalars in steps.items()
        if "eval/recall" in scalars
    ]


def _from_metrics(text: str, source: str) -> Iterator[LoggedEvaluation]:
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # a last line that was cut off when the run was killed
        if not isinstance(row, dict) or row.get("event") != "eval":
            continue
        step, recall = row.get("step"), row.get("recall")
        if isinstance(step, int) and isinstance(recall, float):
            loss, ndcg, hitrate = row.get("loss"), row.get("ndcg"), row.get("hitrate")
            yield LoggedEvaluation(step, loss, recall, ndcg, hitrate, source)
