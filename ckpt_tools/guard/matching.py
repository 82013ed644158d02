"""Which save holds the weights of which evaluation. Pure: events in the order of their times go in, matches come out.

A trainer either prints a value and then saves the model that has it (``after``), or saves and then evaluates what it
saved (``before``). Between two evaluations only one of the two can be: a save between them belongs to the first when
it comes after its line, to the second when it comes before. Which of the two a trainer does is told by the user, or by
a line that names the file, or learned: the one side is close in time and the other far, or, where both are close,
what came first in the run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Order = Literal["before", "after"]

# How much closer one side must be to tell something, in seconds and as a ratio.
_CLEAR_SECONDS = 0.2
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
    """A complete save; it was begun and ended at these times. ``name`` is its path in the run."""

    number: int
    begun: float
    ended: float
    name: str = ""

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
    _near: list[tuple[float, float]] = field(default_factory=list)
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
            ready = self._matched(event, self._previous, "before") if self._order_of(event) == "before" else []
            matches += ready
            if not ready:
                self._claim, self._before_claim = event, list(self._previous)
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
        if claim is None or self._order_of(claim) != "after":
            return []
        following = [save for save in self._previous if _of(save, claim)]
        if not following or now - following[0].ended < _LATE_SECONDS:
            return []
        self._claim, self._before_claim = None, []
        return self._matched(claim, following, "after")

    def ended(self) -> list[Match]:
        """Nothing more comes: what is open is settled with what there is."""
        matches = self._settle(None) if self._claim is not None else []
        self._claim, self._last, self._previous, self._first = None, None, [], None
        return matches

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
        fitting = [save for save in saves if _of(save, claim) and save.number not in self._taken]
        chosen = [save for save in fitting if save.called_best] or fitting
        if not chosen:
            return []
        save = chosen[-1] if order == "before" else chosen[0]
        self._taken = {*sorted(self._taken)[-1000:], save.number}
        return [Match(claim.number, save.number)]

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
        self._near.append((max(behind, 0.0), max(ahead, 0.0)))
        count = len(self._near)
        after, before = (sum(pair[side] for pair in self._near) / count for side in (0, 1))
        if abs(after - before) >= _CLEAR_SECONDS and max(after, before) >= _CLEAR_RATIO * min(after, before):
            self.order = "after" if after < before else "before"
        else:
            self.order = self._first

    def _settle(self, until: float | None) -> list[Match]:
        """The open claim, now that the next evaluation is there (or nothing more comes)."""
        claim = self._claim
        assert claim is not None
        following = [save for save in self._previous if _of(save, claim)]
        order = self._order_of(claim)
        if order is None:
            order = self._told_by(claim, following, until)
        chosen = self._before_claim if order == "before" else following
        matches = self._matched(claim, chosen, order or "after")
        self._claim, self._before_claim = None, []
        return matches

    def _told_by(self, claim: Evaluated, following: list[Saved], until: float | None) -> Order | None:
        if self._before_claim and following:
            ahead = claim.time - self._before_claim[-1].ended
            behind = following[0].begun - claim.time
            clear = abs(ahead - behind) >= _CLEAR_SECONDS and max(ahead, behind) >= _CLEAR_RATIO * min(ahead, behind)
            return ("before" if ahead < behind else "after") if clear else self._first
        if following and until is not None:
            behind, ahead = following[0].begun - claim.time, until - following[-1].ended
            if behind - ahead >= _CLEAR_SECONDS and behind >= _CLEAR_RATIO * max(ahead, 0.0):
                return "before"  # the save belongs to the next evaluation: this one was saved nowhere
            return "after"
        return "before" if self._before_claim else "after"


def _of(save: Saved, claim: Evaluated) -> bool:
    """Whether a save is of the file that the line named; of any, when it named none."""
    if claim.path is None:
        return True
    base = claim.path.rstrip("/").rsplit("/", 1)[-1]
    return save.name.rsplit("/", 1)[-1] in (base, base.removesuffix(".index"))
