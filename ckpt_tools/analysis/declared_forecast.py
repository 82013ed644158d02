"""What a resume of somebody else's trainer would do, from how its declaration says that it decides.

restores  nothing  it starts from new weights: the first evaluation is of those
best      memory   the first evaluation after a restart counts as the best, whatever it scores
          checkpoint   the value is a variable: it survives when it was stored
          file         the value is in a file beside it: it survives when that is there
overwrites         whether a new best takes the place of the old one, or gets a name of its own
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ckpt_tools.errors import CkptError
from ckpt_tools.findings import Finding
from ckpt_tools.lineages import BestMetric
from ckpt_tools.lineages.declared.roles import key_of, roles_of, untold
from ckpt_tools.lineages.names import BEST_METRIC
from ckpt_tools.lineages.tensor_names import bare
from ckpt_tools.lineages.unknown import best_of, step_of
from ckpt_tools.readers import Checkpoint, open_checkpoint
from ckpt_tools.runs.declared_history import logged_best, value_declared
from ckpt_tools.runs.declared_run import DeclaredRun

Verdict = Literal["safe", "at-risk", "blocked"]
_OVERWRITES = "the first evaluation WILL overwrite the best model, whatever it scores"
_BESIDE = "the first evaluation counts as the best, whatever it scores; its model is saved beside the old best"


@dataclass(frozen=True)
class DeclaredOutlook:
    """``restored`` is the checkpoint that the trainer goes on from, None when it takes none."""

    verdict: Verdict
    sentence: str
    restored: str | None
    names: tuple[str, ...]
    unused: tuple[str, ...]
    best_metric: BestMetric
    survives: dict[str, bool]
    latest: str | None
    findings: tuple[Finding, ...]


def outlook(path: str, checkpoint: Checkpoint, run: DeclaredRun) -> DeclaredOutlook:
    """What its own trainer would do with a run. Raises what reading the checkpoint raises."""
    said, rule = run.declaration, run.declaration.resume
    findings: list[Finding] = []
    latest = run.latest_prefix()
    source, stored = _source(checkpoint, run, latest, findings)
    roles = roles_of(checkpoint.tensors, checkpoint.graph, said)
    best = best_of(checkpoint, roles, key_of(said.variables.best, checkpoint.tensors))
    names = tuple(bare(key) for key in checkpoint.tensors) if source else ()
    unused = tuple(untold(checkpoint.tensors, said.variables)) if source else tuple(checkpoint.tensors)
    keeps, how = _best_survives(run, stored if stored is not None else best)
    verdict, sentence = _judged(run, source, keeps, how, _step_words(checkpoint, run, source))
    fix = None
    if verdict != "safe" and rule.best == "checkpoint" and source == checkpoint.prefix and not keeps:
        fix = f"ckpt backfill {shlex.quote(path)} --from-logs"
    if verdict != "safe":
        findings.insert(0, Finding("own-trainer-loses", "error", sentence, path, fix=fix))
    findings += _lost(checkpoint, run, roles_step=step_of(checkpoint, roles))
    return DeclaredOutlook(
        verdict,
        sentence,
        source,
        names,
        unused,
        best,
        {
            BEST_METRIC: bool(keeps and source),
            "patience": False,
            "optimizer": source is not None and any(role.group == "optimizer" for role in roles.roles.values()),
        },
        latest,
        tuple(findings),
    )


def _source(
    checkpoint: Checkpoint, run: DeclaredRun, latest: str | None, findings: list[Finding]
) -> tuple[str | None, BestMetric | None]:
    """The checkpoint that is restored, and the best that it stores when it is another one than that looked at."""
    restores = run.declaration.resume.restores
    if restores == "nothing":
        return None, None
    source = latest if restores == "latest" and latest is not None else checkpoint.prefix
    if os.path.abspath(source) == os.path.abspath(checkpoint.prefix):
        return source, None
    try:
        with open_checkpoint(source) as other:
            roles = roles_of(other.tensors, other.graph, run.declaration)
            return source, best_of(other, roles, key_of(run.declaration.variables.best, other.tensors))
    except CkptError as error:
        findings.append(Finding("latest-unusable", "warning", error.message, error.path))
        return None, None


def _best_survives(run: DeclaredRun, stored: BestMetric) -> tuple[bool | None, str]:
    """Whether the best value is there after a restart, None when that is not declared; and in words."""
    rule = run.declaration.resume
    if rule.best == "checkpoint":
        if stored.status == "present":
            return True, f"best {stored.value:g} is restored"
        state = "is not stored" if stored.status == "absent" else "was never set"
        return False, f"the best value {state}"
    if rule.best == "file":
        there = run.find(rule.record) if rule.record else []
        if there:
            return True, f"the best is read from {os.path.basename(there[0])}"
        return False, f"{rule.record or 'the file of the best'} is not there"
    if rule.best == "memory":
        return False, "the best value was kept in memory only"
    return None, "where its trainer keeps the best value is not declared"


def _judged(run: DeclaredRun, source: str | None, keeps: bool | None, how: str, step: str) -> tuple[Verdict, str]:
    rule = run.declaration.resume
    ends = _OVERWRITES if rule.overwrites else _BESIDE
    if source is None and rule.restores is not None and rule.restores != "nothing":
        return "blocked", "blocked: the checkpoint that its trainer would restore cannot be used"
    if source is None:
        return "at-risk", f"at risk: its trainer starts from new weights, and {how}; {ends}"
    if keeps:
        return "safe", f"safe: {step} is restored, and {how}"
    if keeps is None:
        return "at-risk", f"at risk: {how}: say it in [resume] of ckpt.toml"
    return "at-risk", f"at risk: {step} is restored, but {how}; {ends}"


def _step_words(checkpoint: Checkpoint, run: DeclaredRun, source: str | None) -> str:
    if source is None:
        return "nothing"
    name = os.path.basename(source.rstrip(os.sep))
    if os.path.abspath(source) == os.path.abspath(checkpoint.prefix):
        roles = roles_of(checkpoint.tensors, checkpoint.graph, run.declaration)
        step = step_of(checkpoint, roles)
        return name if step is None else f"{name} (step {step})"
    return name


def _lost(checkpoint: Checkpoint, run: DeclaredRun, roles_step: int | None) -> Iterator[Finding]:
    """The best of the log may be in no checkpoint any more."""
    chosen = logged_best(checkpoint.prefix, run)
    best = chosen.best if chosen else None
    if chosen is None or best is None:
        return
    try:
        held = value_declared(chosen, run, checkpoint.prefix, roles_step).evaluation
    except CkptError:
        return
    if not best.agrees_with(held.value):
        message = (
            f"the log's best {chosen.name} is {best.value:g}, but this checkpoint is another one's ({held.value:g})"
        )
        yield Finding("best-lost", "warning", message, checkpoint.prefix)
