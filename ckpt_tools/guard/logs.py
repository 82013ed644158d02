"""The logs in the directory of a run, as they grow: what is new in each becomes lines of names and values."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ckpt_tools.errors import CkptError, CorruptError
from ckpt_tools.format.events import read_events
from ckpt_tools.format.filenames import is_events
from ckpt_tools.fs import local
from ckpt_tools.runs.metric_history import name_of_tag

_MOST_BYTES = 1 << 20


class News(NamedTuple):
    """Whole lines of a log that were not there before; ``time`` is when they came, in seconds since 1970."""

    path: str
    text: str
    time: float


@dataclass
class _Log:
    """How far a log was read; of a CSV file also its columns. ``damaged``: events behind this cannot be told."""

    offset: int
    columns: list[str] | None = None
    rest: bytes = b""
    damaged: bool = False


class Logs:
    """What was read of the logs of one run. ``run`` is its directory."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._logs: dict[str, _Log] = {}

    def skip(self, sizes: Mapping[str, int]) -> None:
        """Leave out what is there already: it is of runs before this one."""
        self._logs = {path: _Log(size) for path, size in sizes.items()}

    def news(self, sizes: Mapping[str, int], now: float) -> Iterator[News]:
        """What is new in the logs of these paths and ``sizes``, in the order in which it came."""
        found = [each for path, size in sizes.items() for each in self._of(path, size, now)]
        yield from sorted(found, key=lambda each: each.time)

    def _of(self, path: str, size: int, now: float) -> Iterator[News]:
        log = self._logs.setdefault(path, _Log(0))
        if size < log.offset:
            self._logs[path] = log = _Log(0)
        if size == log.offset:
            return
        try:
            data = self._more(log, path)
        except CkptError:
            return
        where = os.path.relpath(path, self._run)
        if is_events(path):
            yield from _from_events(log, data, path, where, now)
            return
        end = data.rfind(b"\n") + 1
        log.rest = data[end:][-_MOST_BYTES:]
        text = data[:end].decode("utf-8", "replace")
        if path.endswith(".csv"):
            text = _from_csv(log, text)
        if text:
            yield News(where, text, now)

    def _more(self, log: _Log, path: str) -> bytes:
        with local.RandomAccessFile(path) as file:
            # The records of an event file follow from one another: none is left out, and the rest is read next time.
            start = log.offset if is_events(path) else max(log.offset, file.size - _MOST_BYTES)
            data = log.rest + file.read(start, min(file.size - start, _MOST_BYTES))
            log.offset = min(file.size, start + _MOST_BYTES)
        return data


def _from_events(log: _Log, data: bytes, path: str, where: str, now: float) -> Iterator[News]:
    """The scalars of events, one line of JSON for each; they came when they were made, not when they were flushed."""
    end = 0
    try:
        for event in () if log.damaged else read_events(data):
            end = event.end
            time = min(now, event.time) if math.isfinite(event.time) and event.time > 0 else now
            for tag, step, value in event.scalars:
                if math.isfinite(value):
                    yield News(where, json.dumps({"step": step, name_of_tag(tag, path): value}) + "\n", time)
    except CorruptError:
        log.damaged = True
    # A record that is longer than all that is read at once is of images, and what follows it is not looked for.
    log.damaged = log.damaged or (end == 0 and len(data) > 2 * _MOST_BYTES)
    log.rest = b"" if log.damaged else data[end:]


def _from_csv(log: _Log, text: str) -> str:
    """The rows of a CSV file as lines of names and values."""
    lines = []
    for row in csv.reader(text.splitlines()):
        if log.columns is None:
            log.columns = row
        else:
            lines.append(", ".join(f"{name}: {value}" for name, value in zip(log.columns, row, strict=False)))
    return "\n".join(lines)
