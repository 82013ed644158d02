"""One history from all logs of a run: joined at resumes, the best where it is, the same in every place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import Sample, pick

from ckpt_tools.cli import run
from ckpt_tools.runs.curve import Curve
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.logs import collect

Row = tuple[str, int, float]


def printed(step: int, recall: float) -> str:
    return f"iter: {step}, train loss: 7.0, valid recall: {recall:.6f}, valid ndcg: 0.1, valid hitrate: 0.2\n"


def logged(rows: list[Row]) -> str:
    return "".join(
        json.dumps({"event": event, "step": step, "loss": None, "recall": recall, "best_metric": 1.0}) + "\n"
        for event, step, recall in rows
    )


def curve_of(tmp_path: Path, **files: str) -> Curve:
    experiment, runs = tmp_path / "best_model" / "exp", tmp_path / "runs" / "exp"
    for directory in (experiment, runs):
        directory.mkdir(parents=True)
    for name, content in files.items():
        (runs / name.replace("_", ".")).write_text(content)
    return collect(Experiment(str(experiment))).curve


def told(curve: Curve) -> list[tuple[int, float, str]]:
    return [(point.step, round(point.recall, 6), Path(point.source).name) for point in curve.points]


OLD = "".join(printed(step, recall) for step, recall in ((50, 0.02), (100, 0.07), (150, 0.0915)))


def test_an_old_log_and_this_trainers_rows_are_one_curve(tmp_path: Path) -> None:
    rows: list[Row] = [("resume", 150, 0.0915), ("eval", 200, 0.074), ("eval", 250, 0.076), ("stop", 250, 0.076)]
    curve = curve_of(tmp_path, train_log=OLD, metrics_jsonl=logged(rows))
    assert [step for step, _, _ in told(curve)] == [50, 100, 150, 200, 250]
    assert [source for _, _, source in told(curve)] == ["train.log"] * 3 + ["metrics.jsonl"] * 2
    assert (curve.axis, curve.best, curve.resumes) == ("step", 2, (2,))
    # What the old log knows of the step of the resume stays.
    assert curve.points[2].loss == 7.0


def test_the_evaluation_at_a_resume_is_a_point_where_nobody_else_tells_it(tmp_path: Path) -> None:
    curve = curve_of(tmp_path, metrics_jsonl=logged([("resume", 150, 0.0915), ("eval", 200, 0.074)]))
    assert told(curve) == [(150, 0.0915, "metrics.jsonl"), (200, 0.074, "metrics.jsonl")]
    assert (curve.best, curve.resumes) == (0, (0,))
    best = collect(Experiment(str(tmp_path / "best_model" / "exp"))).best
    assert best is not None
    assert (best.step, best.recall) == (150, 0.0915)


def test_a_resume_that_measures_something_else_is_shown_beside_the_log(tmp_path: Path) -> None:
    rows: list[Row] = [("resume", 150, 0.08), ("eval", 200, 0.09)]
    curve = curve_of(tmp_path, train_log=OLD, metrics_jsonl=logged(rows))
    assert [(step, recall) for step, recall, _ in told(curve)][2:] == [(150, 0.0915), (150, 0.08), (200, 0.09)]
    assert (curve.best, curve.resumes, curve.axis) == (2, (3,), "step")


def test_going_back_to_the_best_keeps_the_order_of_time(tmp_path: Path) -> None:
    rows: list[Row] = [("eval", 50, 0.05), ("eval", 100, 0.04), ("resume", 50, 0.05), ("eval", 100, 0.06)]
    curve = curve_of(tmp_path, metrics_jsonl=logged(rows))
    assert curve.recalls == [0.05, 0.04, 0.05, 0.06]
    assert (curve.axis, curve.places, curve.resumes) == ("evaluation", [1, 2, 3, 4], (2,))


def test_an_old_log_that_counts_from_the_start_again_comes_before_what_went_on_from_it(tmp_path: Path) -> None:
    again = OLD + "".join(printed(step, recall) for step, recall in ((50, 0.08), (100, 0.095)))
    curve = curve_of(tmp_path, train_log=again, metrics_jsonl=logged([("resume", 250, 0.095), ("eval", 300, 0.1)]))
    assert curve.recalls == [0.02, 0.07, 0.0915, 0.08, 0.095, 0.095, 0.1]
    assert curve.resumes == (3, 5)


def test_epochs_are_not_joined_with_steps(tmp_path: Path) -> None:
    csv = "epoch,val_recall\n0,0.5\n1,0.6\n"
    assert len(curve_of(tmp_path / "both", log_csv=csv, train_log=OLD).points) == 3
    assert len(curve_of(tmp_path / "alone", log_csv=csv).points) == 2


def test_no_log_is_an_empty_curve(tmp_path: Path) -> None:
    curve = curve_of(tmp_path)
    assert (curve.points, curve.best, curve.places, curve.axis) == ((), None, [], "step")


@pytest.fixture
def resumed(copy: Callable[..., Path]) -> tuple[Path, Sample]:
    """A real old run that this project's trainer went on with, and made worse."""
    sample = pick("tf2.21", "ComiRec-DR")
    experiment = copy(sample)
    step, best = sample.best_step, sample.best_recall
    rows: list[Row] = [("resume", step, best), ("eval", step + 50, best / 2), ("eval", step + 100, best / 3)]
    (experiment.parents[1] / "runs" / experiment.name / "metrics.jsonl").write_text(logged(rows))
    return experiment, sample


def test_every_command_shows_the_same_curve(
    resumed: tuple[Path, Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment, sample = resumed
    curve = collect(Experiment(str(experiment))).curve
    assert curve.best is not None
    assert (curve.points[curve.best].step, len(curve.points)) == (sample.best_step, sample.evaluations + 2)

    def answer(*arguments: str) -> tuple[dict, str]:
        assert run([*arguments, "--json"]) in (0, 1)
        document = json.loads(capsys.readouterr().out)
        run(list(arguments))
        return document, capsys.readouterr().out

    line = f"best logged {sample.best_recall:.6f} at step {sample.best_step}; resumed at step {sample.best_step}"
    _, text = answer("inspect", str(experiment))
    assert line in " ".join(text.split())
    document, text = answer("why", str(experiment))
    assert line in " ".join(text.split())
    assert document["history"] == json.loads(json.dumps(curve.to_json()))
    document, _ = answer("audit", str(experiment.parents[1]))
    (row,) = document["runs"]
    assert (row["recalls"], row["resumes"]) == (curve.recalls, list(curve.resumes))
    assert run(["report", str(experiment), "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert all(f">{point.recall:.6f}</td>" in page for point in curve.points)
    assert page.count("best resumed</td>") == 1
