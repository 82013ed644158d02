"""Every run below a directory, one row each: what it is, whether it is whole, what it is worth, what could go.

Nothing is changed. A run that cannot be opened is a row that says why.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from ckpt_tools.analysis.inspection import Inspection, inspect
from ckpt_tools.analysis.mending import Mending, Wanting, most_mending
from ckpt_tools.analysis.pinned import lost_to_pin, pinned_best
from ckpt_tools.analysis.resume_forecast import Verdict, forecast
from ckpt_tools.analysis.selection import matcher, ordered
from ckpt_tools.analysis.stability import PAUSES, let_rest, steady
from ckpt_tools.errors import BusyError, CkptError, NotFoundError, StorageError, UnsupportedError
from ckpt_tools.findings import Finding, Severity
from ckpt_tools.format.filenames import KERAS_MAPS, index_name, is_data
from ckpt_tools.fs import local, paths
from ckpt_tools.fs.witness import Witness, watching
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.readers.saved_model import VARIABLES, is_saved_model
from ckpt_tools.runs.curve import Curve
from ckpt_tools.runs.declared_history import value_declared
from ckpt_tools.runs.declared_run import DeclaredRun
from ckpt_tools.runs.discovery import Discovery, Kind, Run
from ckpt_tools.runs.experiments import Experiment, data_directory
from ckpt_tools.runs.logs import Best, Evidence, collect

# ``missing``: there is no checkpoint. ``unsupported``: whole or not, this version does not read it. ``unreadable``:
# whole or not, this user or this machine cannot read it now.
Health = Literal["whole", "damaged", "missing", "unsupported", "unreadable"]
# Whether the run still holds the best model that its log knows of.

_MAX_INDEX_BYTES = 1 << 30
_CHUNK = 1 << 22
_DAY = 86400.0


@dataclass(frozen=True)
class Row:
    """One run.

    ``path`` is relative to the root, ``prefix`` and ``location`` can be opened. ``best_stored`` is the value in the
    checkpoint, ``best_logged`` the one in its logs. ``age_days`` counts from its newest file. ``digest`` is the SHA-256
    of the index, which holds the checksum of every tensor, or (when every byte is read) of a single file: equal digests
    are ``duplicates``. ``safe_to_delete`` says which run holds all that this one does; None when it may be the only
    holder of a best. ``pinned`` is the pin of a guard that holds the best of the run, when the run itself does not any
    more. ``curve`` is the history that its logs tell, ``has_data`` whether its data lies where a backfill looks for it.
    """

    path: str
    kind: Kind
    format: str | None = None
    lineage: str | None = None
    model: str | None = None
    step: int | None = None
    best_stored: float | None = None
    best_logged: float | None = None
    best: Best = "unknown"
    health: Health = "whole"
    problem: str | None = None
    verdict: Verdict | None = None
    sentence: str | None = None
    nbytes: int = 0
    age_days: float | None = None
    orphans: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    safe_to_delete: str | None = None
    digest: str | None = None
    location: str = ""
    prefix: str | None = None
    fix: str | None = None
    pinned: str | None = None
    curve: Curve = field(default_factory=Curve, compare=False)
    has_data: bool = field(default=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        row = {name: getattr(self, name) for name in COLUMNS}
        lists = {"orphans": list(self.orphans), "duplicates": list(self.duplicates)}
        return {**row, **lists, "recalls": self.curve.recalls, "resumes": list(self.curve.resumes)}


@dataclass(frozen=True)
class Audit:
    """The answer of ``ckpt audit``. ``orphans`` lie where no run is; those beside a run are in its row."""

    root: str
    rows: tuple[Row, ...]
    orphans: tuple[str, ...]
    findings: tuple[Finding, ...]
    verified: bool

    @property
    def totals(self) -> dict[str, Any]:
        return {
            "runs": len(self.rows),
            "bytes": sum(row.nbytes for row in self.rows),
            "health": dict(Counter(row.health for row in self.rows)),
            "verdict": dict(Counter(row.verdict for row in self.rows if row.verdict)),
            "best": dict(Counter(row.best for row in self.rows)),
            "orphans": len(self.orphans) + sum(len(row.orphans) for row in self.rows),
            "safe_to_delete": sum(row.safe_to_delete is not None for row in self.rows),
        }

    @property
    def next(self) -> Mending | None:
        """The one command that mends most of what was found."""
        wanting = [Wanting(row.location, row.fix, row.has_data) for row in self.rows if row.fix]
        return most_mending(wanting, self.root)

    def to_json(self) -> dict[str, Any]:
        return {
            "verified": self.verified,
            "runs": [row.to_json() for row in self.rows],
            "totals": self.totals,
            "orphans": list(self.orphans),
            "next": self.next.command if self.next else None,
            "findings": [finding.to_json() for finding in self.findings],
        }


# What rows are chosen and ordered by; a curve is neither more nor less than another.
COLUMNS = tuple(each.name for each in fields(Row) if each.compare)


def selector(expressions: Iterable[str] = (), sort: str | None = None) -> Callable[[Audit], Audit]:
    """What ``--filter`` and ``--sort`` make of an audit: fewer rows, their findings, another order.

    Raises UsageError for a column that there is not.
    """
    chosen = matcher(expressions, COLUMNS)
    if sort is not None:
        ordered([], sort, COLUMNS)

    def select(found: Audit) -> Audit:
        kept = [row for row in found.rows if chosen(row.to_json())]
        left_out = {row.location for row in found.rows} - {row.location for row in kept}
        if sort is not None:
            kept = [kept[number] for number in ordered([row.to_json() for row in kept], sort, COLUMNS)]
        findings = tuple(finding for finding in found.findings if finding.path not in left_out)
        return replace(found, rows=tuple(kept), findings=findings)

    return select


def audit(root: str, *, verify: bool = False, seen: Callable[[Row], None] | None = None) -> Audit:
    """Look at every run below a directory.

    Args:
        root: a directory, at any height above the runs.
        verify: read every byte, not only the indexes and the sizes of the files.
        seen: told each row as soon as it is known; duplicates are known only in the end.

    Raises NotFoundError when the root is no directory; whatever is wrong below it is a row or a finding.
    """
    discovery, described = _steadily_described(root, verify, seen or (lambda _: None))
    rows = _expendable(described, verified=verify)
    told = {row.location for row in rows if row.health == "unreadable"}
    problems = [error for error in discovery.problems if error.path not in told and not _holder(error.path or "", told)]
    findings = [Finding(e.id, "warning", e.message, e.path, fix=e.hint) for e in problems]
    findings += map(_not_followed, discovery.outside)
    findings += [finding for row in rows for finding in _findings(row)]
    if not rows:
        message = "no run here: looked for experiments, checkpoints, SavedModels, .h5 and .keras files"
        findings.append(Finding("no-runs", "warning", message, root))
    orphans = tuple(paths.relative(path, root) for path in discovery.orphans)
    return Audit(root, tuple(rows), orphans, tuple(findings), verify)


def _steadily_described(
    root: str, verify: bool, seen: Callable[[Row], None]
) -> tuple[Discovery, list[tuple[Run, Row]]]:
    """Every run with its row. One that seems damaged or gone is believed when nothing changed after all were looked at:
    all of them wait together, and only what did change is looked at again."""
    known: dict[Run, Row] = {}
    for _ in PAUSES:
        discovery = Discovery(root)
        doubted: dict[Run, Witness] = {}
        described: list[tuple[Run, Row]] = []
        walk = Witness()
        for run in _watched(discovery.runs(), walk):
            if run not in known:
                with paths.one_look(), watching() as looked:
                    known[run] = _describe(run, root, verify=verify)
                if looked.doubted or _is_doubtful(known[run]):
                    doubted[run] = looked
                seen(known[run])
            described.append((run, known[run]))
        if not doubted:
            return discovery, described
        let_rest()
        changed = walk.changes()
        moved = [run for run, looked in doubted.items() if looked.changed() or changed(run.path)]
        if not moved:
            return discovery, described
        for run in moved:
            del known[run]
    busy = BusyError("is being written again and again", hint="run the same command again when the trainer rests")
    return discovery, [(run, row if run in known else _hopeless(row, busy, "unreadable")) for run, row in described]


def _watched(runs: Iterator[Run], walk: Witness) -> Iterator[Run]:
    while True:
        with watching(walk):
            run = next(runs, None)
        if run is None:
            return
        yield run


def _is_doubtful(row: Row) -> bool:
    """Whether a save that is under way may be behind it."""
    return row.problem is not None or bool(row.orphans)


def _describe(run: Run, root: str, *, verify: bool = False) -> Row:
    row = Row(
        path=_relative(run.path, root),
        kind=run.kind,
        nbytes=run.nbytes,
        age_days=max(0.0, time.time() - run.modified) / _DAY if run.modified else None,
        orphans=tuple(paths.relative(path, root) for path in run.orphans),
        location=run.path,
        prefix=run.prefix,
    )
    # Only an experiment's best checkpoint is what its logs are about.
    experiment = Experiment(run.path) if run.kind == "experiment" else None
    evidence = collect(experiment) if experiment else Evidence()
    logged = evidence.best
    row = replace(row, best_logged=logged.recall if logged else None, curve=evidence.curve)
    if run.prefix is None:
        error = run.problem or NotFoundError("there is no checkpoint", path=run.path)
        best: Best = "lost" if logged and isinstance(error, NotFoundError) else "unknown"
        health: Health = "missing" if isinstance(error, NotFoundError) else _health(error)
        return _with_pin(replace(_hopeless(row, error, health), best=best))
    try:
        row = _opened(row, run, verify, evidence)
    except CkptError as error:
        row = _hopeless(row, error, "missing" if _is_gone(run.prefix, error) else _health(error))
    if run.problem is not None:
        row = _hopeless(row, run.problem, _health(run.problem), only_named_wrongly=run.prefix is not None)
    return _with_pin(row)


def _with_pin(row: Row) -> Row:
    pin = lost_to_pin(row.location)
    return row if pin is None else replace(row, pinned=pin.path, best="lost")


def _relative(path: str, root: str) -> str:
    """The way to a run; that of a checkpoint without a name ends in a slash, as its prefix does."""
    found = paths.relative(path, root)
    return os.path.join(found, "") if path.endswith(os.sep) else found


def _is_gone(prefix: str, error: CkptError) -> bool:
    """Whether nothing is left of what was there a moment ago, as when its trainer made room for the next."""
    with contextlib.suppress(CkptError):
        return isinstance(error, NotFoundError) and not any(map(paths.has_file, (prefix, index_name(prefix))))
    return False


def describe(run: Run, root: str, *, verify: bool = False) -> Row:
    """One run as a row."""
    return _steady_row(run, root, verify=verify)


_steady_row = steady(_describe, doubtful=_is_doubtful)


def _opened(row: Row, run: Run, verify: bool, evidence: Evidence) -> Row:
    assert run.prefix is not None
    # With a damaged state file the experiment itself cannot be opened, but its checkpoint can.
    target = run.prefix if run.problem is not None or run.kind == "declared" else run.path
    found = inspect(target)
    digest = _digest(run.prefix, verify=verify)
    stored = found.best_metric.value if found.best_metric.status == "present" else None
    best = evidence.best_in(stored=stored, step=found.step)
    row = replace(row, format=found.format, step=found.step, digest=digest, best=best, best_stored=stored)
    damage = [finding for finding in found.findings if finding.severity == "damage"]
    if found.declared is not None:
        row = _declared(row, found.declared, found)
    if found.lineage is not None or found.declared is not None:
        if found.lineage is not None:
            dataset = found.lineage.hyper.get("dataset")
            where = found.experiment.root if found.experiment else None
            has_data = bool(where and dataset and data_directory(where, str(dataset)))
            row = replace(row, lineage=found.lineage.id, model=found.lineage.model or None, has_data=has_data)
        outlook = forecast(target, thorough=verify)
        row = replace(row, verdict=outlook.verdict, sentence=outlook.sentence)
        row = replace(row, fix=next((finding.fix for finding in outlook.findings if finding.fix), None))
        if outlook.verdict == "blocked":
            damage += [finding for finding in outlook.findings if finding.severity == "damage"]
    elif verify:
        with open_checkpoint(run.prefix) as checkpoint:
            damage += [finding for finding in checkpoint.verify() if finding.severity == "damage"]
    if damage:
        first = damage[0]
        error = CkptError(first.message, path=first.path, key=first.key, offset=first.offset, hint=first.fix)
        row = _hopeless(row, error, "damaged")
    return row


def _declared(row: Row, run: DeclaredRun, found: Inspection) -> Row:
    """A run as its declaration describes it: which metric its logs tell, and whether this checkpoint holds the best."""
    chosen = found.chosen
    best = chosen.best if chosen else None
    row = replace(row, lineage=run.declaration.id)
    if chosen is None or best is None:
        return row
    held = row.best_stored
    with contextlib.suppress(CkptError):
        held = value_declared(chosen, run, found.prefix, found.step).evaluation.value
    if held is None:
        return replace(row, best_logged=best.value)
    # Of other checkpoints than the best it says nothing that they do not hold it.
    state: Best = "kept" if best.agrees_with(held) else "lost" if run.is_best(found.prefix) else "unknown"
    return replace(row, best_logged=best.value, best=state)


def _health(error: CkptError) -> Health:
    """What an error that ended the look at a checkpoint says of it."""
    if isinstance(error, (StorageError, BusyError)):
        return "unreadable"
    return "unsupported" if isinstance(error, UnsupportedError) else "damaged"


def _hopeless(row: Row, error: CkptError, health: Health, *, only_named_wrongly: bool = False) -> Row:
    """The row of a run that cannot be used as it is. What is left of one that has files may be saved.

    ``only_named_wrongly``: its checkpoint can be opened, but not through its state file, which can be written anew.
    """
    mendable = row.kind in ("experiment", "declared", "checkpoint") and health in ("damaged", "missing") and row.nbytes
    there = row.prefix is not None or paths.is_directory(row.location)
    saving = f"ckpt repair {shlex.quote(row.location)} --dry-run" if mendable and there else None
    row = replace(row, health=health, problem=str(error), fix=(None if only_named_wrongly else error.hint) or saving)
    trained = row.kind == "experiment" or row.lineage is not None
    return replace(row, verdict="blocked") if health == "damaged" and trained else row


def _digest(prefix: str, *, verify: bool) -> str | None:
    """Of the index; of what has none every byte is read, so that it has one only then."""
    digest = hashlib.sha256()
    if paths.is_file(index_name(prefix)):
        digest.update(paths.read_file(index_name(prefix), limit=_MAX_INDEX_BYTES))
        return digest.hexdigest()
    files = _files_of(prefix) if verify else {}
    for name, path in sorted(files.items()):
        with paths.open_file(path) as file:
            if name:
                digest.update(f"{name} {file.size}\n".encode("utf-8", "surrogateescape"))
            for offset in range(0, file.size, _CHUNK):
                digest.update(file.read(offset, min(_CHUNK, file.size - offset)))
    return digest.hexdigest() if files else None


def _files_of(prefix: str) -> dict[str, str]:
    """The files that tell one checkpoint without an index from another, by what they are to it."""
    if is_saved_model(prefix):
        # The bundle's index holds the checksums of its data.
        found = {paths.relative(path, prefix): path for path in paths.files_below(prefix)}
        return {name: path for name, path in found.items() if not (name.startswith(VARIABLES) and is_data(name))}
    if prefix.endswith(KERAS_MAPS):
        from ckpt_tools.readers.keras_h5 import shards_of_map  # HDF5 is loaded only for its files

        return {"": prefix, **{os.path.basename(path): path for path in shards_of_map(prefix)}}
    return {"": prefix} if paths.is_file(prefix) else {}


def _not_followed(link: str) -> Finding:
    target = paths.real(link)
    message = f"a link to {target}, which is not below the directory that is looked at: not followed"
    return Finding("link-outside", "warning", message, link, fix=f"ckpt audit {shlex.quote(target)}")


def _findings(row: Row) -> Iterable[Finding]:
    if row.health in ("damaged", "unreadable"):
        severity: Severity = "damage" if row.health == "damaged" else "error"
        yield Finding(f"{row.health}-run", severity, row.problem or row.health, row.location, fix=row.fix)
    elif row.health in ("missing", "unsupported"):
        yield Finding(f"{row.health}-run", "warning", row.problem or row.health, row.location, fix=row.fix)
    if row.pinned is not None:
        yield from pinned_best(row.location)
    elif row.best == "lost":
        message = f"the best model of the log ({row.best_logged:.6f}) is not in the checkpoint any more"
        yield Finding("best-lost", "warning", message, row.location)


# ------------------------------------------------------------------------------------ what could go


def _expendable(described: list[tuple[Run, Row]], *, verified: bool) -> list[Row]:
    """The rows with their duplicates, and with what is held elsewhere marked as safe to delete.

    A copy is named only when another one, whose every byte was read, stays; a checkpoint that was overtaken only when
    its experiment stores a value that is at least as good, and stays.
    """
    groups: dict[str, list[int]] = {}
    for number, (_, row) in enumerate(described):
        if row.digest is not None:
            groups.setdefault(row.digest, []).append(number)
    rows = [row for _, row in described]
    keepers: set[int] = set()
    sound = _Soundness(described, verified)
    for members in groups.values():
        if len(members) < 2:
            continue
        keeper = next((number for number in sorted(members, key=lambda n: _rank(rows[n])) if sound(number)), None)
        if keeper is not None:
            keepers.add(keeper)
        for number in members:
            others = tuple(rows[other].path for other in members if other != number)
            rows[number] = replace(rows[number], duplicates=others)
            # The newest state of a run is not in its copies. A damaged one is no copy: its data may be the only one.
            if keeper not in (None, number) and not described[number][0].latest and sound(number, linked=True):
                rows[number] = replace(rows[number], safe_to_delete=f"the same as {rows[keeper or 0].path}")
    return _overtaken(_without_full_folders(rows), keepers, sound)


def _without_full_folders(rows: list[Row]) -> list[Row]:
    """A folder goes with all that is in it: an experiment that holds other runs is not named, nor is a checkpoint
    without a name, whose path is that of its folder."""
    known = {row.path for row in rows}
    inhabited = {_holder(row.path, known) for row in rows if row.safe_to_delete is None}
    return [
        replace(row, safe_to_delete=None) if row.path in inhabited or row.path.endswith(os.sep) else row for row in rows
    ]


def _overtaken(rows: list[Row], keepers: set[int], sound: _Soundness) -> list[Row]:
    experiments = {row.path: number for number, row in enumerate(rows) if row.kind == "experiment"}
    marked = list(rows)
    for number, row in enumerate(rows):
        holder = experiments.get(_holder(row.path, experiments) or "")
        if row.kind != "checkpoint" or row.safe_to_delete or number in keepers or holder is None:
            continue
        best = rows[holder]
        if _is_better(best, row) and best.safe_to_delete is None and sound(holder):
            words = f"{best.path} holds a better one ({best.best_stored:.6f}, this one {row.best_stored:.6f})"
            marked[number] = replace(row, safe_to_delete=words)
    return marked


def _holder(path: str, known: Container[str]) -> str | None:
    """The nearest of some paths above a path."""
    while path not in ("", os.curdir, os.path.dirname(path)):
        path = local.directory_of(path)
        if path in known:
            return path
    return None


def _is_better(best: Row, row: Row) -> bool:
    if row.lineage is None or row.lineage != best.lineage or row.best_stored is None or best.best_stored is None:
        return False
    return best.best_stored >= row.best_stored


class _Soundness:
    """Whether every byte of a run is as it should be and, when it is to stay, its files are its own."""

    def __init__(self, described: list[tuple[Run, Row]], verified: bool) -> None:
        self._described = described
        self._verified = verified
        self._known: dict[int, bool] = {}

    def __call__(self, number: int, *, linked: bool = False) -> bool:
        if self._described[number][0].linked and not linked:
            return False
        if number not in self._known:
            self._known[number] = self._ask(*self._described[number])
        return self._known[number]

    def _ask(self, run: Run, row: Row) -> bool:
        if row.health != "whole" or run.prefix is None:
            return False
        if self._verified:
            return True
        try:
            with open_checkpoint(run.prefix) as checkpoint:
                return not any(finding.severity == "damage" for finding in checkpoint.verify())
        except CkptError:
            return False


def _rank(row: Row) -> tuple[bool, bool, bool, int, str]:
    """Which of several copies should stay: one without a name, whose path is that of a whole directory, an experiment,
    one that keeps its best, the one nearest to the root."""
    return (
        not row.path.endswith(os.sep),
        row.kind not in ("experiment", "declared"),
        row.best != "kept",
        row.path.count(os.sep),
        row.path,
    )
