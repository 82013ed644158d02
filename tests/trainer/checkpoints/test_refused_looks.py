"""A look that the system refuses once, at each of a trainer's calls, is no "not there": no best is given up for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faulty
import pytest
from faulty import Fault
from saves import line, stored

from ckpt_tools.format.filenames import UNFINISHED_SAVE
from ckpt_tools.readers.location import prefixes_in
from ckpt_tools.runs.experiments import Experiment
from trainer.checkpoints.holding import holder
from trainer.checkpoints.retention import doomed, held_best, tidy

pytestmark = pytest.mark.tensorflow
ERRORS = ("EIO", "ESTALE")


def refused(question: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, again: Callable[[], object]) -> list[Any]:
    """The answers of a question of which one call after the other is refused; before each ``again`` makes its start."""
    answers: list[Any] = []
    again()
    calls = faulty.run(lambda: answers.append(question()), monkeypatch).calls
    for number in range(len(calls)):
        again()
        faulty.run(lambda: answers.append(question()), monkeypatch, Fault(number, ERRORS[number % 2]))
    return answers


def test_a_best_that_cannot_be_looked_at_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Experiment(str(tmp_path))
    best = stored(step=10, best_metric=0.5, best_step=10, recall=0.5)
    prefix = line(tmp_path / "keras_ckpt").save(best)
    newest = line(tmp_path / "latest", keep=9, experiment=experiment)
    held = newest.save(best)
    known = held_best(experiment)
    assert known is not None
    assert {*refused(lambda: holder(experiment, known), monkeypatch, lambda: None)} == {prefix}
    assert None not in refused(lambda: held_best(experiment), monkeypatch, lambda: None)
    # The best is in the newer line alone: it stays, whatever is refused.
    for file in os.listdir(tmp_path / "keras_ckpt"):
        (tmp_path / "keras_ckpt" / file).unlink()
    then = newest.save(stored(step=20, best_metric=0.5, best_step=10, recall=0.4))
    answers = refused(lambda: doomed([then, held], 1, experiment), monkeypatch, lambda: None)
    assert answers.count([]) == len(answers) > 1


def test_what_is_unfinished_proves_nothing_while_the_index_cannot_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A save that was killed after it had its name, before its unfinished index was removed.
    line(tmp_path).save(stored(step=1))
    index = (tmp_path / "ckpt-1.index").read_bytes()

    def killed() -> None:
        (tmp_path / UNFINISHED_SAVE).mkdir(exist_ok=True)
        (tmp_path / UNFINISHED_SAVE / "ckpt-1.index").write_bytes(index)

    refused(lambda: tidy(str(tmp_path)), monkeypatch, killed)
    assert prefixes_in(str(tmp_path)) == ["ckpt-1"]
    assert (tmp_path / "ckpt-1.data-00000-of-00001").exists()
