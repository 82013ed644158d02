"""Runs in MLflow or Weights & Biases, through their own libraries, for whoever has one installed and asks for it.

Where a run is to be found there is kept in ``runs/EXPERIMENT/trackers.json``, so that a resumed run goes on as the same
one. A tracker that fails is left out from there on, and the training goes on: it is a copy of what the log has.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Literal, Protocol

from ckpt_tools.errors import CkptError, UnsupportedError
from ckpt_tools.format import json_text
from ckpt_tools.fs import durable, local
from trainer.config import TrainConfig
from trainer.extras import installed
from trainer.monitoring.rows import LogRow

Name = Literal["mlflow", "wandb"]
FILE = "trackers.json"
PROJECT = "trainer"
_MAX_BYTES = 1 << 16


class Tracker(Protocol):
    """What both libraries do. ``identity`` is what they find the run by again."""

    identity: str

    def log(self, figures: Mapping[str, float], step: int) -> None: ...

    def close(self) -> None: ...


class MLflow:
    """A run of the experiment that MLFLOW_EXPERIMENT_NAME names, at MLFLOW_TRACKING_URI: the library's own settings."""

    def __init__(self, name: str, config: TrainConfig, identity: str | None) -> None:
        self._mlflow: Any = importlib.import_module("mlflow")
        run = self._mlflow.start_run(run_id=identity) if identity else self._mlflow.start_run(run_name=name)
        self.identity = str(run.info.run_id)
        if not identity:
            self._mlflow.log_params(asdict(config))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(figures), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


class WandB:
    """A run of the project that WANDB_PROJECT names, else ``trainer``."""

    def __init__(self, name: str, config: TrainConfig, identity: str | None) -> None:
        wandb: Any = importlib.import_module("wandb")
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self._run: Any = wandb.init(project=project, name=name, config=asdict(config), id=identity, resume="allow")
        self.identity = str(self._run.id)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


_TRACKERS: dict[Name, Callable[[str, TrainConfig, str | None], Tracker]] = {"mlflow": MLflow, "wandb": WandB}


def require_tracker(name: Name) -> None:
    """Raise UnsupportedError when the library is not installed."""
    if not installed(name):
        raise UnsupportedError(f"--log-to {name} needs {name}, which is not installed", hint=f"pip install {name}")


class Tracking:
    """A run's evaluations in one tracker; ``failed`` is told once, when the tracker ends before the run does."""

    def __init__(
        self, which: Name, directory: str, name: str, config: TrainConfig, failed: Callable[[str], None]
    ) -> None:
        self._which, self._directory, self._name, self._config = which, directory, name, config
        self._failed = failed
        self._tracker: Tracker | None = None
        self._given_up = False

    def evaluated(self, row: LogRow) -> None:
        """The figures of an evaluation; the first one begins the run there."""
        figures = {"loss": row.loss, "recall": row.recall, "ndcg": row.ndcg, "hitrate": row.hitrate}
        if row.best_metric:
            figures["best_recall"] = row.best_metric
        self._safely(
            lambda: self._begun().log({key: value for key, value in figures.items() if value is not None}, row.step)
        )

    def finished(self, figures: Mapping[str, float], step: int) -> None:
        """What the run ended with, ``test_recall`` say."""
        if figures:
            self._safely(lambda: self._begun().log(figures, step))
        self._safely(self._close)

    def _begun(self) -> Tracker:
        if self._tracker is None:
            known = _identities(self._directory)
            self._tracker = _TRACKERS[self._which](self._name, self._config, known.get(self._which))
            if known.get(self._which) != self._tracker.identity:
                durable.make_directory(self._directory)
                text = json.dumps({**known, self._which: self._tracker.identity}) + "\n"
                durable.write_atomic(os.path.join(self._directory, FILE), text.encode())
        return self._tracker

    def _close(self) -> None:
        if self._tracker is not None:
            self._tracker.close()
            self._tracker = None

    def _safely(self, action: Callable[[], None]) -> None:
        if self._given_up:
            return
        try:
            action()
        except Exception as error:  # whatever somebody else's library raises, the training is not at fault
            self._given_up = True
            self._failed(f"{self._which} is not logged to any more: {type(error).__name__}: {error}")


def _identities(directory: str) -> dict[str, str]:
    """Where this run is in each tracker, as it was written last; empty when nothing readable is there."""
    try:
        found = json_text.parse(local.read_file(os.path.join(directory, FILE), limit=_MAX_BYTES))
    except (ValueError, OSError, CkptError):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}
