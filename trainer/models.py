"""The models, each written once over ``Arrays``.

Two definitions of each exist in the world, and old checkpoints of both: ``paper`` is the original trainer
(THUDM/ComiRec, src/model.py; Cen et al., KDD 2020), ``keras`` its Keras port. For DNN and ComiRec-DR they
compute the same and differ in how they start.

Shapes: B batch, L history, D embedding, H hidden (= D), K interests. ``history`` int32 [B, L] left-aligned and
padded with 0, ``mask`` float32 [B, L] of ones and zeros, ``target`` int32 [B].
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trainer.arrays import Array, Arrays
from trainer.config import TrainConfig
from trainer.random_streams import Stream, generator

ITEM_EMBEDDING = "model/item_embedding"
ITEM_BIAS = "model/item_bias"

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
        random = generator(seed, Stream.INITIAL_WEIGHTS, zlib.crc32(name.encode()))
        return self.initializer(random, self.shape).astype(np.float32)


def zeros(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:  # noqa: ARG001
    return np.zeros(shape, np.float32)


def uniform(limit: float) -> Initializer:
    return lambda random, shape: random.uniform(-limit, limit, shape)


def normal(deviation: float) -> Initializer:
    return lambda random, shape: deviation * random.standard_normal(shape)


def glorot_uniform(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform within sqrt(6 / (rows + columns)) (Glorot & Bengio, 2010), for a matrix."""
    return uniform(math.sqrt(6 / sum(shape)))(random, shape)


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
    def item_embedding(self) -> Array:
        """[n, D]"""
        return self._weights[ITEM_EMBEDDING]

    def user_vectors(self, history: Array, mask: Array) -> Array:
        """What retrieval compares with every item: [B, K, D]; K is 1 for the models with one vector."""
        raise NotImplementedError

    def training_vectors(self, history: Array, mask: Array, target: Array) -> Array:
        """What the loss compares with target and negatives: [B, D]."""
        raise NotImplementedError

    def _embedded(self, history: Array, mask: Array) -> Array:
        """[B, L, D], zero where padded."""
        return self._arrays.gather(self.item_embedding, history) * mask[:, :, None]


class DNN(Recommender):
    """The mean of the history, through one dense layer without activation."""

    excludes_padding = False

    @staticmethod
    def parameters(config: TrainConfig) -> dict[str, Parameter]:
        return Recommender.parameters(config) | {
            "model/proj/kernel": Parameter((config.embedding_dim, config.hidden_size), glorot_uniform),
            "model/proj/bias": Parameter((config.hidden_size,), zeros),
        }

    def user_vectors(self, history: Array, mask: Array) -> Array:
        return self._vector(history, mask)[:, None, :]

    def training_vectors(self, history: Array, mask: Array, target: Array) -> Array:  # noqa: ARG002
        return self._vector(history, mask)

    def _vector(self, history: Array, mask: Array) -> Array:
        total = self._arrays.sum(self._embedded(history, mask), axis=1)
        # The tiny term keeps a user without history at zero.
        mean = total / (self._arrays.sum(mask, axis=1, keepdims=True) + 1e-9)
        return self._arrays.matmul(mean, self._weights["model/proj/kernel"]) + self._weights["model/proj/bias"]


class MultiInterest(Recommender):
    """Trains, of a user's interests, the one that fits the target best (hard readout)."""

    excludes_padding = True

    def training_vectors(self, history: Array, mask: Array, target: Array) -> Array:
        arrays = self._arrays
        interests = self.user_vectors(history, mask)
        wanted = arrays.gather(self.item_embedding, target)
        return arrays.pick(interests, arrays.argmax(arrays.sum(interests * wanted[:, None, :], axis=2), axis=1))


class ComiRecDR(MultiInterest):
    """Dynamic routing: the history votes, through a map of its own for each position, for K capsules."""

    @staticmethod
    def parameters(config: TrainConfig) -> dict[str, Parameter]:
        interests, dim = config.num_interest, config.embedding_dim
        deviation = 1.0 if config.variant == "paper" else 0.05
        return Recommender.parameters(config) | {
            "model/capsule/weights": Parameter((1, config.maxlen, interests * dim, dim), normal(deviation))
        }

    def user_vectors(self, history: Array, mask: Array) -> Array:
        arrays, config = self._arrays, self._config
        interests, dim = config.num_interest, config.embedding_dim
        # One matrix product for each position, [B, D] x [D, K*D]: the broadcast product of the original
        # moves B*L*K*D*D floats through memory for the same sums.
        by_position = arrays.transpose(self._embedded(history, mask), (1, 0, 2))
        maps = arrays.transpose(self._weights["model/capsule/weights"][0], (0, 2, 1))
        votes = arrays.reshape(arrays.matmul(by_position, maps), (config.maxlen, -1, interests, dim))
        return route(arrays, arrays.transpose(votes, (1, 2, 0, 3)), mask)


def route(arrays: Arrays, votes: Array, mask: Array) -> Array:
    """Dynamic routing of ``votes`` [B, K, L, D] to capsules [B, K, D], logits starting at zero.

    Each position spreads its vote over the capsules by a softmax over K; padded positions have none.
    Gradients pass only through the last iteration (Sabour et al., 2017; src/model.py).
    """
    fixed = arrays.stop_gradient(votes)
    logits = 0 * fixed[:, :, :, 0]
    for _ in range(ROUTING_ITERATIONS - 1):
        capsules = _capsules(arrays, logits, fixed, mask)
        logits = logits + arrays.sum(fixed * capsules[:, :, None, :], axis=3)
    return _capsules(arrays, logits, votes, mask)


def _capsules(arrays: Arrays, logits: Array, votes: Array, mask: Array) -> Array:
    share = arrays.softmax(logits, axis=1) * mask[:, None, :]
    capsules = arrays.matmul(share[:, :, None, :], votes)[:, :, 0, :]
    norm = arrays.sum(capsules * capsules, axis=2, keepdims=True)
    return capsules * (norm / (1 + norm) / arrays.sqrt(norm + 1e-9))  # squash


_MODELS: dict[str, type[Recommender]] = {"DNN": DNN, "ComiRec-DR": ComiRecDR}


def model_class(model_type: str) -> type[Recommender]:
    return _MODELS[model_type]
