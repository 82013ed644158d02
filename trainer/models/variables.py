"""The variables of a run under their canonical names, as numpy arrays: what is stored, restored and trained."""

from __future__ import annotations

import shlex

import numpy as np

from ckpt_tools.errors import MismatchError
from ckpt_tools.lineages import Lineage
from ckpt_tools.lineages.base import UNKNOWN_STEP
from ckpt_tools.lineages.names import LEARNING_RATE, MOMENTS, STEP, moment_name
from ckpt_tools.readers import Checkpoint
from trainer.config import FIRST_VERSIONS, TrainConfig
from trainer.models.recommenders import model_class
from trainer.resume_rules import Rule, decides

# Rows of the item table that were not up to date when a run was saved between two evaluations, as they were.
IDLE = "state/idle/"
# What an idle row moves by, beside the learning rate; and how it was before it could be set.
_OF_RATES = {name: FIRST_VERSIONS[name] for name in ("schedule", "warmup_steps", "decay_steps", "weight_decay")}


def trainable(config: TrainConfig) -> list[str]:
    parameters = model_class(config.model_type).parameters(config)
    return [name for name, parameter in parameters.items() if parameter.trainable]


def initial_variables(config: TrainConfig) -> dict[str, np.ndarray]:
    """The start of a new run: a function of the configuration and its seed."""
    parameters = model_class(config.model_type).parameters(config)
    variables = {name: parameter.initial_value(name, config.seed) for name, parameter in parameters.items()}
    for name in trainable(config):
        variables |= {moment_name(moment, name): np.zeros_like(variables[name]) for moment in MOMENTS}
    return variables | _scalars(config, step=0)


@decides(Rule.VARIABLES)
def restored_variables(checkpoint: Checkpoint, lineage: Lineage, config: TrainConfig) -> dict[str, np.ndarray]:
    """Every variable of the run out of a checkpoint of any lineage, its bytes verified.

    Raises MismatchError naming the first variable that is missing or has another shape, CorruptError for
    damage. Nothing is ever left at its initial value. A state saved between two evaluations also has the rows that were
    behind (``IDLE``), unless what moves idle rows changes: they would catch up with the wrong rate.
    """
    parameters = model_class(config.model_type).parameters(config)
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    for name in trainable(config):
        shapes |= {moment_name(moment, name): shapes[name] for moment in MOMENTS}
    variables = {name: _restored(checkpoint, lineage, name, shape) for name, shape in shapes.items()}
    variables |= _scalars(config, step=UNKNOWN_STEP if lineage.step is None else lineage.step)
    idle = [name for name in lineage.canonical() if name.startswith(IDLE)]
    same_rates = all(lineage.hyper.get(name, value) == getattr(config, name) for name, value in _OF_RATES.items())
    if idle and same_rates and lineage.read(checkpoint, LEARNING_RATE) == variables[LEARNING_RATE]:
        variables |= {name: lineage.read(checkpoint, name) for name in idle}
    return variables


def _restored(checkpoint: Checkpoint, lineage: Lineage, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in lineage.canonical():
        raise MismatchError(
            f"the checkpoint holds no {name}, and training would go on from a made-up one",
            path=checkpoint.prefix,
            hint=f"ckpt inspect {shlex.quote(checkpoint.prefix)}",
        )
    value = lineage.read(checkpoint, name)
    if value.shape != shape or value.dtype != np.float32:
        raise MismatchError(
            f"{name} is {value.dtype} {list(value.shape)}, but the model needs float32 {list(shape)}",
            path=checkpoint.prefix,
            hint=f"ckpt inspect {shlex.quote(checkpoint.prefix)}",
        )
    return value


def _scalars(config: TrainConfig, *, step: int) -> dict[str, np.ndarray]:
    return {
        STEP: np.array(step, np.int64),
        LEARNING_RATE: np.array(config.learning_rate, np.float32),
    }
