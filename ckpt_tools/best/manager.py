"""``BestCheckpointManager``: what ``tf.train.CheckpointManager`` leaves out, around a ``tf.train.Checkpoint``."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from ckpt_tools.best.kept import Kept
from ckpt_tools.errors import MismatchError, NotFoundError
from ckpt_tools.format.filenames import index_name
from ckpt_tools.fs import local
from ckpt_tools.lineages.names import BEST_METRIC


class BestCheckpointManager(Kept):
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
        super().__init__(directory, metric, mode, patience=patience, min_delta=min_delta, name="ckpt")
        self.checkpoint = checkpoint
        variable = getattr(checkpoint, BEST_METRIC, None)
        if variable is None:
            tensorflow = importlib.import_module("tensorflow")
            variable = tensorflow.Variable(self._worst, dtype=tensorflow.float32, trainable=False, name=BEST_METRIC)
            setattr(checkpoint, BEST_METRIC, variable)
        self._variable = variable
        self._assign()

    def restore(self, *, best: bool = False) -> str | None:
        """Restore the newest state (or the best); returns its prefix, None for a run that is new.

        Every variable that exists must be found in it: build the model before. Raises MismatchError otherwise.
        """
        prefix = self._prefix_of(best=best)
        if prefix is None:
            return None
        if not local.is_there(index_name(prefix)):
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
        return self._keep(metrics, step=step, epoch=epoch, write=self.checkpoint.write, assign=self._variable.assign)

    def _assign(self) -> None:
        if self.state.best is not None:
            self._variable.assign(self.state.best)
