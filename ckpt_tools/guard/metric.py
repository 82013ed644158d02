"""Which number of a trainer's output is its metric. Pure state: lines go in, evaluations come out.

The user names it (a metric, or a pattern with a group), or the trainer's own best lines do. From names alone nothing
is guessed: without either there are candidates, and no evaluation.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ckpt_tools.errors import UsageError
from ckpt_tools.runs import metric_lines
from ckpt_tools.runs.metric_lines import (
    HELD_OUT,
    TRAINING,
    Mode,
    Reading,
    canonical,
    is_praised,
    lines_of,
    mode_of,
    plain,
    read_line,
    words_of,
)

_MOST_CANDIDATES = 64
# So many lines are read for their names alone; after them only those that can be meant.
_MOST_LINES = 2_000
_PRAISING = re.compile(r"best|improved|decreased|increased|reduced|dropped|rose", re.IGNORECASE)


@dataclass(frozen=True)
class Identity:
    """Which metric it is: two with another identity are never compared. ``mode`` is None until something tells it.

    ``source`` tells how it is read: ``name`` and ``pattern`` as the user said, ``lines`` from the trainer's own best
    ones.
    """

    name: str
    mode: Mode | None
    reason: str
    source: Literal["name", "pattern", "lines"] = "lines"
    pattern: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(said: Any) -> Identity | None:
        """None for what is no identity."""
        if not isinstance(said, dict) or not isinstance(said.get("name"), str):
            return None
        mode, source, pattern = said.get("mode"), said.get("source"), said.get("pattern")
        return Identity(
            said["name"],
            mode if mode in ("min", "max") else None,
            str(said.get("reason", "")),
            source if source in ("name", "pattern") else "lines",
            pattern if isinstance(pattern, str) else None,
        )


@dataclass(frozen=True)
class Evaluation:
    """A value of the metric as it was printed. ``path`` is the file that the line names, ``saving`` that it will be."""

    value: float
    text: str
    step: int | None = None
    epoch: int | None = None
    path: str | None = None
    saving: bool = False
    percent: bool = False


def better(value: float, than: float | None, mode: Mode | None) -> bool:
    """Whether a value is a better one; NaN never is, nothing is worse than none.

    While the direction is not known every one is: only the trainer's own new bests are then evaluations.
    """
    if not math.isfinite(value):
        return False
    if than is None or mode is None:
        return True
    return metric_lines.better(mode, value, than)


class MetricReader:
    """Reads lines of one run. ``feed`` takes text with the name of where it came from.

    Of several sources that show the metric (the output, a log file) only the first counts: else each evaluation
    would be seen again when a log is flushed.

    Raises UsageError when the mode is neither given nor told by the name, or the pattern is none.
    """

    def __init__(
        self,
        metric: str | None = None,
        mode: Mode | None = None,
        pattern: str | None = None,
        identity: Identity | None = None,
    ) -> None:
        if not metric and not pattern and identity is not None:
            # As the guard before this one was told.
            metric = identity.name if identity.source == "name" else None
            pattern = identity.pattern if identity.source == "pattern" else None
            mode = mode or identity.mode
        self._asked = canonical(metric) if metric else None
        self._pattern = _compiled(pattern) if pattern else None
        self._mode = mode
        self.identity = identity
        self.candidates: dict[str, float] = {}
        self.conflict: tuple[str, ...] = ()
        self._phrase: str | None = None
        self._source: str | None = None
        self._last: Reading | None = None
        self._undirected: list[float] = []
        self._lines = 0
        if metric or pattern:
            name = metric or _group_name(pattern or "")
            direction = mode or mode_of(name) or (identity.mode if identity else None)
            if direction is None:
                raise UsageError(
                    f"whether a higher or a lower {name!r} is better, its name does not tell",
                    hint="add --mode min or --mode max",
                )
            reason = "as given" if mode else f"{direction} by its name"
            asked = Identity(name, direction, reason, "pattern" if pattern else "name", pattern)
            self.identity = self._same(asked, identity)

    @staticmethod
    def _same(asked: Identity, stored: Identity | None) -> Identity:
        if stored is not None and (canonical(stored.name), stored.mode) != (canonical(asked.name), asked.mode):
            raise UsageError(
                f"the pins of this run are by {stored.name} ({stored.mode}), not by {asked.name} ({asked.mode}): "
                "unlike metrics are not compared",
                hint=f"pass --metric {stored.name!r} --mode {stored.mode}, or move the pins away",
            )
        return stored or asked

    def feed(self, source: str, text: str) -> list[Evaluation]:
        """The evaluations in some whole lines."""
        found = []
        for line in lines_of(text):
            self._lines += 1
            if self._lines > _MOST_LINES and not self._may_tell(line):
                continue
            evaluation = self._read(source, line)
            if evaluation is not None:
                found.append(evaluation)
        return found

    def _may_tell(self, line: str) -> bool:
        """Whether a line can hold an evaluation: reading each of a progress bar would cost more than the guard may."""
        if self._pattern is not None:
            return True
        if self._asked is not None:
            lower = line.lower()
            return all(word in lower for word in words_of(self._asked))
        return _PRAISING.search(line) is not None

    def _read(self, source: str, line: str) -> Evaluation | None:
        said = read_line(line)
        for each in said.readings:
            if not is_praised(each.name) and len(self.candidates) < _MOST_CANDIDATES:
                self.candidates[each.name] = each.value
        reading: Reading | None
        path, saving = None, False
        if self._pattern is not None:
            reading = self._matched(line)
        elif self._asked is not None:
            reading = self._named(said.readings)
            if said.best and reading is not None and said.best.reading.key == reading.key:
                path, saving = said.best.path, said.best.saving
        else:
            if said.best is None:
                return None
            reading, path, saving = said.best.reading, said.best.path, said.best.saving
            if not self._concluded(reading, said.best.mode):
                return None
        if reading is None or source != (self._source or source):
            return None
        self._source = source
        if self._last is not None and reading.same_as(self._last):
            return None  # the same evaluation, printed again, perhaps with fewer digits
        self._last = reading
        return Evaluation(reading.value, line.strip()[:500], said.step, said.epoch, path, saving, reading.percent)

    def _matched(self, line: str) -> Reading | None:
        assert self._pattern is not None
        match = self._pattern.search(plain(line))
        if match is None:
            return None
        text = match["value"] if "value" in match.groupdict() else match[1]
        try:
            return Reading("value", float(text.strip().rstrip("%")), text.strip().endswith("%"))
        except (TypeError, ValueError, AttributeError):
            return None

    def _named(self, readings: tuple[Reading, ...]) -> Reading | None:
        """The reading that is meant: of exactly the name asked for, else the only one that contains it as words."""
        assert self._asked is not None
        exact = [reading for reading in readings if reading.key == self._asked]
        if exact:
            return exact[0]
        if self._phrase is not None:
            return next((reading for reading in readings if reading.key == self._phrase), None)
        asked = words_of(self._asked)
        found: dict[str, Reading] = {}
        for reading in readings:
            words = words_of(reading.name)
            inside = any(words[i : i + len(asked)] == asked for i in range(len(words)))
            foreign = is_praised(reading.name) or ({*words} & TRAINING and not {*asked} & TRAINING)
            if asked and inside and not foreign:
                found.setdefault(reading.key, reading)
        if len(found) > 1:
            held_out = {key: each for key, each in found.items() if {*words_of(each.name)} & HELD_OUT}
            found = held_out if len(held_out) == 1 else found
        if len(found) > 1:
            self.conflict = tuple(reading.name for reading in found.values())
            return None
        if not found:
            return None
        self._phrase, reading = next(iter(found.items()))
        return reading

    def _concluded(self, reading: Reading, mode: Mode | None) -> bool:
        """Whether a best line is one of the metric that the first of them named."""
        name = reading.name or "best"
        if self.identity is not None and canonical(name) != canonical(self.identity.name):
            return False
        if self.identity is not None and self.identity.mode is not None:
            return True
        direction = self._mode or mode or mode_of(name)
        reason = "the trainer's own best lines name it; "
        if direction is not None:
            reason += f"{direction} " + ("as given" if self._mode else "as the line says" if mode else "by its name")
        elif math.isfinite(reading.value):
            # Each new best of the trainer is better than the one before.
            self._undirected.append(reading.value)
            first, last = self._undirected[0], self._undirected[-1]
            if first == last:
                reason += "whether higher or lower is better is not known yet"
            else:
                direction = "max" if last > first else "min"
                reason += f"{direction} as its bests went from {first:g} to {last:g}"
        self.identity = Identity(name, direction, reason)
        return True


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--pattern is no regular expression: {error}") from error
    if not compiled.groups:
        raise UsageError(
            "--pattern has no group: which part of the line is the value?", hint="for example 'auc: ([0-9.]+)'"
        )
    return compiled


def _group_name(pattern: str) -> str:
    """A name for what a pattern finds: the last words before its first group."""
    before = re.split(r"\((?!\?[:=!<])", pattern, maxsplit=1)[0]
    words = re.findall(r"[^\W\d_][\w@]*", re.sub(r"\\.", " ", before))
    return "_".join(words[-3:]) or "value"
