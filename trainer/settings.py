"""From a checkpoint of any lineage to the configuration of the run that wrote it. Needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from ckpt_tools.errors import UsageError
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.lineages.comirec.trainer import ID as TRAINER
from ckpt_tools.lineages.names import CONFIG, LEARNING_RATE
from ckpt_tools.readers import Checkpoint
from trainer.config import ADJUSTABLE, FIRST_VERSIONS, OLD_READOUTS, TrainConfig, default_config, flag, override
from trainer.originals import MULTI_INTEREST, TRAINERS, habits
from trainer.resume_rules import Rule, decides

_PROJECTION = "model/capsule/proj/kernel"
DEFAULT = "default"
GIVEN = "flag"
# How the sources of hyper-parameters begin that no checkpoint told.
WORKED_OUT = (DEFAULT, "gives the logged recall", "the logged recall is within")


@dataclass(frozen=True)
class Settings:
    """A run's configuration and where each hyper-parameter of it came from, in words.

    ``changed``: what the flags make different from the run so far, one phrase each.
    """

    config: TrainConfig
    sources: Mapping[str, str]
    changed: tuple[str, ...] = ()

    def with_found(self, name: str, value: Any, source: str) -> Settings:
        """The settings with one hyper-parameter that was worked out."""
        config = replace(self.config, **{name: value})
        return replace(self, config=config, sources={**self.sources, name: source})

    @property
    def defaulted(self) -> frozenset[str]:
        """What nobody told: neither the checkpoint nor its name nor a flag."""
        return frozenset(name for name, source in self.sources.items() if source == DEFAULT)


@decides(Rule.SETTINGS)
def settings_of(checkpoint: Checkpoint, lineage: ComiRecLineage, given: Mapping[str, Any]) -> Settings:
    """The run's hyper-parameters: from the checkpoint and the experiment's name, else ``given``, else defaults.

    ``given`` are flags, None where left out. Raises UsageError naming each flag that contradicts the checkpoint,
    with both values and where the checkpoint's came from; ``ADJUSTABLE`` ones may differ.
    """
    known, sources = _known(checkpoint, lineage)
    flags = {key: value for key, value in given.items() if value is not None}
    if "readout" in flags:
        flags["readout"] = OLD_READOUTS.get(flags["readout"], flags["readout"])
    different = {key: value for key, value in flags.items() if _differs(key, value, known, lineage)}
    contradictions = [
        f"{flag(name)} {value} contradicts {known[name]} ({sources.get(name, 'the checkpoint')})"
        for name, value in different.items()
        if name not in ADJUSTABLE
    ]
    if contradictions:
        raise UsageError(
            "; ".join(contradictions),
            path=checkpoint.prefix,
            hint="leave these flags out: of a run that is there they cannot be chosen",
        )
    dataset = known.get("dataset") or flags.get("dataset")
    if dataset is None:
        raise UsageError(
            "neither the checkpoint nor the experiment's name tells the dataset",
            path=checkpoint.prefix,
            hint="name it with --dataset",
        )
    config = default_config(dataset, lineage.model_type, lineage.item_count, lineage.variant)
    config = override(config, {**flags, **known, **different})
    told = dict.fromkeys(asdict(config), DEFAULT) | dict.fromkeys(flags, GIVEN) | sources
    told |= dict.fromkeys(different, GIVEN)
    return Settings(
        config,
        {name: told[name] for name in asdict(config)},
        tuple(f"{flag(name)} {known[name]} becomes {value}" for name, value in different.items()),
    )


def _known(checkpoint: Checkpoint, lineage: ComiRecLineage) -> tuple[dict[str, Any], dict[str, str]]:
    """What the checkpoint tells of the configuration, and where it says so."""
    written_by = f"written by {lineage.producer}"
    known = {key: value for key, value in lineage.hyper.items() if value is not None}
    known |= {"model_type": lineage.model_type, "variant": lineage.variant}
    sources = {**lineage.sources, "model_type": written_by, "variant": written_by}
    if "learning_rate" not in known and LEARNING_RATE in lineage.canonical():
        rate = np.float32(lineage.read(checkpoint, LEARNING_RATE).item())
        known["learning_rate"] = float(str(rate))  # the shortest decimal that is this float32
        sources["learning_rate"] = LEARNING_RATE
    for name, value, source in _habits(lineage):
        known[name] = value
        sources[name] = source
    if lineage.model_type == "MIND":
        known["relu_projection"] = _PROJECTION in lineage.canonical()
        sources["relu_projection"] = f"{_PROJECTION} is {'there' if known['relu_projection'] else 'not there'}"
    names = [field.name for field in fields(TrainConfig) if field.name in known]
    return {name: known[name] for name in names}, {name: sources.get(name, "the checkpoint") for name in names}


def _habits(lineage: ComiRecLineage) -> Iterator[tuple[str, Any, str]]:
    """How the run was trained, where its checkpoint does not tell: (hyper-parameter, value, source).

    What ``ckpt`` migrated into this trainer's layout goes on as the trainer did that it came from. The first versions
    of this one told less, and had fewer ways.
    """
    if lineage.id == TRAINER and "readout" in lineage.hyper:
        readout = lineage.hyper["readout"]
        yield "readout", OLD_READOUTS.get(readout, readout), CONFIG
        of_trainer = habits(TRAINERS[lineage.variant], lineage.model_type)
        first = {
            "adam_epsilon": of_trainer["adam_epsilon"],
            "repeated_rows": "summed",
            "padding_place": False,
            **FIRST_VERSIONS,
        }
        for name, value in first.items():
            if name not in lineage.hyper:
                yield name, value, "the first versions of this trainer"
        return
    origin = lineage.id if lineage.id != TRAINER else lineage.hyper.get("origin") or TRAINERS[lineage.variant]
    for name, value in habits(origin, lineage.model_type).items():
        if name != "patience":  # which flags could change; a default like others
            yield name, value, f"as {origin} trains"


def _differs(name: str, value: Any, known: Mapping[str, Any], lineage: ComiRecLineage) -> bool:
    if name not in known or value == known[name]:
        return False
    # A model with one vector has no such parameters; old command lines give them all the same.
    return not (name in ("num_interest", "readout") and lineage.model_type not in MULTI_INTEREST)


def notes(settings: Settings) -> Iterator[str]:
    """What was not read off the checkpoint, its name or a flag, one sentence each, for the people who resume."""
    for name in ("num_interest", "top_n", "maxlen"):
        source = settings.sources[name]
        if source.startswith(WORKED_OUT) and (name != "num_interest" or settings.config.multi_interest):
            yield f"{flag(name)} {getattr(settings.config, name)}: {source}"
