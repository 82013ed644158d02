"""Training on several devices or machines, under ``tf.distribute``. Needs TensorFlow.

The batch of a step is a function of (seed, step), so everybody knows all of it: its users, its negatives and the rows
of the item table that they need. Each replica computes the loss of its share of the users. One all-reduce makes the
mean of the gradients, for the batch's rows and for the dense variables; then each replica makes the same update of its
own copy of the variables. This is the step of a single process with the same batch, but for the order of the sums.

TensorFlow's mirrored variables would keep such copies too, but know no update of some rows that is the same everywhere.
"""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from ckpt_tools.errors import LostWorkerError, MismatchError, UsageError
from trainer.config import TrainConfig
from trainer.data.interactions import Interactions
from trainer.data.sampling import Batch
from trainer.evaluation.measuring import numpy_model, rank
from trainer.evaluation.ranking_metrics import Metrics
from trainer.training.cluster import Task
from trainer.training.learner import Learner, Sums, inputs, signature
from trainer.training.starting_point import StartingPoint

# How long one waits for another before it counts as lost: an evaluation and a save have to fit in. A worker that ends,
# for whatever reason, is noticed at once.
TIMEOUT_SECONDS = 1800.0

# What TensorFlow says, of a collective operation, when somebody is missing.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)


def gather_team(task: Task | None) -> ProcessGroup:
    """All devices of this machine, or (with a task out of ``TF_CONFIG``) of all workers; waits until they are there.

    It has to come before anything else that TensorFlow does in this process.
    """
    gpus = tf.config.list_logical_devices("GPU") if task is None else tf.config.list_physical_devices("GPU")
    if task is None:
        # More than one logical CPU is there only if somebody wants it.
        devices = gpus or tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
        return ProcessGroup(Task(), strategy)
    kinds = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        timeout_seconds=TIMEOUT_SECONDS, implementation=kinds.AUTO if gpus else kinds.RING
    )
    with _interruptible(), _all_there():
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        return ProcessGroup(task, tf.distribute.MultiWorkerMirroredStrategy(resolver, options))


class ProcessGroup:
    """The ``Team`` of all replicas of a strategy: ``count`` processes with as many devices each."""

    def __init__(self, task: Task, strategy: tf.distribute.Strategy) -> None:
        self._task = task
        self._strategy = strategy
        self._devices = strategy.extended.worker_devices
        self._vote = _Vote()

    @property
    def is_chief(self) -> bool:
        return self._task.is_chief

    @property
    def replicas(self) -> int:
        return int(self._strategy.num_replicas_in_sync)

    def agree_on_start(self, start: StartingPoint, max_steps: int) -> None:
        """Raises UsageError for a batch that cannot be shared equally, MismatchError where somebody begins another run
        than the chief, LostWorkerError."""
        size = start.config.batch_size
        if size % self.replicas:
            fitting = max(size // self.replicas, 1) * self.replicas
            raise UsageError(
                f"a batch of {size} users cannot be shared equally by {self.replicas} replicas",
                hint=f"use --batch-size {fitting}, or another number of workers",
            )
        own = _fingerprints(start, max_steps)
        table = np.zeros((self._task.count, len(own)), np.int64)
        table[self._task.number] = list(own.values())
        everyone = self._total(table.ravel()).reshape(self._task.count, len(own))
        for worker, found in enumerate(everyone):
            if different := [what for what, same in zip(own, found == everyone[0], strict=True) if not same]:
                raise MismatchError(
                    f"worker {worker} does not begin as the chief does: it has other {', '.join(different)}",
                    hint="give every worker the same flags, data and checkpoint",
                )

    def learner(self, config: TrainConfig, variables: Mapping[str, np.ndarray]) -> SharedLearner:
        return SharedLearner(config, variables, self._strategy, self._vote)

    def measure(self, config: TrainConfig, weights: Mapping[str, np.ndarray], valid: Interactions) -> Metrics:
        """Each worker ranks its part of the users. Ranks are whole numbers: their sum is what one process finds."""
        part = (self._task.number, self._task.count)
        found = rank(numpy_model(config, weights), valid, maxlen=config.maxlen, limit=config.top_n, part=part)
        return replace(found, ranks=self._total(found.ranks_at(config.top_n)), crowded={}).at(config.top_n)

    def stop_agreed(self, asked: bool) -> bool:
        """The next update carries the question to everybody: one step later than alone, all know the same."""
        self._vote.asked = asked
        return self._vote.agreed

    def leave(self) -> None:
        self._total(np.zeros(1, np.int64))

    def _total(self, numbers: np.ndarray) -> np.ndarray:
        """The sum of the workers' int64 [N]."""
        if self._task.count == 1:
            return numbers
        with _all_there():
            total = self._sum(tf.constant(numbers))
            return np.asarray(self._strategy.experimental_local_results(total)[0])

    @functools.cached_property
    def _sum(self) -> Any:
        def of_replica(numbers: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            first = _number(context) % len(self._devices) == 0  # one device speaks for its worker
            return context.all_reduce(tf.distribute.ReduceOp.SUM, numbers * int(first))

        return tf.function(lambda numbers: self._strategy.run(of_replica, (numbers,)), autograph=False)


@dataclass
class _Vote:
    """``asked``: somebody wants this process to stop; ``agreed``: everybody knows that one was asked."""

    asked: bool = False
    agreed: bool = False


class SharedLearner:
    """A ``Learner`` on each device of this process, each with its own copy of the variables, all in step."""

    def __init__(
        self,
        config: TrainConfig,
        variables: Mapping[str, np.ndarray],
        strategy: tf.distribute.Strategy,
        vote: _Vote,
    ) -> None:
        self._config = config
        self._strategy = strategy
        self._vote = vote
        self._copies = []
        for device in strategy.extended.worker_devices:
            with tf.device(device):
                self._copies.append(Learner(config, variables, strategy.num_replicas_in_sync))
        self._update = tf.function(
            self._traced_update, input_signature=[tf.TensorSpec([], tf.bool), *signature(config)], autograph=False
        )

    def update(self, batch: Batch) -> float:
        """Raises LostWorkerError; then the variables are of no step and must not be saved."""
        for copy in self._copies:
            copy.mark_touched(batch)
        with _all_there():
            results = self._update(tf.constant(self._vote.asked), *inputs(batch))
            loss, asked = (float(self._strategy.experimental_local_results(result)[0]) for result in results)
        self._vote.agreed = asked > 0
        return loss

    def catch_up(self) -> None:
        for copy in self._copies:
            copy.catch_up()

    def weights(self) -> dict[str, np.ndarray]:
        return self._copies[0].weights()

    def stored(self) -> dict[str, Any]:
        return self._copies[0].stored()

    def _traced_update(self, asked: tf.Tensor, *batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        results: tuple[Any, Any] = self._strategy.run(self._update_of_replica, (asked, *batch))
        return results

    def _update_of_replica(self, asked: tf.Tensor, *batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        context = tf.distribute.get_replica_context()
        number = _number(context)
        carried = [tf.cast(asked, tf.float32)]
        copy = self._copies[number % len(self._copies)]
        loss = copy.traced_update(*self._share(number, *batch), combine=functools.partial(self._mean, carried))
        return loss, carried[0]

    def _share(
        self,
        number: int,
        rows: tf.Tensor,
        inverse: tf.Tensor,
        order: tf.Tensor,
        mask: tf.Tensor,
        target_count: tf.Tensor,
        sampled_count: tf.Tensor,
        noise: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        """Of a batch what one replica needs: its users, and all rows and negatives."""
        config = self._config
        each = config.batch_size // self._strategy.num_replicas_in_sync
        users = slice(number * each, (number + 1) * each)
        by_padding = config.batch_size if config.reads_by_padding else 0
        history, targets, sampled, readout = tf.split(
            inverse, [config.batch_size * config.maxlen, config.batch_size, config.sample_size, by_padding]
        )
        history = tf.reshape(history, [config.batch_size, config.maxlen])
        own = [tf.reshape(history[users], [-1]), targets[users]]
        inverse = tf.concat([*own, sampled, readout[users]], axis=0)
        return rows, inverse, order, mask[users], target_count[users], sampled_count, noise[users]

    def _mean(self, carried: list[tf.Tensor], loss: tf.Tensor, rows: list[tf.Tensor], dense: list[tf.Tensor]) -> Sums:
        """The means over all replicas, in one message. Those of ``carried`` take its place."""
        config = self._config
        count = tf.shape(rows[0])[0]
        # A collective operation has one shape; a batch's number of different rows has a bound.
        most = config.places
        padded = [tf.pad(part, [[0, most - count], [0, 0]]) for part in rows]
        padded = [tf.ensure_shape(part, [most, config.embedding_dim]) for part in padded]
        parts = [*carried, loss, *padded, *dense]
        message = tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)
        mean = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, message)
        flat = tf.split(mean, [part.shape.num_elements() for part in parts])
        asked, loss, *rest = (tf.reshape(value, part.shape) for value, part in zip(flat, parts, strict=True))
        carried[:] = [asked]
        return loss, [part[:count] for part in rest[: len(rows)]], rest[len(rows) :]


def _number(context: tf.distribute.ReplicaContext) -> int:
    """Which replica this is, of all; known when the function is traced."""
    return int(tf.get_static_value(context.replica_id_in_sync_group))


def _fingerprints(start: StartingPoint, max_steps: int) -> dict[str, int]:
    """What has to be the same everywhere, in words, and a checksum of it."""
    variables = 0
    for name in sorted(start.variables):
        variables = zlib.crc32(np.ascontiguousarray(start.variables[name]).data, variables)
    return {
        "hyper-parameters": zlib.crc32(start.config.to_json().encode()),
        "training data": zlib.crc32(start.sampler.digest.encode()),
        "validation data": zlib.crc32(start.valid.digest.encode()),
        "weights or moments": variables,
        "run state": zlib.crc32(json.dumps(asdict(start.run_state)).encode()),
        "last step": max_steps,
        # Random numbers are those of numpy, which may change what it draws.
        "batches (another version of numpy?)": zlib.crc32(start.sampler(start.run_state.step).rows.data),
    }


@contextlib.contextmanager
def _all_there() -> Iterator[None]:
    """An error of ours when a collective operation fails because somebody is missing."""
    try:
        yield
    except _LOST as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = next((line for line in lines if "ollective" in line and "Detected at" not in line), lines[0])
        raise LostWorkerError(
            f"a worker is gone, or does not answer: {cause}",
            hint="what the chief has saved is whole; start all workers again, with --resume --from latest",
        ) from error


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the process at once: TensorFlow's waiting does not come back to Python."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
