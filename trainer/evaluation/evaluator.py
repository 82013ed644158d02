"""The evaluator that ``ckpt`` finds by its entry point. Needs no TensorFlow."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import lru_cache

import numpy as np

from ckpt_tools.errors import UnsupportedError
from ckpt_tools.fs import local
from ckpt_tools.fs.local import Fingerprint, fingerprint
from ckpt_tools.lineages import Lineage
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.operations.evaluators import Measurement, UserMeasurement
from ckpt_tools.readers import Checkpoint
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.logs import collect
from ckpt_tools.runs.run_graph import RunGraph
from trainer.config import MODEL_TYPES, TrainConfig
from trainer.data.interactions import Interactions, find_dataset, read_split, split_path
from trainer.evaluation.graph_model import GraphModel
from trainer.evaluation.measuring import METRIC, OnProgress, numpy_model, rank, weight_names
from trainer.evaluation.ranking_metrics import Metrics
from trainer.evaluation.reproducing import Spread, reproduce, spread_over, undecided
from trainer.settings import Settings, settings_of


class ComiRecEvaluator:
    """Re-measures the recall of a ComiRec checkpoint, whoever wrote it."""

    def accepts(self, lineage: Lineage) -> bool:
        return isinstance(lineage, ComiRecLineage) and lineage.model_type in MODEL_TYPES

    def measure(
        self,
        checkpoint: Checkpoint,
        lineage: Lineage,
        *,
        data_dir: str,
        split: str,
        top_n: int,
        progress: OnProgress | None = None,
    ) -> Measurement:
        """Recall at ``top_n`` on ``split`` of the data in ``data_dir``.

        For MIND of the paper, whose routing draws noise at each evaluation, ``details`` hold what its recall is over
        several seeds: ``recall_mean``, ``recall_deviation``, ``recall_low``, ``recall_high``, ``recall_seeds``.

        Raises NotFoundError (no such data), MismatchError (the data has items that the checkpoint has not),
        CorruptError (a malformed line, a damaged tensor).
        """
        settings, interactions, weights, logged = _opened(checkpoint, lineage, data_dir, split, top_n)
        found = reproduce(settings, weights, interactions, logged, progress=progress)
        return _measurement(found.metrics, found.spread, found.settings.config, interactions, split, top_n)

    def measure_graph(
        self,
        checkpoint: Checkpoint,
        lineage: Lineage,
        graph: RunGraph,
        *,
        data_dir: str,
        split: str,
        top_n: int,
        progress: OnProgress | None = None,
    ) -> Measurement:
        """The same with the vectors of users that the trainer's own graph computes; ``details`` as of `measure`.

        Raises what `measure` and `Interpreter.run` raise, UnsupportedError for a graph of another trainer.
        """
        settings, interactions, weights, _ = _opened(checkpoint, lineage, data_dir, split, top_n)
        interpreter = graph.interpreter(checkpoint)
        model = GraphModel(numpy_model(settings.config, weights), interpreter)
        drawn = model.noise_shape(settings.config.maxlen)
        if drawn is not None:
            settings = settings.with_found("num_interest", drawn[0], "the graph").with_found(
                "maxlen", drawn[1], "the graph"
            )
            model = GraphModel(numpy_model(settings.config, weights), interpreter)
        config = settings.config
        metrics = rank(model, interactions, maxlen=config.maxlen, limit=top_n, progress=progress).at(top_n)
        spread = spread_over(model, config, interactions) if drawn is not None else None
        found = _measurement(metrics, spread, config, interactions, split, top_n)
        return replace(found, graph=graph.sha256)

    def measure_users(
        self, checkpoint: Checkpoint, lineage: Lineage, *, data_dir: str, split: str, top_n: int
    ) -> UserMeasurement:
        """Each user's recall; MIND's routing noise is the same for all checkpoints. Raises what `measure` raises."""
        settings, interactions, weights, logged = _opened(checkpoint, lineage, data_dir, split, top_n)
        if logged and "num_interest" in undecided(settings):
            settings = reproduce(settings, weights, interactions, logged).settings
        model = numpy_model(settings.config, weights)
        ranking = rank(model, interactions, maxlen=settings.config.maxlen, limit=top_n)
        return UserMeasurement(METRIC, top_n, split, interactions.digest, ranking.recalls_at(top_n))


def _measurement(
    metrics: Metrics, spread: Spread | None, config: TrainConfig, interactions: Interactions, split: str, top_n: int
) -> Measurement:
    details = {key: value for key, value in asdict(metrics).items() if key not in ("recall", "users")}
    if spread is not None:
        details |= {f"recall_{name}": figure for name, figure in asdict(spread).items()}
    if config.multi_interest:
        details["num_interest"] = config.num_interest
    return Measurement(
        metric=METRIC,
        value=metrics.recall,
        top_n=top_n,
        split=split,
        digest=interactions.digest,
        users=metrics.users,
        details=details,
    )


def _opened(
    checkpoint: Checkpoint, lineage: Lineage, data_dir: str, split: str, top_n: int
) -> tuple[Settings, Interactions, dict[str, np.ndarray], list[float]]:
    """What a checkpoint is measured with: its settings, the users, its weights, and the recalls that its run logged, if
    they have something to tell."""
    if not isinstance(lineage, ComiRecLineage):
        raise UnsupportedError(f"cannot measure a model of {lineage.id}", path=checkpoint.prefix)
    dataset = lineage.hyper.get("dataset") or find_dataset(data_dir)
    settings = settings_of(checkpoint, lineage, {"dataset": dataset, "top_n": top_n})
    interactions = _read_once(data_dir, settings.config.dataset, split)
    weights = {name: lineage.read(checkpoint, name) for name in weight_names(settings.config)}
    experiment = Experiment.containing(checkpoint.prefix) if undecided(settings) else None
    logged = [row.recall for row in collect(experiment).evaluations] if experiment else []
    return settings, interactions, weights, logged


def _read_once(data_dir: str, dataset: str, split: str) -> Interactions:
    """A split as it is now; many checkpoints, one after the other, are measured on the same one."""
    path = split_path(data_dir, dataset, split)
    return _kept(data_dir, dataset, split, fingerprint(path) if local.is_file(path, follow=True) else None)


@lru_cache(maxsize=2)
def _kept(data_dir: str, dataset: str, split: str, version: Fingerprint | None) -> Interactions:  # noqa: ARG001
    return read_split(data_dir, dataset, split)
