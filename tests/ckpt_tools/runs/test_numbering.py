"""What the number in a checkpoint's name counts, by the numbers beside it, its step and its own counter."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle

from ckpt_tools.runs.metric_history import Chosen, Logged
from ckpt_tools.runs.metric_lines import better
from ckpt_tools.runs.numbering import candidates, saves_of

VALUES = (0.5, 0.7, 0.6, 0.65, 0.8, 0.75)


@pytest.mark.parametrize(
    ("first", "beside", "number", "step", "expected"),
    [
        (0, (4, 5, 6), 4, None, {0.65}),  # the last of the names is one more than the last of the log
        (0, (3, 4, 5), 4, None, {0.8}),  # both end with 5
        (0, (0, 1), 1, None, {0.7}),  # both begin with 0
        (0, (0, 1, 2), 2, None, {0.6, 0.8}),  # or it counts what was better, which was so three times
        (0, (1, 2, 5), 5, None, {0.8, 0.75}),  # those that were better, or any
        (0, (3,), 3, None, {0.6, 0.65, 0.8}),
        (0, (3,), 3, 48, {0.6, 0.65}),  # 48 steps may be three epochs or four
        (0, (3,), 3, 51, {0.6}),  # three epochs of 17 steps
        (0, (3,), 3, 52, {0.65}),  # four of 13
        (0, (6,), 6, None, {0.75}),  # there is no 6 in the log
        (0, (0,), 0, None, {0.5}),
        (1, (4, 5, 6), 4, None, {0.65}),
        (1, (0, 4, 5), 4, None, {0.8}),
        (1, (0, 6), 6, None, {0.75}),  # a save before the first epoch
        (1, (3,), 3, None, {0.6, 0.8}),
        (1, (2, 3), 2, None, {0.7}),  # the second of them
        (1, (4,), 4, None, {0.65}),
        (1, (3,), 3, 52, {0.65}),
        (5, (5, 6), 6, None, {0.7}),
    ],
)
def test_which_epoch_a_number_is(
    first: int, beside: tuple[int, ...], number: int, step: int | None, expected: set[float], tmp_path: Path
) -> None:
    for each in beside:
        (tmp_path / f"run-{each}.index").touch()
    rows = tuple(Logged("val_acc", v, None, e, "log", e) for e, v in enumerate(VALUES, start=first))
    chosen = Chosen("val_acc", "max", "", rows)
    found = candidates(str(tmp_path / f"run-{number}"), number, step, rows, chosen.at, partial(better, "max"))
    assert {each.value for each in found} == expected


@pytest.mark.parametrize(("first", "number"), [(1, 3), (0, 2)])
def test_where_only_the_bests_were_logged_an_epoch_is_not_the_next_best(
    first: int, number: int, tmp_path: Path
) -> None:
    for each in range(6):
        (tmp_path / f"run-{each + first}.index").touch()
    rows = tuple(Logged("val_acc", v, None, e + first, "log", e, best=True) for e, v in ((0, 0.5), (1, 0.7), (4, 0.8)))
    chosen = Chosen("val_acc", "max", "", rows)
    assert not candidates(str(tmp_path / f"run-{number}"), number, None, rows, chosen.at, partial(better, "max"))


@pytest.mark.parametrize(
    ("beside", "counts"),
    [
        ([], True),
        (["net-1.ckpt_best"], False),
        (["best_net-1.ckpt"], False),
        (["net-1.ckpt_best", "net-2.ckpt"], True),
        (["net-2.ckpt_best"], True),
    ],
)
def test_the_number_that_the_newest_and_the_best_of_a_run_share_counts_nothing(
    beside: list[str], counts: bool, tmp_path: Path
) -> None:
    for each in ("net-1.ckpt", *beside):
        (tmp_path / f"{each}.index").touch()
    rows = tuple(Logged("val_acc", v, s, None, "log", s) for s, v in enumerate((0.5, 0.7)))
    chosen = Chosen("val_acc", "max", "", rows)
    for step in (None, 1):
        found = candidates(str(tmp_path / "net-1.ckpt"), 1, step, rows, chosen.at, partial(better, "max"))
        assert [each.value for each in found] == ([0.7] if counts or step else [])


@pytest.mark.parametrize(
    ("counted", "saves"),
    [
        (np.int64(3), 3),
        (np.float32(3), 3),
        (np.float32(3.5), None),
        (np.float32(np.inf), None),
        (np.float64(np.nan), None),
        (np.bool_(True), None),
        (np.array([3, 4]), None),
        ([b"3"], None),
    ],
)
def test_a_counter_that_counts_nothing(tmp_path: Path, counted: object, saves: int | None) -> None:
    prefix = build_bundle(tmp_path / "ckpt-3", {"save_counter/.ATTRIBUTES/VARIABLE_VALUE": counted})
    assert saves_of(prefix) == saves
