"""Passing the output of a trainer on, as it comes; either process of a guard can do it."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_PIECE = 1 << 16


@dataclass
class Stream:
    """One stream of the trainer: where its output is read, and where it goes."""

    kind: int
    source: int
    target: int
    slave: int | None = None


class Pump:
    """Passes the output of a trainer on, as it comes. ``copy`` gets every piece with the kind of its stream."""

    def __init__(self, streams: Sequence[Stream], copy: Callable[[int, bytes], None]) -> None:
        self._open = {stream.source: stream for stream in streams}
        self._gone: set[int] = set()
        self._copy = copy
        self.last_step = 0
        self.noticed = False
        for source in self._open:
            os.set_blocking(source, False)

    @property
    def sources(self) -> list[int]:
        """What is still read from."""
        return list(self._open)

    def step(self, seconds: float, writable: int | None = None, readable: Sequence[int] = ()) -> bool:
        """Wait for output and pass it on; False when all streams have ended. What else is ``writable`` or ``readable``
        ends the wait as well, and ``noticed`` tells whether the latter did."""
        self.last_step = 0
        if not self._open:
            return False
        ready, _, _ = select.select([*self._open, *readable], [writable] if writable is not None else [], [], seconds)
        self.noticed = any(each in ready for each in readable)
        for source in (each for each in ready if each in self._open):
            try:
                data = os.read(source, _PIECE)
            except BlockingIOError:
                continue  # the other process was faster
            except OSError:  # a terminal whose last user has left
                data = b""
            if not data:
                del self._open[source]
                continue
            stream = self._open[source]
            self.last_step += len(data)
            self._copy(stream.kind, data)
            self._write(stream.target, data)
        return bool(self._open)

    def _write(self, target: int, data: bytes) -> None:
        view = memoryview(data)
        while view and target not in self._gone:
            try:
                view = view[os.write(target, view) :]
            except BlockingIOError:
                select.select([], [target], [], 1.0)
            except OSError:
                # Nobody reads it any more, or there is no room for it: the training goes on, unheard.
                self._gone.add(target)
