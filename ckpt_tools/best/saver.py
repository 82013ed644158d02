"""``BestSaver``: a ``tf.compat.v1.train.Saver`` that knows the best model of a run, also after a restart."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ckpt_tools.best.line import Line
from ckpt_tools.best.state import BestState, direction, resumed, value_of, write_state
from ckpt_tools.errors import NotFoundError, UsageError
from ckpt_tools.format.filenames import index_name
from ckpt_tools.readers import open_checkpoint

_NAME = "best_metric"


class BestSaver:
    """Saves the variables of a graph: the newest ones, and the best ones apart.

    Make it when the graph is complete, before its variables are initialized: it adds a float32 variable
    ``best_metric`` and what it needs to save and restore, so that the graph may be finalized afterwards.

    Args:
        directory: of this run; made when it is not there.
        metric, mode, patience, min_delta: as of `BestCheckpoint`.
        var_list: as of ``Saver``; all variables by default.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        metric: str,
        mode: str | None = None,
        *,
        patience: int | None = None,
        min_delta: float = 0.0,
        var_list: Any = None,
    ) -> None:
        if patience is not None and patience < 1:
            raise UsageError(f"patience={patience}: at least one evaluation must be waited for")
        self.directory = os.fspath(directory)
        self.metric = metric
        self.mode = direction(metric, mode)
        self._min_delta = abs(min_delta)
        self._best = Line(os.path.join(self.directory, "best"), "model.ckpt")
        self._latest = Line(os.path.join(self.directory, "latest"), "model.ckpt")
        self.state: BestState = resumed(self.directory, metric, self.mode, patience)
        v1 = importlib.import_module("tensorflow").compat.v1
        worst = float("-inf") if self.mode == "max" else float("inf")
        given = var_list if var_list is not None else v1.global_variables()
        if isinstance(given, Mapping):
            named = {name: variable for name, variable in given.items() if name != _NAME}
            others: Any = named
            self._variable = given.get(_NAME)
        else:
            others = [variable for variable in given if variable.op.name != _NAME]
            self._variable = next((variable for variable in given if variable.op.name == _NAME), None)
        if self._variable is None:
            self._variable = v1.Variable(worst, dtype="float32", trainable=False, name=_NAME)
        self._value = v1.placeholder(self._variable.dtype.base_dtype, [], name=f"{_NAME}_value")
        self._assign = v1.assign(self._variable, self._value)
        every = {**others, _NAME: self._variable} if isinstance(others, dict) else [*others, self._variable]
        # A checkpoint of before this had no best_metric: with it in the list nothing at all would be restored.
        self._saver = v1.train.Saver(every, max_to_keep=None)
        self._without = v1.train.Saver(others, max_to_keep=None) if others else None

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

    def restore(self, session: Any, prefix: str | None = None, *, best: bool = False) -> str | None:
        """Restore the newest state (or the best, or a checkpoint of before); returns its prefix, None for a new run.

        The variables that are not restored must have been initialized: of a checkpoint of before, ``best_metric``.
        """
        prefix = prefix or (self.best_checkpoint if best else self.latest_checkpoint or self.best_checkpoint)
        if prefix is None:
            return None
        if not os.path.exists(index_name(prefix)):
            raise NotFoundError("no checkpoint with this prefix (no .index file)", path=prefix)
        with open_checkpoint(prefix) as checkpoint:
            knows = _NAME in checkpoint.tensors
        (self._saver if knows or self._without is None else self._without).restore(session, prefix)
        if self.state.best is not None:
            session.run(self._assign, {self._value: self.state.best})
        return prefix

    def save(
        self, session: Any, metrics: Mapping[str, Any] | float | None = None, *, step: int, epoch: int = -1
    ) -> bool:
        """Save the variables as the newest; with metrics, or the value itself, also as the best when it is better.

        Returns whether it is a new best. Raises UsageError when the metric is not among those given, StorageError when
        it cannot be saved or read back: what was saved before is untouched.
        """
        before = self.state
        state = replace(before, step=step, epoch=epoch)
        if metrics is not None:
            value = value_of(metrics, self.metric)
            state = before.after(value, step=step, epoch=epoch, min_delta=self._min_delta)
        new = state.best != before.best
        if state.best is not None:
            session.run(self._assign, {self._value: state.best})

        def write(draft: str) -> None:
            self._saver.save(session, draft, write_meta_graph=False, write_state=False)

        try:
            if new:
                prefix = self._best.save(write)
                state = replace(state, best_file=os.path.relpath(prefix, self.directory))
            prefix = self._latest.save(write)
            state = replace(state, latest_file=os.path.relpath(prefix, self.directory))
            write_state(self.directory, state)
        except BaseException:
            if before.best is not None:
                session.run(self._assign, {self._value: before.best})
            raise
        self.state = state
        for line, file in ((self._best, state.best_file), (self._latest, state.latest_file)):
            if file is not None and os.path.isdir(line.directory):
                line.point_to(file)
                line.retire([file])
        return new
