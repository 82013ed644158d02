"""What a log of an experiment tells."""

from __future__ import annotations

from pathlib import Path

from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.logs import Evidence, collect


def evidence_of(tmp_path: Path, name: str, content: str, where: str = "runs") -> Evidence:
    experiment = tmp_path / "best_model" / "exp"
    experiment.mkdir(parents=True, exist_ok=True)
    directory = tmp_path / "runs" / "exp" if where == "runs" else experiment
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(content)
    return collect(Experiment(str(experiment)))
