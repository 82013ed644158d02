"""Whether the best checkpoint of a run is better than the others that were kept, or only luckier."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ckpt_tools.analysis.bootstrap import PairedDifference, paired_difference
from ckpt_tools.analysis.shelf import Holding, survey
from ckpt_tools.errors import CkptError, MismatchError, NotFoundError, UnsupportedError
from ckpt_tools.findings import Finding
from ckpt_tools.fs import local
from ckpt_tools.lineages import Lineage
from ckpt_tools.operations.evaluators import UserMeasurement, find_user_evaluator
from ckpt_tools.runs.experiments import Experiment, resolve
from ckpt_tools.runs.opening import open_identified

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Rival:
    """Another checkpoint of the run, and the best one's lead over it."""

    prefix: str
    step: int | None
    value: float
    lead: PairedDifference
    same: bool

    def to_json(self) -> dict[str, Any]:
        return {"prefix": self.prefix, "step": self.step, "value": self.value, "same": self.same, **self.lead.to_json()}


@dataclass(frozen=True)
class Significance:
    """The checkpoint that was asked about against each of the others."""

    prefix: str
    step: int | None
    measured: UserMeasurement
    rivals: tuple[Rival, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def sentences(self) -> Iterator[str]:
        """What was found, one sentence for each rival."""
        for rival in self.rivals:
            steps = (self.step, rival.step)
            told = None not in steps and self.step != rival.step
            name, other = (
                f"step {step:,}" if told else prefix
                for prefix, step in ((self.prefix, self.step), (rival.prefix, rival.step))
            )
            lead = rival.lead
            if rival.same:
                yield f"{name} and {other} score the same for every user"
                continue
            verb = "leads" if lead.mean >= 0 else "trails"
            margin = (lead.high - lead.low) / 2
            words = "within noise" if lead.within_noise else "more than noise"
            yield f"{name} {verb} {other} by {abs(lead.mean):.4f} ± {margin:.4f}: {words}"

    def to_json(self) -> dict[str, Any]:
        return {
            "prefix": self.prefix,
            "step": self.step,
            "metric": self.measured.metric,
            "top_n": self.measured.top_n,
            "split": self.measured.split,
            "digest": self.measured.digest,
            "users": len(self.measured.values),
            "value": self.measured.value,
            "rivals": [rival.to_json() for rival in self.rivals],
            "sentences": list(self.sentences),
        }


def compare_with_rivals(
    path: str, *, data_dir: str, split: str = "valid", top_n: int = 50, progress: OnProgress | None = None
) -> Significance:
    """Measure a checkpoint, and the others of its run, user by user, and compare them.

    Raises:
        NotFoundError: there is no other checkpoint of the run, or no data.
        UnsupportedError: nothing installed can measure it user by user.
        MismatchError: the checkpoints do not fit the data.
    """
    prefix = os.path.normpath(resolve(path))
    rivals = _others(prefix)
    if not rivals:
        raise NotFoundError(
            "no other checkpoint of this run was kept: there is nothing to compare it with", path=prefix
        )
    measured, step = _measured(prefix, data_dir, split, top_n)
    found, findings = [], []
    for done, holding in enumerate(rivals, start=1):
        try:
            other, other_step = _measured(holding.path, data_dir, split, top_n)
            if other.digest != measured.digest or len(other.values) != len(measured.values):
                raise MismatchError("was measured on other users", path=holding.path)
        except (MismatchError, UnsupportedError, NotFoundError) as error:
            findings.append(Finding("not-compared", "warning", error.message, holding.path))
            continue
        except CkptError as error:
            findings.append(Finding.of(error))
            continue
        lead = paired_difference(measured.values, other.values)
        same = bool((measured.values == other.values).all())
        found.append(Rival(holding.path, other_step, other.value, lead, same))
        if progress is not None:
            progress(done, len(rivals))
    return Significance(prefix, step, measured, tuple(found), tuple(findings))


def _measured(prefix: str, data_dir: str, split: str, top_n: int) -> tuple[UserMeasurement, int | None]:
    with open_identified(prefix, Lineage) as (checkpoint, lineage):
        evaluator = find_user_evaluator(lineage)
        found = evaluator.measure_users(checkpoint, lineage, data_dir=data_dir, split=split, top_n=top_n)
        return found, lineage.step


def _others(prefix: str) -> list[Holding]:
    """The other checkpoints of the same run; of what is in no experiment, those of the same line."""
    experiment = Experiment.containing(prefix)
    shelf = survey(experiment.path if experiment else local.directory_of(prefix))
    own = next((holding.line for holding in shelf.holdings if os.path.normpath(holding.path) == prefix), None)
    return [
        holding
        for holding in shelf.holdings
        if os.path.normpath(holding.path) != prefix and (experiment is not None or holding.line == own)
    ]
