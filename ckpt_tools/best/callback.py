"""``BestCheckpoint``: a callback for ``model.fit`` of Keras 3 and of tf.keras (Keras 2).

It is no subclass of either's ``Callback``: both call methods by their names, and which of the two a program uses is
known only when its model comes. So neither is ever imported here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from ckpt_tools.best.line import Line
from ckpt_tools.best.state import BestState, direction, resumed, value_of, write_state
from ckpt_tools.errors import UsageError
from ckpt_tools.fs import local
from ckpt_tools.operations.best_values import meaning_of, plan_best
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.transactions import FilePlan, replace_own


class BestCheckpoint:
    """Keeps the best and the newest model of a run in ``directory``, and everything that a restart must know.

    Args:
        directory: of this run; made when it is not there.
        monitor: the metric as ``fit`` logs it, for example ``val_auc``.
        mode: ``min`` or ``max``; None takes what the name tells, and is an error when it tells nothing.
        patience: stop after so many evaluations without a better one; None never stops.
        min_delta: by how much more than this a value must be better.
        suffix: ``.weights.h5`` saves the weights and the optimizer's (tf.keras before 2.12: only the weights),
            ``.keras`` the whole model; the best value is beside them.
        keep_latest: whether the newest model is saved too, after each epoch.

    Raises UsageError when the metric is not among those that are logged (the message says which are), or when what is
    stored in the directory is of another one.

    ``state`` is what is known, ``stopped`` whether a run before this one had stopped early.
    """

    # What tf.keras asks its callbacks: plain numbers, please.
    _supports_tf_logs = False
    _chief_worker_only = True
    async_safe = False

    def __init__(
        self,
        directory: str | os.PathLike[str],
        monitor: str,
        mode: str | None = None,
        *,
        patience: int | None = None,
        min_delta: float = 0.0,
        suffix: Literal[".weights.h5", ".keras"] = ".weights.h5",
        keep_latest: bool = True,
    ) -> None:
        if patience is not None and patience < 1:
            raise UsageError(f"patience={patience}: at least one evaluation must be waited for")
        if suffix not in (".weights.h5", ".keras"):
            raise UsageError(f"suffix={suffix!r}: must be .weights.h5 or .keras")
        self.directory = os.fspath(directory)
        self.monitor = monitor
        self.mode = direction(monitor, mode)
        self.model: Any = None
        self.params: Any = None
        self.validation_data: Any = None
        self._min_delta = abs(min_delta)
        self._suffix = suffix
        self._keep_latest = keep_latest
        self._patience = patience
        self._best = Line(os.path.join(self.directory, "best"), "best", suffix)
        self._latest = Line(os.path.join(self.directory, "latest"), "latest", suffix)
        self._over = False
        self.state: BestState = resumed(self.directory, monitor, self.mode, patience)

    # ------------------------------------------------------------------------------------------ for users

    @property
    def stopped(self) -> bool:
        """Whether this run has stopped early, in this process or before."""
        return self.state.stopped

    @property
    def best_path(self) -> str | None:
        """The file of the best model; None before the first."""
        return self.state.best_file and os.path.join(self.directory, self.state.best_file)

    @property
    def latest_path(self) -> str | None:
        """The file of the newest model; None before the first."""
        return self.state.latest_file and os.path.join(self.directory, self.state.latest_file)

    def resume(self, model: Any, *, best: bool = False) -> int:
        """Load the newest weights (or the best) into a compiled, built model; returns the ``initial_epoch`` of ``fit``.

        For a run that is new it loads nothing and returns 0.
        """
        path = self.best_path if best else self.latest_path or self.best_path
        if path is None:
            return 0
        _build_optimizer(model)
        model.load_weights(path)
        at_best = path == self.best_path
        return 1 + (self.state.best_epoch if at_best else self.state.epoch)

    # ------------------------------------------------------------------------------------------ for Keras

    def set_params(self, params: Any) -> None:
        self.params = params

    def set_model(self, model: Any) -> None:
        self.model = model

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        """Keras' own callbacks begin anew here: what is stored is read now, not before."""
        self.state = resumed(self.directory, self.monitor, self.mode, self._patience)
        self._over = self.state.stopped
        if self._over:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._over:  # the epoch that fit begins before it looks whether it should
            self.model.stop_training = True
            return
        value = value_of(logs or {}, self.monitor)
        before = self.state
        state = before.after(value, step=self._step(epoch), epoch=epoch, min_delta=self._min_delta)
        if state.best != before.best:
            path = self._best.save(lambda draft: self._write(draft, state))
            state = replace(state, best_file=os.path.relpath(path, self.directory))
        if self._keep_latest:
            path = self._latest.save(lambda draft: self._write(draft, state))
            state = replace(state, latest_file=os.path.relpath(path, self.directory))
        write_state(self.directory, state)
        self.state = state
        # Only now does something durable point to the new ones.
        for line, file in ((self._best, state.best_file), (self._latest, state.latest_file)):
            if file is not None and local.is_directory(line.directory, follow=True):
                line.retire([file])
        if state.stopped:
            self.model.stop_training = True

    def _write(self, draft: str, state: BestState) -> None:
        if self._suffix == ".weights.h5":
            self.model.save_weights(draft)
        else:
            self.model.save(draft)
        if state.best is not None:
            said = f"kept by BestCheckpoint in {os.path.basename(os.path.abspath(self.directory))}"
            meaning = meaning_of(state.best, self.monitor, self.mode, step=state.best_step, evidence=said)
            with open_checkpoint(draft) as checkpoint:
                plan = plan_best(checkpoint, state.best, meaning, reason="best", evidence={})
            assert isinstance(plan, FilePlan)
            replace_own(plan)

    def _step(self, epoch: int) -> int:
        """How many updates were made, as the optimizer counts them; else the epochs."""
        iterations = getattr(getattr(self.model, "optimizer", None), "iterations", None)
        try:
            return int(iterations.numpy() if hasattr(iterations, "numpy") else iterations)  # type: ignore[arg-type, union-attr]
        except (TypeError, ValueError, AttributeError, NotImplementedError):
            return epoch + 1

    # Both kinds of Keras call these, and ask whether they do anything.

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None: ...

    def on_train_end(self, logs: Any = None) -> None: ...

    def on_batch_begin(self, batch: int, logs: Any = None) -> None: ...

    def on_batch_end(self, batch: int, logs: Any = None) -> None: ...

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None: ...

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None: ...

    def on_test_begin(self, logs: Any = None) -> None: ...

    def on_test_end(self, logs: Any = None) -> None: ...

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None: ...

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None: ...

    def on_predict_begin(self, logs: Any = None) -> None: ...

    def on_predict_end(self, logs: Any = None) -> None: ...

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None: ...

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None: ...

    def _implements_train_batch_hooks(self) -> bool:
        return False

    def _implements_test_batch_hooks(self) -> bool:
        return False

    def _implements_predict_batch_hooks(self) -> bool:
        return False


def _build_optimizer(model: Any) -> None:
    """Let the optimizer have its variables: into one that has none, Keras loads none, with no more than a warning."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    variables = model.trainable_variables
    if hasattr(optimizer, "build"):
        if not getattr(optimizer, "built", False) or not getattr(optimizer, "_built", True):
            optimizer.build(variables)
    elif hasattr(optimizer, "_create_all_weights"):
        optimizer._create_all_weights(variables)
