"""Where the values in a checkpoint come from: the changes that were made of it, and what its run logged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ckpt_tools.analysis.stability import steady
from ckpt_tools.runs import ledger
from ckpt_tools.runs.experiments import Experiment, resolve
from ckpt_tools.runs.ledger import RewriteEntry
from ckpt_tools.runs.logs import Evidence, collect


@dataclass(frozen=True)
class Provenance:
    """The answer of ``ckpt why``: ``changes`` in the order in which they were made, ``evidence`` of all logs."""

    prefix: str
    changes: tuple[RewriteEntry, ...]
    evidence: Evidence

    def to_json(self) -> dict[str, Any]:
        return {
            "prefix": self.prefix,
            "changes": [entry.to_json() for entry in self.changes],
            "history": self.evidence.curve.to_json(),
            "findings": [],
        }


@steady
def trace(path: str) -> Provenance:
    """Read the ledger and the logs of the checkpoint that is meant.

    Raises what `ckpt_tools.runs.experiments.resolve` and `ckpt_tools.runs.ledger.rewrites` raise.
    """
    prefix = resolve(path)
    experiment = Experiment.containing(prefix)
    return Provenance(prefix, tuple(ledger.rewrites(prefix)), collect(experiment) if experiment else Evidence())
