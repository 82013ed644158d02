"""A model as a TensorFlow SavedModel: from histories to items, for whatever serves such models. Needs TensorFlow."""

from __future__ import annotations

import os
import shutil

import numpy as np
import tensorflow as tf

from ckpt_tools.fs import durable
from trainer.evaluation.exporting import SAVED_MODEL, require_no_saved_model
from trainer.models.recommenders import Recommender, model_class
from trainer.models.tensors import TensorArrays


class Served(tf.Module):  # type: ignore[misc]
    """Signatures: ``serving_default`` gives the top N of all items, ``unseen`` of those that are not in the history.

    Input ``history`` int64 [B, T], the items of each user in the order of time, as many as there are; 0 and ids without
    a row stand for no item, wherever they are. Output ``items`` int64 [B, N] and ``scores`` float32 [B, N]; an item's
    score is that of the interest that scores it highest. Places for which no item is left have id 0 and the score of
    minus infinity.
    """

    def __init__(self, model: Recommender, top_n: int) -> None:
        super().__init__()
        config = model.config
        self._config = config
        self._top_n = min(top_n, config.item_count - 1)
        self._weights = {
            name: tf.Variable(np.asarray(model.weights[name], np.float32), trainable=False)
            for name in model_class(config.model_type).parameters(config)
        }
        noise = model.noise(0, 0, 1)
        self._noise = None if noise is None else tf.constant(noise)

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        given = tf.TensorSpec([None, None], tf.int64, name="history")
        both = {"serving_default": False, "unseen": True}
        return {
            name: tf.function(
                lambda history, unseen=unseen: self._ranked(history, unseen=unseen), autograph=False
            ).get_concrete_function(given)
            for name, unseen in both.items()
        }

    def _ranked(self, history: tf.Tensor, *, unseen: bool) -> dict[str, tf.Tensor]:
        config = self._config
        known = tf.where((history > 0) & (history < config.item_count), history, 0)
        recent, mask = self._recent(known)
        model = model_class(config.model_type)(config, self._weights, TensorArrays())
        noise = None if self._noise is None else tf.repeat(self._noise, tf.shape(known)[0], axis=0)
        vectors = model.user_vectors(recent, mask, noise)
        table = model.item_embedding
        products = tf.matmul(tf.reshape(vectors, [-1, config.embedding_dim]), table, transpose_b=True)
        scores = tf.reduce_max(tf.reshape(products, [-1, vectors.shape[1], config.item_count]), axis=1)
        nothing = tf.fill(tf.shape(scores)[:1], -np.inf)
        scores = tf.concat([nothing[:, None], scores[:, 1:]], axis=1)
        if unseen:
            users = tf.repeat(tf.range(tf.shape(known)[0]), tf.shape(known)[1])
            places = tf.stack([users, tf.cast(tf.reshape(known, [-1]), tf.int32)], axis=1)
            scores = tf.tensor_scatter_nd_update(scores, places, tf.fill(tf.shape(users), -np.inf))
        best, items = tf.math.top_k(scores, self._top_n)
        return {"items": tf.where(best > -np.inf, tf.cast(items, tf.int64), 0), "scores": best}

    def _recent(self, known: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The last items of each history, int64 [B, L] from the left on, and their mask float32."""
        length = self._config.maxlen
        there = known > 0
        # From the left on without the gaps: a stable sort of what is there before what is not.
        order = tf.argsort(tf.cast(~there, tf.int32), axis=1, stable=True)
        moved = tf.pad(tf.gather(known, order, batch_dims=1), [[0, 0], [0, length]])
        count = tf.reduce_sum(tf.cast(there, tf.int32), axis=1, keepdims=True)
        places = tf.maximum(count - length, 0) + tf.range(length)[None, :]
        mask = tf.cast(tf.range(length)[None, :] < count, tf.float32)
        recent = tf.gather(moved, places, batch_dims=1)
        return tf.ensure_shape(recent, [None, length]), tf.ensure_shape(mask, [None, length])


def save(model: Recommender, directory: str, top_n: int) -> str:
    """Write ``directory/saved_model``, which gets its name when it is whole; returns its path.

    Raises UsageError when it is there already, StorageError.
    """
    require_no_saved_model(directory)
    path = os.path.join(directory, SAVED_MODEL)
    durable.make_directory(directory)
    draft = durable.temporary_name(path)
    try:
        served = Served(model, top_n)
        tf.saved_model.save(served, draft, signatures=served.signatures())
        durable.rename(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return path
