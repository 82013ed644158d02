"""The signals of this process, as they come: a thread waits for them, so that whoever waits for output wakes up too."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any


class Signals:
    """What is sent of some ``numbers``, all of which are blocked in this process; `fileno` is readable when there is
    something. No other thread may wait for them."""

    def __init__(self, numbers: set[Any]) -> None:
        self._numbers = numbers
        self._come: deque[Any] = deque()
        self._ended = False
        self._told, self._tells = os.pipe()
        for descriptor in (self._told, self._tells):
            os.set_blocking(descriptor, False)
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self._told

    def take(self) -> Iterator[Any]:
        """What has come since the last call, without the ends of children, as `signal.sigwaitinfo` tells it."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._told, 1 << 12)
        while self._come:
            sent = self._come.popleft()
            if sent.si_signo != signal.SIGCHLD:
                yield sent

    def close(self) -> None:
        """What comes from now on is left to whoever waits next."""
        self._ended = True
        signal.pthread_kill(self._thread.ident or 0, signal.SIGCHLD)
        self._thread.join()
        os.close(self._told)
        os.close(self._tells)

    def _wait(self) -> None:
        while True:
            sent = signal.sigwaitinfo(self._numbers)
            if self._ended:
                return
            self._come.append(sent)
            with contextlib.suppress(BlockingIOError):  # it is readable anyway
                os.write(self._tells, b"+")
