"""The models, each written once over ``Arrays``.

Two definitions of each exist in the world, and old checkpoints of both: ``paper`` is the original trainer
(THUDM/ComiRec, src/model.py; Cen et al., KDD 2020), ``keras`` its Keras port. For DNN and ComiRec-DR they
compute the same and differ in how they start; where a forward pass differs, its model says so.

Shapes: B batch, L history, D embedding, H hidden (= D), K interests. ``history`` int32 [B, L] left-aligned and
padded with 0, ``mask`` float32 [B, L] of ones and zeros, ``target`` int32 [B], ``noise`` float32 [B, K, L] or None:
the logits that MIND's routing starts from (zero without it).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ckpt_tools.lineages.comirec.models import ITEM_BIAS, ITEM_EMBEDDING
from trainer.config import TrainConfig
from trainer.models.arrays import Array, Arrays
from trainer.random_streams import RandomStream, generator, truncated_normal

ROUTING_ITERATIONS = 3

Initializer = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Parameter:
    """A variable before it exists: float32 of ``shape``."""

    shape: tuple[int, ...]
    initializer: Initializer
    trainable: bool = True

    def initial_value(self, name: str, seed: int) -> np.ndarray:
        """A function of name and seed alone, so that no parameter depends on which others there are."""
        random = generator(seed, RandomStream.INITIAL_WEIGHTS, zlib.crc32(name.encode()))
        return self.initializer(random, self.shape).astype(np.float32)


def zeros(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:  # noqa: ARG001
    return np.zeros(shape, np.float32)


def ones(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:  # noqa: ARG001
    return np.ones(shape, np.float32)


def uniform(limit: float) -> Initializer:
    return lambda random, shape: random.uniform(-limit, limit, shape)


def normal(deviation: float) -> Initializer:
    return lambda random, shape: deviation * random.standard_normal(shape)


def glorot_uniform(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform within sqrt(6 / (rows + columns)) (Glorot & Bengio, 2010); TensorFlow counts a vector as both."""
    return uniform(math.sqrt(6 / (shape[-1] + shape[-2 if len(shape) > 1 else -1])))(random, shape)


def orthogonal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Orthonormal rows (Saxe et al., 2014) for a matrix that is wider than high, as Keras starts a recurrent kernel."""
    factor, triangle = np.linalg.qr(random.standard_normal(shape[::-1]))
    orthogonal: np.ndarray = (factor * np.sign(np.diag(triangle))).T
    return orthogonal


def side_by_side(*parts: tuple[Initializer, int]) -> Initializer:
    """Columns from several initializers, each of them with its own share of the last dimension."""

    def fill(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.concatenate([initializer(random, (*shape[:-1], width)) for initializer, width in parts], axis=-1)

    return fill


class Recommender:
    """A model bound to its weights: numpy arrays or ``tf.Variable`` s, under their canonical names."""

    excludes_padding: ClassVar[bool]
    """Whether retrieval leaves out id 0 (the models with several interests do)."""

    def __init__(self, config: TrainConfig, weights: Mapping[str, Array], arrays: Arrays) -> None:
        self._config = config
        self._weights = weights
        self._arrays = arrays

    @staticmethod
    def parameters(config: TrainConfig) -> dict[str, Parameter]:
        """Every variable of the model, by canonical name."""
        table = (config.item_count, config.embedding_dim)
        embedding = glorot_uniform if config.variant == "paper" else uniform(0.05)
        return {
            ITEM_EMBEDDING: Parameter(table, embedding),
            ITEM_BIAS: Parameter(table[:1], zeros, trainable=False),
        }

    @property
    def config(self) -> TrainConfig:
        return self._config

    @property
    def weights(self) -> Mapping[str, Array]:
        """By canonical name."""
        return self._weights

    @property
    def padding_takes_a_place(self) -> bool:
        """Whether item 0 takes a place in the list that each interest fetches, before retrieval leaves it out."""
        return self.excludes_padding and self._config.padding_place

    @property
    def item_embedding(self) -> Array:
        """[n, D]"""
        return self._weights[ITEM_EMBEDDING]

    def user_vectors(self, history: Array, mask: Array, noise: Array | None = None) -> Array:
        """What retrieval compares with every item: [B, K, D]; K is 1 for the models with one vector."""
        raise NotImplementedError

    def training_vectors(self, history: Array, mask: Array, target: Array, noise: Array | None = None) -> Array:
        """What the loss compares with target and negatives: [B, D]."""
        return self.trained(history, mask, target, noise)[0]

    def trained(
        self, history: Array, mask: Array, target: Array, noise: Array | None = None
    ) -> tuple[Array, Array | None]:
        """``training_vectors``, and what each interest takes of each item of the history, [B, K, L]; None for models
        with one vector."""
        raise NotImplementedError

    def noise(self, seed: int, index: int, users: int) -> np.ndarray | None:
        """Routing noise for an evaluation, [B, K, L]: a function of the seed and of which users they are."""
        config = self._config
        if not config.draws_routing_noise:
            return None
        random = generator(seed, RandomStream.EVALUATION, index)
        return truncated_normal(random, (users, config.num_interest, config.maxlen))

    def _embedded(self, history: Array, mask: Array) -> Array:
        """[B, L, D], zero where padded."""
        return self._arrays.gather(self.item_embedding, history) * mask[:, :, None]


class SingleInterest(Recommender):
    """One vector for each user, in training and in retrieval."""

    excludes_padding = False

    def user_vectors(self, history: Array, mask: Array, noise: Array | None = None) -> Array:
        return self.trained(history, mask, history, noise)[0][:, None, :]

    def trained(
        self,
        history: Array,
        mask: Array,
        target: Array,  # noqa: ARG002
        noise: Array | None = None,  # noqa: ARG002
    ) -> tuple[Array, Array | None]:
        return self._vector(history, mask), None

    def _vector(self, history: Array, mask: Array) -> Array:
        """[B, H]"""
        raise NotImplementedError


class DNN(SingleInterest):
    """The mean of the history, through one dense layer without activation."""

    @staticmethod
    def parameters(config: TrainConfig) -> dict[str, Parameter]:
        return Recommender.parameters(config) | {
            "model/proj/kernel": Parameter((config.embedding_dim, config.hidden_size), glorot_uniform),
            "model/proj/bias": Parameter((config.hidden_size,), zeros),
        }

    def _vector(self, history: Array, mask: Array) -> Array:
        arrays, items = self._arrays, self._arrays.gather(self.item_embedding, history)
        # As one product: the gradient of a sum of masked items goes over all of them twice more.
        total = arrays.reshape(arrays.matmul(mask[:, None, :], items), (-1, self._config.embedding_dim))
        # The tiny term keeps a user without history at zero.
        mean = total / (arrays.sum(mask, axis=1, keepdims=True) + 1e-9)
        return self._arrays.dense(mean, self._weights["model/proj/kernel"], self._weights["model/proj/bias"])


class GRU4REC(SingleInterest):
    """The last state of a gated recurrent unit that reads the history.

    The columns of all weights are update, reset, candidate. ``paper``: TensorFlow 1's GRUCell, whose candidate sees
    reset * state; one bias [3H]. ``keras``: Keras's GRU with ``reset_after``, whose reset comes after the state's
    product; a bias for the input and one for the state, [2, 3H].
    """

    @staticmethod
    def parameters(config: TrainConfig) -> dict[str, Parameter]:
        dim, units = config.embedding_dim, config.hidden_size
        if config.variant == "paper":
            # TF 1 holds one kernel for gates and one for the candidate, each for input and state together.
            gates = uniform(math.sqrt(6 / (dim + units + 2 * units)))
            candidate = uniform(math.sqrt(6 / (dim + units + units)))
            kernel = recurrent = side_by_side((gates, 2 * units), (candidate, units))
            bias = Parameter((3 * units,), side_by_side((ones, 2 * units), (zeros, units)))
        else:
            kernel, recurrent = glorot_uniform, orthogonal
            bias = Parameter((2, 3 * units), zeros)
        return Recommender.parameters(config) | {
            "model/gru/kernel": Parameter((dim, 3 * units), kernel),
            "model/gru/recurrent_kernel": Parameter((units, 3 * units), recurrent),
            "model/gru/bias": bias,
        }

    def _vector(self, history: Array, mask: Array) -> Array:
        arrays, units = self._arrays, self._config.hidden_size
        reset_after = self._config.variant == "keras"
        bias, kernel = self._weights["model/gru/bias"], self._weights["model/gru/kernel"]
        gates, all_parts = (2 * units, units), (3 * units,)
        recurrent = arrays.split(self._weights["model/gru/recurrent_kernel"], all_parts if reset_after else gates)
        by_place = arrays.transpose(self._embedded(history, mask), (1, 0, 2))
        inputs = arrays.unstack(arrays.dense(by_place, kernel, bias[0] if reset_after else bias))
        state = 0 * inputs[0][:, :units]
        for place, seen in enumerate(inputs):
            seen_gates, seen_candidate = arrays.split(seen, gates)
            if reset_after:
                known_gates, known = arrays.split(arrays.dense(state, recurrent[0], bias[1]), gates)
            else:
                known_gates = arrays.matmul(state, recurrent[0])
            update, reset = arrays.split(arrays.sigmoid(seen_gates + known_gates), (units, units))
            remembered = reset * known if reset_after else arrays.matmul(reset * state, recurrent[1])
            candidate = arrays.tanh(seen_candidate + remembered)
            # Padding leaves the state as it is.
            state = state + mask[:, place, None] * (1 - update) * (candidate - state)
        return state


class MultiInterest(Recommender):
    """Several vectors for each user; training reads one vector out of them.

    The original reads by the target item. The Keras port passes item 0 instead while it trains (``dummy_mid``), so that
    it trains the interest nearest to the padding item.
    """

    excludes_padding = True

    def user_vectors(self, history: Array, mask: Array, noise: Array | None = None) -> Array:
        return self.interests(history, mask, noise)[0]

    def interests(self, history: Array, mask: Array, noise: Array | None = None) -> tuple[Array, Array]:
        """The vectors [B, K, D], and the share of each item of the history in each of them [B, K, L]."""
        raise NotImplementedError

    def trained(
        self, history: Array, mask: Array, target: Array, noise: Array | None = None
    ) -> tuple[Array, Array | None]:
        """``target`` is the item to read by, the padding item for the readouts that are named so. The interest with
        the largest inner product with it (paper, section 3.2), or, ``soft``, all of them, weighted by the softmax of
        those products. ``max``: all interests, [B, K, D]; each item that is scored finds its own."""
        interests, shares = self.interests(history, mask, noise)
        return self._read(interests, target), shares

    def _read(self, interests: Array, target: Array) -> Array:
        arrays, readout = self._arrays, self._config.readout
        if readout == "max":
            return interests
        if readout == "first":
            return interests[:, 0, :]
        if readout == "mean":
            return arrays.sum(interests, axis=1) / self._config.num_interest
        wanted = arrays.gather(self.item_embedding, target)
        scores = arrays.sum(interests * wanted[:, None, :], axis=2)
        if readout.startswith("soft"):
            return arrays.sum(arrays.softmax(scores, axis=1)[:, :, None] * interests, axis=1)
        return arrays.pick(interests, arrays.argmax(scores, axis=1))


class MIND(MultiInterest):
    """Dynamic routing with one map for all positions and interests (Li et al., CIKM 2019), as ComiRec compares to it.

    The interests differ only by where their logits start. ``paper``: from truncated normal noise, drawn anew at every
    call; the shared map has a bias. ``keras``: from zero, so that all interests come out equal; no bias.
    """

    @staticmethod
    def parameters(config: TrainConfig) -> dict[str, Parameter]:
        dim = config.embedding_dim
        parameters = Recommender.parameters(config)
        parameters["model/capsule/bilinear/kernel"] = Parameter((dim, dim), glorot_uniform)
        if config.variant == "paper":
            # The original passes bias_initializer=None, which means TensorFlow's default and not zeros.
            parameters["model/capsule/bilinear/bias"] = Parameter((dim,), glorot_uniform)
        if config.relu_projection:
            parameters["model/capsule/proj/kernel"] = Parameter((dim, dim), glorot_uniform)
            parameters["model/capsule/proj/bias"] = Parameter((dim,), zeros)
        return parameters

    def interests(self, history: Array, mask: Array, noise: Array | None = None) -> tuple[Array, Array]:
        arrays, config, weights = self._arrays, self._config, self._weights
        embedded, kernel = self._embedded(history, mask), weights["model/capsule/bilinear/kernel"]
        if config.variant == "paper":
            votes = arrays.dense(embedded, kernel, weights["model/capsule/bilinear/bias"])
        else:
            votes = arrays.matmul(embedded, kernel)
        if noise is None:
            noise = 0 * (mask[:, None, :] + np.zeros((1, config.num_interest, 1), np.float32))
        capsules, shares = route(arrays, votes, mask, noise)
        if config.relu_projection:
            projection = weights["model/capsule/proj/kernel"], weights["model/capsule/proj/bias"]
            capsules = arrays.relu(arrays.dense(capsules, *projection))
        return capsules, shares


class ComiRecDR(MultiInterest):
    """Dynamic routing: the history votes, through a map of its own for each position, for K capsules."""

    @staticmethod
    def parameters(config: TrainConfig) -> dict[str, Parameter]:
        interests, dim = config.num_interest, config.embedding_dim
        deviation = 1.0 if config.variant == "paper" else 0.05
        return Recommender.parameters(config) | {
            "model/capsule/weights": Parameter((1, config.maxlen, interests * dim, dim), normal(deviation))
        }

    def interests(self, history: Array, mask: Array, noise: Array | None = None) -> tuple[Array, Array]:  # noqa: ARG002
        arrays, config = self._arrays, self._config
        interests, dim = config.num_interest, config.embedding_dim
        # One matrix product for each position, [B, D] x [D, K*D]: the broadcast product of the original
        # moves B*L*K*D*D floats through memory for the same sums.
        by_position = arrays.transpose(self._embedded(history, mask), (1, 0, 2))
        maps = arrays.reshape(self._weights["model/capsule/weights"], (config.maxlen, interests * dim, dim))
        votes = arrays.matmul(by_position, maps, transpose_right=True)
        votes = arrays.transpose(arrays.reshape(votes, (config.maxlen, -1, interests, dim)), (1, 2, 0, 3))
        start = 0 * (mask[:, None, :] + np.zeros((1, interests, 1), np.float32))
        return route(arrays, votes, mask, start)


class ComiRecSA(MultiInterest):
    """Self-attention: K heads each weigh the history's items, and an interest is their weighted sum.

    ``paper``: the weights see the items with a learned embedding of their positions. ``keras``: the items alone. A user
    without history has zero vectors in the former, and those of the padding item in the latter: it masks weights only.
    """

    @staticmethod
    def parameters(config: TrainConfig) -> dict[str, Parameter]:
        dim, hidden, interests = config.embedding_dim, 4 * config.hidden_size, config.num_interest
        parameters = Recommender.parameters(config)
        if config.variant == "paper":
            parameters["model/position_embedding"] = Parameter((1, config.maxlen, dim), glorot_uniform)
        return parameters | {
            "model/attention/hidden/kernel": Parameter((dim, hidden), glorot_uniform),
            "model/attention/hidden/bias": Parameter((hidden,), zeros),
            "model/attention/heads/kernel": Parameter((hidden, interests), glorot_uniform),
            "model/attention/heads/bias": Parameter((interests,), zeros),
        }

    def interests(self, history: Array, mask: Array, noise: Array | None = None) -> tuple[Array, Array]:  # noqa: ARG002
        arrays, weights = self._arrays, self._weights
        paper = self._config.variant == "paper"
        items = self._embedded(history, mask) if paper else arrays.gather(self.item_embedding, history)
        placed = items + weights["model/position_embedding"] if paper else items
        layers = [
            (weights[f"model/attention/{layer}/kernel"], weights[f"model/attention/{layer}/bias"])
            for layer in ("hidden", "heads")
        ]
        logits = arrays.dense(arrays.tanh(arrays.dense(placed, *layers[0])), *layers[1])
        # Padded positions get the same very small logit, so that a user without history has the mean of nothing else.
        logits = arrays.transpose(logits, (0, 2, 1)) * mask[:, None, :] - 1e9 * (1 - mask[:, None, :])
        shares = arrays.softmax(logits, axis=2)
        return arrays.matmul(shares, items), shares


def route(arrays: Arrays, votes: Array, mask: Array, logits: Array) -> tuple[Array, Array]:
    """Dynamic routing of ``votes`` [B, K, L, D] to capsules [B, K, D], from ``logits`` [B, K, L] on; and the share
    of each vote in each capsule [B, K, L].

    Votes may be [B, L, D], the same for all capsules. Each position spreads its vote over the capsules by a softmax
    over K; padded positions have none. Gradients pass only through the last iteration (Sabour et al., 2017;
    src/model.py).
    """
    fixed = arrays.stop_gradient(votes)
    for _ in range(ROUTING_ITERATIONS - 1):
        capsules, _ = _capsules(arrays, logits, fixed, mask)
        logits = logits + _agreement(arrays, fixed, capsules)
    return _capsules(arrays, logits, votes, mask)


def _agreement(arrays: Arrays, votes: Array, capsules: Array) -> Array:
    """The product of each vote with each capsule: [B, K, L]."""
    if len(votes.shape) == 3:
        return arrays.matmul(capsules, votes, transpose_right=True)
    return arrays.matmul(votes, capsules[:, :, :, None])[:, :, :, 0]


def _capsules(arrays: Arrays, logits: Array, votes: Array, mask: Array) -> tuple[Array, Array]:
    share = arrays.softmax(logits, axis=1) * mask[:, None, :]
    if len(votes.shape) == 3:
        capsules = arrays.matmul(share, votes)
    else:
        capsules = arrays.matmul(share[:, :, None, :], votes)
        capsules = arrays.reshape(capsules, (-1, votes.shape[1], votes.shape[3]))
    norm = arrays.sum(capsules * capsules, axis=2, keepdims=True)
    return capsules * (norm / (1 + norm) / arrays.sqrt(norm + 1e-9)), share  # squashed


_MODELS: dict[str, type[Recommender]] = {
    "DNN": DNN,
    "GRU4REC": GRU4REC,
    "MIND": MIND,
    "ComiRec-DR": ComiRecDR,
    "ComiRec-SA": ComiRecSA,
}


def model_class(model_type: str) -> type[Recommender]:
    return _MODELS[model_type]
