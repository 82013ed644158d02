"""The second process of a guard: looks at the run and at what it prints, and pins every best.

Nothing here may end the training: what fails is noted, tried again, and said at the end.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ckpt_tools.errors import BusyError, CkptError, CorruptError, StorageError
from ckpt_tools.format.filenames import is_data
from ckpt_tools.fs import durable
from ckpt_tools.guard.adopting import kept_best, worth_of
from ckpt_tools.guard.logs import Logs
from ckpt_tools.guard.matching import Evaluated, Match, Matcher, Order, Saved
from ckpt_tools.guard.metric import Evaluation, MetricReader, better
from ckpt_tools.guard.pins import Pins
from ckpt_tools.guard.saves import MOST_ENTRIES, Save, Watch, is_being_written, why_not_whole
from ckpt_tools.runs.pins import Pin

# Looking may take one part in so many of the time, and is done no more often than this.
_SHARE = 100
_SHORTEST, _LONGEST = 0.01, 2.0
# Where the system tells of changes: how often it is looked all the same, and while something is open.
_TOLD_SECONDS, _OPEN_SECONDS = 1.0, 0.1
_RETRY_SECONDS = 1.0
# The kernel's clock, which stamps files, is behind by up to a tick.
_TICK = 0.01
_MOST_FAILURES = 20
# What costs less than finding out that it was not wanted; and how long a save may be older than its line.
_CHEAP_BYTES = 32 << 20
_GRACE_SECONDS = 1.0
_MOST_EVALUATIONS = 10_000
# What goes before the first file of a save: an export of a model is traced for as long as that.
_UNSEEN_SECONDS = {"saved-model": 10.0}
# Where nobody tells whether a file is still written, it is left alone for so long.
_SETTLED_SECONDS = 0.3


@dataclass
class _Job:
    """A pin that is being made in the other thread: that takes as long as reading and syncing all of it."""

    match: Match
    held: Pin
    value: float
    future: concurrent.futures.Future[Pin]


@dataclass
class Keeper:
    """What a guard knows of one run. ``saved`` is the order as the user says it, None to learn it."""

    run: str
    reader: MetricReader
    keep: int = 3
    saved: Order | None = None
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pins = Pins(self.run)
        self.watch = Watch(self.pins.run, os.path.abspath(self.pins.directory))
        order = self.saved or self.pins.state().get("order")
        self.matcher = Matcher(order if order in ("before", "after") else None)
        self.best_seen: float | None = None
        self.pinned = 0
        self._held: dict[int, Pin] = {}
        self._unheld: dict[int, tuple[Save, float]] = {}
        self._evaluations: dict[int, Evaluation] = {}
        self._undone: list[Match] = []
        self._jobs: list[_Job] = []
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._later: list[Saved] = []
        self._known: set[Save] = set()
        self._refused: dict[Save, float] = {}
        self._logs = Logs(self.pins.run)
        self._number = 0
        self._numbers = 0
        self._best: float | None = None
        self._compared_by = self.reader.identity
        self._retry_at = 0.0
        self._heard_until = 0.0
        self._interval = _SHORTEST
        self._next_look = self._looked_at = 0.0
        self._stirred = False
        self._open = contextlib.ExitStack()
        self.ready = False

    # ------------------------------------------------------------------------------------------ life

    def begin(self, *, training: bool = True) -> bool:
        """Take the lock, settle what a guard that was killed left, and look at what lies there.

        False while another guard of the same run is at work.
        """
        if self.ready:
            return True
        try:
            self.pins.open()
            self._open.enter_context(durable.locked(self.pins.directory))
        except BusyError:
            return False
        except CkptError as error:
            self.fail(error)
            return False
        self.ready = True
        self._number = self.pins.next_number()
        self._settle_last_run()
        if training:
            self._adopt()
            self.watch.listening = True
            self._known = {save for save, _ in self.watch.look()}
            for save in self._known:
                self.watch.completed(save)
            self._logs.skip(self.watch.logs)
            self._guarded(self.pins.begin_events)
        return True

    def end(self) -> None:
        """The training is over: settle what is open."""
        if not self.ready:
            return
        self.look(math.inf)
        self._apply(self.matcher.ended())
        self.wait()
        self._retry()
        self.wait()
        self._keep_newest()
        self._tidy()
        self._guarded(lambda: self.pins.record({"event": "end", "time": time.time()}))

    def _keep_newest(self) -> None:
        """Of a run whose metric is not known the newest save is kept, with no value."""
        if self.reader.identity is None and self._held:
            newest = self._held.pop(max(self._held))
            self._guarded(lambda: self.pins.pin(newest, value=None, identity=None))
            self._guarded(lambda: self.pins.retain(self.keep, None))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        self.watch.stop_listening()
        self._open.close()
        self.ready = False

    def fail(self, error: BaseException) -> None:
        text = str(error) if isinstance(error, CkptError) else f"a bug in ckpt-tools: {type(error).__name__}: {error}"
        if text not in self.failures and len(self.failures) < _MOST_FAILURES:
            self.failures.append(text)

    def _guarded(self, work: Callable[[], object]) -> bool:
        try:
            work()
        except CkptError as error:
            self.fail(error)
            return False
        return True

    @property
    def pause(self) -> float:
        """How long may be waited for output before the next look, in seconds."""
        return max(0.0, self._next_look - time.monotonic())

    @property
    def notices(self) -> list[int]:
        """What becomes readable when something changed, while that is not known yet."""
        return [self.watch.notices.fileno()] if self.watch.notices is not None and not self._stirred else []

    def stirred(self) -> None:
        """Something changed: look as soon as the last look is not too near."""
        self._stirred = True
        self._next_look = min(self._next_look, self._looked_at + self._interval)

    def _plan_look(self) -> None:
        """When to look again, if the system tells of nothing until then."""
        self._looked_at, wait = time.monotonic(), self._interval
        if self.watch.is_told:
            retry = min(self._refused.values(), default=math.inf) - self._looked_at
            wait = _OPEN_SECONDS if self._jobs or self._undone or self._later else _TOLD_SECONDS
            wait = max(self._interval, min(wait, max(_OPEN_SECONDS, retry)))
            if (left := self.matcher.due - time.time()) > 0:
                wait = min(wait, left + _TICK)
        self._next_look = self._looked_at + wait

    # ------------------------------------------------------------------------------------------ events

    def heard(self, source: str, text: str, when: float) -> None:
        """Some whole lines of the trainer, which came at ``when`` (seconds since 1970)."""
        if not text:
            return
        for evaluation in self.reader.feed(source, text):
            self._evaluated(evaluation, when)

    def look(self, until: float | None = None) -> None:
        """Look for new saves and new lines in logs; what was saved after ``until``, by default now, waits."""
        until = time.time() if until is None else until
        self._stirred = False
        self._collect()
        self._later = self._new_saves()
        for path, text, told in self._logs.news(self.watch.logs, time.time()):
            # Events are told late, with the time at which they were made; and never out of their order.
            when = self._heard_until = max(self._heard_until, min(told, until))
            self._take_seen(when)
            self._apply(self.matcher.passed(when))
            for evaluation in self.reader.feed(path, text):
                self._evaluated(evaluation, when, look=False)
        self._take_seen(until)
        self._apply(self.matcher.passed(until))
        if self._undone and time.monotonic() > self._retry_at:
            self._retry()
        self._tidy(time.time() - _GRACE_SECONDS)
        self._plan_look()

    def _evaluated(self, evaluation: Evaluation, when: float, *, look: bool = True) -> None:
        mode = self.reader.identity.mode if self.reader.identity else None
        if self._compared_by != self.reader.identity:
            # What lay there before is of the metric that the trainer now names, or it is not.
            self._compared_by, self._best = self.reader.identity, self._best_of_pins(self._jobs)
        wanted = better(evaluation.value, self._best, mode)
        if better(evaluation.value, self.best_seen, mode):
            self.best_seen = evaluation.value
        if look and (wanted or self.matcher.waits):
            self._take_until(when)
        self._numbers += 1
        self._evaluations[self._numbers] = evaluation
        self._evaluations.pop(self._numbers - _MOST_EVALUATIONS, None)
        if self._numbers % _MOST_EVALUATIONS == 0:
            self._guarded(self.pins.begin_events)
        event = Evaluated(self._numbers, when, wanted, evaluation.path, evaluation.saving)
        said = {"event": "evaluation", "time": when, "value": evaluation.value, "text": evaluation.text}
        said |= {
            "step": evaluation.step,
            "epoch": evaluation.epoch,
            "path": evaluation.path,
            "saving": evaluation.saving,
        }
        self._guarded(lambda: self.pins.record(said))
        self._apply(self.matcher.evaluated(event))
        self._learned()
        self._tidy()

    def _take_until(self, when: float) -> None:
        """The saves that ended before something else was seen are events before it."""
        self._later = self._new_saves()
        self._take_seen(when)

    def _take_seen(self, when: float) -> None:
        events, self._later = self._later, []
        self._take([event for event in events if event.ended <= when])
        self._later = [event for event in events if event.ended > when]

    def _take(self, events: Iterable[Saved]) -> None:
        for event in sorted(events, key=lambda saved: saved.ended):
            self.matcher.saved(event)

    def _learned(self) -> None:
        self._guarded(lambda: self.pins.remember(self.reader.identity, self.matcher.order))

    def _new_saves(self) -> list[Saved]:
        """Versions of checkpoints that were not there at the last look, complete now; held when they may be wanted."""
        events, self._later = self._later, []
        now = time.time()
        started = time.thread_time()
        there = self.watch.look()
        self._interval = min(max(_SHORTEST, _SHARE * (time.thread_time() - started)), _LONGEST)
        if self.watch.crowded:
            self.fail(StorageError(f"more than {MOST_ENTRIES} files: pass the directory of the saves", path=self.run))
        for save, begun in there:
            if save in self._known or self._refused.get(save, 0.0) > time.monotonic():
                continue
            writing = is_being_written(save)
            young = writing is None and save.kind != "bundle" and now - save.written < _SETTLED_SECONDS
            link = self.watch.comes_by_rename(save)
            copied = sum(file.size for file in save.files if not (link and save.data(file)))
            # What costs little to hold is looked into then; and a Keras file is copied first in any case: starting what
            # reads HDF5 may take longer than the trainer's next save.
            look_first = save.kind != "keras" and copied >= _CHEAP_BYTES
            if writing or young or (look_first and why_not_whole(save) is not None):
                self._refused[save] = time.monotonic() + (0.0 if now - save.written < 2 else _RETRY_SECONDS)
                continue
            number = self._number
            self._unheld[number] = save, begun
            if self.matcher.wants() or copied < _CHEAP_BYTES:
                try:
                    if self._hold(number) is None:
                        continue  # it is another one already
                except CorruptError:
                    self._unheld.pop(number, None)
                    self._refused[save] = math.inf if now - save.written > _RETRY_SECONDS else 0.0
                    continue
                except CkptError as error:
                    self.fail(error)
            self._number += 1
            self._known.add(save)
            self.watch.completed(save)
            lag = _TICK if self.matcher.order == "after" else 0.0
            source = os.path.relpath(save.path, self.pins.run)
            events.append(_saved(number, save, min(begun, save.written), save.written + lag, source))
        current = {save for save, _ in there}
        self._known &= current
        self._refused = {save: until for save, until in self._refused.items() if save in current}
        return events

    def _hold(self, number: int) -> Pin | None:
        """Hold a save that was seen; None when it is not there any more. Raises StorageError: it can be tried again."""
        save, begun = self._unheld[number]
        link = self.watch.comes_by_rename(save)
        check = save.kind != "keras" or is_being_written(save) is None
        held = None
        if save.unchanged():
            try:
                held = self.pins.hold(save, begun=begun, number=number, link=link, check=check)
            except StorageError:
                # No room: what is pinned beside the best one is worth less than this.
                self._make_room()
                held = self.pins.hold(save, begun=begun, number=number, link=link, check=check)
        del self._unheld[number]
        if held is not None:
            self._held[number] = held
        return held

    def _needed(self) -> set[int]:
        """The saves that may still be asked for: those that the matcher knows, and those that it does not know yet."""
        return self.matcher.needed() | {match.save for match in self._undone} | {event.number for event in self._later}

    def _make_room(self) -> None:
        needed = self._needed()
        for number in [number for number in self._held if number not in needed]:
            self._drop(number)
        self._guarded(lambda: self.pins.retain(1, self.reader.identity))

    # ------------------------------------------------------------------------------------------ pinning

    def _apply(self, matches: Iterable[Match]) -> None:
        for match in matches:
            evaluation = self._evaluations.get(match.evaluation)
            mode = self.reader.identity.mode if self.reader.identity else None
            if evaluation is None or not better(evaluation.value, self._best, mode):
                continue
            try:
                held = self._held.get(match.save)
                if held is None and match.save in self._unheld:
                    held = self._hold(match.save)
                if held is not None:
                    self._submit(match, held, evaluation)
            except CkptError as error:
                self._try_again(match, error)

    def _submit(self, match: Match, held: Pin, evaluation: Evaluation) -> None:
        """Have a pin made in the other thread: the next save must not be missed meanwhile."""
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(1)
        del self._held[match.save]
        self._best = evaluation.value
        self._jobs.append(_Job(match, held, evaluation.value, self._pool.submit(self._pin, held, evaluation)))

    def wait(self) -> None:
        """Wait for the pins that are being made."""
        while self._jobs:
            self._collect(wait=True)

    def _collect(self, *, wait: bool = False) -> None:
        """See what became of the pins that were being made."""
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            if not wait and not job.future.done():
                self._jobs.append(job)
                continue
            try:
                job.future.result()
                self.pinned += 1
                continue
            except CorruptError as error:
                # Two saves were mixed, or the disk is bad: what was seen right after it may be whole.
                self._guarded(lambda held=job.held: self.pins.drop([held]))  # type: ignore[misc]
                if not self._instead(job):
                    self.fail(error)
            except CkptError as error:
                self._held[job.match.save] = job.held
                self._try_again(job.match, error)
            except Exception as error:
                self.fail(error)
            self._best = self._best_of_pins((*jobs, *self._jobs))

    def _instead(self, job: _Job) -> bool:
        """Pin the version of a save that its trainer completed after the one that turned out to be none: the same data,
        with another index."""
        evaluation = self._evaluations.get(job.match.evaluation)
        for number in sorted(self._held):
            held = self._held[number]
            same = held.source == job.held.source and _data_of(held) == _data_of(job.held)
            if evaluation is not None and number > job.match.save and same:
                self._submit(Match(job.match.evaluation, number), held, evaluation)
                return True
        return False

    def _best_of_pins(self, jobs: Iterable[_Job]) -> float | None:
        """The value to beat: of what is pinned, or being pinned."""
        mode = self.reader.identity.mode if self.reader.identity else None
        best = self.pins.best(self.reader.identity)
        value = best.value if best else None
        for job in jobs:
            if not job.future.done() and better(job.value, value, mode):
                value = job.value
        return value

    def _try_again(self, match: Match, error: CkptError) -> None:
        self.fail(error)
        self._undone = [*self._undone[-8:], match]
        self._retry_at = time.monotonic() + _RETRY_SECONDS

    def _drop(self, number: int) -> None:
        held = self._held.pop(number, None)
        if held is not None:
            self._guarded(lambda: self.pins.drop([held]))

    def _pin(self, held: Pin, evaluation: Evaluation) -> Pin:
        """In the other thread."""
        identity = self.reader.identity
        said = {"step": evaluation.step, "epoch": evaluation.epoch, "line": evaluation.text}
        pin = self.pins.pin(held, value=evaluation.value, identity=identity, evaluated=time.time(), **said)
        self._guarded(lambda: self.pins.retain(self.keep, identity))
        return pin

    def _retry(self) -> None:
        undone, self._undone = self._undone, []
        if undone:
            self._make_room()
            self._apply(undone)

    def _tidy(self, before: float = math.inf) -> None:
        """Let go of saves that can no longer be asked for; of those that were written ``before`` only."""
        needed = self._needed()
        for number in [number for number, held in self._held.items() if number not in needed and held.written < before]:
            self._drop(number)
        for number in [number for number, (save, _) in self._unheld.items() if save.written < before]:
            if number not in needed:
                del self._unheld[number]

    # ------------------------------------------------------------------------------------------ the last run

    def _settle_last_run(self) -> None:
        """Finish what a guard that was killed had read and held, and find the best one that there is."""
        identity = self.reader.identity or self.pins.identity()
        if self.reader.identity is None:
            self.reader.identity = identity
        best = self.pins.best(identity, quick=False)
        self._best = best.value if best else None
        events = [event for event in self.pins.events() if event.get("event") == "evaluation"]
        ended = any(event.get("event") == "end" for event in self.pins.events())
        held = self.pins.held()
        if not ended and (events or held):
            started = next((e.get("time", 0.0) for e in self.pins.events() if e.get("event") == "start"), 0.0)
            self._guarded(lambda: self._replay(events, held, float(started)))
            self.wait()
        self._guarded(self.pins.drop_held)
        self._held.clear()

    def _replay(self, events: list[dict[str, Any]], held: list[Pin], started: float) -> None:
        origins = {pin.origin for pin in (*held, *self.pins.all())}
        self._held = {pin.number: pin for pin in held}
        saves = [_saved(pin.number, pin, pin.begun, pin.written, pin.source) for pin in held]
        for save, _ in self.watch.look():
            if save.written < started or save.origin in origins or why_not_whole(save) is not None:
                continue
            pin = self.pins.hold(save, begun=save.written, number=self._number, link=False)
            if pin is not None:
                self._held[self._number] = pin
                saves.append(_saved(self._number, save, save.written, save.written, pin.source))
                self._number += 1
        timeline: list[tuple[float, Any]] = [(save.ended, save) for save in saves]
        timeline += [(float(event["time"]), event) for event in events]
        mode = self.reader.identity.mode if self.reader.identity else None
        for when, event in sorted(timeline, key=lambda each: each[0]):
            if isinstance(event, Saved):
                self._apply(self.matcher.passed(event.ended))
                self.matcher.saved(event)
                continue
            self._numbers += 1
            evaluation = Evaluation(
                float(event["value"]),
                str(event.get("text", "")),
                event.get("step"),
                event.get("epoch"),
                event.get("path"),
            )
            self._evaluations[self._numbers] = evaluation
            wanted = better(evaluation.value, self._best, mode)
            saving = bool(event.get("saving"))
            self._apply(self.matcher.evaluated(Evaluated(self._numbers, when, wanted, evaluation.path, saving)))
        self._apply(self.matcher.ended())
        self._learned()

    def _adopt(self) -> None:
        """Pin what lies in the run from before: the restarted trainer may overwrite it with something worse.

        What it is worth is the bar, where the run tells it.
        """
        save = kept_best(self.pins.run, [save for save, _ in self.watch.look() if why_not_whole(save) is None])
        if save is None:
            return
        if any(pin.origin == save.origin for pin in self.pins.all()):
            return

        def adopt() -> None:
            held = self.pins.hold(save, begun=save.written, number=self._number, link=False)
            self._number += 1
            if held is None:
                return
            identity = self.reader.identity
            worth = worth_of(save, self.pins.run, identity)
            if worth is None:
                self.pins.pin(held, value=None, identity=identity)
            else:
                said = {"step": worth.step, "line": worth.reason, "stored": worth.stored}
                self.pins.pin(held, value=worth.value, identity=worth.identity, **said)
            self.pins.retain(self.keep, identity)

        self._guarded(adopt)
        self._best = self._best_of_pins(())


def _data_of(held: Pin) -> list[tuple[str, int, int]]:
    return [file for file in held.origin if is_data(file[0])]


def _saved(number: int, what: Save | Pin, begun: float, ended: float, name: str) -> Saved:
    """A save for the matcher, which may have been begun before its first file was there."""
    return Saved(number, begun, ended, name, _UNSEEN_SECONDS.get(what.kind, 0.0))
