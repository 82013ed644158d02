"""Who trains a run: this process alone, or several together (``trainer.training.distribution``). Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from trainer.config import TrainConfig
from trainer.data.interactions import Interactions
from trainer.data.sampling import Batch
from trainer.evaluation.ranking_metrics import Metrics
from trainer.training.learner import Learner
from trainer.training.resume_outcome import measure
from trainer.training.starting_point import StartingPoint


class Learns(Protocol):
    """What ``Learner`` does, with one copy of the variables or several."""

    def update(self, batch: Batch) -> float: ...

    def catch_up(self) -> None: ...

    def weights(self) -> dict[str, np.ndarray]: ...

    def stored(self) -> dict[str, Any]: ...


class Team(Protocol):
    """All that differs between one process and several. Every member goes through the same steps with the same numbers,
    so that all decide alike; only the chief writes."""

    @property
    def is_chief(self) -> bool: ...

    def agree_on_start(self, start: StartingPoint, max_steps: int) -> None:
        """Before anything is written: wait for the others, and make sure that all begin the same run."""

    def learner(self, config: TrainConfig, variables: Mapping[str, np.ndarray]) -> Learns: ...

    def measure(self, config: TrainConfig, weights: Mapping[str, np.ndarray], valid: Interactions) -> Metrics: ...

    def stop_agreed(self, asked: bool) -> bool:
        """Whether all have come to know that one of them was asked to stop; ``asked``: whether this one was."""

    def leave(self) -> None:
        """After everything has been written: wait for the others."""


class SingleProcess:
    """One process, one learner: nobody to ask and nobody to wait for."""

    is_chief = True

    def agree_on_start(self, start: StartingPoint, max_steps: int) -> None:
        pass

    def learner(self, config: TrainConfig, variables: Mapping[str, np.ndarray]) -> Learns:
        return Learner(config, variables)

    def measure(self, config: TrainConfig, weights: Mapping[str, np.ndarray], valid: Interactions) -> Metrics:
        return measure(config, weights, valid)

    def stop_agreed(self, asked: bool) -> bool:
        return asked

    def leave(self) -> None:
        pass
