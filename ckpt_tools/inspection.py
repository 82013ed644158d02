"""What a checkpoint holds, and whether it knows its best metric."""

from __future__ import annotations

import fnmatch
import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from ckpt_tools.errors import BusyError, CkptError
from ckpt_tools.experiments import BEST_LINE, LATEST_LINE, Experiment, resolve
from ckpt_tools.findings import Finding
from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.ledger import PENDING, STATE_DIRECTORY
from ckpt_tools.leftovers import leftovers_in, orphans_in
from ckpt_tools.lineages import BestMetric, Lineage, base, identify, trainer
from ckpt_tools.readers import Checkpoint, open_checkpoint
from ckpt_tools.readers.common import damage
from ckpt_tools.steady import steady

if TYPE_CHECKING:
    from ckpt_tools.evidence import Evidence

SCHEMA_VERSION = 1

Group = Literal["model", "optimizer", "state"]

# Names under which public training code keeps its best value, and the values such variables start from.
_BEST_NAMES = (
    "best_metric",
    "best",
    "best_value",
    "best_score",
    "best_model_value",
    "best_val_loss",
    "best_val_acc",
    "best_valid_accuracy",
    "best_ppl",
)
_START_VALUES = (0.0, -1.0, math.inf, -math.inf)
_STEP_NAMES = ("optimizer/iter", "optimizer/_iterations", "optimizer/iterations", "global_step", "step")
_STATE_NAMES = {"save_counter", "global_step", "step", "epoch", *_BEST_NAMES}


@dataclass(frozen=True)
class Stats:
    """Of the finite values; ``nan`` and ``inf`` count the others."""

    min: float | None
    max: float | None
    mean: float | None
    nan: int
    inf: int


@dataclass(frozen=True)
class Tensor:
    """One stored tensor; ``canonical`` is its name in the trainer's layout, ``sha256`` and ``stats`` on request."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    group: Group
    canonical: str | None = None
    sha256: str | None = None
    stats: Stats | None = None

    def to_json(self) -> dict[str, Any]:
        # Not asdict(), which copies deeply: there may be 10^5 of these.
        row: dict[str, Any] = {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "nbytes": self.nbytes,
            "group": self.group,
            "canonical": self.canonical,
        }
        if self.sha256 is not None:
            row["sha256"] = self.sha256
        if self.stats is not None:
            row["stats"] = asdict(self.stats)
        return row


@dataclass(frozen=True)
class Inspection:
    """The answer of ``ckpt inspect``."""

    path: str
    prefix: str
    format: str
    lineage: Lineage | None
    best_metric: BestMetric
    step: int | None
    tensors: tuple[Tensor, ...]
    findings: tuple[Finding, ...]
    experiment: Experiment | None
    evidence: Evidence | None = None

    @property
    def totals(self) -> dict[str, int]:
        return {"tensors": len(self.tensors), "bytes": sum(tensor.nbytes for tensor in self.tensors)}

    def to_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "inspect",
            "path": self.path,
            "format": self.format,
            "prefix": self.prefix,
            "lineage": self.lineage.to_json() if self.lineage else None,
            "best_metric": asdict(self.best_metric),
            "step": self.step,
            "tensors": [tensor.to_json() for tensor in self.tensors],
            "totals": self.totals,
            "findings": [finding.to_json() for finding in self.findings],
        }


@steady
def inspect(path: str, *, digest: bool = False, stats: bool = False, filter: str | None = None) -> Inspection:
    """Open a checkpoint and describe it. What can be read is read; the rest becomes findings.

    Args:
        path: a prefix, ``.index`` or ``.data-*`` file, directory or experiment.
        digest: add the SHA-256 of each tensor's value.
        stats: add minimum, maximum, mean and the number of NaNs of each numeric tensor.
        filter: list only the tensors whose stored or canonical name matches this glob.

    Raises: what `readers.open_checkpoint` raises.
    """
    with open_checkpoint(resolve(path)) as checkpoint:
        findings: list[Finding] = []
        outline = _try(lambda: list(checkpoint.outline()), findings)
        findings += [found for found in outline or () if found.severity != "note"]
        lineage = _try(lambda: identify(checkpoint), findings)
        best = lineage.best_metric if lineage else _try(lambda: _generic_best(checkpoint), findings)
        best = best or BestMetric("absent")
        canonical = {key: name for name, source in (lineage.tensors if lineage else {}).items() for key in source.keys}
        graph = _try(lambda: checkpoint.graph, findings)
        paths = graph.paths if graph else {}
        tensors = []
        for info in checkpoint.tensors.values():
            name = canonical.get(info.name)
            if filter and not any(fnmatch.fnmatchcase(text, filter) for text in (info.name, name or "")):
                continue
            group = _group(name or paths.get(info.name, info.name), info.name)
            tensor = Tensor(info.name, info.dtype, info.shape, info.nbytes, group, name)
            tensors.append(_measure(checkpoint, tensor, digest, stats, findings))
        experiment = Experiment.containing(checkpoint.prefix)
        findings += _advice(path, lineage, best)
        evidence = _evidence(checkpoint.prefix, experiment, lineage, findings)
        findings += _left_behind(path)
        return Inspection(
            path=path,
            prefix=checkpoint.prefix,
            format=checkpoint.format,
            lineage=lineage,
            best_metric=best,
            step=lineage.step if lineage else _try(lambda: _generic_step(checkpoint), findings),
            tensors=tuple(tensors),
            findings=tuple(dict.fromkeys(findings)),
            experiment=experiment,
            evidence=evidence,
        )


def _try(question: Any, findings: list[Finding]) -> Any:
    """The answer, or None with a finding: one unreadable scalar must not hide the rest."""
    try:
        return question()
    except BusyError:
        raise  # The same question will have an answer in a moment.
    except CkptError as error:
        findings.append(damage(error))
        return None


def _measure(checkpoint: Checkpoint, tensor: Tensor, digest: bool, stats: bool, findings: list[Finding]) -> Tensor:
    if not digest and not stats:
        return tensor
    sha256 = _try(lambda: checkpoint.digest(tensor.name), findings) if digest else None
    summary = None
    if stats and tensor.dtype not in ("string", "variant", "resource", "bool"):
        summary = _try(lambda: _stats(checkpoint, tensor.name), findings)
    return Tensor(**{**vars(tensor), "sha256": sha256, "stats": summary})


def _stats(checkpoint: Checkpoint, name: str) -> Stats:
    import numpy as np

    values = checkpoint.read(name)
    if np.iscomplexobj(values):
        values = np.abs(values)
    values = values.astype(np.float64, copy=False)
    nan = np.isnan(values)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Stats(None, None, None, int(nan.sum()), int(values.size - nan.sum()))
    return Stats(
        float(finite.min()),
        float(finite.max()),
        float(finite.mean()),
        int(nan.sum()),
        int(values.size - finite.size - nan.sum()),
    )


def _group(path: str, key: str) -> Group:
    name = path.removesuffix(VALUE_SUFFIX)
    if name.startswith("optimizer/") or ".OPTIMIZER_SLOT" in key or name.startswith(("beta1_power", "beta2_power")):
        return "optimizer"
    if name.rsplit("/", 1)[-1] in ("Adam", "Adam_1", "Momentum", "Adagrad", "RMSProp", "RMSProp_1", "Ftrl", "Ftrl_1"):
        return "optimizer"
    if name.startswith("state/") or name in _STATE_NAMES:
        return "state"
    return "model"


def _find(checkpoint: Checkpoint, names: Iterable[str]) -> tuple[str, str] | None:
    """The first of some names that the checkpoint holds a scalar number for, with its key."""
    for name in names:
        for key in (name + VALUE_SUFFIX, name):
            info = checkpoint.tensors.get(key)
            if info is not None and info.shape == () and info.dtype != "string":
                return name, key
    return None


def _generic_best(checkpoint: Checkpoint) -> BestMetric:
    found = _find(checkpoint, _BEST_NAMES)
    if found is None:
        return BestMetric("absent")
    name, key = found
    value = base.scalar(checkpoint, key)
    status: Literal["unset", "present"] = "unset" if value in _START_VALUES or math.isnan(value) else "present"
    return BestMetric(status, value, key, f"a variable named {name}; what it measures is not recorded")


def _generic_step(checkpoint: Checkpoint) -> int | None:
    found = _find(checkpoint, _STEP_NAMES)
    return int(base.scalar(checkpoint, found[1])) if found else None


def _advice(path: str, lineage: Lineage | None, best: BestMetric) -> Iterable[Finding]:
    if lineage is None or best.status == "present":
        return
    what = "is absent" if best.status == "absent" else "is there, but was never set"
    yield Finding(
        f"best-metric-{best.status}",
        "warning",
        f"best_metric {what}: after a resume the first evaluation counts as the best, whatever it scores",
        path=path,
        fix=f"ckpt backfill {quote(path)} --data DIR",
    )


def _evidence(
    prefix: str, experiment: Experiment | None, lineage: Lineage | None, findings: list[Finding]
) -> Evidence | None:
    """What the run logged, where it may have kept its worst model: this project's trainer knows which way is up."""
    if experiment is None and "recall" in os.path.basename(prefix):
        experiment = Experiment(os.path.dirname(prefix) or ".")
    if experiment is None or (lineage is not None and lineage.id == trainer.ID):
        return None
    from ckpt_tools.evidence import collect, suspect_direction  # not needed for a lone checkpoint

    evidence = collect(experiment)
    if suspect := suspect_direction(evidence, lineage.step if lineage else None):
        findings.append(suspect)
    return evidence


def _left_behind(path: str) -> Iterator[Finding]:
    """What lies in a directory beside its checkpoints: of saves and changes that were killed."""
    fix = f"ckpt repair {quote(path)}"
    for directory in (path, os.path.join(path, BEST_LINE), os.path.join(path, LATEST_LINE)):
        if not os.path.isdir(directory):
            continue
        for left in leftovers_in(directory, time.time()):
            message = "left over by a save that was killed"
            if left.fresh:
                message = "of a save that is under way, or was killed in the last minutes"
            yield Finding("left-over", "note", f"{left.path}: {message}", left.path, fix=fix)
        for orphan in orphans_in(directory):
            message = "data without an index: of a save that was killed, or of a checkpoint that lost it"
            yield Finding("orphan", "note", f"{orphan}: {message}", orphan, fix=fix)
        journal = os.path.join(directory, STATE_DIRECTORY, PENDING)
        if os.path.lexists(journal):
            message = "a change of a checkpoint here was killed: it is brought to an end before the next one"
            yield Finding("unfinished-change", "note", f"{directory}: {message}", journal, fix=fix)


def quote(path: str) -> str:
    """A path as one types it in a shell."""
    import shlex

    return shlex.quote(os.fspath(path))
