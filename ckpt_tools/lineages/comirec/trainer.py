"""This project's own trainer: canonical names are the keys, everything else is in ``state/config``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ckpt_tools.errors import CorruptError
from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.lineages import base
from ckpt_tools.lineages.base import Source
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.lineages.comirec.models import model_type_of, shape_hyper
from ckpt_tools.lineages.names import BEST_METRIC, CONFIG, METRIC, STEP
from ckpt_tools.readers.base import Checkpoint

ID = "trainer"
SUFFIX = VALUE_SUFFIX
_CONFIG, _METRIC = CONFIG + SUFFIX, METRIC + SUFFIX


def describe(checkpoint: Checkpoint, fields: Mapping[str, Any]) -> ComiRecLineage | None:  # noqa: ARG001 (config says more)
    """The lineage, or None when the trainer of this project did not write it.

    Raises CorruptError where its configuration is none, or does not describe the model that is stored.
    """
    if checkpoint.graph is None or not {_CONFIG, _METRIC} <= checkpoint.tensors.keys():
        return None
    config = base.read_document(checkpoint, _CONFIG)
    metric = base.read_document(checkpoint, _METRIC)
    tensors = {key.removesuffix(SUFFIX): Source((key,)) for key in checkpoint.tensors if key.endswith(SUFFIX)}
    model_type = model_type_of(tensors)
    variant = config.pop("variant", None)
    stated = config.pop("model_type", None)
    if model_type is None or stated != model_type or variant not in ("paper", "keras"):
        raise CorruptError("does not describe the model that is stored", path=checkpoint.prefix, key=_CONFIG)
    hyper, sources = shape_hyper(checkpoint, tensors, model_type)
    for key, value in config.items():
        if hyper.get(key) is None:
            hyper[key] = value
            sources[key] = CONFIG
    best = tensors.get(BEST_METRIC)
    return ComiRecLineage(
        id=ID,
        producer="trainer of ckpt-tools",
        variant=variant,
        model_type=model_type,
        hyper=hyper,
        sources=sources,
        step=base.read_step(checkpoint, STEP + SUFFIX) if STEP in tensors else None,
        tensors=tensors,
        best_metric=base.read_best_metric(checkpoint, best.keys[0] if best else None, meaning(metric)),
    )


def meaning(metric: Mapping[str, Any]) -> str:
    """A metric's identity in words."""
    return f"{metric.get('name', 'metric')}@{metric.get('top_n', '?')} of the {metric.get('split', '?')} split"
