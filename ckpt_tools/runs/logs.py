"""What a run left behind that tells its metrics, read without TensorFlow and without running the model.

Sources, the most trustworthy first:

    metrics.jsonl         this project's trainer: full precision, one object for each evaluation
    *.tfevents.*          TensorBoard events, ``eval/recall``: float32
    train.log             what the Keras port printed: six digits
    *.csv                 Keras' CSVLogger, a column named after recall
    trainer_state.json    Hugging Face's Trainer, ``log_history``
    info.json             BestCheckpointExporter of the TensorFlow model garden
    file names            numbers that ModelCheckpoint put there, ``...recall-0.0342...`` or ``...recall=0.0342...``
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ckpt_tools.errors import CkptError, CorruptError, StorageError, UnsafeError
from ckpt_tools.findings import Finding
from ckpt_tools.format import json_text
from ckpt_tools.format.events import read_scalars
from ckpt_tools.format.filenames import INDEX
from ckpt_tools.fs import paths
from ckpt_tools.lineages.names import BEST_METRIC
from ckpt_tools.runs.curve import Curve, join
from ckpt_tools.runs.evaluations import SIX_DIGITS, LoggedEvaluation
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.rotation import log_name, read_log

MAX_LOG_BYTES = 1 << 30
# And half a unit of the two digits that names of files usually have.
_ROUNDED_NAME = 0.005

_EVALUATION = re.compile(
    r"iter: (?P<step>\d+), train loss: (?P<loss>[-+.\w]+), valid recall: (?P<recall>[-+.\w]+)"
    r"(?:, valid ndcg: (?P<ndcg>[-+.\w]+))?(?:, valid hitrate: (?P<hitrate>[-+.\w]+))?"
)
_METRICS = ("recall", "ndcg", "hitrate")
_IN_NAME = re.compile(r"(?P<step>\d+)?[^0-9]*?(?:val_)?recall[-_=:]?(?P<recall>[01]\.\d+)")


Best = Literal["kept", "lost", "unknown"]


@dataclass(frozen=True)
class Evidence:
    """What the logs tell, the most trustworthy source first, and what could not be read.

    ``rows`` are all evaluations, with those that this project's trainer made of what it went on from. ``unread`` is
    why a log that is there was not read at all, None when every one was: its evaluations are missing here, so that
    nothing may be written that depends on which is the best.
    """

    rows: tuple[LoggedEvaluation, ...] = ()
    findings: tuple[Finding, ...] = field(default=())
    unread: CkptError | None = None

    @functools.cached_property
    def evaluations(self) -> tuple[LoggedEvaluation, ...]:
        """Those that were made while training."""
        return tuple(row for row in self.rows if not row.resumed)

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(evaluation.source for evaluation in self.evaluations))

    @functools.cached_property
    def curve(self) -> Curve:
        """The one history that every command and picture shows, joined from all sources that count the same steps."""
        rows = [row for row in self.rows if _rank(row.source) in _BY_STEP]
        if not rows:  # an epoch is no step: what counts epochs is joined with nothing
            rows = [row for row in self.rows if _rank(row.source) == _rank(self.rows[0].source)]
        return join(rows, lambda row: _rank(row.source))

    @property
    def best(self) -> LoggedEvaluation | None:
        """The first evaluation with the highest recall, also when only a resume tells it; None without logs."""
        best = max(self.evaluations, key=lambda evaluation: evaluation.recall, default=None)
        resumed = max((row for row in self.rows if row.resumed), key=lambda row: row.recall, default=None)
        if resumed and (best is None or (resumed.recall > best.recall and not best.agrees_with(resumed.recall))):
            return resumed
        return best

    def matching(self, recall: float) -> LoggedEvaluation | None:
        """The logged evaluation that a value agrees with, None when there is none."""
        return next((evaluation for evaluation in self.evaluations if evaluation.agrees_with(recall)), None)

    def at_step(self, step: int) -> LoggedEvaluation | None:
        """The one evaluation logged for a step; None when there is none, or when a restarted count makes it unclear."""
        found = [evaluation for evaluation in self.evaluations if evaluation.step == step]
        agreeing = all(evaluation.agrees_with(found[0].recall) for evaluation in found)
        return found[0] if found and agreeing else None

    def best_in(self, *, stored: float | None, step: int | None) -> Best:
        """Whether a checkpoint holds the logged best: by the value that it stores; else by its step, which the logs
        count as the optimizer does."""
        best = self.best
        if best is None:
            return "unknown"
        if stored is not None:
            return "kept" if best.agrees_with(stored) or stored > best.recall else "lost"
        held = None if step is None else self.at_step(step)
        if held is None:
            return "unknown"
        return "kept" if best.agrees_with(held.recall) else "lost"


def collect(experiment: Experiment) -> Evidence:
    """Read everything that an experiment left. What is damaged is a finding, never an error."""
    rows: list[LoggedEvaluation] = []
    problems: list[CkptError] = []
    for path in sorted(filter(_is_source, _files(experiment, problems)), key=_rank):
        read = _READERS[_rank(path)][1]
        try:
            rows += [evaluation for evaluation in read(path) if math.isfinite(evaluation.recall)]
        except CkptError as error:
            if error.path is None:
                error.path = path
            problems.append(error)
    evidence = Evidence(tuple(_of_last_measure(rows)), unread=next(filter(not_read, problems), None))
    said = map(unreadable, problems)
    evidence = replace(evidence, findings=(*said, *_disagreements(evidence.rows)))
    suspect = suspect_direction(evidence)
    return replace(evidence, findings=(*evidence.findings, suspect)) if suspect else evidence


def _of_last_measure(rows: Sequence[LoggedEvaluation]) -> list[LoggedEvaluation]:
    """The evaluations that can be compared with the last one: a run that was resumed at another N, or on another split,
    has others, and sources that do not tell the measure have them too. Of what another trainer logged the first resume
    tells it."""
    last = next((row.measure for row in reversed(rows) if row.measure), None)
    others = _by_step(row for row in rows if row.measure not in (None, last))
    untold = next((row.measure_before for row in rows if row.measure_before), last)
    if not others and untold == last:
        return list(rows)
    comparable = _by_step(row for row in rows if row.measure == last)

    def is_comparable(row: LoggedEvaluation) -> bool:
        if row.measure is not None:
            return row.measure == last
        if _told_in(comparable.get(row.step, ()), row):
            return True
        return untold == last and not _told_in(others.get(row.step, ()), row)

    return list(filter(is_comparable, rows))


def _by_step(rows: Iterable[LoggedEvaluation]) -> dict[int, list[LoggedEvaluation]]:
    by_step: dict[int, list[LoggedEvaluation]] = {}
    for row in rows:
        by_step.setdefault(row.step, []).append(row)
    return by_step


def _told_in(rows: Iterable[LoggedEvaluation], row: LoggedEvaluation) -> bool:
    """Whether one of these rows has the recall of ``row``."""
    return any(row.agrees_with(other.recall) for other in rows)


def unreadable(error: CkptError) -> Finding:
    """What is said of a log, or a directory of logs, that could not be read."""
    return Finding("log-unreadable", "warning", error.message, error.path, offset=error.offset)


def not_read(error: CkptError) -> bool:
    """Whether a log is there and was not read: refused by the system, or over a limit. A damaged one was read."""
    return isinstance(error, (StorageError, UnsafeError))


def suspect_direction(evidence: Evidence, step: int | None = None) -> Finding | None:
    """A finding when a run seems to have kept its worst model as its best; ``step`` is that of the one kept, if known.

    ModelCheckpoint of Keras 2 in its default ``mode='auto'`` maximises only what has "acc" in its name or begins with
    "fmeasure" (keras/callbacks.py): a recall it minimises. Without ``step`` the names of files tell what was kept.
    """
    named = sorted((e for e in evidence.evaluations if _rank(e.source) == _BY_NAME), key=lambda e: e.step)
    logged = [e for e in evidence.evaluations if _rank(e.source) < _BY_NAME]
    if len(named) >= max(3, len(logged)) and logged:
        return None  # every model was kept, none of them chosen
    kept, rounding = next((e for e in logged if step and e.step == step), None), SIX_DIGITS
    if kept is None and named:
        kept, rounding = named[-1], _ROUNDED_NAME
    falling = len(named) >= 3 and all(a.recall > b.recall for a, b in itertools.pairwise(named))
    highest = max((e.recall for e in evidence.evaluations), default=0.0)
    lowest = min((e.recall for e in evidence.evaluations), default=0.0)
    worst = (
        kept is not None
        and len(logged) >= 3
        and kept.step != logged[-1].step
        and kept.recall <= lowest + rounding
        and highest > kept.recall + 2 * rounding
    )
    if kept is None or not (falling or worst):
        return None
    message = (
        f"the direction of the metric is suspect: what was kept as the best has recall {kept.recall:g}, the lowest of "
        f"this run; the highest was {highest:g}. Keras 2 minimises a recall when ModelCheckpoint has mode='auto'"
    )
    fix = "train on with ModelCheckpoint(monitor='val_recall', mode='max')"
    return Finding("direction-suspect", "warning", message, kept.source, fix=fix)


def _files(experiment: Experiment, problems: list[CkptError]) -> Iterator[str]:
    """The files that may be logs; directories that cannot be listed go to ``problems``."""
    for directory in (experiment.runs, experiment.path):
        try:
            names = paths.scan(directory)
        except CkptError as error:
            if not_read(error):
                problems.append(error)
            continue
        yield from (os.path.join(directory, name) for name, status in names.items() if not status.directory)


def _disagreements(rows: Iterable[LoggedEvaluation]) -> Iterator[Finding]:
    """Sources of one run that give different figures for the same step. A run that went back to its best, or was
    measured at another N, has several for one, of which each source tells some."""
    for step, found in _by_step(rows).items():
        first = next((row for row in found if not row.resumed), None)
        if not step or first is None:
            continue
        told = [row for row in found if row.source == first.source]
        for row in found:
            if row.source != first.source and not row.resumed and not _told_in(told, row):
                message = (
                    f"logs disagree on step {step}: {first.recall:.6f} in {os.path.basename(first.source)}, "
                    f"{row.recall:.6f} in {os.path.basename(row.source)}"
                )
                yield Finding("logs-disagree", "warning", message, row.source)
                return


# ------------------------------------------------------------------------------------------ the sources


def _text(path: str) -> str:
    return read_log(path, limit=MAX_LOG_BYTES).decode("utf-8", "replace")


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):  # 400 digits are an integer, but no float
        return None


def _row(values: Mapping[str, object], step: object, recall: object, source: str) -> Iterator[LoggedEvaluation]:
    """An evaluation from a row with the usual names; nothing when it holds no recall."""
    value = _number(recall)
    if value is not None:
        loss, ndcg, hitrate = (_finite(values.get(name)) for name in ("loss", "ndcg", "hitrate"))
        yield LoggedEvaluation(step_number(step) or 0, loss, value, ndcg, hitrate, source)


def _finite(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and math.isfinite(number) else None


def step_number(value: object) -> int | None:
    """A step as a log has it; None for what counts nothing: no number, one below 0, one that no counter reaches."""
    number = _finite(value)
    return int(number) if number is not None and 0 <= number < 1 << 63 else None


def logged_objects(path: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file with one in each line; other lines, such as a last one that was cut off, are left out.

    Raises what `places.read_file` raises.
    """
    # Not splitlines(), which also ends a line where a text within it has a line separator of Unicode.
    return filter(None, map(_object, _text(path).split("\n")))


def _object(text: str) -> dict[str, Any]:
    """A JSON object; empty for anything else."""
    try:
        found = json_text.parse(text)
    except ValueError:  # the latter for lists in lists in lists
        return {}
    return found if isinstance(found, dict) else {}


def _from_metrics(path: str) -> Iterator[LoggedEvaluation]:
    for row in logged_objects(path):
        # "start" is the evaluation of fresh weights: it counts where the run took them for its first best.
        counts = row.get("event") == "start" and row.get(BEST_METRIC) not in (0, 0.0)
        if counts or row.get("event") in ("eval", "resume"):
            for found in _row(row, row.get("step"), row.get("recall"), path):
                resumed = row["event"] == "resume"
                measure, before = (row.get(key) for key in ("measure", "measure_before"))
                yield replace(
                    found,
                    resumed=resumed,
                    measure=measure if isinstance(measure, str) else None,
                    measure_before=before if resumed and isinstance(before, str) else None,
                )


def _from_events(path: str) -> Iterator[LoggedEvaluation]:
    steps: dict[int, dict[str, float]] = {}
    for tag, step, value in read_scalars(read_log(path, limit=MAX_LOG_BYTES)):
        steps.setdefault(step, {})[tag] = value
    for step, scalars in steps.items():
        row = {"loss": scalars.get("train/loss"), **{name: scalars.get(f"eval/{name}") for name in _METRICS}}
        yield from _row(row, step, row["recall"], path)


def _from_log(path: str) -> Iterator[LoggedEvaluation]:
    for match in _EVALUATION.finditer(_text(path)):
        yield from _row(match.groupdict(), match["step"], match["recall"], path)


def _from_csv(path: str) -> Iterator[LoggedEvaluation]:
    # A line may end in any of the three ways.
    reader = csv.DictReader(io.StringIO(_text(path), newline=None))
    try:
        names = [name for name in reader.fieldnames or () if "recall" in name]
        # With both, the validation's is meant.
        column = next((name for name in names if name.startswith("val_")), names[0] if names else None)
        for row in reader if column is not None else ():
            yield from _row(row, row.get("step") or row.get("epoch"), row.get(column), path)
    except csv.Error as error:
        raise CorruptError(f"line {reader.line_num}: {error}") from error


def _from_trainer_state(path: str) -> Iterator[LoggedEvaluation]:
    history = _object(_text(path)).get("log_history")
    for row in history if isinstance(history, list) else ():
        if isinstance(row, dict):
            yield from _row(row, row.get("step"), row.get("eval_recall"), path)


def _from_info(path: str) -> Iterator[LoggedEvaluation]:
    document = _object(_text(path))
    if "best_ckpt_global_step" in document:
        recall = next((value for name, value in document.items() if "recall" in name), None)
        yield from _row(document, document["best_ckpt_global_step"], recall, path)


def _from_name(path: str) -> Iterator[LoggedEvaluation]:
    match = _IN_NAME.search(os.path.basename(path))
    if match:
        yield from _row({}, match["step"], match["recall"], path)


_Reader = Callable[[str], Iterable[LoggedEvaluation]]
_READERS: tuple[tuple[Callable[[str], bool], _Reader], ...] = (
    (lambda name: name == "metrics.jsonl", _from_metrics),
    (lambda name: ".tfevents." in name, _from_events),
    (lambda name: name == "train.log", _from_log),
    (lambda name: name.endswith(".csv"), _from_csv),
    (lambda name: name == "trainer_state.json", _from_trainer_state),
    (lambda name: name == "info.json", _from_info),
    (lambda name: name.endswith((INDEX, ".h5", ".keras")), _from_name),
)


_BY_NAME = len(_READERS) - 1
# The sources that count steps of the optimizer: metrics.jsonl, events, train.log, trainer_state.json.
_BY_STEP = (0, 1, 2, 4)


@functools.lru_cache(maxsize=256)  # each row of a log asks for the same file
def _rank(path: str) -> int:
    """The place of a file among the sources, the most trustworthy first; their number when it is none."""
    names = [*[log_name(path)] * _BY_NAME, os.path.basename(path)]  # what is no log is not packed
    found = zip(names, _READERS, strict=True)
    return next((rank for rank, (name, (applies, _)) in enumerate(found) if applies(name)), len(_READERS))


def _is_source(path: str) -> bool:
    return _rank(path) < len(_READERS)
