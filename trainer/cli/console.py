"""What the trainer's commands show besides what every command of both programs does."""

from __future__ import annotations

import time
from typing import ClassVar

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ckpt_tools.console.output import Output
from trainer.checkpoints.run_state import RunState
from trainer.monitoring.rows import LogRow


class Console(Output):
    """Where a command's answer goes, and how a run goes meanwhile: it is the `Listener` of the training."""

    program: ClassVar[str] = "trainer"

    def __init__(self, command: str | None, path: str | None, *, json: bool, quiet: bool) -> None:
        super().__init__(command, path, json=json, quiet=quiet)
        self._since = (0.0, 0)

    def not_finite(self, number: float) -> None:
        """What was not measured is null."""

    def evaluated(self, row: LogRow) -> None:
        """One plain line for each evaluation, so that a pipe can be read as it grows."""
        loss = "" if row.loss is None else f"loss {row.loss:.4f}  "
        style = "bold green" if row.best_metric and row.best_step == row.step else ""
        best = f"best {row.best_metric:.6f} (step {row.best_step})" if row.best_metric else "no best yet"
        rest = f"  ndcg {row.ndcg:.6f}  hitrate {row.hitrate:.6f}  {best}"
        self.line(Text.assemble(f"step {row.step}  {loss}", (f"recall {row.recall:.6f}", style), rest))
        # What comes now is timed anew: an evaluation is no step.
        self._since = 0.0, 0

    def updated(self, run_state: RunState, max_steps: int, patience: int) -> None:
        """How the training goes: since the last evaluation the speed and the loss, the best, the patience used up."""
        self.draw(lambda _: self._training(run_state, max_steps, patience))
        if self._since[1] == 0:
            self._since = time.monotonic(), run_state.step

    def measured(self, done: int, total: int) -> None:
        """How far an evaluation is, in users."""
        self.draw(lambda _: Text(f"evaluating: {done} of {total} users"))

    def read(self, done: int, total: int) -> None:
        """How far a file is read, in bytes."""
        self.draw(lambda _: Text(f"reading: {done >> 20} of {total >> 20} MB"))

    def _training(self, run_state: RunState, max_steps: int, patience: int) -> RenderableType:
        begun, first = self._since
        seconds = time.monotonic() - begun
        speed = (run_state.step - first) / seconds if first and seconds > 0 else 0.0
        pace = f"step {run_state.step} of {max_steps}"
        if speed:
            pace += f" · {speed:.0f} steps/s · {_clock((max_steps - run_state.step) / speed)} left"
        words = [] if run_state.mean_loss is None else [f"loss {run_state.mean_loss:.4f}"]
        if run_state.best_metric:
            words.append(f"best {run_state.best_metric:.6f} at step {run_state.best_step}")
        words.append(f"patience {run_state.trials} of {patience}")
        line = Table.grid(padding=(0, 1), expand=True)
        line.add_column(ratio=1)
        line.add_column(no_wrap=True)
        line.add_row(ProgressBar(total=max_steps, completed=run_state.step), pace)
        return Group(line, Text(" · ".join(words)))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
