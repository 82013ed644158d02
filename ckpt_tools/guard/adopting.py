"""What lay in a run before it was guarded: which save its trainer keeps as the best one, and what that is worth.

A value is believed that is stored in the file about itself (as ``ckpt backfill`` writes it, or under the name of a
best), or that the run's logs tell of this very file; else there is none, and nothing is guessed.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ckpt_tools.errors import CkptError
from ckpt_tools.format import json_text
from ckpt_tools.fs import local
from ckpt_tools.guard.metric import Identity
from ckpt_tools.guard.saves import Save
from ckpt_tools.lineages import Lineage, identify
from ckpt_tools.lineages.declared.roles import key_of, roles_of
from ckpt_tools.lineages.meaning import meaning_beside
from ckpt_tools.lineages.names import BEST_METRIC
from ckpt_tools.lineages.unknown import best_of, step_of
from ckpt_tools.readers import Checkpoint, open_checkpoint
from ckpt_tools.runs.declared_history import choose_declared, history_of, value_declared
from ckpt_tools.runs.declared_run import DeclaredRun
from ckpt_tools.runs.experiments import LATEST_LINE, Experiment, is_experiment
from ckpt_tools.runs.logs import collect
from ckpt_tools.runs.metric_history import log_files
from ckpt_tools.runs.metric_lines import is_like

# The trainer waits for this: more is not read before it starts.
_MOST_LOG_BYTES = 16 << 20


@dataclass(frozen=True)
class Worth:
    """The value of a save: of which metric, how that is known, and whether the file has it itself."""

    value: float
    identity: Identity
    reason: str
    step: int | None
    stored: bool


def kept_best(run: str, saves: Sequence[Save]) -> Save | None:
    """The save that a run keeps as its best: as it is declared, or as an experiment has it, else what is called so; and
    where none is, the newest."""
    if not saves:
        return None
    with contextlib.suppress(CkptError):
        declared = DeclaredRun.above(run)
        prefix = None
        if declared is not None and declared.directory == os.path.abspath(run):
            prefix = declared.best_prefix()
        elif is_experiment(run):
            prefix = Experiment(run).best_prefix()
        for save in saves:
            if prefix is not None and os.path.abspath(prefix) == os.path.abspath(save.path):
                return save
    named = [save for save in saves if _is_called_best(save, run)]
    return max(named or saves, key=lambda save: save.written)


def _is_called_best(save: Save, run: str) -> bool:
    return "best" in os.path.relpath(save.path, run).lower()


def worth_of(save: Save, run: str, identity: Identity | None) -> Worth | None:
    """What a save is worth, None where neither it nor a log says so, or where that is of another metric."""
    try:
        with open_checkpoint(save.path) as checkpoint:
            lineage = identify(checkpoint)
            found = _of_comirec(checkpoint, lineage) if lineage else _of_any(save, run, checkpoint, identity)
    except CkptError:
        return None
    if found is None or not math.isfinite(found.value):
        return None
    told = found.identity
    alike = identity is None or is_like(told.name, told.mode, identity.name, identity.mode)
    return found if alike else None


def _of_comirec(checkpoint: Checkpoint, lineage: Lineage) -> Worth | None:
    best, identity = lineage.best_metric, Identity("recall", "max", "as ComiRec's trainers do")
    # A newest state holds the best of its run, which is another model's.
    newest = os.path.basename(os.path.dirname(os.path.abspath(checkpoint.prefix))) == LATEST_LINE
    if best.status == "present" and best.value is not None and not newest:
        return Worth(best.value, identity, "stored in it", lineage.step, stored=True)
    experiment = Experiment.containing(checkpoint.prefix)
    if experiment is None or lineage.step is None:
        return None
    logged = collect(experiment).at_step(lineage.step)
    if logged is None:
        return None
    return Worth(logged.recall, identity, "logged for its step", lineage.step, stored=False)


def _of_any(save: Save, place: str, checkpoint: Checkpoint, identity: Identity | None) -> Worth | None:
    run = DeclaredRun.of(checkpoint)
    roles = roles_of(checkpoint.tensors, checkpoint.graph, run.declaration if run else None)
    best = best_of(checkpoint, roles, key_of(run.declaration.variables.best, checkpoint.tensors) if run else None)
    step = step_of(checkpoint, roles)
    if best.status == "present" and best.value is not None and best.key is not None:
        beside = checkpoint.best
        text = beside.meaning if beside is not None else meaning_beside(checkpoint, best.key)
        # A variable of a newest state may hold the best of its run, which is another model's.
        own = text is not None or _is_called_best(save, place) or (run is not None and run.is_best(save.path))
        if own:
            return Worth(best.value, _stored_identity(text, identity), "stored in it", step, stored=True)
    return _logged(checkpoint, run, step, identity)


def _stored_identity(text: str | None, identity: Identity | None) -> Identity:
    """The metric that a stored meaning names; where it names none, that of the run."""
    said: Any = None
    with contextlib.suppress(ValueError):
        said = json_text.parse(text or "null")
    name, mode = (said.get("name"), said.get("mode")) if isinstance(said, dict) else (None, None)
    if not isinstance(name, str) or not name:
        name = identity.name if identity else BEST_METRIC
    told = identity.mode if identity else None
    return Identity(name, mode if mode in ("min", "max") else told, "as it is stored")


def _logged(
    checkpoint: Checkpoint, run: DeclaredRun | None, step: int | None, identity: Identity | None
) -> Worth | None:
    if sum(local.fingerprint(path).size for path in log_files(checkpoint.prefix)) > _MOST_LOG_BYTES:
        return None
    asked = identity if identity is not None and identity.source != "pattern" else None
    chosen = choose_declared(
        history_of(checkpoint.prefix, run), run, asked.name if asked else None, asked.mode if asked else None
    )
    found = value_declared(chosen, run, checkpoint.prefix, step)
    told = Identity(chosen.name, chosen.mode, chosen.reason)
    return Worth(found.evaluation.value, told, found.reason, found.evaluation.step, stored=False)
