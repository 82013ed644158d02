"""Which checkpoints of a shelf may go, by policies, and what always stays. Pure: nothing is read but what is asked for.

Each policy keeps; what none of them keeps may go, but never

- what something else needs: the one that a state file names as newest, what an undo goes back to;
- the best of its line by any source of values (the log, its name, what is stored in it), as long as none that is whole
  is as good, in either direction where the direction is not known;
- the only whole one of its line;
- anything of a line of which nothing tells the best, unless the user says that this does not matter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ckpt_tools.analysis.shelf import Holding, ShelfFile, Value
from ckpt_tools.errors import UsageError

_AGE = re.compile(r"(?P<number>\d{1,9}(?:\.\d{1,9})?)(?P<unit>[smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Policies:
    """What is kept of each line: the ``last`` N, the ``best`` N, the first of ``every`` K steps, what is younger than
    so many seconds. ``unknown_best``: a line of which nothing tells the best is thinned out all the same."""

    last: int | None = None
    best: int | None = None
    every: int | None = None
    younger_than: float | None = None
    unknown_best: bool = False

    def require_one(self) -> None:
        """Raises UsageError without any policy, or for one below 1."""
        given = [self.last, self.best, self.every, self.younger_than]
        if all(policy is None for policy in given):
            raise UsageError("say what to keep: --last, --best, --every, --younger-than, or several of them")
        if any(policy is not None and not policy > 0 for policy in given):
            raise UsageError("a policy keeps at least one: its number is above 0")


@dataclass(frozen=True)
class Kept:
    """A checkpoint that stays, and why, in words."""

    holding: Holding
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    """``may_go`` in the order of their paths. ``undecided`` are the lines of which nothing tells the best."""

    keep: tuple[Kept, ...]
    may_go: tuple[Holding, ...]
    undecided: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """The bytes that are free when all that may go is gone."""
        return freed(file for holding in self.may_go for file in holding.files)


@dataclass
class _Line:
    holdings: list[Holding]
    reasons: dict[str, list[str]] = field(default_factory=dict)

    def keep(self, holding: Holding, why: str) -> None:
        known = self.reasons.setdefault(holding.path, [])
        if why not in known:
            known.append(why)


def seconds_of(age: str) -> float:
    """An age such as ``12h``, ``30d`` or ``2w`` in seconds. Raises UsageError for what is none."""
    match = _AGE.fullmatch(age.strip())
    if match is None:
        raise UsageError(f"{age!r} is no age: a number and one of s, m, h, d, w, for example 30d")
    return float(match["number"]) * _SECONDS[match["unit"]]


def decide(
    holdings: Iterable[Holding], policies: Policies, *, is_whole: Callable[[Holding], bool], now: float
) -> Decision:
    """Which checkpoints stay and which may go.

    Args:
        is_whole: whether every byte of a checkpoint is as it should be; asked only of what may have to stay for it.
        now: seconds since 1970.

    Raises UsageError without a policy.
    """
    policies.require_one()
    lines: dict[str, _Line] = {}
    for holding in holdings:
        lines.setdefault(holding.line, _Line([])).holdings.append(holding)
    undecided: list[str] = []
    known: dict[str, bool] = {}

    def whole(holding: Holding) -> bool:
        if holding.path not in known:
            known[holding.path] = is_whole(holding)
        return known[holding.path]

    for name, line in lines.items():
        line.holdings.sort(key=lambda holding: holding.order)
        for holding in line.holdings:
            for why in holding.bound:
                line.keep(holding, why)
        _apply(line, policies, now)
        ranks = list(_rankings(line.holdings))
        for words, ranking in ranks:
            _protect(line, ranking, words, whole)
        stay = [holding for holding in line.holdings if holding.path in line.reasons]
        if not any(known.get(holding.path) for holding in stay) and not any(map(whole, stay)):
            _protect(line, line.holdings[::-1], "the newest that is whole", whole)
        doubtful = [h for h in line.holdings if h.path not in line.reasons]
        if doubtful and (not ranks or any(holding.guessed for holding in doubtful)):
            left = [h for h in doubtful if h.guessed or (not ranks and not policies.unknown_best)]
            for holding in left:
                line.keep(holding, "nothing tells which of these is the best")
            if left:
                undecided.append(name)
    keep, may_go = [], []
    for line in lines.values():
        for holding in line.holdings:
            if holding.path in line.reasons:
                keep.append(Kept(holding, tuple(line.reasons[holding.path])))
            else:
                may_go.append(holding)
    return Decision(
        tuple(sorted(keep, key=lambda kept: kept.holding.path)),
        tuple(sorted(may_go, key=lambda holding: holding.path)),
        tuple(sorted(undecided)),
    )


def _apply(line: _Line, policies: Policies, now: float) -> None:
    """What the policies keep of a line, oldest first."""
    if policies.last is not None:
        for holding in line.holdings[-policies.last :]:
            line.keep(holding, f"one of the last {policies.last}" if policies.last > 1 else "the last")
    if policies.best is not None:
        for words, ranking in _rankings(line.holdings):
            for holding in ranking[: policies.best]:
                line.keep(holding, f"among the {policies.best} with {words}")
    if policies.every is not None:
        seen: set[int] = set()
        for holding in line.holdings:
            step = holding.number if holding.step is None else holding.step
            if step is None:
                line.keep(holding, "its step is not known")
            elif step // policies.every not in seen:
                seen.add(step // policies.every)
                line.keep(holding, f"the first of {policies.every} steps")
    if policies.younger_than is not None:
        for holding in line.holdings:
            if now - holding.written < policies.younger_than:
                line.keep(holding, "young")


def _protect(line: _Line, ranking: Sequence[Holding], words: str, whole: Callable[[Holding], bool]) -> None:
    """Keep the first of a ranking, and what follows it as long as none of them is whole."""
    for holding in ranking:
        sound = whole(holding)
        line.keep(holding, words if sound else f"{words}, damaged")
        if sound:
            return


def _rankings(holdings: Sequence[Holding]) -> Iterable[tuple[str, list[Holding]]]:
    """The checkpoints of a line by each source and metric, best first; of equal ones the oldest, which is the one that
    a best "so far" was reached at. Those without a value are left out."""
    table: dict[tuple[str, str], list[tuple[Value, int]]] = {}
    for number, holding in enumerate(holdings):
        for value in holding.values:
            if math.isfinite(value.value):
                table.setdefault((value.source, value.metric), []).append((value, number))
    for (source, metric), rows in table.items():
        modes = {value.mode for value, _ in rows}
        by = {"log": "its log", "name": "its name", "stored": "what is stored in it"}[source]
        for mode in ("max", "min"):
            if modes <= {"max", "min"} and mode not in modes:
                continue
            sign = -1 if mode == "max" else 1
            ordered = sorted(rows, key=lambda row: (sign * row[0].value, row[1]))
            extreme = (
                "the best" if len(modes) == 1 and None not in modes else "the highest" if sign < 0 else "the lowest"
            )
            yield f"{extreme} {metric} by {by}", [holdings[number] for _, number in ordered]


def freed(files: Iterable[ShelfFile]) -> int:
    """The bytes that removing these names frees: those of files that have no other name."""
    names: dict[tuple[int, int], list[ShelfFile]] = {}
    for file in files:
        names.setdefault((file.fingerprint.device, file.fingerprint.inode), []).append(file)
    return sum(each[0].fingerprint.size for each in names.values() if len(each) >= each[0].names)
