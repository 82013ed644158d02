"""The trainer as a child of the guard: its output passed through unchanged, its signals forwarded, its code returned.

    trainer --stdout, stderr--> this process --> the real stdout, stderr
                                     `--copies--> the keeper, a second process (`ckpt_tools.guard.keeper`)

A stream that is a terminal stays one for the trainer (a pseudo-terminal); any other is a pipe. The keeper holds the
reading ends too: when this process is killed it passes the output on, so that the trainer does not die of a broken
pipe; when the keeper dies, this process goes on alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
import time
import tty
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ckpt_tools.errors import NotFoundError, StorageError, UsageError
from ckpt_tools.fs import local
from ckpt_tools.guard.frames import ENDED, STDERR, STDOUT, Frame
from ckpt_tools.guard.keeper import Keeper
from ckpt_tools.guard.matching import Order
from ckpt_tools.guard.metric import MetricReader
from ckpt_tools.guard.pins import Pins
from ckpt_tools.guard.pump import Pump, Stream
from ckpt_tools.guard.second import KeeperProcess, fork_keeper
from ckpt_tools.guard.signals import Signals
from ckpt_tools.runs.metric_lines import Mode

# Behind the trainer's end: what it started may hold its output open for ever.
_DRAIN_SECONDS = 1.0
# What is waited for wakes the wait; this is for what nobody foresaw.
_POLL_SECONDS = 1.0

_FORWARDED = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGALRM", "SIGWINCH")
    if hasattr(signal, name)
)
_FROM_TERMINAL = {signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCONT}
_KERNEL = 0x80  # si_code of a signal that the terminal sent, to the whole foreground group


@dataclass(frozen=True)
class Options:
    """What is guarded, and by which metric; without one it is concluded from the trainer's own best lines."""

    run: str
    metric: str | None = None
    mode: Mode | None = None
    pattern: str | None = None
    keep: int = 3
    saved: Order | None = None

    def reader(self) -> MetricReader:
        """Raises UsageError when this is not what the pins of the run are by, or is no metric; or for no directory."""
        if local.is_there(self.run) and not local.is_directory(self.run, follow=True):
            directory = local.directory_of(self.run)
            raise UsageError("a file: a run is the directory where it lies", path=self.run, hint=f"pass {directory}")
        return MetricReader(self.metric, self.mode, self.pattern, Pins(self.run).identity())


@dataclass(frozen=True)
class Ended:
    """How it ended: the trainer's exit code (128 and the signal when one killed it), and what the keeper says.

    ``died``: the keeper says nothing, because it was killed.
    """

    code: int
    pinned: int = 0
    metric: dict[str, Any] | None = None
    candidates: dict[str, float] = field(default_factory=dict)
    conflict: tuple[str, ...] = ()
    best_seen: float | None = None
    failures: tuple[str, ...] = ()
    died: bool = False


def run(command: Sequence[str], options: Options, *, stdout: int = 1, stderr: int = 2) -> Ended:
    """Run a trainer under guard and wait for its end. ``stdout`` and ``stderr`` are where its output goes.

    Raises UsageError for a metric that is none, NotFoundError when there is no such command, before anything started.
    """
    reader = options.reader()
    signals = {*_FORWARDED, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    streams, ends = _streams(stdout, stderr)
    try:
        keeper = fork_keeper(Keeper(options.run, reader, options.keep, options.saved), streams, ends, before)
        try:
            child = _start(command, ends, before)
        except BaseException:
            keeper.tell(Frame(ENDED, time.time(), b"-"))
            raise
        finally:
            for descriptor in {*ends}:
                os.close(descriptor)
        with contextlib.closing(Signals(signals)) as sent:
            code = _attend(child, streams, keeper, sent)
            said = keeper.finish(sent)
    finally:
        for source in {stream.source for stream in streams}:
            with contextlib.suppress(OSError):
                os.close(source)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return Ended(
        code=code if code >= 0 else 128 - code,
        pinned=int(said.get("pinned", 0)),
        metric=said.get("metric"),
        candidates=said.get("candidates") or {},
        conflict=tuple(said.get("conflict") or ()),
        best_seen=said.get("best_seen"),
        failures=tuple(said.get("failures") or ()),
        died=bool(said.get("died")),
    )


# ---------------------------------------------------------------------------------------------- the trainer


def _streams(stdout: int, stderr: int) -> tuple[list[Stream], tuple[int, int]]:
    """The streams, and the ends of them that the trainer writes into: of stdout, of stderr."""
    terminal = [os.isatty(stdout), os.isatty(stderr)]
    if all(terminal) and os.path.sameopenfile(stdout, stderr):
        source, slave = _terminal(stdout)
        return [Stream(STDOUT, source, stdout, slave)], (slave, os.dup(slave))
    streams = []
    ends = []
    for kind, target, is_terminal in ((STDOUT, stdout, terminal[0]), (STDERR, stderr, terminal[1])):
        source, end = _terminal(target) if is_terminal else os.pipe()
        streams.append(Stream(kind, source, target, end if is_terminal else None))
        ends.append(end)
    return streams, (ends[0], ends[1])


def _terminal(like: int) -> tuple[int, int]:
    """A pseudo-terminal as large as a real one, which passes every byte as it is."""
    source, slave = pty.openpty()
    tty.setraw(slave)
    _resize(like, slave)
    return source, slave


def _resize(real: int, slave: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.ioctl(slave, termios.TIOCSWINSZ, fcntl.ioctl(real, termios.TIOCGWINSZ, bytes(8)))


def _start(command: Sequence[str], ends: tuple[int, int], mask: set[Any]) -> subprocess.Popen[bytes]:
    local.require_possible(command)
    # Through a pipe Python would keep its lines back until there are 8 KB of them, and a best be seen too late.
    environment = {"PYTHONUNBUFFERED": "1", **os.environ}
    try:
        return subprocess.Popen(
            list(command),
            stdout=ends[0],
            stderr=ends[1],
            env=environment,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask),
        )
    except FileNotFoundError as error:
        raise NotFoundError("no such command", path=command[0]) from error
    except OSError as error:
        raise StorageError(f"cannot run the command: {error.strerror or error}", path=command[0]) from error


def _attend(child: subprocess.Popen[bytes], streams: list[Stream], keeper: KeeperProcess, signals: Signals) -> int:
    """Pass everything on until the trainer has ended and its output is read; returns its code, negative of a signal."""
    pump = Pump(streams, lambda kind, data: keeper.tell(Frame(kind, time.time(), data)))
    drain_until = None
    while True:
        alive = pump.step(_POLL_SECONDS if drain_until is None else 0.0, keeper.waiting, [signals.fileno()])
        for each in signals.take():
            _forward(each, child, streams)
        keeper.flush()
        if drain_until is not None and (not alive or not pump.last_step or time.monotonic() > drain_until):
            return int(child.returncode)
        if drain_until is None and child.poll() is not None:
            # What it wrote before its end may have come after the last look: there is one more at least.
            drain_until = time.monotonic() + _DRAIN_SECONDS
        if not alive and drain_until is None:
            # It closed its output and goes on.
            select.select([signals], [], [], _POLL_SECONDS)


def _forward(sent: Any, child: subprocess.Popen[bytes], streams: list[Stream]) -> None:
    number = signal.Signals(sent.si_signo)
    if number is signal.SIGWINCH:
        for stream in streams:
            if stream.slave is not None:
                _resize(stream.target, stream.source)
    elif not (number in _FROM_TERMINAL and sent.si_code == _KERNEL):  # the terminal sent it to the trainer too
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)
