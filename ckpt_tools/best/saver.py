"""``BestSaver``: a ``tf.compat.v1.train.Saver`` that knows the best model of a run, also after a restart."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from ckpt_tools.best.kept import Kept
from ckpt_tools.errors import NotFoundError
from ckpt_tools.format.filenames import index_name
from ckpt_tools.fs import local
from ckpt_tools.lineages.names import BEST_METRIC
from ckpt_tools.readers import open_checkpoint


class BestSaver(Kept):
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
        super().__init__(directory, metric, mode, patience=patience, min_delta=min_delta, name="model.ckpt")
        v1 = importlib.import_module("tensorflow").compat.v1
        given = var_list if var_list is not None else v1.global_variables()
        if isinstance(given, Mapping):
            named = {name: variable for name, variable in given.items() if name != BEST_METRIC}
            others: Any = named
            self._variable = given.get(BEST_METRIC)
        else:
            others = [variable for variable in given if variable.op.name != BEST_METRIC]
            self._variable = next((variable for variable in given if variable.op.name == BEST_METRIC), None)
        if self._variable is None:
            self._variable = v1.Variable(self._worst, dtype="float32", trainable=False, name=BEST_METRIC)
        self._value = v1.placeholder(self._variable.dtype.base_dtype, [], name=f"{BEST_METRIC}_value")
        self._assign = v1.assign(self._variable, self._value)
        every = {**others, BEST_METRIC: self._variable} if isinstance(others, dict) else [*others, self._variable]
        # A checkpoint of before this had no best_metric: with it in the list nothing at all would be restored.
        self._saver = v1.train.Saver(every, max_to_keep=None)
        self._without = v1.train.Saver(others, max_to_keep=None) if others else None

    def restore(self, session: Any, prefix: str | None = None, *, best: bool = False) -> str | None:
        """Restore the newest state (or the best, or a checkpoint of before); returns its prefix, None for a new run.

        The variables that are not restored must have been initialized: of a checkpoint of before, ``best_metric``.
        """
        prefix = prefix or self._prefix_of(best=best)
        if prefix is None:
            return None
        if not local.is_there(index_name(prefix)):
            raise NotFoundError("no checkpoint with this prefix (no .index file)", path=prefix)
        with open_checkpoint(prefix) as checkpoint:
            knows = BEST_METRIC in checkpoint.tensors
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

        def write(draft: str) -> None:
            self._saver.save(session, draft, write_meta_graph=False, write_state=False)

        def assign(best: float) -> None:
            session.run(self._assign, {self._value: best})

        return self._keep(metrics, step=step, epoch=epoch, write=write, assign=assign)
