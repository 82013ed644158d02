"""From a checkpoint of any lineage to the configuration of the run that wrote it. Needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from ckpt_tools.errors import UsageError
from ckpt_tools.lineages import Lineage
from ckpt_tools.readers import Checkpoint
from trainer.config import ADJUSTABLE, TrainConfig, default_config, flag, override
from trainer.variables import LEARNING_RATE


def config_of(checkpoint: Checkpoint, lineage: Lineage, given: Mapping[str, Any]) -> TrainConfig:
    """The run's hyper-parameters: from the checkpoint and the experiment's name, else ``given``, else defaults.

    ``given`` are flags, None where left out. Raises UsageError naming each flag that contradicts the checkpoint,
    with both values and where the checkpoint's came from; ``ADJUSTABLE`` ones may differ.
    """
    known, sources = _known(checkpoint, lineage)
    contradictions = list(_contradictions(given, known, sources))
    if contradictions:
        raise UsageError(
            "; ".join(contradictions),
            path=checkpoint.prefix,
            hint="leave these flags out to continue the run as it was, or start a new one with --exp-name",
        )
    dataset = known.get("dataset") or given.get("dataset")
    if dataset is None:
        raise UsageError(
            "neither the checkpoint nor the experiment's name tells the dataset",
            path=checkpoint.prefix,
            hint="name it with --dataset",
        )
    config = default_config(dataset, lineage.model_type, known["item_count"])
    flags = {key: value for key, value in given.items() if value is not None}
    return override(config, {**flags, **known, **{key: flags[key] for key in ADJUSTABLE if key in flags}})


def _known(checkpoint: Checkpoint, lineage: Lineage) -> tuple[dict[str, Any], dict[str, str]]:
    """What the checkpoint tells of the configuration, and where it says so."""
    written_by = f"written by {lineage.producer}"
    known = {key: value for key, value in lineage.hyper.items() if value is not None}
    known |= {"model_type": lineage.model_type, "variant": lineage.variant}
    sources = {**lineage.sources, "model_type": written_by, "variant": written_by}
    if "learning_rate" not in known and LEARNING_RATE in lineage.canonical():
        rate = np.float32(lineage.read(checkpoint, LEARNING_RATE).item())
        known["learning_rate"] = float(str(rate))  # the shortest decimal that is this float32
        sources["learning_rate"] = LEARNING_RATE
    return {field.name: known[field.name] for field in fields(TrainConfig) if field.name in known}, sources


def _contradictions(given: Mapping[str, Any], known: Mapping[str, Any], sources: Mapping[str, str]) -> Iterator[str]:
    for name, value in given.items():
        if value is None or name in ADJUSTABLE or name not in known or value == known[name]:
            continue
        if name == "num_interest" and known[name] == 1:
            continue  # a model with one vector has no such parameter; old command lines give it all the same
        yield f"{flag(name)} {value} contradicts {known[name]} ({sources.get(name, 'the checkpoint')})"
