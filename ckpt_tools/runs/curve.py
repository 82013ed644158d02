"""The one history of a run: the old trainer's log, the evaluation at each resume, this trainer's rows, joined.

Every command and picture that shows how a run went draws this. Sources overlap (a row of ``train.log`` is also an event
of TensorBoard), and a resume begins new ones: what a more trustworthy source tells is not told again by another.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ckpt_tools.runs.evaluations import LoggedEvaluation

Axis = Literal["step", "evaluation"]


@dataclass(frozen=True)
class Curve:
    """The evaluations of a run, in the order in which its model went through them.

    ``resumes`` are the numbers of the points that the run was resumed at, or after which it went on without saying so;
    ``best`` is the number of the highest recall, None without points.
    """

    points: tuple[LoggedEvaluation, ...] = ()
    resumes: tuple[int, ...] = ()

    # Asked for each row of a table.
    @cached_property
    def best(self) -> int | None:
        return max(range(len(self.points)), key=lambda number: self.points[number].recall, default=None)

    @cached_property
    def resumed(self) -> frozenset[int]:
        return frozenset(self.resumes)

    @property
    def recalls(self) -> list[float]:
        return [point.recall for point in self.points]

    @property
    def axis(self) -> Axis:
        """``step``; ``evaluation`` where steps do not tell the order: a resumed run may count from the start again, or
        go back to its best."""
        steps = [point.step for point in self.points]
        return "step" if all(before <= after for before, after in itertools.pairwise(steps)) else "evaluation"

    @property
    def places(self) -> list[int]:
        """Where each point stands on the axis."""
        by_step = self.axis == "step"
        return [point.step if by_step else number for number, point in enumerate(self.points, start=1)]

    def to_json(self) -> dict[str, Any]:
        return {
            "axis": self.axis,
            "points": [
                {**point.to_json(), "resumed": number in self.resumed} for number, point in enumerate(self.points)
            ],
            "best": self.best,
        }


def join(evaluations: Sequence[LoggedEvaluation], kind_of: Callable[[LoggedEvaluation], Hashable]) -> Curve:
    """One curve from several logs.

    Args:
        evaluations: those of sources that count the same steps, the most trustworthy source first, each in its order.
        kind_of: the kind of source; what one kind tells is one series, in however many files.
    """
    joined: list[LoggedEvaluation] = []
    for _, rows in itertools.groupby(evaluations, kind_of):
        joined = _merged(joined, list(rows))
    points: list[LoggedEvaluation] = []
    marks: list[int] = []
    last_steps = _last_steps(evaluations)
    for row in joined:
        before = points[-1] if points else None
        repeated = before is not None and before.step == row.step and before.agrees_with(row.recall)
        if not repeated:
            points.append(row)
        if row.resumed or (not repeated and before is not None and _goes_on(before, row, last_steps, kind_of)):
            marks.append(len(points) - 1)
    return Curve(tuple(points), tuple(dict.fromkeys(marks)))


def _merged(better: list[LoggedEvaluation], rows: list[LoggedEvaluation]) -> list[LoggedEvaluation]:
    """The rows of a better source, and before the first of the same or a later step those that it does not tell."""
    told: dict[int, list[LoggedEvaluation]] = {}
    for row in better:
        if not row.resumed:  # at that step it repeats what another source may tell more of
            told.setdefault(row.step, []).append(row)
    highest = list(itertools.accumulate((row.step for row in better), max))
    waiting: dict[int, list[LoggedEvaluation]] = {}
    for row in rows:
        if not any(other.agrees_with(row.recall) for other in told.get(row.step, ())):
            waiting.setdefault(bisect_left(highest, row.step), []).append(row)
    merged: list[LoggedEvaluation] = []
    for number, row in enumerate(better):
        merged += [*waiting.get(number, ()), row]
    return merged + waiting.get(len(better), [])


def _last_steps(evaluations: Iterable[LoggedEvaluation]) -> dict[str, int]:
    """The last step of each source."""
    return {row.source: row.step for row in evaluations}


def _goes_on(
    before: LoggedEvaluation,
    row: LoggedEvaluation,
    last_steps: dict[str, int],
    kind_of: Callable[[LoggedEvaluation], Hashable],
) -> bool:
    """Whether a resume lies between two points: the count goes back, or a source ends and a new one takes over."""
    if row.step < before.step:
        return True
    return row.source != before.source and kind_of(row) == kind_of(before) and last_steps[before.source] <= row.step
