"""The second process of a guard: as the first one sees it, and its own life."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ckpt_tools.errors import EXIT_BUG, CkptError, CorruptError
from ckpt_tools.format import json_text
from ckpt_tools.guard.frames import ENDED, SOURCES, Decoder, Frame, Lines, encode
from ckpt_tools.guard.keeper import Keeper
from ckpt_tools.guard.pump import Pump, Stream
from ckpt_tools.guard.signals import Signals

# How long the trainer waits for the keeper to have looked at the run, and the end for the keeper, in seconds.
_START_SECONDS = 10.0
_FINISH_SECONDS = 600.0
_MOST_QUEUED = 8 << 20
_PIECE = 1 << 16
_POLL_SECONDS = 1.0
_LOCK_SECONDS = 0.5
_BEHIND_SECONDS = 0.5
# What ends the trainer must not end its guard: it ends when the output does.
_IGNORED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGPIPE")


class KeeperProcess:
    """The keeper as this process sees it: told what comes, never waited for."""

    def __init__(self, pid: int, told: int, answers: int) -> None:
        self._pid = pid
        self._told = told
        self._answers = answers
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._answer = bytearray()
        os.set_blocking(told, False)

    @property
    def waiting(self) -> int | None:
        """Where there is something to be written, when it can be."""
        return self._told if self._queue and self._told >= 0 else None

    def tell(self, frame: Frame) -> None:
        if self._told < 0:
            return
        data = encode(frame)
        self._queue.append(data)
        self._queued += len(data)
        while self._queued > _MOST_QUEUED and len(self._queue) > 1:
            # It cannot follow: a part of a frame may be under way, so the oldest stays.
            self._queued -= len(self._queue[1])
            del self._queue[1]
        self.flush()

    def flush(self) -> None:
        while self._queue and self._told >= 0:
            data = self._queue[0]
            try:
                count = os.write(self._told, data)
            except BlockingIOError:
                return
            except OSError:  # it died
                self._close()
                return
            self._queued -= count
            if count == len(data):
                self._queue.popleft()
            else:
                self._queue[0] = data[count:]

    def ready(self, seconds: float) -> None:
        """Wait until it has looked at the run, but not for ever."""
        select.select([self._answers], [], [], seconds)
        with contextlib.suppress(OSError):
            os.read(self._answers, 1)

    def finish(self, signals: Signals) -> Mapping[str, Any]:
        """What it says at the end; when it died or is interrupted, that."""
        self.tell(Frame(ENDED, time.time(), b""))
        deadline = time.monotonic() + _FINISH_SECONDS
        while time.monotonic() < deadline:
            self.flush()
            writing = [] if self.waiting is None else [self.waiting]
            ready, _, _ = select.select([self._answers, signals.fileno()], writing, [], _POLL_SECONDS)
            if self._answers in ready:
                data = os.read(self._answers, _PIECE)
                self._answer += data
                if not data:
                    break
            if any(sent.si_signo in (signal.SIGINT, signal.SIGTERM) for sent in signals.take()):
                return {
                    "died": True,
                    "failures": ["interrupted while the last pins were made: the next guard finishes them"],
                }
        self._close()
        os.close(self._answers)
        with contextlib.suppress(OSError):
            os.waitpid(self._pid, os.WNOHANG if time.monotonic() >= deadline else 0)
        with contextlib.suppress(ValueError):
            said = json_text.parse(self._answer.decode("utf-8", "replace") or "null")
            if isinstance(said, dict):
                return said
        return {
            "died": True,
            "failures": ["the guard's second process was killed: the next guard finishes what it held"],
        }

    def _close(self) -> None:
        if self._told >= 0:
            os.close(self._told)
            self._told = -1
        self._queue.clear()
        self._queued = 0


def fork_keeper(keeper: Keeper, streams: list[Stream], ends: tuple[int, int], mask: set[Any]) -> KeeperProcess:
    """Start the second process. ``ends`` are what the trainer writes into, ``mask`` the signals blocked before."""
    hears, told = os.pipe()
    answers, answer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = EXIT_BUG
        try:
            for descriptor in {told, answers, *ends}:
                os.close(descriptor)
            for name in _IGNORED:
                signal.signal(getattr(signal, name), signal.SIG_IGN)
            signal.signal(signal.SIGIO, lambda *_: None)  # of a lease that is given back anyway
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _Life(keeper, streams, hears, answer).live()
            code = 0
        finally:
            os._exit(code)
    os.close(hears)
    os.close(answer)
    process = KeeperProcess(pid, told, answers)
    process.ready(_START_SECONDS)
    return process


class _Nothing:
    """A file with no bytes."""

    path = os.devnull
    size = 0

    def read(self, offset: int, size: int) -> bytes:
        raise CorruptError("there are none", path=self.path, offset=offset + size)


def _load() -> None:
    """Start, while the trainer starts, what the first save would otherwise have to wait for."""
    from ckpt_tools.hdf5 import client

    for module in ("numpy", "ckpt_tools.readers.keras_h5", "ckpt_tools.readers.keras_zip"):
        importlib.import_module(module)
    with contextlib.suppress(CkptError):
        client.open_file(_Nothing())  # the process that reads HDF5 loads the library for its first file


class _Life:
    """From the first look at the run to the answer at the end."""

    def __init__(self, keeper: Keeper, streams: list[Stream], hears: int, answer: int) -> None:
        self._keeper = keeper
        self._streams = streams
        self._hears = hears
        self._answer = answer
        self._lines = {kind: Lines() for kind in SOURCES}
        self._lock_at = 0.0
        self._looked_at = 0.0
        self._heard_at = time.time()

    def live(self) -> None:
        self._safely(self._keeper.begin)
        with contextlib.suppress(OSError):
            os.write(self._answer, b"+")
        threading.Thread(target=_load, daemon=True).start()
        started = True
        for frame in self._frames():
            if frame.kind == ENDED:
                started = frame.data != b"-"
                break
            self._heard(frame.kind, self._lines[frame.kind].feed(frame.data), frame.time)
            self._heard_at = frame.time
        if started:
            for kind, lines in self._lines.items():
                self._heard(kind, lines.rest(), time.time())
            self._safely(self._keeper.begin)
            if not self._keeper.ready and not self._keeper.failures:
                self._keeper.failures.append("another guard of this run held its pins all the time: nothing was pinned")
            self._safely(self._keeper.end)
        self._reply()

    def _heard(self, kind: int, text: str, when: float) -> None:
        self._safely(lambda: self._keeper.heard(SOURCES[kind], text, when))

    def _safely(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # a bug or a full disk must not end the guard before the trainer ends
            self._keeper.fail(error)

    def _wait(self, sources: Sequence[int]) -> float:
        """Look at the run when it is time; returns how long may be waited for output, in seconds.

        What was said before a save must be heard before it: while there is output to read, only what was saved before
        the last of it is looked at, and not often.
        """
        if not self._keeper.ready:
            if time.monotonic() > self._lock_at:
                self._safely(self._keeper.begin)
                self._lock_at = time.monotonic() + _LOCK_SECONDS
            return 0.1
        if self._keeper.pause <= 0:
            behind = bool(sources and select.select(list(sources), [], [], 0)[0])
            if behind and time.monotonic() - self._looked_at < _BEHIND_SECONDS:
                return 0.0
            until = self._heard_at if behind else time.time()
            self._safely(lambda: self._keeper.look(until))
            self._looked_at = time.monotonic()
        return self._keeper.pause

    def _frames(self) -> Iterator[Frame]:
        """What the first process tells; when that dies, the output itself."""
        decoder = Decoder()
        while True:
            wait, notices = self._wait([self._hears]), self._keeper.notices
            ready, _, _ = select.select([self._hears, *notices], [], [], wait)
            if any(each in ready for each in notices):
                self._keeper.stirred()
            if self._hears in ready:
                data = os.read(self._hears, 1 << 20)
                if not data:
                    break
                yield from decoder.feed(data)
        heard: list[Frame] = []
        pump = Pump(self._streams, lambda kind, data: heard.append(Frame(kind, time.time(), data)))
        while pump.step(self._wait(pump.sources), readable=self._keeper.notices):
            if pump.noticed:
                self._keeper.stirred()
            yield from heard
            heard.clear()
        yield from heard

    def _reply(self) -> None:
        reader = self._keeper.reader
        said = {
            "pinned": self._keeper.pinned,
            "metric": reader.identity.to_json() if reader.identity else None,
            "candidates": {name: str(value) for name, value in reader.candidates.items()},
            "conflict": reader.conflict,
            "best_seen": self._keeper.best_seen,
            "failures": self._keeper.failures,
        }
        data = memoryview(json.dumps(said).encode())
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._answer, data) :]
        self._keeper.close()
