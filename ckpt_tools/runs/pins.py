"""What a guard has pinned of a run: the directory ``RUN.pins`` beside it, read by whoever looks at the run.

    RUN.pins/guard.json            the metric and its direction
    RUN.pins/N/                    a pin: the checkpoint's own files, and ``pin.json``, which says whose they are

`ckpt_tools.guard` writes them. Nothing here changes anything, and a pin that cannot be read is left out.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ckpt_tools.errors import CkptError, CorruptError
from ckpt_tools.format import json_text
from ckpt_tools.fs import paths

Kind = Literal["bundle", "saved-model", "keras", "v1"]

SCHEMA_VERSION = 1
PIN_FILE, STATE = "pin.json", "guard.json"
PINNED = re.compile(r"\d{6,}")
_MAX_JSON = 1 << 20


@dataclass(frozen=True)
class Pin:
    """One pinned checkpoint. ``path`` loads it; ``source`` is where in the run it was; times in seconds since 1970.

    ``value`` is the metric as it was printed, None for one that lay there before anything was known of it. ``step``
    and ``epoch`` are those of the line. ``stored`` tells whether the value is in the checkpoint itself too.
    """

    number: int
    directory: str
    name: str
    kind: Kind
    source: str
    written: float
    value: float | None = None
    metric: str | None = None
    mode: str | None = None
    step: int | None = None
    epoch: int | None = None
    line: str | None = None
    stored: bool = False
    nbytes: int = 0
    begun: float = 0.0
    evaluated: float | None = None
    origin: tuple[tuple[str, int, int], ...] = ()

    @property
    def path(self) -> str:
        return os.path.join(self.directory, self.name) if self.name else self.directory

    def stored_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "kind": self.kind,
            "source": self.source,
            "metric": {"name": self.metric, "mode": self.mode, "value": self.value} if self.metric else None,
            "step": self.step,
            "epoch": self.epoch,
            "line": self.line,
            "written": self.written,
            "begun": self.begun,
            "evaluated": self.evaluated,
            "stored_in_checkpoint": self.stored,
            "nbytes": self.nbytes,
            "origin": [list(each) for each in self.origin],
        }


def load_pin(directory: str, number: int) -> Pin:
    """What a pin's own file says. Raises CorruptError, NotFoundError."""
    path = os.path.join(directory, PIN_FILE)
    try:
        said = json_text.parse(paths.read_file(path, limit=_MAX_JSON))
        metric = said.get("metric") or {}
        value = metric.get("value")
        name = said["name"]
        if not isinstance(name, str) or (name and os.path.basename(name) != name) or name in (os.curdir, os.pardir):
            raise ValueError(f"names {name!r}, which is not a plain file name")
        return Pin(
            number=number,
            directory=directory,
            name=name,
            kind=said["kind"],
            source=str(said["source"]),
            written=float(said["written"]),
            value=None if value is None else float(value),
            metric=metric.get("name"),
            mode=metric.get("mode"),
            step=said.get("step"),
            epoch=said.get("epoch"),
            line=said.get("line"),
            stored=bool(said.get("stored_in_checkpoint")),
            nbytes=int(said.get("nbytes", 0)),
            begun=float(said.get("begun", 0.0)),
            evaluated=said.get("evaluated"),
            origin=tuple((str(a), int(b), int(c)) for a, b, c in said.get("origin", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(f"not what a guard writes: {error}", path=path) from error


def pins_in(directory: str, names: re.Pattern[str] = PINNED) -> Iterator[Pin]:
    """Every pin of a directory ``RUN.pins``, oldest first; what is damaged beyond recognition is left out."""
    with contextlib.suppress(CkptError):
        for name in paths.list_directory(directory):
            path = os.path.join(directory, name)
            if names.fullmatch(name) and paths.is_directory(path) and not paths.is_link(path):
                with contextlib.suppress(CkptError):
                    yield load_pin(path, int(name.rpartition("-")[2]))


def state_in(directory: str) -> dict[str, Any]:
    """What is known of the run: ``metric`` and ``order``; empty before the first."""
    try:
        said = json_text.parse(paths.read_file(os.path.join(directory, STATE), limit=_MAX_JSON))
    except (CkptError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def ranked(directory: str) -> list[Pin]:
    """The pins that have a value of the run's metric, the best first; of equal ones the first that was made. Empty
    while it is not known whether a higher or a lower value is better."""
    from ckpt_tools.runs.metric_lines import is_like  # where there are pins, and seldom else

    metric = state_in(directory).get("metric")
    name, mode = (metric.get("name"), metric.get("mode")) if isinstance(metric, dict) else (None, None)
    if mode not in ("min", "max") or not isinstance(name, str):
        return []
    sign = -1.0 if mode == "max" else 1.0
    valued = [pin for pin in pins_in(directory) if pin.value is not None and math.isfinite(pin.value)]
    fitting = [pin for pin in valued if is_like(pin.metric, pin.mode, name, mode)]
    return sorted(fitting, key=lambda pin: (sign * (pin.value or 0.0), pin.number))
