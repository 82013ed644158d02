"""What a resume would do, before it is tried: no training, no TensorFlow.

For the old trainers the forecast follows what was measured with them: Keras 2 fills variables in when they are
created, and loses ``best_metric`` unless the trainer keeps it in a variable; under Keras 3 the deferred restore of
the weights fails without an error; the original trainer never resumes at all.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ckpt_tools.analysis.declared_forecast import outlook
from ckpt_tools.analysis.pinned import pinned_best
from ckpt_tools.analysis.stability import steady
from ckpt_tools.errors import CkptError, UsageError
from ckpt_tools.findings import Finding
from ckpt_tools.lineages import BestMetric, Lineage, identify
from ckpt_tools.lineages.comirec import keras2_slots, keras2_vars, tf1, trainer
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.lineages.comirec.models import required_variables
from ckpt_tools.lineages.names import BEST_METRIC, LEARNING_RATE, STEP
from ckpt_tools.readers import Checkpoint, open_checkpoint
from ckpt_tools.readers.opening import open_located
from ckpt_tools.runs.declared_run import DeclaredRun
from ckpt_tools.runs.experiments import BEST_LINE, Experiment, find
from ckpt_tools.runs.logs import collect, suspect_direction

TRAINERS = ("trainer", "comirec-keras", "comirec-keras-fixed", "comirec-tf1")

Verdict = Literal["safe", "at-risk", "blocked"]


@dataclass(frozen=True)
class Forecast:
    """The answer of ``ckpt resume-check``.

    ``restored`` and ``missing`` are canonical names of the trainer's variables, ``converted`` those of the restored
    ones that are rearranged on the way. ``left`` are canonical names of weights and moments that are stored, and that
    nothing would read; ``unused`` the stored names of these and of all else that nothing would read. ``survives``
    says of best_metric, patience and optimizer whether they would.
    """

    path: str
    prefix: str | None
    trainer: str
    verdict: Verdict
    sentence: str
    lineage: Lineage | None = None
    best_metric: BestMetric = field(default_factory=lambda: BestMetric("absent"))
    restored: tuple[str, ...] = ()
    converted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    survives: dict[str, bool] = field(default_factory=dict)
    latest: str | None = None
    findings: tuple[Finding, ...] = ()
    declared: DeclaredRun | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "prefix": self.prefix,
            "trainer": self.trainer,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "lineage": described.to_json() if (described := self.lineage or self.declared) else None,
            BEST_METRIC: {"status": self.best_metric.status, "value": self.best_metric.value},
            "restored": list(self.restored),
            "converted": list(self.converted),
            "missing": list(self.missing),
            "left": list(self.left),
            "unused": list(self.unused),
            "survives": self.survives,
            "latest": self.latest,
            "findings": [finding.to_json() for finding in self.findings],
        }


@steady
def forecast(path: str, *, trainer: str = "trainer", keras: int = 3, thorough: bool = True) -> Forecast:
    """What resuming from the best checkpoint of an experiment would do.

    Args:
        path: an experiment or one of its checkpoints.
        trainer: one of ``TRAINERS``; ``comirec-keras-fixed`` is the port with best_metric kept in a variable.
        keras: the Keras version (2 or 3) under which the port would run.
        thorough: read every byte before calling anything whole; else only what tells the verdict.

    Raises: what `open_checkpoint` raises when there is nothing to look at; UsageError for an unknown trainer.
    """
    if trainer not in TRAINERS:
        raise UsageError(f"--with {trainer}: must be one of {', '.join(TRAINERS)}")
    if keras not in (2, 3):
        raise UsageError(f"--keras {keras}: must be 2 or 3")
    found = _forecast(path, trainer, keras, thorough)
    return replace(found, findings=(*found.findings, *pinned_best(path)))


def _forecast(path: str, trainer: str, keras: int, thorough: bool) -> Forecast:
    found = find(path)
    prefix = found.path
    with open_located(found) as checkpoint:
        damage = _damage(checkpoint, thorough)
        if damage:
            return Forecast(
                path,
                prefix,
                trainer,
                "blocked",
                f"blocked: the checkpoint is damaged ({damage[0].message})",
                findings=damage,
            )
        lineage = identify(checkpoint)
        if not isinstance(lineage, ComiRecLineage):
            declared = DeclaredRun.of(checkpoint) if trainer == "trainer" else None
            if declared is not None:
                return _of_declared(path, checkpoint, declared)
            sentence = "blocked: not a checkpoint of a known ComiRec trainer"
            return Forecast(path, prefix, trainer, "blocked", sentence)
        if trainer == "trainer":
            return _with_trainer(path, checkpoint, lineage, thorough)
        return _with_old(path, checkpoint, lineage, trainer, keras)


def _of_declared(path: str, checkpoint: Checkpoint, run: DeclaredRun) -> Forecast:
    """What the run's own trainer would do: ours has no model for it."""
    found = outlook(path, checkpoint, run)
    return Forecast(
        path=path,
        prefix=checkpoint.prefix,
        trainer=f"its own trainer ({run.declaration.id})",
        verdict=found.verdict,
        sentence=found.sentence,
        best_metric=found.best_metric,
        restored=found.names,
        unused=found.unused,
        survives=found.survives,
        latest=found.latest,
        findings=found.findings,
        declared=run,
    )


def _damage(checkpoint: Checkpoint, thorough: bool) -> tuple[Finding, ...]:
    found = checkpoint.verify() if thorough else checkpoint.outline()
    return tuple(finding for finding in found if finding.severity == "damage")


def _with_trainer(path: str, checkpoint: Checkpoint, lineage: ComiRecLineage, thorough: bool) -> Forecast:
    needed = required_variables(lineage.model_type, lineage.variant, lineage.tensors)
    if lineage.step is not None or lineage.id == tf1.ID:
        needed.remove(STEP)  # TF 1 keeps it as powers of Adam's betas
    restored = [name for name in needed if name in lineage.tensors]
    missing = [name for name in needed if name not in lineage.tensors]
    converted = [name for name in restored if lineage.tensors[name].convert]
    best = lineage.best_metric
    latest, findings = _latest(path, thorough)
    findings += _suspicions(path, lineage)
    left = _left(lineage, restored)
    if left:
        why = f"the trainer's {lineage.model_type} has no such variable"
        message = f"{', '.join(left)}: stored, and restored by nothing: {why}"
        findings.append(Finding("stored-not-restored", "note", message, path))
    verdict: Verdict = "safe"
    if missing:
        verdict = "blocked"
        sentence = f"blocked: the checkpoint lacks {missing[0]}, and the trainer refuses to go on from a made-up value"
    elif best.status != "present":
        verdict = "at-risk"
        state = "absent" if best.status == "absent" else "there, but was never set"
        sentence = f"at risk: best_metric is {state}, so that the first evaluation counts as the best"
        findings.append(
            Finding(
                f"best-metric-{best.status}",
                "error",
                sentence,
                path,
                fix=f"ckpt backfill {shlex.quote(path)} --data DIR",
            )
        )
    else:
        step = "an unknown step" if lineage.step is None else f"step {lineage.step}"
        sentence = f"safe: continues from {step}, best {best.value:.6f}"
    return Forecast(
        path=path,
        prefix=checkpoint.prefix,
        trainer="trainer",
        verdict=verdict,
        sentence=sentence,
        lineage=lineage,
        best_metric=best,
        restored=tuple(restored),
        converted=tuple(converted),
        missing=tuple(missing),
        left=left,
        unused=tuple(_unused(checkpoint, lineage, left)),
        survives={
            BEST_METRIC: best.status == "present",
            "patience": "state/trials" in lineage.tensors,
            "optimizer": not any(name.startswith("optimizer/") for name in missing),
        },
        latest=latest,
        findings=tuple(findings),
    )


def _suspicions(path: str, lineage: Lineage) -> Iterator[Finding]:
    """This project's trainer never loses its best and knows which way its metric goes; the others may have kept a worse
    model, or their worst."""
    experiment = Experiment.containing(path)
    if experiment is not None and lineage.id != trainer.ID:
        evidence = collect(experiment)
        stored = lineage.best_metric.value if lineage.best_metric.status == "present" else None
        found = suspect_direction(evidence, lineage.step)
        if found is not None:
            yield found
        elif evidence.best and evidence.best_in(stored=stored, step=lineage.step) == "lost":
            message = (
                f"the log's best, {evidence.best.recall:.6f} at step {evidence.best.step}, is not in this checkpoint: "
                "a resume goes on from a lesser model"
            )
            yield Finding("best-lost", "warning", message, path)


def _left(lineage: Lineage, restored: Iterable[str]) -> tuple[str, ...]:
    """The weights and moments that are stored under known names, and that no variable of the trainer stands for."""
    beside = {*restored, STEP, LEARNING_RATE}
    return tuple(name for name in lineage.tensors if name.startswith(("model/", "optimizer/")) and name not in beside)


def _unused(checkpoint: Checkpoint, lineage: ComiRecLineage, left: Collection[str]) -> Iterator[str]:
    used = {key for name, source in lineage.tensors.items() if name not in left for key in source.keys}
    return (key for key in checkpoint.tensors if key not in used)


def _latest(path: str, thorough: bool) -> tuple[str | None, list[Finding]]:
    """The newest state of this project's trainer when it is whole, and a finding when it is not."""
    experiment = Experiment.containing(path)
    if experiment is None:
        return None, []
    try:
        prefix = experiment.latest_prefix()
        if prefix is None:
            return None, []
        with open_checkpoint(prefix) as checkpoint:
            damage = _damage(checkpoint, thorough)
    except CkptError as error:
        return None, [Finding("latest-unusable", "warning", error.message, error.path)]
    if damage:
        return None, [Finding("latest-unusable", "warning", damage[0].message, damage[0].path, damage[0].key)]
    return prefix, []


# ------------------------------------------------------------------------------------ the old trainers

_KERAS2 = (keras2_slots.ID, keras2_vars.ID)
_OVERWRITES = "the first evaluation WILL overwrite the best model"


def _with_old(path: str, checkpoint: Checkpoint, lineage: ComiRecLineage, name: str, keras: int) -> Forecast:
    weights, optimizer, best, sentence = _old_outcome(checkpoint, lineage, name, keras)
    restored = [n for n in lineage.tensors if (n.startswith("model/") and weights) or _is_moment(n, optimizer)]
    needed = required_variables(lineage.model_type, lineage.variant, lineage.tensors)
    verdict: Verdict = "safe" if weights and optimizer and best else "at-risk"
    finding = Finding("old-trainer-loses", "error", sentence, path, fix=f"trainer train --resume {shlex.quote(path)}")
    return Forecast(
        path=path,
        prefix=checkpoint.prefix,
        trainer=name if name == "comirec-tf1" else f"{name}, Keras {keras}",
        verdict=verdict,
        sentence=sentence,
        lineage=lineage,
        best_metric=lineage.best_metric,
        restored=tuple(restored),
        missing=tuple(n for n in needed if n not in restored),
        left=tuple(n for n in _left(lineage, restored) if n not in needed),
        survives={BEST_METRIC: best, "patience": False, "optimizer": optimizer},
        findings=() if verdict == "safe" else (finding,),
    )


def _is_moment(name: str, optimizer: bool) -> bool:
    return optimizer and name.startswith("optimizer/")


def _old_outcome(
    checkpoint: Checkpoint, lineage: ComiRecLineage, name: str, keras: int
) -> tuple[bool, bool, bool, str]:
    """Whether weights, optimizer and best_metric survive, and the sentence that says it."""
    if name == "comirec-tf1":
        return False, False, False, f"at risk: the original trainer starts from new weights; {_OVERWRITES}"
    if not _in_keras_line(checkpoint.prefix) or lineage.id in (tf1.ID, trainer.ID):
        where = "does not find this checkpoint" if not _in_keras_line(checkpoint.prefix) else "cannot restore it"
        return False, False, False, f"at risk: the Keras port {where} and starts from new weights; {_OVERWRITES}"
    keeps_best = name == "comirec-keras-fixed" and lineage.best_metric.status == "present"
    if keras == 3:
        ending = "best_metric is restored, but no later model reaches it" if keeps_best else _OVERWRITES
        return False, False, keeps_best, f"at risk: under Keras 3 the weights are NOT restored, silently; {ending}"
    if lineage.id not in _KERAS2:
        return False, False, keeps_best, f"at risk: Keras 2 cannot read what Keras 3 wrote; {_OVERWRITES}"
    if keeps_best:
        best = lineage.best_metric.value or 0.0
        return True, True, True, f"safe: continues from step {lineage.step}, best {best:.6f}, patience from 0"
    return True, True, False, f"at risk: the weights are restored, but best_metric starts at 0; {_OVERWRITES}"


def _in_keras_line(prefix: str) -> bool:
    return os.path.basename(os.path.dirname(os.path.abspath(prefix))) == BEST_LINE
