"""Which evaluation the number in a checkpoint's name means.

A log counts epochs from 0 or from 1, and so does the name of a file, each for itself: Keras' CSVLogger from 0 and its
ModelCheckpoint from 1. A CheckpointManager counts neither: ``ckpt-3`` is its third save, and where only improvements
are saved, of any epoch. What lies beside the checkpoint, its own step and its own counter tell which it is; where they
do not, there is no answer.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from ckpt_tools.errors import CkptError
from ckpt_tools.format import filenames
from ckpt_tools.fs import paths
from ckpt_tools.lineages.base import read_step
from ckpt_tools.lineages.names import SAVE_COUNTER
from ckpt_tools.readers.bundle import Bundle

_DIGITS = re.compile(r"\d{1,12}")
_SAYS_BEST = re.compile(r"best", re.IGNORECASE)
_ROLE = re.compile(r"^best[-_.]|[-_.]best$", re.IGNORECASE)


class Evaluation(Protocol):
    """One value of a log, as far as it is counted."""

    @property
    def value(self) -> float: ...
    @property
    def step(self) -> int | None: ...
    @property
    def epoch(self) -> int | None: ...
    @property
    def source(self) -> str: ...
    @property
    def best(self) -> bool: ...
    @property
    def saved(self) -> bool: ...


T = TypeVar("T", bound=Evaluation)


def says_best(prefix: str) -> bool:
    """Whether a checkpoint's name, or that of its directory, says that it is a best one."""
    directory, name = os.path.split(prefix.rstrip("/"))
    return _SAYS_BEST.search(f"{os.path.basename(directory)}/{name}") is not None


def saves_of(prefix: str) -> int | None:
    """How many saves a `tf.train.Checkpoint` had counted when it wrote this one; None for anything else."""
    if prefix.endswith(filenames.KERAS_ENDINGS):
        return None
    try:
        with Bundle(prefix) as bundle:
            key = next((key for key in bundle.tensors if key.partition("/")[0] == SAVE_COUNTER), None)
            return None if key is None else read_step(bundle, key)
    except CkptError:
        return None


def numbers_beside(prefix: str, number: int) -> set[int]:
    """The numbers of the checkpoints that are called as this one, its own among them."""
    directory, name = os.path.split(prefix)
    stem = _DIGITS.sub("#", name)
    found = {number}
    try:
        names = paths.scan(directory or os.curdir)
    except CkptError:
        return found
    # The last, as it is the last that counts: ``yolov3_train_3``.
    place = max((i for i, text in enumerate(_DIGITS.findall(name)) if int(text) == number), default=None)
    for each in names:
        part = filenames.bundle_part(each)
        bare = part.prefix if part else each
        if place is not None and _DIGITS.sub("#", bare) == stem:
            found.add(int(_DIGITS.findall(bare)[place]))
    return found


def _counts_nothing(prefix: str, number: int) -> bool:
    """Whether a number is that of a run: one name for its newest and its best, ``net-0.ckpt`` and ``net-0.ckpt_best``,
    and no other number beside them."""
    directory, name = os.path.split(prefix)
    try:
        beside = {
            part.prefix if (part := filenames.bundle_part(each)) else each
            for each in paths.scan(directory or os.curdir)
        }
    except CkptError:
        return False
    same = {each for each in beside if _without_role(each) == _without_role(name)}
    return len(same | {name}) > 1 and numbers_beside(prefix, number) == {number}


def _without_role(name: str) -> str:
    ending = next((each for each in filenames.KERAS_ENDINGS if name.endswith(each)), "")
    return _ROLE.sub("", name.removesuffix(ending)) + ending


def candidates(
    prefix: str,
    number: int,
    step: int | None,
    evaluations: Sequence[T],
    at: Callable[..., T | None],
    is_better: Callable[[float, float], bool],
) -> list[T]:
    """The evaluations that a checkpoint with a number in its name may be of: where they differ, nothing tells which.

    Args:
        step: the stored step, where there is one.
        at: the one evaluation of a ``step`` or an ``epoch``, None where there is none or several differ.
        is_better: whether a value is better than another one.
    """
    epochs = sorted({each.epoch for each in evaluations if each.epoch is not None})
    steps = sorted({each.step for each in evaluations if each.step is not None})
    if step is None and _counts_nothing(prefix, number):
        return []
    # Where only the bests were logged, nobody knows how many epochs there were.
    whole = any(not each.best for each in evaluations)
    if saves_of(prefix) == number:
        if not whole:
            return []
        # Where the best has a place of its own, a manager for the others may count on between its saves.
        rows = [at(epoch=epoch) for epoch in epochs] if epochs else [at(step=step) for step in steps]
        series = _improvements(evaluations, is_better) if says_best(prefix) else rows
        return _of_save(number, max(numbers_beside(prefix, number)), series)
    by_step = at(step=number)
    by_epoch: list[T] = []
    if epochs:
        improved = _improvements(evaluations, is_better)
        beside = numbers_beside(prefix, number) if whole else set()
        shifts = _by_names(beside, epochs, improved) if whole else {-1, 0, 1}
        by_epoch = _of_epochs(prefix, number, shifts & _by_step(number, step, epochs[0]), epochs, improved, at)
        if whole and by_step is None:
            by_epoch = _or_of_saves(beside, number, step, by_epoch, epochs, improved)
    return [*([] if by_step is None else [by_step]), *by_epoch]


def _of_epochs(
    prefix: str,
    number: int,
    shifts: set[int],
    epochs: Sequence[int],
    improved: Sequence[T],
    at: Callable[..., T | None],
) -> list[T]:
    first, last = epochs[0], epochs[-1]
    if first != 0:
        # Both count from 1, unless something tells otherwise.
        only = 0 if 0 in shifts else 1
        row = at(epoch=number + only) if only in shifts else None
        return [] if row is None else [row]
    shifts = {shift for shift in shifts - {1} if first <= number + shift <= last}
    found = {shift: row for shift in sorted(shifts) if (row := at(epoch=number + shift)) is not None}
    if len(found) < len(shifts) and len({after - before for before, after in itertools.pairwise(epochs)}) > 1:
        return []  # which of them were measured follows no rule
    kept = {row.epoch for row in improved}
    if says_best(prefix) and 0 < len(kept & {row.epoch for row in found.values()}) < len(found):
        found = {shift: row for shift, row in found.items() if row.epoch in kept}
    return list(found.values())


def _or_of_saves(
    beside: set[int], number: int, step: int | None, by_epoch: list[T], epochs: Sequence[int], improved: Sequence[T]
) -> list[T]:
    """The same, where the number may count the saves of what was better: ``snapshot-3`` of a log of five epochs, the
    first, second and fourth of which were better. Where the log tells of these saves, and of no others, it does."""
    first = min(beside & {0}, default=1)
    series = improved if len(improved) == max(beside) + 1 - first and max(beside) < epochs[-1] else []
    if not series or not 0 <= number - first < len(series):
        return by_epoch
    counted = series[number - first]
    if all(each.saved for each in series):
        return [counted]
    passed = counted.epoch is None or counted.epoch + 1 - min(epochs[0], 1)  # so many epochs were over by then
    if step is not None and step > 0 and passed and step % passed:
        return by_epoch
    return [*by_epoch, counted]


def _of_save(number: int, newest: int, series: Sequence[T | None]) -> list[T]:
    """The evaluation of a save by its count, where there were as many of the one as of the other."""
    found = series[number - 1] if len(series) == newest and 0 < number <= newest else None
    return [] if found is None else [found]


def _by_names(beside: set[int], epochs: Sequence[int], improved: Sequence[Evaluation]) -> set[int]:
    """What may have to be added to a number of a name for that of the log, by the numbers that there are."""
    first, last, highest = epochs[0], epochs[-1], max(beside)
    if first not in (0, 1):
        return {0}
    ahead = 1 if first == 1 else -1  # from 0 in the names, from 1 in the log; or the other way
    if first == 0 and highest == last + 1:
        return {-1}
    # Where only what was better is kept, the last of it may be any.
    better_ones = {row.epoch for row in improved}
    all_kept = not all(number - 1 in better_ones for number in beside)
    if highest == last and (first == 1 or all_kept):
        return {0}
    if 0 in beside:
        return {0} if first == 0 else {ahead} if highest == last - 1 else {0, ahead}
    return {0, ahead}


def _by_step(number: int, step: int | None, first: int) -> set[int]:
    """The same by the stored step: an epoch has so many steps that they go into it."""
    both = {-1, 0, 1}
    if step is None or step <= 0 or number <= 0:
        return both
    from_one, from_zero = step % number == 0, step % (number + 1) == 0
    if from_one == from_zero:
        return both
    return {0 if from_one else 1} if first == 1 else {-1 if from_one else 0} if first == 0 else both


def _improvements(evaluations: Sequence[T], is_better: Callable[[float, float], bool]) -> list[T]:
    """Those that were the best so far, in the order of the log; none where its count falls, for it was begun again."""
    found: list[T] = []
    before: int | None = None
    for each in evaluations:
        count = each.step if each.epoch is None else each.epoch
        if count is None or each.source != evaluations[0].source:
            continue
        if before is not None and count < before:
            return []
        before = count
        if each.value == each.value and (not found or is_better(each.value, found[-1].value)):
            found.append(each)
    return found
