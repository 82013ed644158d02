"""A sign that work goes on, where nothing else says so: one line of a terminal, gone when it is not needed any more."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

from ckpt_tools.console.escapes import safe

# What is done sooner needs no sign that it is being done.
_PATIENCE_SECONDS = 1.0
_FRAME_SECONDS = 0.1
_WHEELS = ("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\")


class Pulse:
    """Says on stderr what is being done and for how long, once nothing else has been shown for a second.

    Whatever else is shown holds it back (`held`). It writes to a descriptor of its own, so that it goes on while the
    noise of a library is kept off stderr, and from a thread of its own, which ends with `end`.
    """

    def __init__(self, words: str) -> None:
        self._words = safe(words)
        self._lock = threading.RLock()
        self._holders = 0
        self._begun = self._rested = time.monotonic()
        self._shown = False
        self._ended = threading.Event()
        self._terminal = os.dup(sys.stderr.fileno())
        utf8 = (sys.stderr.encoding or "").lower().replace("-", "") == "utf8"
        self._wheel = _WHEELS[0 if utf8 else 1]
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self._thread.start()

    def say(self, words: str) -> None:
        """This is being done from now on."""
        with self._lock:
            self._words, self._begun = safe(words), time.monotonic()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Show nothing in the block: something else is shown or printed, or somebody is asked."""
        with self._lock:
            self._holders += 1
            self._clear()
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                self._rested = time.monotonic()

    def end(self) -> None:
        """Take the line away for good."""
        self._ended.set()
        self._thread.join()
        self._clear()
        os.close(self._terminal)

    def _beat(self) -> None:
        turn = 0
        while not self._ended.wait(_FRAME_SECONDS):
            with self._lock:
                now = time.monotonic()
                if not self._holders and now - self._rested >= _PATIENCE_SECONDS:
                    turn += 1
                    self._shown = True
                    self._write(f"\r{self._wheel[turn % len(self._wheel)]} {self._line(int(now - self._begun))}\x1b[K")

    def _line(self, seconds: int) -> str:
        clock = f" {seconds // 60}:{seconds % 60:02}"
        # A line that the terminal breaks in two could not be taken away.
        return self._words[: max(0, self._columns - len(clock) - 3)] + clock

    @property
    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._terminal).columns or 80
        except OSError:
            return 80

    def _clear(self) -> None:
        if self._shown:
            self._shown = False
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._terminal, text.encode("utf-8", "replace"))
