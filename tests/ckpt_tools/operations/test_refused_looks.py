"""What decides something takes no refused look for a "no": each look of the system refused once, with each error.

A question then ends in an error, or its answer is no more daring than the undisturbed one: no checkpoint may go that
had to stay, no run turns into another one, no repair does what it would not have done.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import faulty
import numpy as np
import pytest
from checkpoints import build_bundle, pick, rewrite
from faulty import Fault

from ckpt_tools.analysis.retention import Policies
from ckpt_tools.operations.keeping import keep
from ckpt_tools.operations.repairing import plan_repair
from ckpt_tools.runs.discovery import Discovery
from ckpt_tools.runs.experiments import find_experiments, resolve

# Not there, and not allowed, are answers; these are none.
REFUSALS = ("EIO", "ESTALE", "EMFILE")

Question = Callable[[Path], set[str]]


def _may_go(root: Path) -> set[str]:
    found = keep(str(root), Policies(last=1, unknown_best=True))
    return {f"{holding.path}: {file.path}" for holding in found.may_go for file in holding.files}


def _runs(root: Path) -> set[str]:
    """The runs by kind and prefix; a directory that could not be looked into tells none."""
    discovery = Discovery(root)
    return {f"{run.kind} {run.path}" for run in discovery.runs() if run.problem is None}


def _repairs(root: Path) -> set[str]:
    made = plan_repair(str(root / "line"), now=2e9)
    return {f"{action.kind} {action.path}: {action.sentence}" for action in made.actions}


def _experiments(root: Path) -> set[str]:
    found = {experiment.name for experiment in find_experiments(root)}
    return {"none"} if not found else set()


def _best(root: Path) -> set[str]:
    return {resolve(root / "best_model" / pick("tf2.10").experiment)}


QUESTIONS: dict[str, Question] = {
    "keep": _may_go,
    "audit": _runs,
    "repair": _repairs,
    "names taken": _experiments,
    "best": _best,
}


@pytest.fixture
def shelf(tmp_path: Path, copy: Callable[..., Path]) -> Path:
    """A line whose best only its log tells, with a state file of another name; and an experiment with a ledger."""
    line = tmp_path / "shelf" / "line"
    line.mkdir(parents=True)
    for number in (1, 2, 3):
        build_bundle(line / f"m-{number}", {"w": np.full(9, number, "f"), "global_step": np.int64(number)})
    build_bundle(line / "best_dev-2", {"w": np.full(9, 2, "f"), "global_step": np.int64(2)})
    (line / "train.log").write_text("step 1 val_auc: 0.7\nstep 2 val_auc: 0.9\nstep 3 val_auc: 0.8\n")
    (line / "best_dev_checkpoint").write_text('model_checkpoint_path: "best_dev-2"\n')
    sample = pick("tf2.10")
    experiment = tmp_path / "shelf" / "best_model" / sample.experiment
    copy(sample).rename(_made(experiment))
    rewrite(sample.prefix_in(experiment), 0.25)
    return tmp_path / "shelf"


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    return path


def refused(
    ask: Question, root: Path, monkeypatch: pytest.MonkeyPatch, numbers: Callable[[int], Iterable[int]]
) -> tuple[int, int]:
    """How many refused looks were tried, and how many ended in an error."""
    answers: list[set[str]] = []

    def asked() -> None:
        answers.append(ask(root))

    assert faulty.run(asked, monkeypatch).finished
    usual = answers.pop()
    count = len(faulty.run(asked, monkeypatch).calls)
    tried = failed = 0
    for number in numbers(count):
        kind = REFUSALS[number % len(REFUSALS)]
        answers.clear()
        failed += not faulty.run(asked, monkeypatch, Fault(number, kind)).finished
        tried += 1
        more = answers[0] - usual if answers else set()
        assert not more, f"{kind} at call {number} of {count}: {sorted(more)[:3]}"
    return tried, failed


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_refused_look_is_no_answer(name: str, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # By chance, the same each time: the looks at one file after the other come round evenly.
    chance = random.Random(name)
    tried, failed = refused(
        QUESTIONS[name], shelf, monkeypatch, lambda count: chance.sample(range(count), min(count, 60))
    )
    assert tried
    assert failed or name == "audit"


@pytest.mark.slow
@pytest.mark.parametrize("name", QUESTIONS)
def test_each_look_refused(name: str, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(QUESTIONS[name], shelf, monkeypatch, range)[0]
