"""What comes of a resume once its weights have been measured: where the run stands, and what has to be saved first."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from ckpt_tools.errors import CkptError
from ckpt_tools.findings import Finding
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.logs import Evidence
from ckpt_tools.runs.opening import open_identified
from trainer.checkpoints.holding import best_where, holder
from trainer.checkpoints.run_state import RunState
from trainer.checkpoints.saved_state import SavedState, read_saved_state
from trainer.config import TrainConfig
from trainer.data.interactions import Interactions
from trainer.evaluation.measuring import METRIC, OnProgress, evaluate, numpy_model
from trainer.evaluation.ranking_metrics import Metrics
from trainer.evaluation.reproducing import Spread
from trainer.models.variables import restored_variables
from trainer.resume_rules import Rule, decides
from trainer.settings import Settings

VALID = "valid"


class ResumeOutcome(Enum):
    """What a resume finds. Its value says in words what the run goes on with."""

    AS_IT_WAS = "its best is in sight and what was stored: nothing is saved before the first step"
    SAVED_FIRST = "these weights are the best, and no checkpoint says so yet: saved before the first step"
    MEASURED_AGAIN = "the stored best is of another N or split: what it gives now is the best, and saved first"
    PUT_BACK = "the line of best ones has lost the best, and another checkpoint holds it: saved there again"
    ANOTHER_BEST = "no checkpoint holds the best any more: the best that is left counts from here on"
    THESE_WEIGHTS = "no checkpoint holds the best any more, nor one as good: these weights are saved as the best"


@dataclass(frozen=True)
class Best:
    """The best model of a run that no checkpoint holds as such yet: its variables, and where the run was."""

    variables: Mapping[str, np.ndarray]
    run_state: RunState


class Decision(NamedTuple):
    """An outcome, where the run stands then, the best to be saved at once if there is one, and what to say of it."""

    outcome: ResumeOutcome
    run_state: RunState
    unsaved_best: Best | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """One checkpoint, with everything that a continuation needs of it: ``variables`` by canonical name."""

    prefix: str
    settings: Settings
    variables: dict[str, np.ndarray]
    stored: SavedState


@dataclass(frozen=True)
class Continuation:
    """A loaded checkpoint whose weights were measured: ``first``, on the split ``valid``, with ``config``.
    ``logged_top_n``: at which N they give the recall that another program stored or logged, None for none."""

    experiment: Experiment
    loaded: Loaded
    config: TrainConfig
    valid: Interactions
    first: Metrics
    logged_top_n: int | None = None

    @property
    def identity(self) -> dict[str, Any]:
        return metric_identity(self.config, self.valid)

    @property
    def logged_identity(self) -> dict[str, Any] | None:
        """What that recall is, None for none."""
        return None if self.logged_top_n is None else self.identity | {"top_n": self.logged_top_n}


def metric_identity(config: TrainConfig, valid: Interactions) -> dict[str, Any]:
    """What makes two recalls comparable; stored as JSON in ``state/metric``."""
    return {"name": METRIC, "top_n": config.top_n, "split": VALID, "digest": valid.digest}


def identity_in_words(identity: Mapping[str, Any]) -> str:
    """``recall@50 of a valid split 1a2b3c4d``."""
    digest = str(identity.get("digest"))[:8]
    return f"{identity.get('name')}@{identity.get('top_n')} of a {identity.get('split')} split {digest}"


def measure(
    config: TrainConfig,
    variables: Mapping[str, np.ndarray],
    valid: Interactions,
    progress: OnProgress | None = None,
) -> Metrics:
    """The metrics of these weights, by canonical name, on the validation split."""
    return evaluate(numpy_model(config, variables), valid, maxlen=config.maxlen, top_n=config.top_n, progress=progress)


def decide(found: Continuation, *, objected: bool, spread: Spread | None) -> Decision:
    """What comes of a resume. ``objected``: the recall is another one than was stored or logged, and was accepted."""
    stored, loaded = found.loaded.stored, found.loaded
    if not stored.comparable(found.identity):
        return _measured_again(found)
    if found.logged_identity not in (None, found.identity):
        return _at_another_n(found)
    run_state = _continued(stored, found.first.recall, believed=objected or is_noisy(stored, spread))
    if stored.line == "latest":
        return _with_its_best(found, run_state)
    changed = stored.recall is None or run_state.best_metric != stored.recall
    # The state file names the newest of the line: the best of this data has to become that again.
    experiment = found.experiment
    changed |= experiment.best_directory == experiment.best_line and loaded.prefix != _newest(experiment)
    if changed:
        return Decision(ResumeOutcome.SAVED_FIRST, run_state, Best(loaded.variables, run_state))
    return Decision(ResumeOutcome.AS_IT_WAS, run_state)


@decides(Rule.LOGGED_RECALL)
def _at_another_n(found: Continuation) -> Decision:
    """Where a run of another program stands that is to be measured at another N than it was. Only its best is there."""
    assert found.logged_identity is not None
    run_state = found.loaded.stored.run_state.as_best(found.first.recall)
    text = (
        f"the run so far has {identity_in_words(found.logged_identity)}, which these weights give on this data; "
        f"from here on it has {identity_in_words(found.identity)}, of which they give {run_state.best_metric:.6f}"
    )
    said = Finding("remeasured", "warning", text, found.loaded.prefix)
    return Decision(ResumeOutcome.MEASURED_AGAIN, run_state, Best(found.loaded.variables, run_state), (said,))


def is_noisy(stored: SavedState, spread: Spread | None) -> bool:
    """Whether the stored recall was drawn with noise that cannot be drawn again."""
    return spread is not None and not stored.measured_here


@decides(Rule.LOGGED_RECALL, Rule.LEAVE)
def _continued(stored: SavedState, recall: float, *, believed: bool) -> RunState:
    if stored.line == "best" and (believed or stored.recall is None):
        return stored.run_state.as_best(recall)
    if believed and stored.recall is not None:
        return replace(stored.run_state, recall=float(np.float32(recall)))
    return stored.run_state


def _newest(experiment: Experiment) -> str | None:
    try:
        return experiment.best_prefix()
    except CkptError:
        return None


@decides(Rule.STORED_RECALL)
def _measured_again(found: Continuation) -> Decision:
    """Where a run stands whose best cannot be compared any more: at another N, or on another split with leave."""
    experiment, loaded, first, identity = found.experiment, found.loaded, found.first, found.identity
    stored, run_state = loaded.stored, loaded.stored.run_state
    text = (
        f"the stored best {run_state.best_metric:.6f} is {identity_in_words(stored.identity)}, "
        f"not {identity_in_words(identity)}"
    )

    def decision(run_state: RunState, best: Best, rest: str, prefix: str) -> Decision:
        aside = "" if stored.identity.get("digest") == identity["digest"] else f"; the old one stays in {prefix}"
        said = Finding("remeasured", "warning", f"{text}{rest}{aside}", loaded.prefix)
        return Decision(ResumeOutcome.MEASURED_AGAIN, run_state, best, (said,))

    if stored.line == "best":
        run_state = run_state.as_best(first.recall)
        words = f": measured again, it is {run_state.best_metric:.6f}"
        return decision(run_state, Best(loaded.variables, run_state), words, loaded.prefix)
    now = run_state if math.isnan(run_state.recall) else run_state.as_measured(first.recall)
    if not run_state.has_best:
        return Decision(ResumeOutcome.AS_IT_WAS, now)
    # These weights are not the best: another N or split says nothing about which are, so the best stays what it was.
    held = loaded.prefix if run_state.is_best else holder(experiment, stored)
    if held is None:
        run_state = run_state.as_best(first.recall)
        words = ", and is in no checkpoint to be measured again: these weights are the best now"
        return decision(run_state, Best(loaded.variables, run_state), words, experiment.best_directory)
    variables, of_best = _restored(held, found.config)
    recall = first.recall if held == loaded.prefix else measure(found.config, variables, found.valid).recall
    best = Best(variables, of_best.as_best(recall))
    words = f": measured again, it is {best.run_state.best_metric:.6f}"
    return decision(replace(now, best_metric=best.run_state.best_metric), best, words, held)


@decides(Rule.BEST_IN_SIGHT)
def _with_its_best(found: Continuation, run_state: RunState) -> Decision:
    """A newest state, once its best has been found: where it belongs, elsewhere, or not at all."""
    experiment, loaded, recall = found.experiment, found.loaded, found.first.recall
    stored = loaded.stored
    if not stored.run_state.has_best:
        return Decision(ResumeOutcome.AS_IT_WAS, run_state)
    held = holder(experiment, stored)
    if held is not None and os.path.dirname(held) != experiment.latest_line:
        return Decision(ResumeOutcome.AS_IT_WAS, run_state)
    lost = (
        f"the best model, {run_state.best_metric:.6f} of step {run_state.best_step}, is not in {experiment.best_line}"
    )
    if held is not None:
        said = Finding("best-restored", "warning", f"{lost}: it is put back from {held}", held)
        return Decision(ResumeOutcome.PUT_BACK, run_state, Best(*_restored(held, found.config)), (said,))
    lost += " any more, nor elsewhere"
    left = best_where(experiment, lambda identity: dict(identity) == dict(stored.identity))
    if left is not None and left[1].run_state.best_metric >= recall:
        prefix, other = left[0], left[1].run_state
        text = f"{lost}: the best is now {other.best_metric:.6f} of step {other.best_step}"
        run_state = replace(run_state, best_metric=other.best_metric, best_step=other.best_step)
        return Decision(
            ResumeOutcome.ANOTHER_BEST, run_state, findings=(Finding("best-lost", "warning", text, prefix),)
        )
    text = f"{lost}: the weights of this state, {recall:.6f}, are the best now"
    run_state = run_state.as_best(recall)
    said = Finding("best-lost", "warning", text, loaded.prefix)
    return Decision(ResumeOutcome.THESE_WEIGHTS, run_state, Best(loaded.variables, run_state), (said,))


def _restored(prefix: str, config: TrainConfig) -> tuple[dict[str, np.ndarray], RunState]:
    """The variables of a checkpoint for this run, and where it was then."""
    with open_identified(prefix, ComiRecLineage) as (checkpoint, lineage):
        variables = restored_variables(checkpoint, lineage, config)
        return variables, read_saved_state(checkpoint, lineage, "best", Evidence()).run_state
