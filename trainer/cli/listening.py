"""Who hears how a run goes: the console, and a tracker where one was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ckpt_tools.findings import Finding
from ckpt_tools.runs.experiments import Experiment
from trainer.checkpoints.run_state import RunState
from trainer.cli.console import Console
from trainer.config import TrainConfig
from trainer.monitoring.rows import LogRow
from trainer.monitoring.trackers import Name, Tracking


class Listeners:
    """The `Listener` of the training that tells both."""

    def __init__(self, console: Console, tracked: Tracking | None) -> None:
        self._console = console
        self._tracked = tracked

    def evaluated(self, row: LogRow) -> None:
        self._console.evaluated(row)
        if self._tracked is not None and row.event != "start":  # fresh weights are no part of the curve
            self._tracked.evaluated(row)

    def updated(self, run_state: RunState, max_steps: int, patience: int) -> None:
        self._console.updated(run_state, max_steps, patience)


@contextlib.contextmanager
def tracking(
    which: Name | None, experiment: Experiment, config: TrainConfig, console: Console
) -> Iterator[Tracking | None]:
    """The tracker of a run, None without; closed in any case."""
    if which is None:
        yield None
        return

    def failed(text: str) -> None:
        console.findings([Finding("tracker-failed", "warning", text)])

    tracked = Tracking(which, experiment.runs, experiment.name, config, failed)
    try:
        yield tracked
    finally:
        tracked.finished({}, 0)
