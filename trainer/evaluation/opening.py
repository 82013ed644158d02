"""A checkpoint of any lineage as a model that can be measured and exported. Needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ckpt_tools.errors import NotFoundError
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.lineages.names import METRIC
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.logs import collect
from ckpt_tools.runs.opening import open_identified
from trainer.config import TrainConfig, validate
from trainer.data.interactions import Interactions, default_data_dir, find_dataset, read_split
from trainer.evaluation.measuring import numpy_model, weight_names
from trainer.evaluation.reproducing import Spread, equal_interests, reproduce, undecided
from trainer.models.recommenders import Recommender
from trainer.settings import Settings, notes, settings_of


@dataclass(frozen=True)
class Opened:
    """``spread``: what MIND's routing noise does to its recall. ``data_dir`` is where its data was found, or None.
    ``valid_digest`` is of the split that the run measured its best on, None where that is not stored."""

    prefix: str
    settings: Settings
    model: Recommender
    data_dir: str | None
    spread: Spread | None = None
    valid_digest: str | None = None

    @property
    def config(self) -> TrainConfig:
        return self.settings.config

    @property
    def notes(self) -> list[str]:
        """What nobody told; a command that measures is told N by itself."""
        return [text for text in notes(self.settings) if not text.startswith("--top-n")]


def open_model(path: str, given: Mapping[str, Any], data_dir: str | None, *, needs_data: bool) -> Opened:
    """The model at ``path``: an experiment, a directory or a prefix.

    Hyper-parameters that its weights do not tell come from ``given``, else from the value that gives a recall the run
    logged, when there is data to measure it on. Raises NotFoundError (unknown producer), UsageError
    (contradicting flags), CorruptError.
    """
    with open_identified(path, ComiRecLineage) as (checkpoint, lineage):
        prefix = checkpoint.prefix
        experiment = Experiment.containing(prefix)
        flags = dict(given)
        if lineage.hyper.get("dataset") is None and flags.get("dataset") is None and data_dir:
            flags["dataset"] = find_dataset(data_dir)
        if not needs_data and lineage.hyper.get("dataset") is None:
            flags["dataset"] = flags.get("dataset") or "unknown"
        settings = settings_of(checkpoint, lineage, flags)
        validate(settings.config)
        weights = {name: lineage.read(checkpoint, name) for name in weight_names(settings.config)}
        digest = lineage.document(checkpoint, METRIC).get("digest") if METRIC in lineage.canonical() else None
    if data_dir is None and needs_data:
        data_dir = default_data_dir(experiment.root if experiment else ".", settings.config.dataset)
    spread = None
    if data_dir is not None:
        logged = [row.recall for row in collect(experiment).evaluations] if experiment else []
        if logged and "num_interest" in undecided(settings) and not equal_interests(settings.config):
            valid = _validation(data_dir, settings.config.dataset)
            reproduced = reproduce(settings, weights, valid, logged)
            settings, spread = reproduced.settings, reproduced.spread
    return Opened(prefix, settings, numpy_model(settings.config, weights), data_dir, spread, digest)


def _validation(data_dir: str, dataset: str) -> Interactions:
    """The split that logged recalls are of: whichever number of interests gives one of them is the run's."""
    try:
        return read_split(data_dir, dataset, "valid")
    except NotFoundError as error:
        error.hint = "the log's recalls would tell the number of interests there; or name it with --num-interest"
        raise
