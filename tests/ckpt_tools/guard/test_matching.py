"""Which save belongs to which evaluation: never a wrong one, whatever a trainer's habits."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from ckpt_tools.guard.matching import Evaluated, Match, Matcher, Order, Saved


@dataclass(frozen=True)
class Habit:
    """``order`` of line and save; ``every`` state is saved or the best; seconds of training, saving, evaluating."""

    order: Order
    every: bool
    training: float
    saving: float = 0.01
    evaluating: float = 0.0
    at_start: bool = False
    saying: bool = False


def course(habit: Habit, chance: random.Random, late: float, count: int = 12) -> list[tuple[float, int, float, bool]]:
    """Events in the order in which they are seen: time, number of the evaluation, begin of a save (or -1), wanted.

    Lines are read up to ``late`` seconds after they were printed.
    """
    clock, best, events = 100.0, 0.0, []
    if habit.at_start:
        clock += habit.evaluating
        events.append((clock + chance.uniform(0, late), 0, -1.0, True))
        best = 0.05
    for number in range(1, count + 1):
        clock += habit.training * chance.uniform(0.9, 1.1)
        value = chance.random()
        improved, best = value > best, max(best, value)
        saves = improved or habit.every
        if habit.order == "before":
            # Who saves only the best has evaluated it, and prints it behind the save.
            if saves:
                events.append((clock + habit.saving, number, clock, False))
                clock += habit.saving
            clock += habit.evaluating
        events.append((clock + chance.uniform(0, late), number, -1.0, improved))
        if habit.order == "after" and saves:
            events.append((clock + habit.saving, number, clock, False))
            clock += habit.saving
    return sorted(events)


def matched(habit: Habit, seed: int, late: float) -> tuple[set[tuple[int, int]], set[int]]:
    """The matches that were made, evaluation and save, and the evaluations that should have one."""
    events = course(habit, random.Random(seed), late)
    matcher = Matcher()
    found: list[Match] = []
    wanted = {number for _, number, begun, improved in events if begun < 0 and improved and number}
    for time, number, begun, improved in events:
        found += matcher.passed(time)
        if begun < 0:
            path = "best" if habit.saying else None
            found += matcher.evaluated(Evaluated(number, time, improved, path, habit.saying and improved))
        else:
            matcher.saved(Saved(number, min(begun + 0.01, time), time, "run/best"))
    found += matcher.passed(events[-1][0] + 5)
    found += matcher.ended()
    return {(match.evaluation, match.save) for match in found}, wanted


SLOW = [
    Habit(order, every, training, saving, evaluating, at_start)
    for order in ("before", "after")
    for every in (False, True)
    for training, saving, evaluating in ((1.0, 0.01, 0.0), (2.0, 0.3, 0.0), (60.0, 2.0, 0.2), (600.0, 20.0, 20.0))
    for at_start in (False, True)
]


@pytest.mark.parametrize("habit", SLOW, ids=str)
@pytest.mark.parametrize("late", [0.0, 0.05])
def test_every_best_gets_its_own_save(habit: Habit, late: float) -> None:
    for seed in range(20):
        pairs, wanted = matched(habit, seed, late)
        assert pairs == {(number, number) for number in wanted}, seed


@pytest.mark.parametrize("every", [False, True])
def test_a_line_that_says_that_it_is_saving_needs_no_guess(every: bool) -> None:
    for seed in range(20):
        habit = Habit("after", every, training=0.3, saving=0.05, saying=True)
        pairs, wanted = matched(habit, seed, late=0.03)
        assert pairs == {(number, number) for number in wanted}, seed


def test_what_the_user_says_is_taken() -> None:
    matcher = Matcher("before")
    matcher.saved(Saved(1, 0.0, 1.0))
    assert matcher.evaluated(Evaluated(1, 50.0, wanted=True)) == [Match(1, 1)]
    matcher = Matcher("after")
    matcher.saved(Saved(1, 0.0, 1.0))
    assert matcher.evaluated(Evaluated(1, 50.0, wanted=True)) == []
    matcher.saved(Saved(2, 90.0, 91.0))
    assert matcher.ended() == [Match(1, 2)]


def test_an_evaluation_whose_model_was_never_saved_gets_no_save() -> None:
    matcher = Matcher("before")
    matcher.saved(Saved(1, 0.0, 1.0))
    assert matcher.evaluated(Evaluated(1, 2.0, wanted=True)) == [Match(1, 1)]
    assert matcher.evaluated(Evaluated(2, 12.0, wanted=True)) == []
    assert matcher.evaluated(Evaluated(3, 22.0, wanted=False)) == []
    assert matcher.ended() == []


def test_of_two_saves_the_one_that_is_called_best_is_taken() -> None:
    matcher = Matcher("after")
    assert matcher.evaluated(Evaluated(1, 1.0, wanted=True)) == []
    matcher.saved(Saved(1, 1.0, 1.1, "run/latest"))
    matcher.saved(Saved(2, 1.1, 1.2, "run/best"))
    assert matcher.ended() == [Match(1, 2)]


@pytest.mark.parametrize("training", [0.2, 0.3, 1.0, 60.0])
@pytest.mark.parametrize("seen", [True, False])
def test_a_save_called_best_of_an_evaluation_before_is_not_taken_again(training: float, seen: bool) -> None:
    matcher = Matcher("before")
    matcher.saved(Saved(1, 9.98, 9.99, "run/newest"))
    assert matcher.evaluated(Evaluated(1, 10.0, wanted=True)) == [Match(1, 1)]
    matcher.saved(Saved(2, 10.01, 10.02, "run/best/newest"))  # the copy that the first evaluation led to
    end = 10.02 + training
    if seen:
        matcher.saved(Saved(3, end, end + 0.01, "run/newest"))
    found = matcher.evaluated(Evaluated(2, end + 0.06, wanted=True)) + matcher.passed(end + 2)
    assert [match.save for match in found] == ([3] if seen else [])


def test_the_best_that_is_saved_beside_the_newest_is_taken() -> None:
    matcher = Matcher("before")
    matcher.saved(Saved(1, 9.98, 9.99, "run/newest"))
    assert matcher.evaluated(Evaluated(1, 10.0, wanted=True)) == [Match(1, 1)]
    matcher.saved(Saved(2, 11.0, 11.01, "run/best"))  # of averaged weights: those that were evaluated
    matcher.saved(Saved(3, 11.02, 11.03, "run/newest"))
    assert matcher.evaluated(Evaluated(2, 11.04, wanted=True)) == [Match(2, 2)]


def test_a_save_called_best_of_the_next_evaluation_is_not_taken() -> None:
    matcher = Matcher("after")
    assert matcher.evaluated(Evaluated(1, 1.0, wanted=True)) == []
    matcher.saved(Saved(1, 1.0, 1.01, "run/newest"))
    matcher.saved(Saved(2, 3.0, 3.01, "run/best/newest"))  # its line is read late
    assert matcher.ended() == [Match(1, 1)]


@pytest.mark.parametrize(("unseen", "own"), [(10.0, True), (0.0, False)])
def test_an_export_that_was_traced_for_long_is_of_the_line_before_it(unseen: float, own: bool) -> None:
    """Nothing is seen of it meanwhile: on a busy machine its files come later than the next line does behind them."""
    matcher = Matcher()
    assert matcher.evaluated(Evaluated(1, 100.0, wanted=True)) == []
    matcher.saved(Saved(1, 102.1, 102.1, "export", unseen))
    assert (Match(1, 1) in matcher.evaluated(Evaluated(2, 102.4, wanted=True))) == own
