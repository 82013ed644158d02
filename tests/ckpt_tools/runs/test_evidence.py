"""What a run left behind: every source, their ranking, and early stopping replayed."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import EXPERIMENTS, Sample, pick
from logged import evidence_of

from ckpt_tools.cli import run
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.logs import collect


def test_real_logs_give_their_best(sample: Sample) -> None:
    evidence = collect(Experiment(str(sample.path)))
    assert evidence.best is not None
    assert f"{evidence.best.recall:.6f}" == f"{sample.best_recall:.6f}"
    assert evidence.best.step == sample.best_step
    assert len(evidence.curve.points) == sample.evaluations
    assert evidence.findings == ()


@pytest.mark.parametrize(
    ("name", "content", "step", "recall"),
    [
        ("metrics.jsonl", '{"event": "eval", "step": 50, "recall": 0.25}\n{"event": "eval", "st', 50, 0.25),
        (
            "metrics.jsonl",
            '{"event": "start", "step": 0, "recall": 0.125}\n{"event": "stop", "recall": 0.9}\n',
            0,
            0.125,
        ),
        ("train.log", "noise\niter: 100, train loss: 7.1, valid recall: 0.031000, valid ndcg: 0.02\n", 100, 0.031),
        ("log.csv", "epoch,recall,val_recall\n0,0.9,0.2\n1,0.95,0.3\n", 1, 0.3),
        ("trainer_state.json", '{"log_history": [{"step": 10, "eval_recall": 0.4}, {"step": 20, "loss": 1}]}', 10, 0.4),
        ("info.json", '{"best_ckpt_global_step": 700, "recall_at_50": 0.11}', 700, 0.11),
        ("weights.07-val_recall0.0342.h5", "", 7, 0.0342),
    ],
)
def test_each_source_is_read(tmp_path: Path, name: str, content: str, step: int, recall: float) -> None:
    best = evidence_of(tmp_path, name, content).best
    assert best is not None
    assert (best.step, best.recall) == (step, recall)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", "not json\n[1, 2]\n"),
        ("log.csv", "epoch,loss\n0,1\n"),
        ("log.csv", ""),
        ("info.json", "{"),
        ("info.json", '{"recall": 0.5}'),
        ("trainer_state.json", '{"log_history": 3}'),
        ("train.log", "iter: 5, train loss: nan, valid recall: nan"),
        ("model-3.index", ""),
    ],
)
def test_what_tells_nothing_is_no_evidence(tmp_path: Path, name: str, content: str) -> None:
    assert evidence_of(tmp_path, name, content).evaluations == ()


def test_a_damaged_event_file_is_a_finding(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, "events.out.tfevents.1.host", "not an event file at all")
    assert [finding.id for finding in evidence.findings] == ["log-unreadable"]


def test_sources_are_ranked_and_compared(tmp_path: Path) -> None:
    evidence_of(tmp_path, "train.log", "iter: 50, train loss: 7.1, valid recall: 0.100000\n")
    evidence = evidence_of(tmp_path, "metrics.jsonl", '{"event": "eval", "step": 50, "recall": 0.2}\n')
    assert [Path(source).name for source in evidence.sources] == ["metrics.jsonl", "train.log"]
    assert evidence.curve.recalls == [0.1, 0.2]  # both are shown, the better told one last
    assert [finding.id for finding in evidence.findings] == ["logs-disagree"]
    assert evidence.at_step(50) is None


def test_a_log_that_tells_two_figures_of_a_step_agrees_with_one_that_tells_either(tmp_path: Path) -> None:
    """A run goes back to its best with other batches, or is measured at another N."""
    rows = [("eval", 50, 0.3), ("eval", 100, 0.1), ("resume", 50, 0.2), ("eval", 100, 0.4)]
    lines = (f'{{"event": "{event}", "step": {step}, "recall": {recall}}}\n' for event, step, recall in rows)
    evidence_of(tmp_path, "metrics.jsonl", "".join(lines))
    log = "".join(
        f"iter: {step}, train loss: 7.1, valid recall: {recall:.6f}\n" for step, recall in ((50, 0.2), (100, 0.4))
    )
    assert evidence_of(tmp_path, "train.log", log).findings == ()


def test_backfill_from_logs(copy: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    sample = next(s for s in EXPERIMENTS if not s.has_best_metric)
    assert run(["backfill", str(copy(sample)), "--from-logs", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["experiments"][0]
    assert f"{row['metric']['value']:.6f}" == f"{sample.best_recall:.6f}"
    assert (row["agreement"], row["written"]) == ("match", True)


LOGS = {
    "metrics.jsonl": '{{"event": "eval", "step": {step}, "recall": {recall}}}\n',
    "train.log": "iter: {step}, train loss: 7.0, valid recall: {recall:.6f}\n",
    "log.csv": "step,val_recall\n{step},{recall}\n",
    "trainer_state.json": '{{"log_history": [{{"step": {step}, "eval_recall": {recall}}}]}}',
    "info.json": '{{"best_ckpt_global_step": {step}, "recall_at_50": {recall}}}',
    "events.out.tfevents.1.host": None,
    "weights.{step}-val_recall-{recall:.6f}.h5": "",
}


@pytest.mark.parametrize("name", LOGS)
def test_backfill_from_each_kind_of_log(
    copy: Callable[..., Path], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    sample = pick("tf2.10")
    experiment = copy(sample, logs=False)
    runs = experiment.parents[1] / "runs" / experiment.name
    runs.mkdir(parents=True)
    told = {"step": sample.best_step, "recall": sample.best_recall}
    if (content := LOGS[name]) is not None:
        (runs / name.format(**told)).write_text(content.format(**told))
    else:
        real = sample.path.parents[1] / "runs" / sample.experiment
        for path in real.glob("*.tfevents.*"):
            shutil.copy(path, runs)
    assert [path for path in runs.iterdir() if path.name == "train.log"] == [] or name == "train.log"
    assert run(["backfill", str(experiment), "--from-logs", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["experiments"]
    assert f"{row['metric']['value']:.6f}" == f"{sample.best_recall:.6f}"
    assert (row["agreement"], row["written"]) == ("match", True)
    assert Path(row["logged_best"]["source"]).parent == runs


def test_a_phantom_best_is_told_with_the_best_that_exists(
    copy: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """BestCheckpointExporter writes info.json before it saves: killed between, no file holds that best."""
    sample = pick("tf2.10")
    experiment = copy(sample)
    runs = experiment.parents[1] / "runs" / experiment.name
    (runs / "info.json").write_text('{"best_ckpt_global_step": 700, "recall": 0.9}')
    assert run(["backfill", str(experiment), "--from-logs", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (finding,) = [finding for finding in document["findings"] if finding["id"] == "best-lost"]
    for part in ("0.900000 at step 700", f"step {sample.best_step} ({sample.best_recall:.6f})"):
        assert part in finding["message"]
    assert document["experiments"][0]["metric"]["value"] == pytest.approx(sample.best_recall, abs=1e-6)


def test_backfill_from_logs_needs_the_checkpoints_own_step(copy: Callable[..., Path]) -> None:
    sample = next(s for s in EXPERIMENTS if not s.has_best_metric)
    experiment = copy(sample, logs=False)
    assert run(["backfill", str(experiment), "--from-logs"]) == 3


def test_a_lost_best_is_told_and_not_written(copy: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    sample = next(s for s in EXPERIMENTS if not s.has_best_metric)
    experiment = copy(sample, logs=False)
    runs = experiment.parents[1] / "runs" / experiment.name
    runs.mkdir(parents=True)
    lines = [
        f"iter: {sample.best_step}, train loss: 7.0, valid recall: 0.050000",
        "iter: 99999, train loss: 6.0, valid recall: 0.900000",
    ]
    (runs / "train.log").write_text("\n".join(lines))
    assert run(["backfill", str(experiment), "--from-logs", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["experiments"][0]["metric"]["value"] == 0.05
    assert [finding["id"] for finding in document["findings"]] == ["best-lost"]


@pytest.mark.parametrize("name", ["train.log.1.gz", "train.log.gz", "train.log-20240501.gz"])
def test_a_log_that_was_rotated_and_packed_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(
        gzip.compress(b"iter: 1000, train loss: 5.5, valid recall: 0.105633, valid ndcg: 0.1\n")
    )
    found = collect(Experiment(str(tmp_path)))
    assert [(each.step, each.recall) for each in found.evaluations] == [(1000, 0.105633)]
    (tmp_path / name).write_bytes(gzip.compress(b"iter: 1000")[:-3])
    assert collect(Experiment(str(tmp_path))).unread is not None
