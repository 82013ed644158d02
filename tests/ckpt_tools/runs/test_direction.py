"""A run that kept its worst model for its best, as Keras 2 does with a recall in ModelCheckpoint(mode='auto')."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from checkpoints import EXPERIMENTS, build_bundle, pick
from logged import evidence_of

from ckpt_tools.cli import run
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.logs import collect, suspect_direction


def by_keras(folder: Path, recalls: Sequence[float], mode: str) -> None:
    """What ModelCheckpoint("{epoch:02d}-val_recall-{val_recall:.4f}.h5", save_best_only=True) leaves, with its log."""
    folder.mkdir(parents=True, exist_ok=True)
    best = None
    rows = ["epoch,loss,val_recall"]
    for epoch, recall in enumerate(recalls, start=1):
        rows.append(f"{epoch},1.0,{recall}")
        if best is None or (recall < best if mode == "auto" else recall > best):
            best = recall
            (folder / f"{epoch:02d}-val_recall-{recall:.4f}.h5").write_bytes(b"")
    (folder / "log.csv").write_text("\n".join(rows) + "\n")


def found(folder: Path) -> list[str]:
    return [finding.id for finding in collect(Experiment(str(folder))).findings]


@pytest.mark.parametrize(
    ("recalls", "suspect"),
    [
        ([0.1, 0.3, 0.05, 0.4, 0.2], True),
        ([0.3, 0.2, 0.1], True),
        ([0.05, 0.1, 0.2, 0.3], True),
        ([0.1, 0.1, 0.1], False),
        ([0.1, 0.2], False),
    ],
)
def test_what_the_names_and_the_log_say(tmp_path: Path, recalls: list[float], suspect: bool) -> None:
    by_keras(tmp_path / "minimised", recalls, "auto")
    by_keras(tmp_path / "maximised", recalls, "max")
    assert found(tmp_path / "maximised") == []
    # Of one that falls all the time every model is kept, by either: nothing tells them apart.
    every_one_kept = recalls == sorted(recalls, reverse=True)
    assert found(tmp_path / "minimised") == (["direction-suspect"] if suspect and not every_one_kept else [])


def test_names_alone_that_fall(tmp_path: Path) -> None:
    by_keras(tmp_path, [0.4, 0.3, 0.35, 0.2], "auto")
    (tmp_path / "log.csv").unlink()
    assert found(tmp_path) == ["direction-suspect"]


def test_inspect_says_it_of_a_checkpoint_whose_name_holds_the_metric(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    by_keras(tmp_path, [0.1, 0.3, 0.05, 0.4, 0.2], "auto")
    for path in tmp_path.glob("*.h5"):
        build_bundle(path.with_suffix(""), {"kernel": np.zeros(3)})
        path.unlink()
    assert run(["inspect", str(tmp_path / "03-val_recall-0.0500"), "--json"]) == 0
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["id"], finding["severity"]) == ("direction-suspect", "warning")
    assert "lowest" in finding["message"]
    assert "mode='max'" in finding["fix"]


@pytest.mark.parametrize("command", ["inspect", "resume-check"])
def test_an_experiment_whose_kept_step_is_its_worst(
    copy: Callable[..., Path], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    sample = pick("tf2.10")
    experiment = copy(sample, logs=False)
    runs = experiment.parents[1] / "runs" / experiment.name
    runs.mkdir(parents=True)
    steps = [(50, 0.2), (sample.best_step, 0.1), (sample.best_step + 50, 0.3)]
    lines = [f"iter: {step}, train loss: 7.0, valid recall: {recall:.6f}" for step, recall in steps]
    (runs / "train.log").write_text("\n".join(lines))
    run([command, str(experiment), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert "direction-suspect" in [finding["id"] for finding in document["findings"]]


def test_no_real_run_is_suspected() -> None:
    for sample in EXPERIMENTS:
        evidence = collect(Experiment(str(sample.path)))
        assert suspect_direction(evidence) is None
        assert suspect_direction(evidence, sample.best_step) is None


def test_a_best_that_a_bad_resume_overwrote_is_another_matter(tmp_path: Path) -> None:
    """The last evaluation is what was kept: a run that began anew overwrites its best with its first result."""
    rows = [{"event": "eval", "step": step, "recall": recall} for step, recall in ((50, 0.2), (100, 0.3), (150, 0.02))]
    evidence = evidence_of(tmp_path, "metrics.jsonl", "\n".join(map(json.dumps, rows)))
    assert suspect_direction(evidence, 150) is None
