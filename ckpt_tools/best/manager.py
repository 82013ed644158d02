"""``BestCheckpointManager``: what ``tf.train.CheckpointManager`` leaves out, around a ``tf.train.Checkpoint``."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ckpt_tools.best.line import Line
from ckpt_tools.best.state import BestState, direction, resumed, value_of, write_state
from ckpt_tools.errors import MismatchError, NotFoundError, UsageError
from ckpt_tools.format.filenames import index_name

_NAME = "best_metric"


class BestCheckpointManager:
    """Saves the newest state of a run, and its best one apart; a restart forgets neither.

    Args:
        checkpoint: a ``tf.train.Checkpoint``. It gets a child ``best_metric``, a float32 variable, unless it has one.
        directory: of this run; made when it is not there.
        metric, mode, patience, min_delta: as of `BestCheckpoint`.

    ``state`` is what is known; ``best_checkpoint`` and ``latest_checkpoint`` are prefixes, None before the first.
    """

    def __init__(
        self,
        checkpoint: Any,
        directory: str | os.PathLike[str],
        metric: str,
        mode: str | None = None,
        *,
        patience: int | None = None,
        min_delta: float = 0.0,
    ) -> None:
        if patience is not None and patience < 1:
            raise UsageError(f"patience={patience}: at least one evaluation must be waited for")
        self.checkpoint = checkpoint
        self.directory = os.fspath(directory)
        self.metric = metric
        self.mode = direction(metric, mode)
        self._min_delta = abs(min_delta)
        self._best = Line(os.path.join(self.directory, "best"), "ckpt")
        self._latest = Line(os.path.join(self.directory, "latest"), "ckpt")
        self.state: BestState = resumed(self.directory, metric, self.mode, patience)
        variable = getattr(checkpoint, _NAME, None)
        if variable is None:
            tensorflow = importlib.import_module("tensorflow")
            worst = float("-inf") if self.mode == "max" else float("inf")
            variable = tensorflow.Variable(worst, dtype=tensorflow.float32, trainable=False, name=_NAME)
            checkpoint.best_metric = variable
        self._variable = variable
        self._assign()

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

    def restore(self, *, best: bool = False) -> str | None:
        """Restore the newest state (or the best); returns its prefix, None for a run that is new.

        Every variable that exists must be found in it: build the model before. Raises MismatchError otherwise.
        """
        prefix = self.best_checkpoint if best else self.latest_checkpoint or self.best_checkpoint
        if prefix is None:
            return None
        if not os.path.exists(index_name(prefix)):
            raise NotFoundError("best.json names a checkpoint that is not there", path=prefix)
        status = self.checkpoint.read(prefix)
        try:
            status.assert_existing_objects_matched()
        except AssertionError as error:
            raise MismatchError(f"does not hold all variables of this model: {error}", path=prefix) from error
        self._assign()
        return prefix

    def save(self, metrics: Mapping[str, Any] | float | None = None, *, step: int, epoch: int = -1) -> bool:
        """Save the state as the newest one; with metrics, or the value itself, also as the best when it is better.

        Returns whether it is a new best. Raises UsageError when the metric is not among those given, StorageError when
        it cannot be saved or read back: what was saved before is untouched.
        """
        before = self.state
        state = replace(before, step=step, epoch=epoch)
        if metrics is not None:
            value = value_of(metrics, self.metric)
            state = before.after(value, step=step, epoch=epoch, min_delta=self._min_delta)
        new = state.best != before.best
        self.state = state
        try:
            self._assign()
            if new:
                prefix = self._best.save(self.checkpoint.write)
                state = replace(state, best_file=os.path.relpath(prefix, self.directory))
            prefix = self._latest.save(self.checkpoint.write)
            state = replace(state, latest_file=os.path.relpath(prefix, self.directory))
            write_state(self.directory, state)
        except BaseException:
            self.state = before
            self._assign()
            raise
        self.state = state
        for line, file in ((self._best, state.best_file), (self._latest, state.latest_file)):
            if file is not None and os.path.isdir(line.directory):
                line.point_to(file)
                line.retire([file])
        return new

    def _assign(self) -> None:
        if self.state.best is not None:
            self._variable.assign(self.state.best)
