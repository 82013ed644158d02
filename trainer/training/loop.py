"""The training loop: update, evaluate, save, until there is a reason to stop. Needs TensorFlow."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from json import dumps
from types import FrameType, TracebackType
from typing import Any, Literal, Protocol

from ckpt_tools.errors import MismatchError
from ckpt_tools.fs import durable
from ckpt_tools.lineages.names import CONFIG, DATA, METRIC
from ckpt_tools.runs.experiments import Experiment
from trainer.checkpoints.retention import KEEP, held_best
from trainer.checkpoints.run_state import RunState
from trainer.checkpoints.saving import CheckpointLine
from trainer.config import TrainConfig
from trainer.data.prefetch import Prefetch
from trainer.evaluation.ranking_metrics import Metrics
from trainer.monitoring.rows import Event, LogRow
from trainer.monitoring.run_log import RunLog
from trainer.training.resume_outcome import Best, identity_in_words, metric_identity
from trainer.training.starting_point import StartingPoint
from trainer.training.team import Learns, SingleProcess, Team

Reason = Literal["max-steps", "patience", "interrupted"]


class Listener(Protocol):
    """Who is told how the run goes."""

    def evaluated(self, row: LogRow) -> None: ...

    def updated(self, run_state: RunState, max_steps: int, patience: int) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """How a run ended. ``first`` is the evaluation before its first step."""

    run_state: RunState
    first: LogRow
    reason: Reason


def train(
    start: StartingPoint,
    experiment: Experiment,
    max_steps: int,
    listener: Listener,
    team: Team | None = None,
    *,
    keep: int = KEEP,
) -> Outcome:
    """Train until step ``max_steps``, until patience is used up, or until a signal asks to stop.

    The best weights go to ``keras_ckpt``, the newest to ``latest``: at every evaluation, and when the run ends
    between two; of the newest the last ``keep`` stay, in case one is damaged later. A best that is better than this
    state knows of (it was saved just before the run was killed) is not replaced. After SIGINT or SIGTERM the current
    step is finished and saved; a second signal does not wait.
    With a ``team`` of several processes only the chief writes, and a signal to one of them stops all.

    Raises MismatchError when the loss is not finite (nothing is saved from there), StorageError, BusyError when
    another run trains this experiment or has done so since ``start`` was read, UsageError when a new run finds another
    one of its name, and what ``team`` raises: LostWorkerError leaves the last state that was saved.
    """
    team = SingleProcess() if team is None else team
    team.agree_on_start(start, max_steps)
    with contextlib.ExitStack() as stack:
        log: RunLog | _NoLog = _NoLog()
        if team.is_chief:
            durable.make_directory(experiment.path)
            stack.enter_context(durable.locked(experiment.path))
            start.require_unchanged(experiment)
        run = stack.enter_context(_Run(start, experiment, team, keep))
        run.tidy()
        if start.unsaved_best is not None:
            run.save(start.unsaved_best)
        if start.resumed_from is None:
            run.save_latest()  # a run that is killed before its first evaluation can be continued too
        if team.is_chief:
            log = stack.enter_context(RunLog(experiment.runs, start.config))
        stop_requested = stack.enter_context(_stop_requests())
        outcome = _loop(run, start, max_steps, log, listener, lambda: team.stop_agreed(stop_requested()))
        team.leave()
    return outcome


def _loop(
    run: _Run,
    start: StartingPoint,
    max_steps: int,
    log: RunLog | _NoLog,
    listener: Listener,
    stop_requested: Callable[[], bool],
) -> Outcome:
    config = start.config
    metrics, measured_by = start.first, _measure(start)
    if start.line == "latest":
        log.rewind(run.run_state.step, _row_of_state(start))
    event: Event = "resume" if start.resumed_from else "start"
    first = row = LogRow.of(event, run.run_state, None, metrics, measured_by, start.measure_before)
    log.add(row)
    listener.evaluated(row)
    while (reason := _reason_to_stop(run.run_state, max_steps, stop_requested())) is None:
        run.update()
        listener.updated(run.run_state, max_steps, config.patience)
        if run.run_state.step % config.test_iter == 0:
            loss = run.run_state.mean_loss
            metrics = run.evaluate()
            row = LogRow.of("eval", run.run_state, loss, metrics, measured_by)
            # Saved first and logged then: a log may lack a line, but never promises a checkpoint that is not there.
            if run.run_state.is_best and not run.has_better:
                run.save_best()
            run.save_latest()
            log.add(row)
            listener.evaluated(row)
    if run.unsaved:
        run.save_latest()
    measured = None if math.isnan(run.run_state.recall) else metrics
    log.add(LogRow.of("stop", run.run_state, run.run_state.mean_loss, measured, measured_by))
    return Outcome(run.run_state, first, reason)


def _row_of_state(start: StartingPoint) -> LogRow | None:
    """The row of the evaluation that the state was saved at, None when it was saved between two."""
    run_state = start.run_state
    if math.isnan(run_state.recall) or run_state.mean_loss is None:
        return None
    return LogRow.of("eval", run_state, run_state.mean_loss, start.first, _measure(start))


def _measure(start: StartingPoint) -> str:
    """What the run's recalls are: only those of one N and one split can be compared."""
    return identity_in_words(metric_identity(start.config, start.valid))


def _reason_to_stop(run_state: RunState, max_steps: int, asked: bool) -> Reason | None:
    if asked:
        return "interrupted"
    if run_state.stopped:
        return "patience"
    return "max-steps" if run_state.step >= max_steps else None


class _NoLog:
    """The chief keeps the log."""

    def add(self, row: LogRow) -> None:
        pass

    def rewind(self, step: int, row: LogRow | None) -> None:
        pass


class _Run:
    """The state that changes: the learner's variables and the run state, always of the same step."""

    def __init__(self, start: StartingPoint, experiment: Experiment, team: Team, keep: int) -> None:
        self._start = start
        self._config: TrainConfig = start.config
        self._team = team
        self._learner: Learns = team.learner(start.config, start.variables)
        self._batches = Prefetch(start.sampler)
        self._best = CheckpointLine(experiment.best_line)
        self._latest = CheckpointLine(experiment.latest_line, keep=keep, experiment=experiment)
        self._experiment = experiment
        self.run_state = start.run_state
        # What a newest state says of its best may have changed before the first step.
        self.unsaved = start.line == "latest" and start.unsaved_best is not None

    def __enter__(self) -> _Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._batches.close()

    def update(self) -> None:
        loss = self._learner.update(self._batches(self.run_state.step))
        if not math.isfinite(loss):
            raise MismatchError(
                f"training has diverged: the loss is {loss} at step {self.run_state.step + 1}; the best and the state "
                "of the last evaluation are kept, what came after it is not saved",
                hint="go on from the best with a smaller --learning-rate",
            )
        self.run_state = self.run_state.after_update(loss)
        self.unsaved = True

    def evaluate(self) -> Metrics:
        self._learner.catch_up()
        metrics = self._team.measure(self._config, self._learner.weights(), self._start.valid)
        self.run_state = self.run_state.after_evaluation(metrics.recall, self._config.patience)
        return metrics

    @property
    def has_better(self) -> bool:
        """Whether the line of best ones holds a better one already, measured in the same way."""
        held = held_best(self._experiment) if self._team.is_chief else None
        identity = metric_identity(self._config, self._start.valid)
        return (
            held is not None
            and dict(held.identity) == identity
            and held.run_state.best_metric > self.run_state.best_metric
        )

    def tidy(self) -> None:
        if self._team.is_chief:
            for line in (self._best, self._latest):
                line.tidy()

    def save(self, best: Best) -> None:
        """A best that was there before the first step."""
        if self._team.is_chief:
            self._best.save({**best.variables, **self._described(best.run_state)})

    def save_best(self) -> None:
        if self._team.is_chief:
            self._best.save(self._stored())

    def save_latest(self) -> None:
        if self._team.is_chief:
            self._latest.save(self._stored())
        self.unsaved = False

    def _stored(self) -> dict[str, Any]:
        """Everything a checkpoint holds, by canonical name."""
        return {**self._learner.stored(), **self._described(self.run_state)}

    def _measure_before(self) -> dict[str, str]:
        """In every checkpoint: the log's row that tells it may be lost, when the run is killed before its first one."""
        known = self._start.measure_before
        return {} if known is None else {"measure_before": known}

    def _described(self, run_state: RunState) -> dict[str, Any]:
        """What a checkpoint holds beside the learner's variables."""
        identity = metric_identity(self._config, self._start.valid)
        return {
            **run_state.to_tensors(),
            METRIC: dumps(identity, sort_keys=True),
            CONFIG: self._config.to_json(),
            DATA: dumps({"train": self._start.sampler.digest} | self._measure_before()),
        }


@contextlib.contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """A question: has SIGINT or SIGTERM come? The second one acts at once, as it would have without us.

    Only the main thread may handle signals; elsewhere the answer is always no.
    """
    asked = False
    previous: dict[int, Any] = {}

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal asked
        asked = True
        for signal_number, handler in previous.items():
            signal.signal(signal_number, handler)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, ask)
    try:
        yield lambda: asked
    finally:
        for signal_number, handler in previous.items():
            signal.signal(signal_number, handler)
