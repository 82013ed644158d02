"""All that a page about a run or a shelf of runs says: what is stored, logged, and distributed how."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ckpt_tools.analysis.distributions import FLOATS, Histogram, NormBand, histogram, norm_bands
from ckpt_tools.analysis.inspection import Inspection, Tensor, describe, partial_tensors
from ckpt_tools.analysis.resume_forecast import Forecast, forecast
from ckpt_tools.analysis.run_audit import Audit, audit
from ckpt_tools.analysis.stability import steady
from ckpt_tools.analysis.timeline import Event, events_of
from ckpt_tools.analysis.verification import Verification, verify
from ckpt_tools.errors import CkptError, CorruptError
from ckpt_tools.findings import Finding
from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.fs import local, paths
from ckpt_tools.lineages.comirec.models import ITEM_EMBEDDING
from ckpt_tools.readers import Checkpoint
from ckpt_tools.readers.common import damage
from ckpt_tools.runs.curve import Curve
from ckpt_tools.runs.discovery import Discovery
from ckpt_tools.runs.experiments import Experiment, is_experiment
from ckpt_tools.runs.logs import Evidence, collect
from ckpt_tools.runs.metric_history import Chosen
from ckpt_tools.runs.opening import open_meant

if TYPE_CHECKING:
    from ckpt_tools.analysis.diagnosis import Diagnosis

OnProgress = Callable[[int, int], None]

_MAX_TABLE_BYTES = 2 << 30


@dataclass(frozen=True)
class RunContents:
    """Everything about one run. ``inspection`` is None for a checkpoint that is too damaged to be opened; ``declared``
    the metric that the logs of a run of another trainer tell; ``cause`` why it is damaged."""

    path: str
    inspection: Inspection | None
    outlook: Forecast | None
    evidence: Evidence
    histograms: tuple[Histogram, ...]
    norms: tuple[NormBand, ...]
    findings: tuple[Finding, ...]
    events: tuple[Event, ...] = ()
    declared: Chosen | None = None
    cause: Diagnosis | None = None

    @property
    def curve(self) -> Curve:
        return self.evidence.curve

    @property
    def name(self) -> str:
        """What the run is called: its folder or file."""
        return os.path.basename(os.path.normpath(self.path)) or self.path

    @property
    def is_damaged(self) -> bool:
        return any(finding.severity == "damage" for finding in self.findings)


@dataclass(frozen=True)
class ShelfContents:
    """All runs below a directory; ``pages`` are the pages of single runs by their paths, where there are some."""

    path: str
    audit: Audit
    pages: Mapping[str, str] = field(default_factory=dict)


def shelf_contents(root: str) -> ShelfContents:
    """Raises NotFoundError when the root is no directory."""
    return ShelfContents(root, audit(root))


def run_contents(path: str, progress: OnProgress | None = None) -> RunContents:
    """Everything about one run; every byte is read. What is damaged is a finding.

    Raises what `verify` raises: NotFoundError when there is no checkpoint, UnsupportedError and others.
    """
    checked = verify(path, progress=progress)
    try:
        with open_meant(path) as checkpoint:
            return _of_checkpoint(checkpoint, path, checked)
    except CorruptError as error:
        return _beyond_reading(path, checked, damage(error))


def _of_checkpoint(checkpoint: Checkpoint, path: str, checked: Verification) -> RunContents:
    found = describe(checkpoint, path)
    findings = list(found.findings)
    outlook = None
    if found.lineage is not None or found.declared is not None:
        outlook = forecast(path)
        # Advice on the missing best is in both; the forecast says more.
        known = {finding.id for finding in outlook.findings}
        findings = [*map(_as_told, outlook.findings), *(finding for finding in findings if finding.id not in known)]
    evidence = found.evidence or Evidence()
    broken = {*checked.damaged}
    findings = [finding for finding in findings if not (finding.severity == "damage" and finding.key in broken)]
    findings += [*checked.findings, *evidence.findings]
    histograms, norms, odd = _weights(checkpoint, found.tensors, broken | partial_tensors(findings))
    by = found.lineage.producer if found.lineage else found.declared.declaration.title if found.declared else None
    events, unread = events_of(found.prefix, evidence.curve, by)
    return RunContents(
        path=path,
        inspection=found,
        outlook=outlook,
        evidence=evidence,
        histograms=histograms,
        norms=norms,
        findings=tuple(dict.fromkeys((*findings, *odd, *unread))),
        events=tuple(events),
        declared=found.chosen,
        cause=checked.diagnosis,
    )


def _beyond_reading(path: str, checked: Verification, error: Finding) -> RunContents:
    """Of a checkpoint that cannot be opened: what is wrong with it, and what its logs and its ledger tell."""
    experiment = Experiment.containing(path)
    evidence = collect(experiment) if experiment else Evidence()
    events, unread = events_of(checked.prefix, evidence.curve, None)
    findings = (*(checked.findings or (error,)), *evidence.findings, *unread)
    distinct = tuple(dict.fromkeys(findings))
    return RunContents(path, None, None, evidence, (), (), distinct, tuple(events), cause=checked.diagnosis)


def _weights(
    checkpoint: Checkpoint, tensors: Iterable[Tensor], broken: Container[str]
) -> tuple[tuple[Histogram, ...], tuple[NormBand, ...], list[Finding]]:
    """The distributions of the model's tensors, and what cannot be read of them."""
    histograms: list[Histogram] = []
    norms: tuple[NormBand, ...] = ()
    findings: list[Finding] = []
    for tensor in tensors:
        if tensor.group != "model" or tensor.dtype not in FLOATS or not tensor.nbytes or tensor.name in broken:
            continue
        name = tensor.canonical or tensor.name.removesuffix(VALUE_SUFFIX)
        try:
            histograms.append(replace(histogram(checkpoint, checkpoint.tensors[tensor.name]), name=name))
            if tensor.canonical == ITEM_EMBEDDING and tensor.nbytes <= _MAX_TABLE_BYTES:
                norms = norm_bands(checkpoint.read(tensor.name))
        except CkptError as error:
            findings.append(damage(error))
    return tuple(histograms), norms, findings


def _as_told(finding: Finding) -> Finding:
    """At risk fails a check, but is only a warning to a reader."""
    return replace(finding, severity="warning") if finding.id.startswith("best-metric-") else finding


# ------------------------------------------------------------------------------------ which of the two a path means


def contents(path: str, progress: OnProgress | None = None) -> RunContents | ShelfContents:
    """What a page about this path says: of one run, or of a directory with several (or none).

    ``progress`` is told the bytes read of one run, and those that there are. Raises what `verify` raises for one run.
    """
    return _only_run(path, progress) or shelf_contents(path)


@steady
def _only_run(path: str, progress: OnProgress | None) -> RunContents | None:
    """What is said of the run that a path means; None for a directory with several, or with none."""
    if paths.is_url(path) or not local.is_directory(path, follow=True) or is_experiment(path):
        return run_contents(path, progress)
    runs = [run for _, run in zip(range(2), Discovery(path).runs(), strict=False)]
    return run_contents(runs[0].path, progress) if len(runs) == 1 and runs[0].prefix else None
