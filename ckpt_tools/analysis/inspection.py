"""What a checkpoint holds, and whether it knows its best metric."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ckpt_tools.analysis.pinned import pinned_best
from ckpt_tools.analysis.stability import steady
from ckpt_tools.errors import BusyError, CkptError
from ckpt_tools.findings import Finding
from ckpt_tools.format.filenames import PENDING, STATE_DIRECTORY
from ckpt_tools.format.graph import ObjectGraph
from ckpt_tools.fs import local, paths
from ckpt_tools.lineages import BestMetric, Lineage, identify
from ckpt_tools.lineages.comirec import trainer
from ckpt_tools.lineages.declared.roles import key_of, roles_of
from ckpt_tools.lineages.names import BEST_METRIC
from ckpt_tools.lineages.tensor_names import Group, Role, Roles, bare
from ckpt_tools.lineages.unknown import best_of, step_of, stopping_of
from ckpt_tools.readers import Checkpoint
from ckpt_tools.readers.common import damage
from ckpt_tools.runs.curve import Curve
from ckpt_tools.runs.declared_run import DeclaredRun
from ckpt_tools.runs.experiments import BEST_LINE, LATEST_LINE, Experiment
from ckpt_tools.runs.leftovers import leftovers_in, orphans_in
from ckpt_tools.runs.opening import open_meant

if TYPE_CHECKING:
    from ckpt_tools.graphs.needs import Needs
    from ckpt_tools.runs.logs import Evidence
    from ckpt_tools.runs.metric_history import Chosen
    from ckpt_tools.runs.orbax_run import OrbaxStep

SCHEMA_VERSION = 1
# Values that are looked at together, for statistics.
_PIECE = 1 << 22

OnProgress = Callable[[int, int], None]


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
    """One stored tensor; ``canonical`` is its name in the trainer's layout, ``sha256`` and ``stats`` on request.

    ``full_name`` is the name that its variable was created with, where an object graph tells one that its key does
    not; ``of`` the key of the variable that a slot or an average belongs to.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    group: Group
    canonical: str | None = None
    full_name: str | None = None
    of: str | None = None
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
            "full_name": self.full_name,
            "of": self.of,
        }
        if self.sha256 is not None:
            row["sha256"] = self.sha256
        if self.stats is not None:
            row["stats"] = asdict(self.stats)
        return row


@dataclass(frozen=True)
class Inspection:
    """The answer of ``ckpt inspect``.

    ``optimizers`` are the names of the optimizers that wrote slots, where they can be told; ``stopping`` is what an
    early stopping keeps beside the best, by key; ``keras_version`` what an HDF5 file says of its writer. ``declared``
    is the run as a ``ckpt.toml`` or a preset describes it, where no lineage of ComiRec does. What the run logged is
    ``evidence``, and of one that is declared ``chosen``, the metric that its best is chosen by. ``steps`` are
    all that Orbax kept of a run, with their metrics. ``graph``: what the graph beside it is fed and offers, on request.
    """

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
    optimizers: tuple[str, ...] = ()
    stopping: Mapping[str, int | float | bool] = field(default_factory=dict)
    keras_version: str | None = None
    declared: DeclaredRun | None = None
    steps: tuple[OrbaxStep, ...] = ()
    chosen: Chosen | None = None
    graph: Needs | None = None

    @property
    def curve(self) -> Curve:
        """The evaluations of the run, of all its logs, joined; without points where it is none of ComiRec."""
        return self.evidence.curve if self.evidence is not None else Curve()

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
            "lineage": described.to_json() if (described := self.lineage or self.declared) else None,
            BEST_METRIC: asdict(self.best_metric),
            "step": self.step,
            "optimizers": list(self.optimizers),
            "stopping": dict(self.stopping),
            "keras_version": self.keras_version,
            **({"steps": [step.to_json() for step in self.steps]} if self.steps else {}),
            "tensors": [tensor.to_json() for tensor in self.tensors],
            "totals": self.totals,
            "history": self._history_json(),
            **({"graph": self.graph.to_json()} if self.graph is not None else {}),
            "findings": [finding.to_json() for finding in self.findings],
        }

    def _history_json(self) -> dict[str, Any] | None:
        if self.chosen is not None:
            return self.chosen.to_json()
        return {"metric": "recall", "mode": "max", **self.curve.to_json()} if self.curve.points else None


@steady
def inspect(
    path: str,
    *,
    digest: bool = False,
    stats: bool = False,
    filter: str | None = None,
    graph: bool = False,
    progress: OnProgress | None = None,
) -> Inspection:
    """Open a checkpoint and describe it. What can be read is read; the rest becomes findings.

    Args:
        path: a prefix, ``.index`` or ``.data-*`` file, directory or experiment.
        digest: add the SHA-256 of each tensor's value.
        stats: add minimum, maximum, mean and the number of NaNs of each numeric tensor.
        filter: list only the tensors whose stored, canonical or full name matches this glob.
        graph: add what the graph beside it (``PREFIX.meta``) is fed and offers.
        progress: told the bytes read for ``digest`` and ``stats``, and those that there are.

    Raises: what `readers.open_checkpoint` raises; with ``graph`` what `read_run_graph` raises.
    """
    with open_meant(path) as checkpoint:
        needs = _needs_of(checkpoint) if graph else None
        found = describe(checkpoint, path, digest=digest, stats=stats, filter=filter, progress=progress)
        return found if needs is None else replace(found, graph=needs)


def _needs_of(checkpoint: Checkpoint) -> Needs:
    # What reads graphs takes numpy and some milliseconds, which few inspections need.
    from ckpt_tools.graphs.needs import needs_of
    from ckpt_tools.runs.run_graph import read_run_graph

    return needs_of(read_run_graph(checkpoint).graph)


@steady
def inspect_with_graph(path: str) -> tuple[Inspection, ObjectGraph | None]:
    """The same, and the object graph; None for a format without one.

    Raises: what `readers.open_checkpoint` and `Checkpoint.graph` raise.
    """
    with open_meant(path) as checkpoint:
        return describe(checkpoint, path), checkpoint.graph


def describe(
    checkpoint: Checkpoint,
    path: str,
    *,
    digest: bool = False,
    stats: bool = False,
    filter: str | None = None,
    progress: OnProgress | None = None,
) -> Inspection:
    """The same of a checkpoint that is open; ``path`` is what it was opened by."""
    findings: list[Finding] = []
    outline = _try(lambda: list(checkpoint.outline()), findings)
    findings += [found for found in outline or () if found.severity != "note"]
    lineage = _try(lambda: identify(checkpoint), findings)
    graph = _try(lambda: checkpoint.graph, findings)
    declared = None if lineage else declared_or_told(checkpoint, findings)
    roles = roles_of(checkpoint.tensors, graph, declared.declaration if declared else None)
    steps, best = _steps(checkpoint, findings), None
    if steps:
        from ckpt_tools.runs.orbax_run import best_metric

        best = best_metric(steps)
    best = best or _best(checkpoint, lineage, roles, declared, findings)
    stopping = {} if lineage else _try(lambda: stopping_of(checkpoint, roles), findings) or {}
    canonical = {key: name for name, source in (lineage.tensors if lineage else {}).items() for key in source.keys}
    tensors: list[Tensor] = []
    for info in checkpoint.tensors.values():
        name = canonical.get(info.name)
        if filter and not any(
            fnmatch.fnmatchcase(text, filter) for text in (info.name, name or "", roles.full_names.get(info.name, ""))
        ):
            continue
        role, full_name = _group(name, roles.roles[info.name]), roles.full_names.get(info.name)
        full_name = None if full_name == bare(info.name) else full_name
        tensors.append(Tensor(info.name, info.dtype, info.shape, info.nbytes, role.group, name, full_name, role.of))
    # The best of a Keras file is kept beside its tensors: who asks for it is shown it.
    beside = checkpoint.best.key if checkpoint.best is not None else None
    if filter and not tensors and checkpoint.tensors and not (beside and fnmatch.fnmatchcase(beside, filter)):
        findings.append(_nothing_shown(path, filter, list(checkpoint.tensors)))
    if digest or stats:
        partial = partial_tensors(findings)
        told = _Told(progress, (digest + stats) * sum(each.nbytes for each in tensors if each.name not in partial))
        tensors = [
            tensor if tensor.name in partial else _measure(checkpoint, tensor, digest, stats, findings, told)
            for tensor in tensors
        ]
    experiment = Experiment.containing(checkpoint.prefix)
    findings += _advice(path, lineage, best)
    findings += _stopped(checkpoint.prefix, stopping)
    evidence = _evidence(checkpoint.prefix, experiment, lineage, findings)
    findings += pinned_best(path)
    findings += _left_behind(path)
    return Inspection(
        path=path,
        prefix=checkpoint.prefix,
        format=checkpoint.format,
        lineage=lineage,
        best_metric=best,
        step=lineage.step if lineage else _step(checkpoint, roles, steps, findings),
        tensors=tuple(tensors),
        findings=tuple(dict.fromkeys(findings)),
        experiment=experiment,
        evidence=evidence,
        optimizers=roles.optimizers,
        stopping=stopping,
        keras_version=getattr(checkpoint, "keras_version", None),
        declared=declared,
        steps=steps,
        chosen=_chosen(checkpoint.prefix, declared),
    )


def _nothing_shown(path: str, filter: str, names: Sequence[str]) -> Finding:
    from ckpt_tools.analysis.messages.nearest import find_nearest  # which an inspection seldom needs

    message, fix = f"none of the {len(names)} tensors has a name that matches {filter}", None
    if near := find_nearest(filter.strip("*"), names).names:
        message += f"; the nearest is {near[0]}" if len(near) == 1 else f"; the nearest are {', '.join(near)}"
        fix = f"ckpt inspect {shlex.quote(path)} --filter {shlex.quote(_glob(near[0]))}"
    return Finding("nothing-shown", "note", message, fix=fix)


def _glob(name: str) -> str:
    """A glob that matches this name alone."""
    return re.sub(r"[*?\[]", r"[\g<0>]", name)


def partial_tensors(findings: Iterable[Finding]) -> frozenset[str]:
    """The tensors that have no value as a whole, here: the rest of a sharded save is in other files, and not lost."""
    return frozenset(finding.key for finding in findings if finding.id == "partial" and finding.key is not None)


def _steps(checkpoint: Checkpoint, findings: list[Finding]) -> tuple[OrbaxStep, ...]:
    """The steps of the run that Orbax saved, where it did."""
    if checkpoint.format != "orbax":
        return ()
    from ckpt_tools.runs.orbax_run import steps_beside  # which no other format needs

    return _try(lambda: steps_beside(checkpoint), findings) or ()


def _step(checkpoint: Checkpoint, roles: Roles, steps: Iterable[OrbaxStep], findings: list[Finding]) -> int | None:
    """The step as it is stored, or as the directory is called."""
    stored: int | None = _try(lambda: step_of(checkpoint, roles), findings)
    if stored is None and steps:
        from ckpt_tools.runs.orbax_run import step_directory

        place = step_directory(checkpoint.prefix)
        return next((step.step for step in steps if step.path == place), None)
    return stored


def declared_or_told(checkpoint: Checkpoint, findings: list[Finding]) -> DeclaredRun | None:
    """The run as it is declared; what is wrong with a ``ckpt.toml`` is a finding, for the checkpoint is not."""
    try:
        return DeclaredRun.of(checkpoint)
    except CkptError as error:
        findings.append(Finding("declaration", "warning", f"{error}: not used", error.path, fix=error.hint))
        return None


def _try(question: Any, findings: list[Finding]) -> Any:
    """The answer, or None with a finding: one unreadable scalar must not hide the rest."""
    try:
        return question()
    except BusyError:
        raise  # The same question will have an answer in a moment.
    except CkptError as error:
        findings.append(damage(error))
        return None


class _Told:
    """Who is told how many bytes of all have been looked at."""

    def __init__(self, progress: OnProgress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def more(self, nbytes: int) -> None:
        self._done += nbytes
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)


def _measure(
    checkpoint: Checkpoint, tensor: Tensor, digest: bool, stats: bool, findings: list[Finding], told: _Told
) -> Tensor:
    sha256 = summary = None
    if digest:
        sha256 = _try(lambda: checkpoint.digest(tensor.name), findings)
        told.more(tensor.nbytes)
    if stats and tensor.dtype not in ("string", "variant", "resource", "bool"):
        summary = _try(lambda: _stats(checkpoint, tensor.name, told), findings)
    return replace(tensor, sha256=sha256, stats=summary)


def _stats(checkpoint: Checkpoint, name: str, told: _Told) -> Stats:
    """In pieces: as float64 all the values of a large table would take several times its bytes of memory."""
    import numpy as np

    values = checkpoint.read(name).reshape(-1)
    lows, highs, total, count, nan = [], [], 0.0, 0, 0
    for start in range(0, values.size, _PIECE):
        stored = values[start : start + _PIECE]
        piece = (np.abs(stored) if np.iscomplexobj(stored) else stored).astype(np.float64, copy=False)
        nan += int(np.isnan(piece).sum())
        finite = piece[np.isfinite(piece)]
        if finite.size:
            lows.append(float(finite.min()))
            highs.append(float(finite.max()))
            total += float(finite.sum())
            count += finite.size
        told.more(stored.nbytes)
    odd = values.size - count - nan
    return Stats(min(lows), max(highs), total / count, nan, odd) if count else Stats(None, None, None, nan, odd)


def _group(canonical: str | None, role: Role) -> Role:
    """The trainer's own layout tells the group by the first part of a name."""
    if canonical is None:
        return role
    first = canonical.partition("/")[0]
    group: Group = "optimizer" if first == "optimizer" else "model" if first == "model" else "state"
    return replace(role, group=group)


def _best(
    checkpoint: Checkpoint,
    lineage: Lineage | None,
    roles: Roles,
    declared: DeclaredRun | None,
    findings: list[Finding],
) -> BestMetric:
    """The best metric as its lineage keeps it, or as names tell it; in both cases also what else is called a best."""
    key = key_of(declared.declaration.variables.best, checkpoint.tensors) if declared else None
    told: BestMetric | None = _try(lambda: best_of(checkpoint, roles, key), findings)
    if lineage is None:
        return told or BestMetric("absent")
    return replace(lineage.best_metric, others=told.others if told else ())


def _stopped(prefix: str, stopping: Mapping[str, int | float | bool]) -> Iterator[Finding]:
    """Estimator's hooks, and others after them, store that training was stopped early."""
    for key, value in stopping.items():
        if value is True:
            message = (
                f"{bare(key)} is true: a run that was stopped early; the program that stored it stops again at once"
            )
            yield Finding("stopped-early", "note", message, prefix, key)


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
    """What the run logged, and a finding where it may have kept its worst model."""
    if experiment is None and "recall" in os.path.basename(prefix):
        experiment = Experiment(local.directory_of(prefix))
    if experiment is None:
        return None
    from ckpt_tools.runs.logs import collect, suspect_direction  # not needed for a lone checkpoint

    evidence = collect(experiment)
    if lineage is not None and lineage.id == trainer.ID:
        return evidence  # this project's trainer knows which way is up
    if suspect := suspect_direction(evidence, lineage.step if lineage else None):
        findings.append(suspect)
    return evidence


def _chosen(prefix: str, declared: DeclaredRun | None) -> Chosen | None:
    """The metric of a declared run with its logged values."""
    if declared is None:
        return None
    from ckpt_tools.runs.declared_history import logged_best  # nor this

    return logged_best(prefix, declared)


def _left_behind(path: str) -> Iterator[Finding]:
    """What lies in a directory beside its checkpoints: of saves and changes that were killed."""
    if paths.is_url(path):
        return
    fix = f"ckpt repair {quote(path)}"
    for directory in (path, os.path.join(path, BEST_LINE), os.path.join(path, LATEST_LINE)):
        if not local.is_directory(directory, follow=True):
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
        if local.is_there(journal):
            message = "a change of a checkpoint here was killed: it is brought to an end before the next one"
            yield Finding("unfinished-change", "note", f"{directory}: {message}", journal, fix=fix)


def quote(path: str) -> str:
    """A path as one types it in a shell."""
    import shlex

    return shlex.quote(os.fspath(path))
