"""How a backfill finds its value, as it was asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ckpt_tools.errors import UsageError
from ckpt_tools.operations.command_evaluator import CommandEvaluation
from ckpt_tools.runs.metric_lines import Mode


@dataclass(frozen=True)
class Options:
    """How to find the value: given as ``value``, taken from the run's logs, or measured: by an installed evaluator on
    ``data_dir``, by somebody's own program (``evaluation``), or by the graph beside the checkpoint (``graph``), which
    may take ``seconds`` and is run ``repeat`` times where it draws numbers.

    ``metric``, ``mode`` and ``unit`` say what the value of another trainer's run means; ``into`` is the key of a
    variable that has it already, under another name. ``lock``: whether the directory is locked while it is changed.
    """

    data_dir: str | None = None
    top_n: int = 50
    split: str = "valid"
    value: float | None = None
    from_logs: bool = False
    force: bool = False
    dry_run: bool = False
    lock: bool = True
    metric: str | None = None
    mode: Mode | None = None
    unit: str | None = None
    into: str | None = None
    evaluation: CommandEvaluation | None = None
    graph: bool = False
    seconds: float = 3600.0
    repeat: int = 1

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise UsageError(f"--value is {self.value}: no best metric is NaN or infinite")
        ways = {"--value": self.value is not None, "--from-logs": self.from_logs, "--evaluate": self.measures}
        given = [name for name, asked in ways.items() if asked]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} exclude each other")
        if self.repeat < 1:
            raise UsageError(f"--repeat {self.repeat}: it must be measured at least once")
        if self.seconds <= 0:
            raise UsageError(f"--timeout {self.seconds:g}: must be more than 0 seconds")
        if self.top_n < 1:
            raise UsageError(f"--top-n {self.top_n}: a list needs at least one item")

    @property
    def measures(self) -> bool:
        """Whether a way to measure was asked for."""
        return self.evaluation is not None or self.graph

    @property
    def means_another_metric(self) -> bool:
        """Whether what is asked for is not the recall of a ComiRec run."""
        words = (self.metric, self.mode, self.unit, self.into, self.evaluation)
        return any(word is not None for word in words)
