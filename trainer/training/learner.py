"""The variables of a run as TensorFlow's, and the one operation that changes them. Needs TensorFlow."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ckpt_tools.lineages.comirec.models import ITEM_BIAS, ITEM_EMBEDDING
from ckpt_tools.lineages.names import MODEL
from trainer.config import TrainConfig
from trainer.data.sampling import Batch
from trainer.models.recommenders import model_class
from trainer.models.tensors import LookedUp, TensorArrays
from trainer.models.variables import IDLE, trainable
from trainer.training.rates import Schedule
from trainer.training.row_wise_adam import Adam

_IMPOSSIBLE = -1e30
# Numbers in the vectors of a batch from which on two threads are faster than one: between 0.25 and 1 million of them
# with two cores, for each of the models.
_SHARED_FROM = 1 << 19

# The loss, sums over the batch's rows [R, D] and dense gradients: of one learner, and the means over all of them.
Sums = tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]
Combine = Callable[[tf.Tensor, list[tf.Tensor], list[tf.Tensor]], Sums]


def alone(loss: tf.Tensor, rows: list[tf.Tensor], dense: list[tf.Tensor]) -> Sums:
    """Nobody else has users of this batch."""
    return loss, rows, dense


class _Part(NamedTuple):
    """Some of a batch's users, as many as ``share`` of all: the vectors of their histories [b*L, D], of their targets
    and, for the readouts by it, of the padding item [b, D]; ``mask`` [b, L], ``noise`` [b, K, L] or None, their
    targets' ``offset`` [b], ``hits`` bool [b, S]."""

    share: float
    history: tf.Tensor
    target: tf.Tensor
    padding: tf.Tensor
    mask: tf.Tensor
    noise: tf.Tensor | None
    offset: tf.Tensor
    hits: tf.Tensor


class Learner:
    """Holds every variable under its canonical name; they exist, with their values, from the first moment on.

    ``learners`` that train together each take an equal part of the users of a batch, all of its negatives and rows.
    """

    def __init__(self, config: TrainConfig, variables: Mapping[str, np.ndarray], learners: int = 1) -> None:
        if learners == 1:
            _settle_threads(config)
        # So that the same inputs give the same bits, on devices that would otherwise add in any order. Nothing here
        # draws from TensorFlow's generator, but determinism asks for its seed all the same.
        tf.config.experimental.enable_op_determinism()
        tf.random.set_seed(config.seed)
        self._config = config
        self._learners = learners
        self._users = config.batch_size // learners
        names = trainable(config)
        self._variables = {
            name: tf.Variable(value, trainable=name in names)
            for name, value in variables.items()
            if not name.startswith(IDLE)
        }
        self._dense = [name for name in names if name != ITEM_EMBEDDING]
        schedule = Schedule(config.schedule, config.warmup_steps, config.decay_steps)
        self._adam = Adam(self._variables, config.adam_epsilon, schedule, config.weight_decay)
        self._all_current = True
        if stale_rows := {name.removeprefix(IDLE): value for name, value in variables.items() if name.startswith(IDLE)}:
            self._adam.restore_stale_rows(stale_rows)
            self._all_current = False
        if learners == 1:
            # A concrete function is called a quarter of a millisecond faster than one that still has to be chosen.
            traced = tf.function(
                lambda *batch: self.traced_update(*batch), input_signature=signature(config), autograph=False
            )
            self._update = traced.get_concrete_function()

    def update(self, batch: Batch) -> float:
        """One step of training; returns the batch's loss before it."""
        self.mark_touched(batch)
        return float(self._update(*inputs(batch)))

    def mark_touched(self, batch: Batch) -> None:
        """Expect an update with this batch."""
        self._all_current = False
        self._adam.mark_touched(batch.rows)

    def catch_up(self) -> None:
        """Bring every row of the item table up to date, as evaluation and an ordinary checkpoint need it."""
        self._adam.catch_up()
        self._all_current = True

    def weights(self) -> dict[str, np.ndarray]:
        """The model's weights as numpy arrays, after ``catch_up``; valid until the next update."""
        return {name: variable.numpy() for name, variable in self._variables.items() if name.startswith(MODEL)}

    def stored(self) -> dict[str, Any]:
        """What a checkpoint holds of the learner: an ordinary state of Adam, every row up to date.

        Between two evaluations rows are behind. To continue from there with the same bits, the checkpoint also gets
        those rows as they are (``state/idle/...``); nobody else needs them.
        """
        if self._all_current:
            return dict(self._variables)
        stale_rows = {f"{IDLE}{key}": value for key, value in self._adam.stale_rows().items()}
        return {**self._variables, **self._adam.current(), **stale_rows}

    def traced_update(
        self,
        rows: tf.Tensor,
        inverse: tf.Tensor,
        order: tf.Tensor,
        mask: tf.Tensor,
        target_count: tf.Tensor,
        sampled_count: tf.Tensor,
        noise: tf.Tensor,
        *,
        combine: Combine = alone,
    ) -> tf.Tensor:
        """The update of this learner's users, as a part of a ``tf.function``; returns the loss of the whole batch."""
        config, users = self._config, self._users
        fresh = self._adam.rows(rows)
        embedded = tf.gather(fresh.values, inverse)
        ids = inverse[users * config.maxlen : users * (config.maxlen + 1) + config.sample_size]
        bias = tf.gather(tf.gather(self._variables[ITEM_BIAS], rows), ids)
        hits = ids[:users, None] == ids[users:]
        corrections = tf.concat([target_count[:, 0], sampled_count], axis=0)
        loss, gradient, *gradients = self._loss_and_gradients(
            embedded, mask, noise, bias - tf.math.log(corrections), hits
        )
        if config.repeated_rows == "apart" and self._learners > 1:
            loss, row_gradient, row_squares, gradients = self._apart(loss, gradient, inverse, rows, gradients, combine)
        else:
            sums = functools.partial(self._sums, inverse=inverse, order=order, count=tf.shape(rows)[0])
            loss, (row_gradient,), gradients = combine(loss, [sums(gradient)], gradients)
            apart = config.repeated_rows == "apart"
            row_squares = sums(gradient * gradient) if apart else row_gradient * row_gradient
        if config.clip_norm:
            factor = clip_factor([row_gradient, *gradients], config.clip_norm)
            row_gradient, row_squares = row_gradient * factor, row_squares * factor**2
            gradients = [gradient * factor for gradient in gradients]
        self._adam.apply(fresh, row_gradient, row_squares, dict(zip(self._dense, gradients, strict=True)))
        return loss

    def _sums(self, values: tf.Tensor, inverse: tf.Tensor, order: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """[count, D]: what ``values`` [places, D] add up to for each row. Places sorted by rows are the quicker to add,
        but only those of a whole batch are."""
        if self._learners > 1:
            return tf.math.unsorted_segment_sum(values, inverse, count)
        return tf.sparse.segment_sum(values, order, tf.gather(inverse, order), num_segments=count)

    def _apart(
        self,
        loss: tf.Tensor,
        gradient: tf.Tensor,
        inverse: tf.Tensor,
        rows: tf.Tensor,
        gradients: list[tf.Tensor],
        combine: Combine,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Loss, gradient and sum of squares of each row, dense gradients: a row is squared at each of its places.

        For several learners. A negative has one place for all users, so its gradients are added up over the learners
        before it is squared.
        """
        config, users = self._config, self._users
        count = tf.shape(rows)[0]
        sizes = [users * (config.maxlen + 1), config.sample_size, users if config.reads_by_padding else 0]
        own, sampled, readout = tf.split(gradient, sizes)
        own_places, sampled_places, readout_places = tf.split(inverse, sizes)
        own, own_places = tf.concat([own, readout], axis=0), tf.concat([own_places, readout_places], axis=0)
        sums = [tf.math.unsorted_segment_sum(part, own_places, count) for part in (own, own * own)]
        loss, (row_gradient, row_squares), (sampled, *gradients) = combine(loss, sums, [sampled, *gradients])
        row_gradient += tf.math.unsorted_segment_sum(sampled, sampled_places, count)
        # Each learner's loss is the mean over its own users: of the mean over all of them, this is the square.
        row_squares = row_squares / self._learners
        return (
            loss,
            row_gradient,
            row_squares + tf.math.unsorted_segment_sum(sampled * sampled, sampled_places, count),
            gradients,
        )

    def _loss_and_gradients(
        self, embedded: tf.Tensor, mask: tf.Tensor, noise: tf.Tensor, offsets: tf.Tensor, hits: tf.Tensor
    ) -> list[tf.Tensor]:
        """The loss, and its gradients for the batch's vectors ``embedded`` [places, D] and each dense variable.

        The users of a small batch are taken in two parts, which are computed side by side.
        """
        config, users = self._config, self._users
        sizes = [users] if _is_large(config) else [size for size in (users - users // 2, users // 2) if size]
        by_padding = int(config.reads_by_padding)

        def split(values: tf.Tensor, each: int = 1) -> list[tf.Tensor]:
            parts: list[tf.Tensor] = tf.split(values, [size * each for size in sizes])
            return parts

        history, target, sampled, padding = tf.split(
            embedded, [users * config.maxlen, users, config.sample_size, users * by_padding]
        )
        parts = zip(
            [size / users for size in sizes],
            split(history, config.maxlen),
            split(target),
            split(padding, by_padding),
            split(mask),
            split(noise) if config.draws_routing_noise else [None] * len(sizes),
            split(offsets[:users]),
            split(hits),
            strict=True,
        )
        losses, histories, targets, readouts, negatives, *dense = zip(
            *(self._of_part(_Part(*part), sampled, offsets[users:]) for part in parts), strict=True
        )
        gradient = tf.concat([*histories, *targets, _total(negatives), *readouts], axis=0)
        return [_total(losses), gradient, *map(_total, dense)]

    def _of_part(self, part: _Part, sampled: tf.Tensor, sampled_offset: tf.Tensor) -> list[tf.Tensor]:
        """What some of the users add to the loss; and to its gradients for their histories, targets and readouts, for
        the negatives and for each dense variable."""
        config = self._config
        looked_up = [part.history, part.target, part.padding, sampled]
        dense = [self._variables[name] for name in self._dense]
        with tf.GradientTape() as tape:
            tape.watch(looked_up)
            arrays = LookedUp(config.precision)
            model = model_class(config.model_type)(config, self._variables, arrays)
            history = tf.reshape(part.history, [-1, config.maxlen, config.embedding_dim])
            wanted = part.padding if config.reads_by_padding else part.target
            vectors, shares = model.trained(history, part.mask, wanted, part.noise)
            loss = sampled_softmax(
                vectors,
                part.target,
                sampled,
                part.offset,
                sampled_offset,
                part.hits,
                config.hard_negatives,
                arrays.product,
            )
            if config.routing_regularization:
                loss += config.routing_regularization * routing_variance(shares, part.mask)
            loss *= part.share
        zero = tf.UnconnectedGradients.ZERO  # of the readout, which only chooses among interests
        return [loss, *tape.gradient(loss, [*looked_up, *dense], unconnected_gradients=zero)]


def _total(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    return parts[0] if len(parts) == 1 else tf.add_n(parts)


def _is_large(config: TrainConfig) -> bool:
    """Whether an operation of a step is worth sharing among threads."""
    return config.places * config.embedding_dim > _SHARED_FROM


def _settle_threads(config: TrainConfig) -> None:
    """Where a batch is small, run each operation in one thread, and several of them at once: to share one among threads
    takes longer than it does. Nothing is changed where somebody has chosen, or where TensorFlow runs already."""
    if not _is_large(config) and "TF_NUM_INTRAOP_THREADS" not in os.environ:
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(1)


def signature(config: TrainConfig) -> list[tf.TensorSpec]:
    """The inputs of an update with a whole batch: rows, inverse, order, mask, target_count, sampled_count, noise."""
    batch, history, samples = config.batch_size, config.maxlen, config.sample_size
    return [
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([config.places], tf.int32),
        tf.TensorSpec([config.places], tf.int32),
        tf.TensorSpec([batch, history], tf.float32),
        tf.TensorSpec([batch, 1], tf.float32),
        tf.TensorSpec([samples], tf.float32),
        tf.TensorSpec([batch, config.num_interest, history] if config.draws_routing_noise else [0], tf.float32),
    ]


def inputs(batch: Batch) -> list[tf.Tensor]:
    """A batch in the order of ``signature``."""
    noise = np.zeros(0, np.float32) if batch.noise is None else batch.noise
    parts = (batch.rows, batch.inverse, batch.order, batch.mask, batch.target_count, batch.sampled_count, noise)
    return [tf.constant(part) for part in parts]


def clip_factor(gradients: list[tf.Tensor], most: float) -> tf.Tensor:
    """What gradients are multiplied by so that their norm, all taken together, is at most ``most``."""
    norm = tf.sqrt(tf.add_n([tf.reduce_sum(gradient * gradient) for gradient in gradients]))
    return most / tf.maximum(norm, most)


def routing_variance(shares: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """REMI's routing regularization (Xie et al., RecSys 2023, section 3.3): an interest that rests on a single item of
    the history has shares of large variance. The mean over the users of the norm of the interests' variances.

    ``shares`` [B, K, L]: what each interest takes of each item; ``mask`` [B, L]: padding does not count.
    """
    there = mask[:, None, :]
    count = tf.maximum(tf.reduce_sum(there, axis=2, keepdims=True), 1.0)
    mean = tf.reduce_sum(shares * there, axis=2, keepdims=True) / count
    variance = tf.reduce_sum(tf.square(shares - mean) * there, axis=2) / count[:, :, 0]
    # The tiny term keeps the gradient of the root finite where there is no variance.
    return tf.reduce_mean(tf.sqrt(tf.reduce_sum(variance * variance, axis=1) + 1e-12))


def sampled_softmax(
    vectors: tf.Tensor,
    target: tf.Tensor,
    sampled: tf.Tensor,
    target_offset: tf.Tensor,
    sampled_offset: tf.Tensor,
    hits: tf.Tensor,
    beta: float = 0.0,
    product: Callable[..., tf.Tensor] = TensorArrays().product,
) -> tf.Tensor:
    """The mean of ``tf.nn.sampled_softmax_loss`` over a batch, with accidental hits removed (Jean et al., 2015).

    ``vectors`` and ``target`` [B, D], ``sampled`` [S, D], ``target_offset`` [B] and ``sampled_offset`` [S]: an item's
    bias less the logarithm of how often the sampler was expected to draw it, ``hits`` bool [B, S]. Of several vectors
    for each user, [B, K, D], each item is scored by the one that scores it highest, as in retrieval.

    With ``beta`` a negative counts the more the higher it is scored: in proportion to exp(beta * score), one on average
    over a user's negatives (interest-aware hard negatives of REMI, Xie et al., RecSys 2023, section 3.2).
    ``product`` multiplies the vectors with those of the negatives.
    """
    if len(vectors.shape) == 3:
        own = tf.reduce_max(tf.reduce_sum(vectors * target[:, None, :], axis=2), axis=1)
        users, interests, dim = vectors.shape
        products = product(tf.reshape(vectors, [users * interests, dim]), sampled, transpose_right=True)
        scores = tf.reduce_max(tf.reshape(products, [users, interests, sampled.shape[0]]), axis=1)
    else:
        own = tf.reduce_sum(vectors * target, axis=1)
        scores = product(vectors, sampled, transpose_right=True)
    true = own + target_offset
    others = scores + sampled_offset
    if beta:
        hardness = tf.stop_gradient(tf.where(hits, _IMPOSSIBLE, beta * scores))
        counted = tf.reduce_sum(tf.cast(~hits, tf.float32), axis=1, keepdims=True)
        others += hardness + tf.math.log(counted) - tf.reduce_logsumexp(hardness, axis=1, keepdims=True)
    return _mean_loss(true, others, hits)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _mean_loss(true: tf.Tensor, others: tf.Tensor, hits: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
    """The mean over users of -log softmax of ``true`` [B] among ``others`` [B, S], less the ``hits``.

    The gradient is one product with the exponentials that the loss has made already; TensorFlow's own would go over
    [B, S] nine times more.
    """
    # What is added does not wait for the scores; a choice by ``hits`` would, and goes through them more slowly.
    others += _IMPOSSIBLE * tf.cast(hits, tf.float32)
    largest = tf.maximum(true, tf.reduce_max(others, axis=1))  # no exponential overflows
    powers = tf.exp(others - largest[:, None])
    of_true = tf.exp(true - largest)
    total = of_true + tf.reduce_sum(powers, axis=1)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, None]:
        each = upstream / tf.cast(tf.shape(true)[0], upstream.dtype)
        return each * (of_true / total - 1), powers * (each / total)[:, None], None

    return tf.reduce_mean(tf.math.log(total) + largest - true), gradient
