"""MLflow and Weights & Biases, by modules that stand for them: what they are told, and what happens when they fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from toys import small_config
from typer.testing import CliRunner

from trainer import cli
from trainer.monitoring.rows import LogRow
from trainer.monitoring.trackers import FILE, Tracking


class FakeMLflow(SimpleNamespace):
    def __init__(self) -> None:
        self.calls: list[Any] = []
        super().__init__(
            start_run=lambda **options: self.calls.append(("start", options)) or self._run(),
            log_params=lambda values: self.calls.append(("params", values)),
            log_metrics=lambda values, step: self.calls.append(("metrics", values, step)),
            end_run=lambda: self.calls.append(("end",)),
        )

    def _run(self) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id="run-1"))


class FakeWandB(SimpleNamespace):
    def __init__(self) -> None:
        self.calls: list[Any] = []
        run = SimpleNamespace(
            id="id-1",
            log=lambda values, step: self.calls.append(("metrics", values, step)),
            finish=lambda: self.calls.append(("end",)),
        )
        super().__init__(init=lambda **options: self.calls.append(("start", options)) or run)


def row(step: int, recall: float | None = 0.25) -> LogRow:
    return LogRow("eval", step, 5.5, recall, 0.1, 0.5, 0.25, 10, 0)


EXPECTED = {"loss": 5.5, "recall": 0.25, "ndcg": 0.1, "hitrate": 0.5, "best_recall": 0.25}


def track(which: Any, directory: Path, said: list[str]) -> Tracking:
    return Tracking(which, str(directory), "experiment", small_config("DNN"), said.append)


def test_mlflow_goes_on_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, said = FakeMLflow(), []  # type: ignore[var-annotated]
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    first = track("mlflow", tmp_path, said)
    first.evaluated(row(10))
    first.evaluated(row(20, None))
    first.finished({"test_recall": 0.2}, 20)
    first.finished({}, 0)
    again = track("mlflow", tmp_path, said)
    again.evaluated(row(30))
    kinds = [call[0] for call in fake.calls]
    assert kinds == ["start", "params", "metrics", "metrics", "metrics", "end", "start", "metrics"]
    assert fake.calls[0] == ("start", {"run_name": "experiment"})
    assert fake.calls[1][1]["learning_rate"] == 0.01
    assert fake.calls[2] == ("metrics", EXPECTED, 10)
    assert "recall" not in fake.calls[3][1]
    assert fake.calls[4] == ("metrics", {"test_recall": 0.2}, 20)
    assert fake.calls[6] == ("start", {"run_id": "run-1"})
    assert not said


def test_wandb_goes_on_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, said = FakeWandB(), []  # type: ignore[var-annotated]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for step in (10, 20):
        tracked = track("wandb", tmp_path, said)
        tracked.evaluated(row(step))
        tracked.finished({}, 0)
    starts = [call[1] for call in fake.calls if call[0] == "start"]
    assert [start["id"] for start in starts] == [None, "id-1"]
    assert starts[0]["name"] == "experiment"
    assert starts[0]["project"] == "trainer"
    assert starts[0]["resume"] == "allow"
    assert ("metrics", EXPECTED, 20) in fake.calls
    assert json.loads((tmp_path / FILE).read_text()) == {"wandb": "id-1"}
    assert not said


def test_a_tracker_that_fails_is_said_once_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, said = FakeMLflow(), []  # type: ignore[var-annotated]

    def offline(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")

    fake.log_metrics = offline
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    tracked = track("mlflow", tmp_path, said)
    for step in (10, 20):
        tracked.evaluated(row(step))
    tracked.finished({"test_recall": 0.1}, 20)
    assert said == ["mlflow is not logged to any more: ConnectionError: no route to host"]


def test_a_damaged_file_of_identities_begins_a_new_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, said = FakeMLflow(), []  # type: ignore[var-annotated]
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    (tmp_path / FILE).write_text('{"mlflow": 7')
    track("mlflow", tmp_path, said).evaluated(row(10))
    assert fake.calls[0] == ("start", {"run_name": "experiment"})
    assert json.loads((tmp_path / FILE).read_text()) == {"mlflow": "run-1"}


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_tracker_that_is_not_installed_is_refused_before_anything(tmp_path: Path, command: str) -> None:
    arguments = ["--dataset=toys", "--model-type=DNN", "--exp-name=a", f"--root={tmp_path}", "--max-steps=5"]
    found = CliRunner().invoke(cli.app, [command, *arguments, "--log-to=wandb"])
    assert found.exit_code == 7
    assert "--log-to wandb needs wandb, which is not installed" in found.stderr
    assert not list(tmp_path.iterdir())
