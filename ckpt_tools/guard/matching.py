"""Which save holds the weights of which evaluation. Pure: events in the order of their times go in, matches come out.

A trainer either prints a value and then saves the model that has it (``after``), or saves and then evaluates what it
saved (``before``). Between two evaluations only one of the two can be: a save between them belongs to the first when
it comes after its line, to the second when it comes before.

What is close in time belongs together, and the training lies between: that is enough where it takes longer than a
busy machine may be late. Else the order counts. It is told by the user, or by a line that says that it is saving; or
it is learned: one side is close and the other far, or, where both are far, what came first in the run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ckpt_tools.format.filenames import INDEX

Order = Literal["before", "after"]

# How much closer one side must be to tell something, in seconds and as a ratio.
_CLEAR_SECONDS = 0.1
_CLEAR_RATIO = 4.0
# How late a line may be read on a busy machine, in seconds.
_LATE_SECONDS = 0.5


@dataclass(frozen=True)
class Evaluated:
    """An evaluation; ``wanted`` when its model is a better one than all before.

    ``path`` is the file that its line names, ``saving`` whether the line says that it is about to be written.
    """

    number: int
    time: float
    wanted: bool
    path: str | None = None
    saving: bool = False


@dataclass(frozen=True)
class Saved:
    """A complete save; it was begun and ended at these times. ``name`` is its path in the run.

    It may have been begun so many seconds earlier, ``unseen``: an export traces a model before it writes a file.
    """

    number: int
    begun: float
    ended: float
    name: str = ""
    unseen: float = 0.0

    @property
    def called_best(self) -> bool:
        return "best" in self.name.lower()


@dataclass(frozen=True)
class Match:
    evaluation: int
    save: int


@dataclass
class Matcher:
    """``order`` is None until it is known; what is asked for then waits for the next event."""

    order: Order | None = None
    _first: Order | None = None
    _previous: list[Saved] = field(default_factory=list)
    _claim: Evaluated | None = None
    _before_claim: list[Saved] = field(default_factory=list)
    _last: Evaluated | None = None
    _taken: set[int] = field(default_factory=set)

    def evaluated(self, event: Evaluated) -> list[Match]:
        order = self._order_of(event)
        late = [save for save in self._previous if order == "after" and self._is_of_next(save, event)]
        self._previous = [save for save in self._previous if save not in late]
        matches = self._settle(event.time) if self._claim is not None else []
        if self._first is None:
            self._first = "before" if self._previous else "after"
        self._measure(event)
        if event.wanted:
            before = self._order_of(event) == "before"
            own = [save for save in self._previous if not (before and self._is_of_last(save, event))]
            ready = self._matched(event, own, "before") if before else []
            matches += ready
            if not ready:
                self._claim, self._before_claim = event, own
        self._last = event
        self._previous = late
        return matches

    def saved(self, event: Saved) -> None:
        if self._first is None and self._last is None:
            self._first = "before"
        self._previous.append(event)

    def passed(self, now: float) -> list[Match]:
        """Settle what no line can change any more that is read later than ``now``."""
        claim = self._claim
        if claim is None or now - claim.time < _LATE_SECONDS:
            return []
        order = self._order_of(claim)
        following = self._fitting(self._previous, claim)
        if following and now - following[0].ended < _LATE_SECONDS:
            return []
        if order is None:
            order = self._close_by(claim, following)
        if order is None or (order == "after" and not following):
            return []
        chosen = following if order == "after" else self._before_claim
        self._claim, self._before_claim = None, []
        return self._matched(claim, chosen, order)

    def ended(self) -> list[Match]:
        """Nothing more comes: what is open is settled with what there is."""
        matches = self._settle(None) if self._claim is not None else []
        self._claim, self._last, self._previous, self._first = None, None, [], None
        return matches

    @property
    def waits(self) -> bool:
        """Whether an evaluation still waits for its save."""
        return self._claim is not None

    @property
    def due(self) -> float:
        """The time at which `passed` may settle something though nothing happens until then; infinite without one."""
        if self._claim is None:
            return math.inf
        following = self._fitting(self._previous, self._claim)
        return max(self._claim.time, following[0].ended if following else 0.0) + _LATE_SECONDS

    def wants(self) -> bool:
        """Whether the next save may be asked for, now or later."""
        return self.order != "after" or self._claim is not None

    def needed(self) -> set[int]:
        """The saves that may still be asked for."""
        groups = [self._previous] if self.order != "after" or self._claim is not None else []
        groups += [self._before_claim] if self._claim is not None else []
        # Of those between two evaluations only the outermost can be meant, and those that are called best.
        return {
            save.number
            for group in groups
            for some in (group, [save for save in group if save.called_best])
            for save in (*some[:1], *some[-1:])
        }

    def _order_of(self, event: Evaluated) -> Order | None:
        return "after" if event.saving else self.order

    def _matched(self, claim: Evaluated, saves: list[Saved], order: Order) -> list[Match]:
        """The nearest save on one side that can be the evaluation's, and is no other's."""
        fitting = self._fitting(saves, claim)
        if not fitting:
            return []
        nearest = fitting[-1] if order == "before" else fitting[0]
        called = [save for save in fitting if save.called_best and self._is_beside(save, nearest, order)]
        save = nearest if not called else called[-1] if order == "before" else called[0]
        self._taken = {*sorted(self._taken)[-1000:], save.number}
        return [Match(claim.number, save.number)]

    def _is_beside(self, save: Saved, nearest: Saved, order: Order) -> bool:
        """Whether no training lies between two saves: it takes longer than what a trainer does at an evaluation."""
        pause = max(save.begun, nearest.begun) - min(save.ended, nearest.ended)
        if order == "before" and self._last is not None and save is not nearest:
            return pause < min(_LATE_SECONDS, save.begun - self._last.time)
        return pause < _LATE_SECONDS

    def _is_of_last(self, save: Saved, event: Evaluated) -> bool:
        """Whether what was saved after the last line was led to by it: the training lies between it and this line."""
        if self._last is None:
            return False
        behind = max(0.0, save.begun - self._last.time)
        return behind < _LATE_SECONDS and _CLEAR_RATIO * behind + _CLEAR_SECONDS < event.time - save.ended

    def _fitting(self, saves: list[Saved], claim: Evaluated) -> list[Saved]:
        return [save for save in saves if _of(save, claim) and save.number not in self._taken]

    def _close_by(self, claim: Evaluated, following: list[Saved]) -> Order | None:
        """The side on which a save is as close as a line is to what it is about, when the other has none so close."""
        before = self._fitting(self._before_claim, claim)
        ahead = abs(claim.time - before[-1].ended) if before else math.inf
        behind = max(0.0, following[0].begun - claim.time) if following else math.inf
        near, far = sorted((ahead, behind))
        if near > _LATE_SECONDS or far < _CLEAR_RATIO * near + _CLEAR_SECONDS:
            return None
        return "before" if ahead < behind else "after"

    def _is_of_next(self, save: Saved, event: Evaluated) -> bool:
        """Whether a save came after a line that was read only behind it: a busy machine reads late."""
        ahead = event.time - save.ended
        behind = save.begun - self._last.time if self._last is not None else _LATE_SECONDS
        return ahead < _LATE_SECONDS and _CLEAR_RATIO * ahead < behind

    def _measure(self, event: Evaluated) -> None:
        """What the times between two evaluations tell about the order."""
        if self.order is not None or self._last is None or not self._previous:
            return
        behind = self._previous[0].begun - self._last.time
        ahead = event.time - self._previous[-1].ended
        if min(behind, ahead) < _LATE_SECONDS:
            return  # which of two events so close came first is chance: that they are close is enough
        if _is_clear(ahead, behind):
            self.order = "after" if behind < ahead else "before"
        else:
            self.order = self._first

    def _settle(self, until: float | None) -> list[Match]:
        """The open claim, now that the next evaluation is there (or nothing more comes)."""
        claim = self._claim
        assert claim is not None
        following = self._fitting(self._previous, claim)
        order = self._order_of(claim) or self._told_by(claim, following, until)
        chosen = self._before_claim if order == "before" else following
        matches = self._matched(claim, chosen, order)
        self._claim, self._before_claim = None, []
        return matches

    def _told_by(self, claim: Evaluated, following: list[Saved], until: float | None) -> Order:
        before = self._fitting(self._before_claim, claim)
        if before and following:
            ahead, behind = claim.time - before[-1].ended, following[0].begun - claim.time
            if _is_clear(ahead, behind):
                return "before" if ahead < behind else "after"
            return self._first or "after"
        if following and until is not None:
            behind, ahead = following[0].begun - following[0].unseen - claim.time, until - following[-1].ended
            if ahead < behind and _is_clear(ahead, behind):
                return "before"  # the save belongs to the next evaluation: this one was saved nowhere
            return "after"
        return "before" if before else "after"


def _is_clear(one: float, other: float) -> bool:
    near, far = sorted((max(one, 0.0), max(other, 0.0)))
    return far - near >= _CLEAR_SECONDS and far >= _CLEAR_RATIO * near


def _of(save: Saved, claim: Evaluated) -> bool:
    """Whether a save is of the file that the line named; of any, when it named none."""
    if claim.path is None:
        return True
    base = claim.path.rstrip("/").rsplit("/", 1)[-1]
    return save.name.rsplit("/", 1)[-1] in (base, base.removesuffix(INDEX))
