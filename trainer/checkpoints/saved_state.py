"""What a checkpoint says of the run that it belongs to, beside its variables. Needs no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ckpt_tools.errors import CkptError
from ckpt_tools.lineages import Lineage
from ckpt_tools.lineages.base import UNKNOWN_STEP
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.lineages.comirec.trainer import ID as TRAINER
from ckpt_tools.lineages.names import DATA, METRIC
from ckpt_tools.readers import Checkpoint
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.logs import Evidence
from ckpt_tools.runs.opening import open_identified
from trainer.checkpoints.run_state import STORED, RunState
from trainer.resume_rules import Rule, decides

Line = Literal["best", "latest"]


@dataclass(frozen=True)
class SavedState:
    """``recall`` of exactly these weights, None where the checkpoint does not tell. ``identity``: what makes a recall
    comparable (name, N, split, digest of the split), empty where it is not stored. ``train_digest`` is of the training
    data, None where it is not stored. ``measure_before``: what another trainer's log of this run measured, in words."""

    run_state: RunState
    recall: float | None
    identity: Mapping[str, Any]
    line: Line
    train_digest: str | None = None
    measure_before: str | None = None

    @property
    def measured_here(self) -> bool:
        """Whether this trainer measured the stored recall: then it repeats exactly, routing noise and all."""
        return self.identity.get("digest") is not None

    def comparable(self, identity: Mapping[str, Any]) -> bool:
        """Whether a recall measured as ``identity`` says can be compared with the stored one."""
        return not self.measured_here or dict(self.identity) == dict(identity)


@decides(Rule.STEP)
def read_saved_state(checkpoint: Checkpoint, lineage: Lineage, line: Line, evidence: Evidence) -> SavedState:
    """Where a run of any lineage stood; its log helps out where an old trainer did not store the step."""
    if lineage.id == TRAINER:
        run_state = RunState.from_tensors({name: lineage.read(checkpoint, name) for name, _ in STORED.values()})
        identity = lineage.document(checkpoint, METRIC)
        if run_state.step == UNKNOWN_STEP and evidence.best and identity.get("digest") is None:
            # Migrated from a checkpoint that had lost Adam's step: the log still knows that of the run.
            run_state = replace(run_state, step=evidence.best.step, best_step=evidence.best.step)
        recall = None if math.isnan(run_state.recall) else run_state.recall
        if line == "best" and lineage.best_metric.status == "present":
            recall = run_state.best_metric  # after a backfill there is this one alone
        data = lineage.document(checkpoint, DATA) if DATA in lineage.canonical() else {}
        return SavedState(run_state, recall, identity, line, data.get("train"), data.get("measure_before"))
    step = lineage.step
    if step is None:
        step = evidence.best.step if evidence.best else 0
    best = lineage.best_metric
    if best.status != "present" or best.value is None:
        return SavedState(RunState(step), None, {}, line)
    return SavedState(RunState(step).as_best(best.value), best.value, {}, line)


def run_state_of(prefix: str) -> RunState:
    """Where a run was when it saved this checkpoint. Raises what `open_identified` and reading raise."""
    return _run_state_and_seed(prefix)[0]


def newest_run_state(experiment: Experiment) -> tuple[RunState, int] | None:
    """Where the run was when it last saved, and its seed; None when it has no newest state of this trainer, or it
    cannot be read."""
    try:
        prefix = experiment.latest_prefix()
        return None if prefix is None else _run_state_and_seed(prefix)
    except CkptError:
        return None


def _run_state_and_seed(prefix: str) -> tuple[RunState, int]:
    with open_identified(prefix, ComiRecLineage, producer=TRAINER) as (checkpoint, lineage):
        run_state = RunState.from_tensors({name: lineage.read(checkpoint, name) for name, _ in STORED.values()})
        return run_state, int(lineage.hyper.get("seed") or 0)
