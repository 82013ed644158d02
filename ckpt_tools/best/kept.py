"""What the keepers of bundles share: the newest and the best of a run in lines of their own, and what is known."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ckpt_tools.best.line import Line
from ckpt_tools.best.state import BestState, direction, resumed, value_of, write_state
from ckpt_tools.errors import UsageError
from ckpt_tools.fs import local


class Kept:
    """The directory of one run. ``name`` is what its checkpoints are called, before their numbers.

    ``state`` is what is known; ``best_checkpoint`` and ``latest_checkpoint`` are prefixes, None before the first.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        metric: str,
        mode: str | None,
        *,
        patience: int | None,
        min_delta: float,
        name: str,
    ) -> None:
        if patience is not None and patience < 1:
            raise UsageError(f"patience={patience}: at least one evaluation must be waited for")
        self.directory = os.fspath(directory)
        self.metric = metric
        self.mode = direction(metric, mode)
        self._min_delta = abs(min_delta)
        self._best = Line(os.path.join(self.directory, "best"), name)
        self._latest = Line(os.path.join(self.directory, "latest"), name)
        self.state: BestState = resumed(self.directory, metric, self.mode, patience)

    @property
    def stopped(self) -> bool:
        """Whether ``patience`` is at its end, in this process or in one before."""
        return self.state.stopped

    @property
    def best_checkpoint(self) -> str | None:
        return self.state.best_file and os.path.join(self.directory, self.state.best_file)

    @property
    def latest_checkpoint(self) -> str | None:
        return self.state.latest_file and os.path.join(self.directory, self.state.latest_file)

    @property
    def _worst(self) -> float:
        """What the variable of the best begins with: any value is better."""
        return float("-inf") if self.mode == "max" else float("inf")

    def _prefix_of(self, *, best: bool) -> str | None:
        """The checkpoint to restore: the best one, or the newest there is; None for a run that is new."""
        return self.best_checkpoint if best else self.latest_checkpoint or self.best_checkpoint

    def _keep(
        self,
        metrics: Mapping[str, Any] | float | None,
        *,
        step: int,
        epoch: int,
        write: Callable[[str], object],
        assign: Callable[[float], object],
    ) -> bool:
        """Save with ``write`` what is the newest, and the best when it is one; ``assign`` sets the variable of the best
        before, and back when that fails. Returns whether it is a new best."""
        before = self.state
        state = replace(before, step=step, epoch=epoch)
        if metrics is not None:
            value = value_of(metrics, self.metric)
            state = before.after(value, step=step, epoch=epoch, min_delta=self._min_delta)
        new = state.best != before.best
        try:
            if state.best is not None:
                assign(state.best)
            if new:
                prefix = self._best.save(write)
                state = replace(state, best_file=os.path.relpath(prefix, self.directory))
            prefix = self._latest.save(write)
            state = replace(state, latest_file=os.path.relpath(prefix, self.directory))
            write_state(self.directory, state)
        except BaseException:
            if before.best is not None:
                assign(before.best)
            raise
        self.state = state
        for line, file in ((self._best, state.best_file), (self._latest, state.latest_file)):
            if file is not None and local.is_directory(line.directory, follow=True):
                line.point_to(file)
                line.retire([file])
        return new
