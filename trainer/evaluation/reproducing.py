"""Hyper-parameters that only the log can tell: whichever value measures the recall that was logged. No TensorFlow.

The weights of MIND do not tell K, and none tell the N of recall@N. Where the default does not give a recall that the
run logged, the usual values are tried, and the first that does is taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from trainer.config import TrainConfig
from trainer.data.interactions import Interactions
from trainer.evaluation.measuring import OnProgress, Ranked, numpy_model, rank
from trainer.evaluation.ranking_metrics import Metrics
from trainer.resume_rules import Rule, decides
from trainer.settings import Settings

TOLERANCE = 1e-6
_USUAL: Mapping[str, Sequence[int]] = {
    "num_interest": (4, 2, 8, 3, 6, 1, 5, 7, 10, 12, 16),
    "maxlen": (20, 50, 10, 100, 30),
    "top_n": (50, 20, 10, 100, 5, 200),
}
_SEEDS = 8


class Reproduced(NamedTuple):
    """Settings, what the weights measure under them, and how much noise moves it. ``logged_top_n`` is the N at which
    they give ``logged``, a recall that was logged, None where they give none: another one than the settings' where a
    flag asks for it.
    """

    settings: Settings
    metrics: Metrics
    spread: Spread | None
    logged_top_n: int | None = None
    logged: float | None = None


@dataclass(frozen=True)
class Spread:
    """Recall of one set of weights under several seeds of the routing noise (MIND of the paper)."""

    mean: float
    deviation: float
    low: float
    high: float
    seeds: int

    def holds(self, recall: float) -> bool:
        """Whether a recall can be that of these weights: within four deviations, or among those seen."""
        margin = 4 * self.deviation + TOLERANCE
        return min(self.low, self.mean - margin) <= recall <= max(self.high, self.mean + margin)

    def __str__(self) -> str:
        return f"{self.low:.6f} to {self.high:.6f} over {self.seeds} seeds (mean {self.mean:.6f})"


def spread_of(config: TrainConfig, weights: Mapping[str, np.ndarray], split: Interactions) -> Spread | None:
    """How much the routing noise moves the recall of these weights; None for a model that draws none."""
    return spread_over(numpy_model(config, weights), config, split) if config.draws_routing_noise else None


def spread_over(model: Ranked, config: TrainConfig, split: Interactions) -> Spread:
    """The recall of a model under several seeds of the routing noise."""
    recalls = [
        rank(model, split, maxlen=config.maxlen, limit=config.top_n, noise_seed=seed).at(config.top_n).recall
        for seed in range(1, _SEEDS + 1)
    ]
    return Spread(float(np.mean(recalls)), float(np.std(recalls)), min(recalls), max(recalls), _SEEDS)


@decides(Rule.NOISE)
def agrees(recall: float, logged: Sequence[float], spread: Spread | None) -> bool:
    """Whether a measured recall is one of the logged ones, to six digits; noise widens what counts as the same."""
    if spread is not None:
        return any(spread.holds(value) for value in logged)
    return any(abs(value - recall) <= TOLERANCE for value in logged)


@decides(Rule.WORKED_OUT)
def reproduce(
    settings: Settings,
    weights: Mapping[str, np.ndarray],
    split: Interactions,
    logged: Sequence[float],
    *,
    progress: OnProgress | None = None,
) -> Reproduced:
    """The settings under which these weights give one of the ``logged`` recalls, and what they then measure.

    Only what nobody told is tried. When no usual value gives a logged recall, or nothing was logged, the settings stay
    as they are. An N that was told stays too; which one the logs have is found out all the same, but where noise moves
    the recall: then nearly every N gives something that was logged.
    """
    open_names = undecided(settings)
    first: Reproduced | None = None
    for tried in _tries(settings, open_names):
        told = tried.config.top_n
        others = () if tried.config.draws_routing_noise and "top_n" not in open_names else _USUAL["top_n"]
        limits = (told,) if first is None else tuple(dict.fromkeys((told, *others)))
        model = numpy_model(tried.config, weights)
        ranking = rank(model, split, maxlen=tried.config.maxlen, limit=max(limits), progress=progress)
        for top_n in limits:
            found = tried.with_found("top_n", top_n, tried.sources["top_n"])
            spread = spread_of(found.config, weights, split)
            metrics = ranking.at(top_n)
            if first is None:
                first = Reproduced(found, metrics, spread)
                if not logged:
                    return first
            if agrees(metrics.recall, logged, spread):
                kept = _sourced(found if "top_n" in open_names else tried, open_names, metrics.recall)
                return Reproduced(kept, ranking.at(kept.config.top_n), spread, top_n, metrics.recall)
    assert first is not None
    return first


def undecided(settings: Settings) -> list[str]:
    """The hyper-parameters that nobody told and that a logged recall can tell."""
    names = [name for name in _USUAL if name in settings.defaulted]
    return names if settings.config.multi_interest else [name for name in names if name != "num_interest"]


def _tries(settings: Settings, open_names: Sequence[str]) -> Iterator[Settings]:
    """The settings themselves, and then each combination of usual values for what shapes the user's vectors."""
    yield settings
    names = [name for name in open_names if name != "top_n"]
    for values in itertools.product(*(_USUAL[name] for name in names)):
        tried = settings
        for name, value in zip(names, values, strict=True):
            tried = tried.with_found(name, value, settings.sources[name])
        yield tried


def equal_interests(config: TrainConfig) -> bool:
    """Whether all interests of a user are the same, however many there are: MIND of the Keras port starts its routing
    from equal logits."""
    return (config.model_type, config.variant) == ("MIND", "keras")


def _sourced(settings: Settings, names: Sequence[str], recall: float) -> Settings:
    for name in names:
        if name == "num_interest" and equal_interests(settings.config):
            source = "default; all interests of this variant are equal, so the recall does not depend on it"
        else:
            source = f"gives the logged recall {recall:.6f}"
            if settings.config.draws_routing_noise:
                source = "the logged recall is within its routing noise"
        settings = settings.with_found(name, getattr(settings.config, name), source)
    return settings
