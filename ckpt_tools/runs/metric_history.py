"""The metrics that any trainer logged beside its checkpoints, and which of them its best model is chosen by.

Looked at are the directory of the checkpoint, those above it up to the run's own (two levels), and what lies directly
in a folder of logs of theirs. Read are text logs, JSON lines, JSON of Hugging Face's Trainer, of Keras Tuner and of
BestExporter, CSV, TensorBoard events of any tag, and values in the names of checkpoints; text also where a rotation has
packed it. Nothing is executed, and nothing is guessed: where more than one metric may be meant, the candidates are what
is told.
"""

from __future__ import annotations

import bisect
import csv
import io
import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from ckpt_tools.errors import CkptError, NotFoundError, UnsafeError, UsageError
from ckpt_tools.findings import Finding
from ckpt_tools.format import filenames, json_text
from ckpt_tools.format.events import read_scalars
from ckpt_tools.format.stored_best import BEST_METRIC
from ckpt_tools.fs import paths
from ckpt_tools.runs import numbering
from ckpt_tools.runs.logs import not_read, unreadable
from ckpt_tools.runs.metric_documents import Column, columns_of, literal
from ckpt_tools.runs.metric_lines import (
    EPOCHS,
    HELD_OUT,
    MAX_LINE,
    OTHER,
    STEPS,
    TRAINING,
    Best,
    MetricLine,
    Mode,
    Reading,
    better,
    canonical,
    data_of,
    header_of,
    is_like,
    is_praised,
    lines_of,
    mode_of,
    of_document,
    of_pairs,
    pair_of,
    plain,
    praised_name,
    read_line,
    row_of,
    row_of_split,
    splits_of,
    words_of,
)
from ckpt_tools.runs.rotation import age, log_name, read_log

MAX_LOG_BYTES = 1 << 28
# Documents of what was asked for, not of what came out; and what comes out as YAML.
_SETTINGS = re.compile(
    r"(.*[-_.])?(params?|hparams?|hyper.?param\w*|config\w*|args?|opts?|options?|settings?|flags)", re.I
)
_OUTCOME = re.compile(r".*(best|result|metric|score|eval|summary).*\.ya?ml", re.I)
# What this program says itself, saved beside the checkpoint: ckpt ... > audit.txt.
_OWN_LINE = re.compile(
    rf"(?:error|warning|note|damage)\[[a-z-]+\]: |[✓·✗] .+: (?:.*\b{BEST_METRIC}\b|\d+ tensors?, )|  next: "
    r'|\{"schema_version": \d+, "command": "'
)
_OWN_OUTPUT = re.compile(
    rf"{_OWN_LINE.pattern}|  (?:format|lineage)  +\S|run(?: \(in .+\))? +lineage +model +step +|.+ by ckpt-tools \d"
)
# A tag that was saved from TensorBoard's page: ``run-validation-tag-epoch_auc.csv``, with these columns.
_DOWNLOAD = re.compile(r"run[-_](?P<run>.+)-tag-(?P<tag>.+)\.(?:csv|json)")
_DOWNLOADED = ["Wall time", "Step", "Value"]
# What no column of a table is called.
_INDEX = "\0"
# What a report of a checkpoint is called beside the checkpoint's name.
_REPORT = (
    r"(?:eval(?:uat)?(?:ions?|ed)?|results?|reports?|metrics?|scores?|dev|val(?:id(?:ation)?)?|test|txt|log|out|json)"
)
# What lies so many directories above a checkpoint may be of other runs, where this one has logs of its own.
_FAR = 2
# So many files are looked at in one place, so many lines read of one.
_MOST_FILES, _MOST_LINES = 200, 2_000_000
_FOLDER = re.compile(
    r"(tensorboard|tb|logs?|runs?|events?|metrics|summar(y|ies)|train|valid(ation)?|dev|eval.*|test|out(put)?s?"
    r"|dvclive)",
    re.I,
)
_TEXT = re.compile(
    r".+\.(log|txt|out|err)|nohup\.out|.+\.INFO(\..+)?|(log|stdout|stderr|output)(\..+)?|[^.]+[-_](log|stdout|stderr)",
    re.I,
)
_NOT_LOGS = re.compile(r"(vocab|requirements|readme|license|.*_(train|valid|test)|.*map|.*item.*|.*user.*)\.txt", re.I)
# A number with its name in the name of a file: auc-0.71, val_loss=0.42, recall_0.0342; the name may be missing.
_IN_NAME = re.compile(
    r"(?:(?P<name>[A-Za-z][A-Za-z_@]*[A-Za-z0-9@])[-_=:]{0,2})?(?P<value>\d{1,4}\.\d{1,12})(?=[-_.]|$)"
)
# The same where a point was not wanted in a name: model_0_36749.
_UNDERSCORED = re.compile(r"(?<![\d.])(?P<whole>\d{1,3})_(?P<part>\d{4,8})(?![\d.])")
_NUMBERS = re.compile(r"(?<![\d.])(\d{1,12})(?![\d.]*\d)")
# A number that counts something: at the end of a name, or behind a word that says what.
_COUNTED = re.compile(
    r"(?:(?<![a-z])(?:epochs?|ep|e|steps?|iter(?:ation)?s?|it|ckpt|batch)[-_=.]{0,2}(?P<worded>\d{1,12})(?!\d)"
    r"|(?<!\d)(?<!\d\.)(?P<last>\d{1,12})\W*$)",
    re.IGNORECASE,
)
# What is written behind a number of a bundle's name, and says nothing of it.
_ENDING = re.compile(r"(?<=\w)\.(?:weights|tf|ckpt|model|tfmodel)$", re.IGNORECASE)
# ``unet_1.00003``: the third of unet_1, not a bit more than one.
_PADDED = re.compile(r"(?<![\d.])(?P<before>[1-9]\d{0,3})\.(?=0{3,}\d{1,4}$)")
# A directory that is called as what it holds was counted, and in no other way.
_COUNTER = re.compile(r"(?:(?:epochs?|ep|e|steps?|iter(?:ation)?s?|it|ckpt|checkpoint)[-_=.]?)?\d{1,12}", re.IGNORECASE)
_SIX_DIGITS = 1e-8
# A report of one evaluation has few lines.
_MOST_REPORTED = 1_000


@dataclass(frozen=True)
class Logged:
    """One number of one metric as it was logged. ``unit`` is half of its last printed digit, ``path`` the checkpoint
    that the line names. ``order`` is its place in its file. ``saved``: the log tells of a save right behind this best
    value, and of no other saves. ``restored``: it was measured after ``path`` was read again, for no other reason."""

    name: str
    value: float
    step: int | None
    epoch: int | None
    source: str
    order: int
    percent: bool = False
    unit: float = 0.0
    best: bool = False
    mode: Mode | None = None
    path: str | None = None
    saved: bool = False
    restored: bool = False

    @property
    def key(self) -> str:
        return canonical(self.name)

    @property
    def where(self) -> str:
        """`` at step 20``, or `` in epoch 2``, or nothing, to go on a sentence with."""
        if self.step is not None:
            return f" at step {self.step}"
        return f" in epoch {self.epoch}" if self.epoch else ""

    def agrees_with(self, value: float) -> bool:
        return abs(self.value - value) <= self.unit + _SIX_DIGITS + abs(value) * 1e-7

    def may_equal(self, other: Logged) -> bool:
        """Whether both may be one value; either may have been rounded more."""
        return self.agrees_with(other.value) or other.agrees_with(self.value)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class MetricHistory:
    """All that was logged, in the order of the files, and what could not be read. So many of it as ``near`` were logged
    near the checkpoint; None where all were."""

    logged: tuple[Logged, ...] = ()
    findings: tuple[Finding, ...] = ()
    unread: CkptError | None = None
    near: int | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.source for each in self.logged))

    def names(self) -> list[str]:
        """The metrics that were measured, each once, most often logged first."""
        counts: dict[str, int] = {}
        shown: dict[str, str] = {}
        for each in self.logged:
            if not is_praised(each.name) and each.name:
                counts[each.key] = counts.get(each.key, 0) + 1
                shown.setdefault(each.key, each.name)
        return [shown[key] for key in sorted(counts, key=lambda key: -counts[key])]


@dataclass(frozen=True)
class Chosen:
    """Which metric is the best one, which direction is better, and why that is believed. ``others`` are the trainer's
    own best lines when they are about another metric: what it keeps as its best is not this one's."""

    name: str
    mode: Mode
    reason: str
    evaluations: tuple[Logged, ...]
    others: tuple[Logged, ...] = ()

    @property
    def best(self) -> Logged | None:
        """The first of the best values; NaN and infinities are none."""
        finite = [each for each in self.evaluations if math.isfinite(each.value)]
        pick: Callable[..., Logged] = max if self.mode == "max" else min
        return pick(finite, key=lambda each: each.value) if finite else None

    def to_json(self) -> dict[str, Any]:
        best = self.best
        return {
            "metric": self.name,
            "mode": self.mode,
            "axis": "step" if all(each.step is not None for each in self.evaluations) else "evaluation",
            "points": [each.to_json() for each in self.evaluations],
            "best": None if best is None else self.evaluations.index(best),
        }

    def at(self, *, step: int | None = None, epoch: int | None = None) -> Logged | None:
        """The one evaluation of a step or an epoch; None when there is none, or several that differ."""
        found = [
            each
            for each in self.evaluations
            if (step is not None and each.step == step) or (epoch is not None and each.epoch == epoch)
        ]
        # 0.59 and 0.6 may be two values in full: a rounding to one digit tells nothing.
        same = all(
            each.value == found[0].value or (each.agrees_with(found[0].value) and abs(each.value) >= 20 * each.unit)
            for each in found
        )
        return max(found, key=lambda each: -each.unit) if found and same else None


# ------------------------------------------------------------------------------------------------ reading


def read_history(
    prefix: str, files: Iterable[str] | None = None, line: Callable[[str], Iterable[Logged]] | None = None
) -> MetricHistory:
    """What lies beside a checkpoint, or in ``files``. What cannot be read is a finding, never an error.

    ``line`` reads a text log in another way than by the grammar of `metric_lines`.
    """
    logged: list[Logged] = []
    problems: list[CkptError] = []
    levels = _sources(prefix, problems) if files is None else dict.fromkeys(files, 0)
    near = 0
    for path, level in levels.items():
        read = _kind(path) or _from_text
        try:
            in_lines = line is not None and (read is _from_text or (read is _from_document and not _is_document(path)))
            logged += _of_named((line if line is not None and in_lines else read)(path), path, prefix)
        except CkptError as error:
            if line is not None and isinstance(error, UnsafeError):
                raise  # a pattern without end, or more than it may be used on
            if error.path is None:
                error.path = path
            problems.append(error)
        near = len(logged) if level < _FAR else near
    unread = next(filter(not_read, problems), None)
    return MetricHistory(tuple(logged), tuple(map(unreadable, problems)), unread, near if near < len(logged) else None)


def _of_named(rows: Iterable[Logged], path: str, prefix: str) -> Iterable[Logged]:
    """What a file tells that is called as a checkpoint is, ``results/model-300`` or ``eval_model-300.txt``: the one
    evaluation of that one. A file that counts several is a log, whatever it is called."""
    name = os.path.basename(prefix)
    for ending in filenames.KERAS_ENDINGS:
        name = name.removesuffix(ending)
    numbered = re.split(r"\d{1,12}", name)
    if len(numbered) == 1:
        return rows
    pattern = r"\d{1,12}".join(map(re.escape, numbered))
    called = re.fullmatch(rf"(?:{_REPORT}[-_.])*(?P<name>{pattern})(?:[-_.]{_REPORT})*", log_name(path), re.IGNORECASE)
    found = list(rows)
    if called is None or len({(row.step, row.epoch) for row in found}) > 1:
        return found
    times = Counter(row.key for row in found)
    return [replace(row, path=called["name"], restored=True) if times[row.key] == 1 else row for row in found]


def log_files(prefix: str) -> list[str]:
    """The files that may be logs of a checkpoint's run, as `read_history` reads them."""
    return list(_sources(prefix, []))


def _sources(prefix: str, problems: list[CkptError]) -> dict[str, int]:
    """The files that may be logs: those of the checkpoint's own directory first, each with how many directories above
    that it was come by. Directories that cannot be listed go to ``problems``."""
    found: dict[str, int] = {}
    for level, path in _places(prefix, problems):
        found.setdefault(path, level)
    return found


def _places(prefix: str, problems: list[CkptError]) -> Iterator[tuple[int, str]]:
    """The same; a file may come again."""
    here = prefix if paths.is_directory(prefix) else paths.parent(paths.absolute(prefix)) or os.curdir
    for level in range(3):
        below: list[str] = []
        for path, directory in _names(here, problems):
            if not directory and _may_be_log(path):
                yield level, path
            elif directory and _FOLDER.fullmatch(os.path.basename(path)):
                below.append(path)
        # A folder beside the checkpoint's own that holds checkpoints is another run's, and so are its logs.
        below = [folder for folder in below if level == 0 or not _holds_checkpoints(folder, problems)]
        # TensorBoard's writers make one folder for each split in that of the logs.
        deeper: list[str] = []
        for depth, folders in enumerate((below, deeper)):
            for folder in folders:
                for path, directory in _names(folder, problems):
                    if directory and depth == 0 and _FOLDER.fullmatch(os.path.basename(path)):
                        deeper.append(path)
                    elif not directory and _may_be_log(path):
                        yield level, path
            for folder in folders if depth == 0 else ():
                yield from ((level, path) for path in _of_dvclive(folder, problems))
        parent = paths.parent(paths.absolute(here))
        # A shelf of runs is not this run's: above the checkpoint's directory only what looks like a run's is looked at.
        if parent == here or (level > 0 and sum(directory for _, directory in _names(parent, problems)) > 8):
            return
        here = parent


def _of_dvclive(folder: str, problems: list[CkptError]) -> Iterator[str]:
    """The tables of DVCLive: one for each metric, in folders as the metric's name has slashes."""
    waiting = [(os.path.join(folder, "plots", "metrics"), 0)] if os.path.basename(folder) == "dvclive" else []
    while waiting:
        here, depth = waiting.pop(0)
        for path, directory in _names(here, problems) if paths.is_directory(here) else ():
            if directory and depth < 3:
                waiting.append((path, depth + 1))
            elif path.endswith(".tsv"):
                yield path


def _holds_checkpoints(directory: str, problems: list[CkptError]) -> bool:
    return any(
        not folder
        and (
            path.endswith((filenames.INDEX, *filenames.KERAS_ENDINGS)) or os.path.basename(path) == filenames.STATE_FILE
        )
        for path, folder in _names(directory, problems)
    )


def _names(directory: str, problems: list[CkptError]) -> list[tuple[str, bool]]:
    try:
        found = paths.scan(directory)
    except CkptError as error:
        if not_read(error) and str(error) not in set(map(str, problems)):
            problems.append(error)
        return []
    listed = [(os.path.join(directory, name), each.directory) for name, each in found.items()]
    return sorted(listed, key=lambda each: age(each[0]))


def _may_be_log(path: str) -> bool:
    """Whether a name is that of a log, and of a file: a device or a pipe (``/dev/stdout``) holds none."""
    return _kind(path) is not None and (paths.is_url(path) or paths.is_file(path))


def _kind(path: str) -> Callable[[str], Iterable[Logged]] | None:
    name = log_name(path)
    if ".tfevents." in name:
        return _from_events
    stem = os.path.splitext(name)[0]
    if name.endswith((".json", ".yaml", ".yml", ".txt")) and _SETTINGS.fullmatch(stem):
        return None
    if name.endswith((".jsonl", ".ndjson")):
        return _from_text
    if name.endswith((".csv", ".tsv")):
        return _from_table
    if "." not in name and os.path.basename(os.path.dirname(path)) == "metrics":
        return _from_mlflow
    if name.endswith(".json"):
        return _from_document
    if _OUTCOME.fullmatch(name):
        return _from_text
    if _TEXT.fullmatch(name) and not _NOT_LOGS.fullmatch(name):
        return _from_text
    return None


def text_lines(path: str) -> list[str]:
    """The lines of a text log, no more than are looked at. Raises UnsafeError for a log that is too large."""
    return list(itertools.islice(lines_of(_text(path)), _MOST_LINES))


def _text(path: str) -> str:
    data = read_log(path, limit=MAX_LOG_BYTES)
    # What PowerShell writes for ``>``.
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    return data.decode(encoding, "replace")


def _from_text(path: str) -> Iterator[Logged]:
    """Lines of any trainer, and reports of one evaluation whose step comes last."""
    text = _text(path)
    written = literal(text)
    if written is not None and (columns := list(columns_of(written))):
        yield from _of_columns(columns, path)
        return
    rows = _from_lines(text, path)
    told = {row.step for row in rows} - {None}
    once = len({row.key for row in rows}) == len(rows) <= _MOST_REPORTED
    if once and len(told) <= 1 and not any(row.epoch for row in rows) and None in {row.step for row in rows}:
        step = next(iter(told), None) or _lone_step(text)
        rows = [replace(row, step=step) for row in rows]
    yield from rows


def _without_own(text: str) -> list[str]:
    """The lines of a text but for what this program said, in a file of its own or behind what a trainer said."""
    lines = list(itertools.islice(lines_of(text), _MOST_LINES))
    return [] if any(map(_OWN_OUTPUT.match, lines[:3])) else [line for line in lines if not _OWN_LINE.match(line)]


def _lone_step(text: str) -> int | None:
    """The step that a text tells, when it tells one only."""
    steps = {read_line(line).step for line in itertools.islice(lines_of(text), _MOST_REPORTED)} - {None}
    return next(iter(steps)) if len(steps) == 1 else None


def _from_lines(text: str, path: str) -> list[Logged]:
    """Lines of any trainer. A line without a step has that of the line before it, as multi-line reports do.

    Where the first value of a metric has no line before it that counts, the count may come behind each value: then
    none of that metric is taken from the line before.
    """
    uncounted: set[str] = set()
    step: int | None = None
    epoch: int | None = None
    told = _Told(path)
    for said in _said(_without_own(text)):
        if said.epoch is not None and said.epoch != epoch:
            epoch, step = said.epoch, said.step
        step = said.step if said.step is not None else step
        own = said.step is not None or said.epoch is not None
        equal = [each for each in said.readings if said.best is not None and said.best.reading.value == each.value]
        # ``f1=0.8 | best_f1=0.8``: the first was measured, the second is called the best.
        called = [each for each in equal if is_praised(each.name)] or equal
        told.begin(said, own)
        for reading in said.readings:
            if step is None and epoch is None:
                uncounted.add(reading.key)
            at = (step, epoch) if own or reading.key not in uncounted else (None, None)
            told.add(reading, at, said.best if reading in called else None)
        if said.best is not None and said.best.reading not in said.readings:
            told.add(said.best.reading, (step, epoch), said.best)
        told.end(said)
    return told.all()


def _said(lines: Iterable[str]) -> Iterator[MetricLine]:
    """What lines tell, one by one; the rows of a table of pairs tell it together, as soon as it ends."""
    columns: list[str] | None = None
    splits: list[str] | None = None
    pairs: list[Reading] = []
    for line in lines:
        text = plain(line)
        pair = pair_of(text)
        if pair is not None:
            pairs.append(pair)
            continue
        if pairs and text.lstrip().startswith("|"):
            continue  # the title of a part of it
        if pairs:
            yield of_pairs(pairs)
            pairs = []
        columns = header_of(text) or columns
        splits = splits_of(text) or splits
        row = row_of(columns, text) if columns else row_of_split(splits, text) if splits else None
        yield row or read_line(line)
    if pairs:
        yield of_pairs(pairs)


class _Told:
    """The readings of a text as they come, and what later lines tell of earlier ones."""

    def __init__(self, path: str) -> None:
        self.rows: list[Logged] = []
        self._path = path
        self._recent = range(0)
        self._praised: list[int] = []
        self._restored: str | None = None
        self._measured: list[int] = []
        self._saves_more = False
        self._bests: dict[str, float] = {}
        self._again = False

    def begin(self, said: MetricLine, own: bool) -> None:
        if said.readings:
            self._recent, self._praised = range(len(self.rows), len(self.rows) + len(said.readings)), []
        if said.restored is not None or (said.readings and own) or said.saves:
            self._forget(went_on=said.restored is None)
        self._restored = said.restored or self._restored
        self._again = said.best is not None and self._is_told_again(said.best.reading)

    def add(self, reading: Reading, at: tuple[int | None, int | None], best: Best | None) -> None:
        if best is not None and self._again:
            at = (None, None)
        row = _of(reading, *at, self._path, len(self.rows), best)
        if best is not None:
            self._praised.append(len(self.rows))
        elif self._restored is not None:
            self._measured.append(len(self.rows))
            row = replace(row, path=self._restored, restored=True)
        self.rows.append(row)

    def end(self, said: MetricLine) -> None:
        if said.praise:
            self._praise(said.praise)
        for number in self._praised if said.saves else ():
            self.rows[number] = replace(self.rows[number], saved=True)
        self._saves_more |= said.saves and not self._praised

    def _is_told_again(self, best: Reading) -> bool:
        """Whether a best was told before: ``best so far: 0.7``, once more in a later epoch, was not measured there."""
        told, self._bests[best.key] = self._bests.get(best.key), best.value
        return told == best.value

    def all(self) -> list[Logged]:
        """The rows; where a save is told of that was no best one's, none is known to be saved for being the best."""
        return [replace(row, saved=False) for row in self.rows] if self._saves_more else self.rows

    def _praise(self, text: str) -> None:
        """The reading before that a line without a number praises: the one that it names, else the only one."""
        words = {*words_of(text)}
        named = [number for number in self._recent if {*words_of(self.rows[number].name)} <= words]
        if len(self._recent) == 1 and not named:
            named = list(self._recent)
        if len(named) == 1:
            self._praised = named
            self.rows[named[0]] = replace(self.rows[named[0]], best=True)

    def _forget(self, *, went_on: bool) -> None:
        """Where training goes on, what was read again is no longer what is measured."""
        for number in self._measured if went_on else ():
            self.rows[number] = replace(self.rows[number], path=None, restored=False)
        self._restored, self._measured = None, []


def _of(reading: Reading, step: int | None, epoch: int | None, path: str, order: int, best: Best | None) -> Logged:
    name = best.reading.name if best is not None and best.reading.name else reading.name
    return Logged(
        name,
        reading.value,
        step,
        epoch,
        path,
        order,
        reading.percent,
        reading.unit,
        best is not None,
        best.mode if best else None,
        best.path if best else None,
    )


def _from_events(path: str) -> Iterator[Logged]:
    for order, (tag, step, value) in enumerate(read_scalars(read_log(path, limit=MAX_LOG_BYTES))):
        yield _of_tag(tag, step, value, path, order, path)


def _of_tag(tag: str, step: int, value: float, place: str, order: int, path: str) -> Logged:
    # Keras' callback counts the epochs of these, from 0. float32: what was logged rounds to this.
    row = Logged(name_of_tag(tag, place), value, step, None, path, order, unit=abs(value) * 1e-7)
    return replace(row, step=None, epoch=step) if tag.startswith("epoch_") else row


def name_of_tag(tag: str, path: str) -> str:
    """The metric that a tag of an event file means: Keras and Estimator write one tag into folders of splits, so that
    ``validation/epoch_auc`` is the validation's."""
    folder = os.path.basename(os.path.dirname(path))
    of_data = {*words_of(folder)} & (HELD_OUT | TRAINING)
    return f"{folder}/{tag}" if of_data and folder.lower() not in tag.lower() else tag


def _from_table(path: str) -> Iterator[Logged]:
    lines = (line[:MAX_LINE] for line in itertools.islice(lines_of(_text(path)), _MOST_LINES))
    dialect = "\t" if log_name(path).endswith(".tsv") else None
    text = list(lines)
    if not text:
        return
    separator = dialect or max(",;\t", key=text[0].count)
    reader = csv.reader(io.StringIO("\n".join(text)), delimiter=separator)
    header = [name.strip() for name in next(reader, [])]
    if all(_number(name) is not None for name in header):
        return  # nothing tells what its columns are
    if header == _DOWNLOADED and (named := _DOWNLOAD.fullmatch(log_name(path))):
        yield from _of_download(([_number(cell) for cell in row] for row in reader), named, path)
        return
    counts = {canonical(name): place for place, name in enumerate(header)}
    for place, name in enumerate(header):  # ``Training iterations:``
        if mode_of(name) is None:
            counts.setdefault(next(iter(words_of(name)[-1:]), ""), place)
    below = _below_metrics(path)
    order = 0
    if header[:1] == [""] and not {*counts} & (STEPS | EPOCHS):
        header[0] = _INDEX  # of a DataFrame of Keras' history, whose rows are epochs
    for number, row in enumerate(reader):
        if header[0] == _INDEX and row[:1] != [str(number)]:
            return  # it is no index
        # Where a semicolon parts the cells, a comma may be that of a decimal fraction.
        cells = [_number(cell.replace(",", ".") if separator == ";" and cell.count(",") == 1 else cell) for cell in row]
        step = _whole(cells, counts, ("step", "global_step", "iter", "iteration", "steps", *STEPS))
        epoch = number if header[0] == _INDEX else _whole(cells, counts, EPOCHS)
        for name, value in zip(header, cells, strict=False):
            if value is not None and name not in ("", _INDEX) and canonical(name) not in STEPS | EPOCHS | OTHER:
                yield Logged(f"{below}{name}", value, step, epoch, path, order)
                order += 1


def _of_download(rows: Iterable[list[float | None]], named: re.Match[str], path: str) -> Iterator[Logged]:
    """What TensorBoard lets be saved of one tag: the time, the step and the value; the tag is in the file's name."""
    place = os.path.join(os.path.dirname(path), named["run"], "")
    for order, row in enumerate(rows):
        if (
            len(row) == len(_DOWNLOADED)
            and (step := _whole(row, {"step": 1}, ("step",))) is not None
            and row[2] is not None
        ):
            yield _of_tag(named["tag"], step, row[2], place, order, path)


def _below_metrics(path: str) -> str:
    """The part of a metric's name that folders are: DVCLive writes ``val/acc`` as plots/metrics/val/acc.tsv."""
    _, found, way = path.replace(os.sep, "/").rpartition("/plots/metrics/")
    return f"{way.rpartition('/')[0]}/" if found and "/" in way else ""


def _from_mlflow(path: str) -> Iterator[Logged]:
    """MLflow's own files: ``metrics/NAME`` with a line ``milliseconds value step`` for each time it was logged."""
    for order, line in enumerate(itertools.islice(lines_of(_text(path)), _MOST_LINES)):
        words = line[:MAX_LINE].split()
        value = _number(words[1]) if len(words) == 3 and words[0].isdecimal() else None
        if value is not None and words[2].isdecimal() and len(words[2]) < 19:
            yield Logged(os.path.basename(path), value, int(words[2]), None, path, order)


def _whole(cells: list[float | None], places: dict[str, int], names: Iterable[str]) -> int | None:
    for name in names:
        place = places.get(name)
        value = cells[place] if place is not None and place < len(cells) else None
        if value is not None and math.isfinite(value) and value == math.floor(value):
            return int(value)
    return None


def _number(text: object) -> float | None:
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        return None
    try:
        return float(text.strip().rstrip("%")) if isinstance(text, str) else float(text)
    except (ValueError, OverflowError):
        return None


def _is_document(path: str) -> bool:
    """Whether a file is one JSON document, as its name says, and not lines that have something else too."""
    try:
        json_text.parse(_text(path))
    except ValueError:
        return False
    return True


def _from_document(path: str) -> Iterator[Logged]:
    """A whole JSON file: ``log_history`` of Hugging Face's Trainer, ``trial.json`` of Keras Tuner, info.json of
    BestExporter, History of Keras, or the last values of a run."""
    try:
        document = json_text.parse(_text(path))
    except ValueError:
        yield from _from_text(path)
        return
    rows: list[Any] = document if isinstance(document, list) else []
    if named := _DOWNLOAD.fullmatch(log_name(path)):
        listed = ([_number(cell) for cell in row] for row in rows if isinstance(row, list))
        yield from _of_download(listed, named, path)
        return
    if isinstance(document, dict) and "schema_version" not in document:  # no ckpt ... --json > audit.json
        history = document.get("log_history")
        if isinstance(history, list):
            yield from _with_best(_of_rows(history, path), document.get(BEST_METRIC), document.get("best_global_step"))
            return
        if "trial_id" in document:
            yield from _with_best(_of_trial(document, path), document.get("score"), document.get("best_step"))
            return
        if (columns := list(columns_of(document))) and not _is_of_one_step(document):
            yield from _of_columns(columns, path)
            return
        if "best_ckpt_global_step" in document:
            rows = [{**document, "step": document["best_ckpt_global_step"]}]
        elif not any(isinstance(value, (dict, list)) for value in document.values()):
            yield from _of_summary(document, path)
    yield from _of_rows(rows, path)


def _is_of_one_step(document: dict[str, Any]) -> bool:
    """Whether a document tells of one evaluation: then its lists are no history."""
    return bool({canonical(name) for name in document} & {"step", "global_step", "iteration", "epoch"})


def _of_columns(columns: list[Column], path: str) -> Iterator[Logged]:
    """Metrics that were written as lists: row by row, as they were measured. The columns of counts count them."""
    counts = {column.name.rpartition("/")[2].lower(): column.values for column in columns}
    own = next((counts[name] for name in ("epoch", "epochs") if name in counts), None)
    metrics = [column for column in columns if canonical(column.name) not in STEPS | EPOCHS | OTHER]
    order = 0
    for number in range(min(max((len(column.values) for column in metrics), default=0), _MOST_LINES)):
        epoch = number + 1
        if own is not None and number < len(own) and own[number].is_integer():
            epoch = int(own[number])
        for column in metrics:
            if number < len(column.values) and column.values[number] == column.values[number]:
                step = None if column.steps is None else column.steps[number]
                yield Logged(column.name, column.values[number], step, epoch if step is None else None, path, order)
                order += 1


def _of_rows(rows: list[Any], path: str) -> Iterator[Logged]:
    order = 0
    for row in rows[:_MOST_LINES]:
        if not isinstance(row, dict):
            continue
        row = {**row, **{each.name: each.value for each in of_document(row) if "/" in each.name}}
        cells = {canonical(name): _number(value) for name, value in row.items() if isinstance(name, str)}
        step, epoch = _count(cells, "step", "global_step", "iteration"), _count(cells, "epoch")
        for name, value in row.items():
            number = _number(value)
            skip = canonical(name) in ("step", "global_step", "iteration", "epoch", "learning_rate", "lr")
            if number is not None and not skip and not isinstance(value, str):
                yield Logged(str(name), number, step, epoch, path, order)
                order += 1


def _of_trial(document: dict[str, Any], path: str) -> Iterator[Logged]:
    """Keras Tuner's ``trial.json``: of each metric what was observed, one value for each execution, their mean counts.

    Its steps are epochs. Source: keras_tuner/src/engine/metrics_tracking.py (MetricObservation, MetricHistory).
    """
    found: Any = document.get("metrics")
    metrics = found.get("metrics") if isinstance(found, dict) else None
    order = 0
    for name, metric in metrics.items() if isinstance(metrics, dict) else ():
        said = metric if isinstance(metric, dict) else {}
        direction, observations = said.get("direction"), said.get("observations")
        mode: Mode | None = direction if direction in ("min", "max") else None
        for each in (observations if isinstance(observations, list) else [])[:_MOST_LINES]:
            values = each.get("value") if isinstance(each, dict) else None
            numbers = [_number(value) for value in (values if isinstance(values, list) else [values])]
            known = [number for number in numbers if number is not None]
            epoch = _count({"step": _number(each.get("step"))}, "step") if known else None
            if known and len(known) == len(numbers):
                yield Logged(str(name), sum(known) / len(known), None, epoch, path, order, mode=mode)
                order += 1


def _with_best(rows: Iterable[Logged], best: Any, where: Any) -> Iterator[Logged]:
    """Rows of a document that tells the best value, and where it was, without the metric's name: marked is the one row
    that has it; where two metrics have it, none is."""
    found, value, place = list(rows), _number(best), _number(where)
    same = [row for row in found if value is not None and math.isclose(row.value, value, rel_tol=1e-12)]
    same = [row for row in same if place is None or place in (row.step, row.epoch)]
    marked = same[0] if len({row.key for row in same}) == 1 else None
    for row in found:
        yield replace(row, best=True) if row is marked else row


def _of_summary(document: dict[str, Any], path: str) -> Iterator[Logged]:
    """The last values of a run in one object, such as ``wandb-summary.json``; what is called best is the best."""
    cells = {canonical(name): _number(value) for name, value in document.items()}
    step, epoch = _count(cells, "step", "global_step", "iteration"), _count(cells, "epoch")
    for order, (name, value) in enumerate(document.items()):
        number = None if isinstance(value, str) else _number(value)
        if number is None or canonical(name) in ("step", "global_step", "iteration", "epoch", "learning_rate", "lr"):
            continue
        best = is_praised(name)
        shown = praised_name(name) if best else name
        if shown:
            # That there was a best does not say that this checkpoint is it.
            yield Logged(shown, number, None if best else step, None if best else epoch, path, order)


def _count(cells: dict[str, float | None], *names: str) -> int | None:
    for name in names:
        value = cells.get(name)
        if value is not None and math.isfinite(value) and value == math.floor(value):
            return int(value)
    return None


# ------------------------------------------------------------------------------------------------ conclusions


def choose(history: MetricHistory, metric: str | None = None, mode: Mode | None = None) -> Chosen:
    """The metric that the best model is chosen by: as asked for, as the trainer's own best lines say, or the only one
    of held-out data whose name tells a direction.

    Raises NotFoundError when nothing was logged, UsageError with the candidates when it cannot be concluded.
    """
    nearby = replace(history, logged=history.logged[: history.near], near=None)
    if any(".tfevents." not in each.source for each in nearby.logged) and (metric is None or _named(nearby, metric)):
        history = nearby
    if not history.logged:
        raise NotFoundError(
            "no log with a metric lies beside this checkpoint",
            hint="name its logs, wherever below a ckpt.toml they lie, with [layout] logs there; "
            "or give the value yourself with --value and --metric",
        )
    if metric is not None:
        found = _named(history, metric)
        direction = mode or mode_of(metric) or next((each.mode for each in found if each.mode), None)
        if not found:
            raise _undecided(history, f"no metric {metric!r} was logged")
        if direction is None:
            raise UsageError(
                f"whether a higher or a lower {metric!r} is better, its name does not tell",
                hint="add --mode min or --mode max",
            )
        kept = tuple(each for each in history.logged if each.best and each.name and not is_praised(each.name))
        others = tuple(each for each in kept if not _is_best_of(each, found[0], history))
        if len(others) < len(kept):
            # What is saved as the best of another metric is another file, and may be this one.
            others = tuple(each for each in others if each.saved)
        return Chosen(metric, direction, "as given", found, others)
    praised = [each for each in history.logged if each.best]
    keys = {each.key for each in praised if each.name}
    # ``not improved, best so far: 0.7`` has no name of its own; by a test none is chosen, though its best is told too.
    meant = {key for key in keys if not is_praised(key) and "test" not in words_of(key)}
    if len(meant) == 1 < len(keys):
        keys, praised = meant, [each for each in praised if each.key in meant]
    nameless = all(is_praised(key) for key in keys) and any(map(_may_be_best, history.names()))
    if len(keys) == 1 and not nameless:
        name = next(each.name for each in praised if each.name)
        values = [each.value for each in praised if math.isfinite(each.value)]
        told = next((each.mode for each in praised if each.mode), None)
        direction = mode or told or mode_of(name) or _trend(values)
        if direction is not None:
            own = tuple(dict.fromkeys((*_named(history, name), *praised)))
            how = "as the lines say" if told else "by its name" if mode_of(name) else "as its bests went"
            return Chosen(name, direction, f"the trainer's own best lines name it; {direction} {how}", own)
    candidates = [name for name in history.names() if _may_be_best(name)]
    held_out = [name for name in candidates if {*words_of(name)} & HELD_OUT]
    unlabelled = [name for name in candidates if name not in held_out]
    few = [*held_out, *_rivals(held_out, unlabelled)] if held_out else candidates
    directed = [name for name in few if mode_of(name)]
    if not praised and len({canonical(name) for name in directed}) == 1 and len(few) == 1:
        name = directed[0]
        direction = mode or mode_of(name)
        assert direction is not None
        return Chosen(name, direction, "the only metric of held-out data that was logged", _named(history, name))
    raise _undecided(
        history,
        "more than one metric was logged, and no line says which is the best one"
        if candidates
        else "no metric can be told in the logs",
    )


def _is_best_of(praised: Logged, asked: Logged, history: MetricHistory) -> bool:
    """Whether what is called the best is so by the metric that is asked for. By an accuracy of the validation it is not
    so by that of a batch or of a test, where the validation's was measured beside it."""
    if not is_like(praised.name, None, asked.name, None):
        return False
    data = data_of(praised.name)
    return data == data_of(asked.name) or not any(
        data_of(each.name) == data and not each.best and is_like(each.name, None, praised.name, None)
        for each in history.logged
    )


def _may_be_best(name: str) -> bool:
    return bool(words_of(name)) and not {*words_of(name)} & TRAINING and canonical(name) not in OTHER


def _rivals(held_out: list[str], others: list[str]) -> list[str]:
    """What may be meant beside the metrics of held-out data though no word says of which data it is: another one than
    theirs, and no loss, which is that of training."""
    own = [{*words_of(name)} - HELD_OUT for name in held_out]
    return [
        name
        for name in others
        if mode_of(name) and {*words_of(name)} not in own and not {*words_of(name)} & {"loss", "losses", "cost"}
    ]


def _trend(values: list[float]) -> Mode | None:
    if len(values) < 2 or values[0] == values[-1]:
        return None
    return "max" if values[-1] > values[0] else "min"


def _named(history: MetricHistory, metric: str) -> tuple[Logged, ...]:
    """The readings of exactly this name, else of the one name that contains it as words, held-out data preferred."""
    asked = canonical(metric)
    exact = [each for each in history.logged if each.key == asked]
    words = words_of(metric)
    found: dict[str, list[Logged]] = {}
    for each in history.logged:
        own = words_of(each.name)
        inside = any(own[i : i + len(words)] == words for i in range(len(own)))
        if inside and not is_praised(each.name) and not ({*own} & TRAINING and not {*words} & TRAINING):
            found.setdefault(each.key, []).append(each)
    if exact:
        counted = _the_same_counted(exact, [few for key, few in found.items() if key != asked])
        return (*exact, *counted)
    held_out = {key: each for key, each in found.items() if {*words_of(each[0].name)} & HELD_OUT}
    # ``auc`` is eval/auc, not eval/auc_precision_recall.
    nothing_else = {key: each for key, each in found.items() if {*words_of(each[0].name)} - HELD_OUT == {*words}}
    chosen = next((few for few in (held_out, nothing_else) if len(few) == 1), found)
    if len(chosen) > 1:
        raise _undecided(
            history, f"{metric!r} may be any of {', '.join(each[0].name for each in list(chosen.values())[:8])}"
        )
    return tuple(next(iter(chosen.values()))) if chosen else ()


def _the_same_counted(rows: list[Logged], others: list[list[Logged]]) -> list[Logged]:
    """The same values with their steps, under a longer name: a text has what was printed, the events beside it when."""
    if any((row.step, row.epoch) != (None, None) for row in rows):
        return []
    same = [few for few in others if _has_all(few, rows)]
    return same[0] if len(same) == 1 and all(each.step is not None for each in same[0]) else []


def _has_all(few: list[Logged], rows: list[Logged]) -> bool:
    """Whether each of ``rows`` may be one of ``few``."""
    known = sorted((each for each in few if math.isfinite(each.value)), key=lambda each: each.value)
    values = [each.value for each in known]
    places = (bisect.bisect(values, row.value) for row in rows)
    return all(any(map(row.may_equal, known[max(at - 1, 0) : at + 1])) for row, at in zip(rows, places, strict=True))


def _undecided(history: MetricHistory, why: str) -> UsageError:
    names = sorted(filter(_may_be_best, history.names()), key=_unlikeliness)[:8]
    listed = f"; logged were: {', '.join(names)}" if names else ""
    first = names[0] if names else "NAME"
    direction = "" if mode_of(first) else " --mode max"
    return UsageError(f"{why}{listed}", hint=f"say which with --metric, for example --metric {first!r}{direction}")


def _unlikeliness(name: str) -> tuple[bool, bool]:
    """Candidates in the order in which they may be meant: what a direction is known of, of held-out data first."""
    return mode_of(name) is None, not {*words_of(name)} & HELD_OUT


@dataclass(frozen=True)
class Attributed:
    """The logged value that a checkpoint has, and in words how that is known."""

    evaluation: Logged
    reason: str


def value_of(chosen: Chosen, prefix: str, step: int | None) -> Attributed:
    """Which of the evaluations a checkpoint is: by the line that names its file, by its step, by the number or value in
    its name, or because only the best is ever written under a name like this.

    Raises NotFoundError when the logs do not tell.
    """
    measured = [each for each in chosen.evaluations if each.restored and each.path and _same_file(each.path, prefix)]
    rest = replace(chosen, evaluations=tuple(each for each in chosen.evaluations if not each.restored))
    if not measured:
        return _value_as_trained(rest if rest.evaluations else chosen, prefix, step)
    after = measured[-1]
    alone = all(map(after.may_equal, measured))
    if alone and not rest.evaluations:
        return Attributed(after, f"measured after {os.path.basename(prefix)} was read again")
    found = _value_as_trained(rest, prefix, step) if rest.evaluations else None
    if found is not None and alone and after.may_equal(found.evaluation):
        return found
    other = f", but {found.evaluation.value:g} is {found.reason}" if found else ""
    raise NotFoundError(
        f"the logs tell two things of this checkpoint: {after.value:g} was measured after it was read again{other}",
        path=prefix,
        hint="give the value yourself with --value, or name the one log that tells it: [layout] logs of a ckpt.toml",
    )


def _value_as_trained(chosen: Chosen, prefix: str, step: int | None) -> Attributed:
    name = os.path.basename(prefix.rstrip("/"))
    if step == 0 and not re.search(r"(?<![\d.])0+\W*$", name):
        step = None  # a step that nothing counted, as many programs of TensorFlow 1 have one
    of_file = [each for each in chosen.evaluations if each.path and _same_file(each.path, prefix)]
    stamped = of_file[-1] if of_file else None
    if step is not None and (found := chosen.at(step=step)) is not None:
        return Attributed(found, f"logged for its step, {step}")
    if stamped is not None:
        return Attributed(_precise(chosen, stamped), f"the line that names {name} says so")
    bare = name
    for ending in filenames.KERAS_ENDINGS:
        bare = bare.removesuffix(ending)
    bare = _ENDING.sub("", bare)
    if mode_of(bare) is None:
        bare = _PADDED.sub(r"\g<before>-", bare)
    in_name = _value_in_name(bare)
    if in_name is not None and _is_named_otherwise(in_name[0], chosen.name):
        in_name = None
    numbers = [int(number) for number in _NUMBERS.findall(_IN_NAME.sub("", bare))]
    doubt = ""
    counted, place = _counted(_IN_NAME.sub("", bare)), prefix
    if not counted:  # ``checkpoints/0003/model.ckpt``
        place = os.path.dirname(paths.absolute(prefix))
        counted = _counted(os.path.basename(place)) if _COUNTER.fullmatch(os.path.basename(place)) else []
    for number in counted:
        may_be = numbering.candidates(place, number, step, chosen.evaluations, chosen.at, partial(better, chosen.mode))
        if in_name is not None:
            may_be = [each for each in may_be if _rounds_to(each, in_name)]
        if may_be and all(each.agrees_with(may_be[0].value) for each in may_be):
            return Attributed(_spelt(may_be[0], in_name, prefix), f"logged for {number}, the number in its name")
        if may_be:  # which of them it counts, it does not say
            doubt = f"; {number} in its name may mean {' or '.join(f'{each.value:g}{each.where}' for each in may_be)}"
    if in_name is not None:
        close = [each for each in chosen.evaluations if _rounds_to(each, in_name)]
        if len({each.value for each in close}) == 1:
            spelt_out = _spelt(close[0], in_name, prefix)
            return Attributed(spelt_out, f"the only logged value that rounds to {in_name[1]:g}, the number in its name")
    if in_name is None and (spelt := _UNDERSCORED.search(bare)):
        unit = 0.5 * 10.0 ** -len(spelt["part"]) + _SIX_DIGITS
        close = [each for each in chosen.evaluations if abs(each.value - float(".".join(spelt.groups()))) <= unit]
        if len({each.value for each in close}) == 1:
            return Attributed(close[0], f"the only logged value that rounds to {spelt[0]}, the number in its name")
    best = chosen.best
    praised = [each for each in chosen.evaluations if each.best]
    saved = [each for each in chosen.others if each.path and _same_file(each.path, prefix)]
    if saved:  # it was saved as the best of another metric, whose line tells the epoch
        found = chosen.at(step=saved[-1].step, epoch=saved[-1].epoch)
        if found is not None:
            return Attributed(found, f"saved as the best by {saved[-1].name}, with this")
    if (
        best is not None
        and not numbers
        and not chosen.others
        and _may_be_its_best(name, chosen)
        and ("best" in name.lower() or (praised and _only_bests(praised, step) and not _is_told_apart(prefix, praised)))
    ):
        last = praised[-1] if praised else best
        # A trainer that began again may have forgotten its best and written over it: without its own word, who knows?
        again = since_last_start(chosen).best
        forgotten = not praised and again is not None and not again.agrees_with(best.value)
        unheard = praised and not _is_measured(last, chosen)
        same = last.may_equal(best)
        if same and not forgotten and not unheard and not _is_of_several(chosen):
            return Attributed(_precise(chosen, best), "only its best was saved under this name, and this was the last")
    where = f"step {step}" if step is not None else "its step is not known"
    told = (
        f"; the best of the log is {best.value:g}" + (f" at step {best.step}" if best.step is not None else "")
        if best
        else ""
    )
    raise NotFoundError(
        f"the logs do not tell which value this checkpoint has ({where}){told}{doubt}",
        path=prefix,
        hint="give the value yourself with --value, or let a command measure it with --evaluate",
    )


def _counted(name: str) -> list[int]:
    """The numbers in a name that count something, the last first."""
    return [int(match["worded"] or match["last"]) for match in reversed(list(_COUNTED.finditer(name)))]


def _only_bests(praised: list[Logged], step: int | None) -> bool:
    """Whether no other than the best was saved. A checkpoint that has a step may be the newest one, unless the log
    tells of saves and of no others than theirs."""
    return step is None or all(each.saved for each in praised)


def _rounds_to(each: Logged, in_name: tuple[str, float, float]) -> bool:
    """Whether a logged value may be the one that a name spells; either may have been rounded more."""
    return abs(each.value - in_name[1]) <= in_name[2] + each.unit


def _spelt(each: Logged, in_name: tuple[str, float, float] | None, prefix: str) -> Logged:
    """The evaluation with the digits of the name, where they are more."""
    if in_name is None or in_name[2] >= each.unit:
        return each
    return replace(each, value=in_name[1], unit=in_name[2], source=prefix)


def _is_named_otherwise(name: str, metric: str) -> bool:
    """Whether a name says that its number is that of another metric: the ``val_loss=0.42`` of an accuracy."""
    told, own = {*words_of(name)} - HELD_OUT, {*words_of(metric)} - HELD_OUT
    alike = any(one.startswith(other) or other.startswith(one) for one in told for other in own)
    return mode_of(name) is not None and not alike


def _is_told_apart(prefix: str, praised: list[Logged]) -> bool:
    """Whether a checkpoint is not the one that the best lines speak of: they name other files, or it is the last."""
    directory, name = os.path.split(prefix)
    last = {*words_of(name), *words_of(os.path.basename(directory))} & {"last", "latest", "final", "newest", "current"}
    named = [each.path for each in praised if each.path]
    return bool(last) or (bool(named) and not any(_same_file(path, prefix) for path in named))


def _is_measured(praised: Logged, chosen: Chosen) -> bool:
    """Whether a value that is called the best is one of those that were logged when they were measured. Where none was
    logged beside it, it is the measured one itself."""
    measured = [each for each in chosen.evaluations if not each.best]
    beside = any((each.step, each.epoch) == (praised.step, praised.epoch) != (None, None) for each in measured)
    return not beside or any(map(praised.may_equal, measured))


def _is_of_several(chosen: Chosen) -> bool:
    """Whether two logs cannot be of one run: they tell other values for the same step or epoch, and other bests."""
    bests: dict[str, Logged] = {}
    at: dict[tuple[int | None, int | None], Logged] = {}
    conflict = False
    for each in chosen.evaluations:
        if math.isfinite(each.value):
            known = bests.get(each.source)
            if known is None or better(chosen.mode, each.value, known.value):
                bests[each.source] = each
            if (each.step, each.epoch) != (None, None):
                first = at.setdefault((each.step, each.epoch), each)
                conflict |= first.source != each.source and not first.may_equal(each)
    one, *others = bests.values()
    return conflict and not all(map(one.may_equal, others))


def since_last_start(chosen: Chosen) -> Chosen:
    """The evaluations of the last start in a log that goes on: where a count falls, the trainer began again."""
    last = max((each for each in chosen.evaluations), key=lambda each: each.order, default=None)
    rows = [each for each in chosen.evaluations if last is not None and each.source == last.source]
    starts = [
        number
        for number, (before, after) in enumerate(itertools.pairwise(rows), start=1)
        if _falls(before.step, after.step) or (before.step is None and _falls(before.epoch, after.epoch))
    ]
    return replace(chosen, evaluations=tuple(rows[starts[-1] :])) if starts else chosen


def _falls(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and after < before


def _precise(chosen: Chosen, reading: Logged) -> Logged:
    """The same evaluation with the most digits that any source has of it."""
    same = [
        each
        for each in chosen.evaluations
        if abs(each.value - reading.value) <= max(each.unit, reading.unit) * 1.0001 + _SIX_DIGITS
        and (each.step == reading.step or None in (each.step, reading.step))
        and (each.epoch == reading.epoch or None in (each.epoch, reading.epoch))
    ]
    return min(same, key=lambda each: each.unit or math.inf, default=reading) if reading.unit > 1e-6 else reading


def _may_be_its_best(name: str, chosen: Chosen) -> bool:
    """Whether a name does not say that it is the best of another metric, as ``best_loss`` does of an AUC."""
    told = [word for word in words_of(name) if mode_of(word) is not None]
    own = {*words_of(chosen.name)} | {word for each in chosen.evaluations[:1] for word in words_of(each.name)}
    return not told or bool({*told} & own)


def _same_file(logged: str, prefix: str) -> bool:
    name = re.split(r"[\\/]", logged.strip().strip("'\""))[-1]
    part = filenames.bundle_part(name)
    return (part.prefix if part else name) == os.path.basename(prefix)


def _value_in_name(name: str) -> tuple[str, float, float] | None:
    """(metric, value, half a unit of its last digit) in the name of a file."""
    found = [
        (match["name"] or "", float(match["value"]), 0.5 * 10.0 ** -len(match["value"].partition(".")[2]) + _SIX_DIGITS)
        for match in _IN_NAME.finditer(name)
    ]
    return found[-1] if found else None


def from_name(prefix: str, metric: str | None, mode: Mode | None) -> Chosen | None:
    """A metric and its value as the name of a checkpoint tells them, when no log does; None when it does not."""
    name = os.path.basename(prefix)
    for ending in filenames.KERAS_ENDINGS:
        name = name.removesuffix(ending)
    found = _value_in_name(name)
    if found is None or not (metric or found[0]):
        return None
    if metric and found[0] and not {*words_of(metric)} & {*words_of(found[0])}:
        return None  # the number of something else
    called = metric or found[0]
    direction = mode or mode_of(called)
    if direction is None:
        return None
    row = Logged(called, found[1], None, None, prefix, 0, unit=found[2], path=prefix)
    return Chosen(called, direction, "the name of the file tells it", (row,))
