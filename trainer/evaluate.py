"""Measuring a model on a split, and the evaluator that ``ckpt`` finds by its entry point.

Needs no TensorFlow. During training, on resume and in ``ckpt backfill`` it is this one function that measures,
so a recall means the same wherever it is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict

import numpy as np

from ckpt_tools.evaluators import Measurement
from ckpt_tools.lineages import Lineage
from ckpt_tools.readers import Checkpoint
from trainer.arrays import NumpyArrays
from trainer.config import IMPLEMENTED, TrainConfig
from trainer.data import Interactions, find_dataset, read_split, require_ids_below
from trainer.metrics import Metrics, metrics_at
from trainer.models import Recommender, model_class
from trainer.restoring import config_of
from trainer.retrieval import ranks_of

METRIC = "recall"
_USERS_AT_ONCE = 512

Progress = Callable[[int, int], None]


def evaluate(
    model: Recommender,
    split: Interactions,
    *,
    maxlen: int,
    top_n: int,
    progress: Progress | None = None,
) -> Metrics:
    """Measure a numpy-backed model: the first 80 % of each user's items predict the rest.

    The cut is int(0.8 * length), as both older trainers compute it in floating point. ``progress`` is told
    (users done, users). Raises MismatchError for an item that the model has no row for.
    """
    items = np.asarray(model.item_embedding)
    require_ids_below(split, len(items))
    cuts = (split.lengths * 0.8).astype(np.int64)
    truths = split.lengths - cuts
    owner, wanted = _true_pairs(split, cuts)
    ranks = np.empty(len(wanted), np.int64)
    for start in range(0, len(truths), _USERS_AT_ONCE):
        users = np.arange(start, min(start + _USERS_AT_ONCE, len(truths)))
        vectors = model.user_vectors(*split.windows(users, cuts[users], maxlen))
        pairs = slice(*np.searchsorted(owner, [users[0], users[-1] + 1]))
        ranks[pairs] = ranks_of(
            vectors,
            items,
            owner[pairs] - start,
            wanted[pairs],
            limit=top_n,
            exclude_first=model.excludes_padding,
        )
        if progress is not None:
            progress(int(users[-1]) + 1, len(truths))
    return metrics_at(ranks, owner, truths, top_n)


def _true_pairs(split: Interactions, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each user's different true items: (owner, wanted), both [P], by user and then by item."""
    user = np.repeat(np.arange(len(cuts)), split.lengths)
    true = np.arange(len(split.items)) - split.offsets[user] >= cuts[user]
    pairs = np.unique(np.stack([user[true], split.items[true].astype(np.int64)]), axis=1)
    return pairs[0], pairs[1]


class ComiRecEvaluator:
    """Re-measures the recall of a ComiRec checkpoint, whoever wrote it."""

    def accepts(self, lineage: Lineage) -> bool:
        return lineage.model_type in IMPLEMENTED

    def measure(
        self,
        checkpoint: Checkpoint,
        lineage: Lineage,
        *,
        data_dir: str,
        split: str,
        top_n: int,
        progress: Progress | None = None,
    ) -> Measurement:
        """Recall at ``top_n`` on ``split`` of the data in ``data_dir``.

        Raises NotFoundError (no such data), MismatchError (the data has items that the checkpoint has not),
        CorruptError (a malformed line, a damaged tensor).
        """
        config = config_of(checkpoint, lineage, {"dataset": lineage.hyper.get("dataset") or find_dataset(data_dir)})
        interactions = read_split(data_dir, config.dataset, split)
        model = numpy_model(config, {name: lineage.read(checkpoint, name) for name in _weights(config)})
        metrics = evaluate(model, interactions, maxlen=config.maxlen, top_n=top_n, progress=progress)
        return Measurement(
            metric=METRIC,
            value=metrics.recall,
            top_n=top_n,
            split=split,
            digest=interactions.digest,
            users=metrics.users,
            details={key: value for key, value in asdict(metrics).items() if key not in ("recall", "users")},
        )


def numpy_model(config: TrainConfig, weights: Mapping[str, np.ndarray]) -> Recommender:
    """A model over numpy weights, ready for ``evaluate``."""
    return model_class(config.model_type)(config, weights, NumpyArrays())


def _weights(config: TrainConfig) -> list[str]:
    return list(model_class(config.model_type).parameters(config))
