"""Backfilling every run below a directory that needs it. What was done stays done, so that it can be interrupted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from ckpt_tools.errors import CkptError, UsageError
from ckpt_tools.findings import Finding
from ckpt_tools.fs import durable, paths
from ckpt_tools.lineages import identify
from ckpt_tools.lineages.names import BEST_METRIC
from ckpt_tools.lineages.tensor_names import bare, tell_roles
from ckpt_tools.lineages.unknown import best_of
from ckpt_tools.operations.backfilling import Options, Outcome, backfill, failed
from ckpt_tools.operations.workers import OnProgress, Report, Workers
from ckpt_tools.runs.discovery import Discovery, Run
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.opening import has_graph, open_meant
from ckpt_tools.runs.sharding import WHOLE, Shard

# Far longer than a worker holds a directory's lock, which it does for one change; a trainer may hold it for days.
_PATIENCE_SECONDS = 10.0

Status = Literal["written", "would-write", "had-it", "skipped", "failed"]


@dataclass(frozen=True)
class BulkRow:
    """One run: ``had-it`` was left alone, ``skipped`` is nothing that a best metric could be put into."""

    status: Status
    outcome: Outcome

    def to_json(self) -> dict[str, Any]:
        error = self.outcome.error
        return {**self.outcome.to_json(), "status": self.status, "error": error.id if error else None}


@dataclass(frozen=True)
class Summary:
    """What came of all, by path."""

    root: str
    rows: tuple[BulkRow, ...]
    findings: tuple[Finding, ...]

    @property
    def totals(self) -> dict[str, int]:
        return dict(Counter(row.status for row in self.rows))

    def to_json(self) -> dict[str, Any]:
        return {
            "experiments": [row.to_json() for row in self.rows],
            "totals": self.totals,
            "findings": [finding.to_json() for finding in self.findings],
        }


class Listener:
    """Told how it goes on. This one does nothing; a command shows it."""

    def begins(self, paths: Sequence[str]) -> None:
        """These runs will be worked on; the numbers below are their places in this list."""

    def works(self, number: int, done: int, total: int) -> None:
        """So much of one run is done. Called from another thread."""

    def ends(self, number: int, row: BulkRow) -> None:
        """One run is finished, or failed."""


def backfill_all(
    root: str, options: Options, workers: Workers, listener: Listener | None = None, *, shard: Shard = WHOLE
) -> Summary:
    """Give every run below ``root`` its best metric; those that have it are left alone. ``shard``: only the runs of
    one share, by their paths below the root.

    Raises UsageError for options that fit one run only, NotFoundError when the root is no directory, and what stops
    all of them, for example a scheduler that cannot be reached. A run that fails is a row.
    """
    if options.value is not None:
        raise UsageError("--value fits one run: it cannot be used with --all")
    listener = listener or Listener()
    discovery = Discovery(root)
    # The workers of a cluster have another working directory.
    found = [run for run in discovery.runs() if _is_target(run, options)]
    targets = [run for run in found if shard.holds(paths.relative(run.path, root))]
    runs = [replace(run, path=os.path.abspath(_path(run))) for run in targets]
    rows = {run.path: settled for run in runs if (settled := _settled(run, options)) is not None}
    # The largest first, so that the last one to finish is a small one.
    waiting = [run.path for run in sorted(runs, key=lambda run: (-run.nbytes, run.path)) if run.path not in rows]
    listener.begins(waiting)
    progress: OnProgress = listener.works
    for done in workers.run(partial(_work, options=options), waiting, progress):
        path = waiting[done.number]
        if done.result is not None:
            rows[path] = BulkRow("written" if done.result.written else _unwritten(options), done.result)
        else:
            rows[path] = BulkRow("failed", failed(path, done.error or CkptError("nothing came back")))
        listener.ends(done.number, rows[path])
    ordered = tuple(_as_given(rows[path], root) for path in sorted(rows))
    findings = [Finding(e.id, "warning", e.message, e.path, fix=e.hint) for e in discovery.problems]
    for row in ordered:
        findings += row.outcome.findings
        error = row.outcome.error
        if row.status == "failed" and error is not None:
            findings.append(replace(Finding.of(error), path=error.path or row.outcome.path))
    return Summary(root, ordered, tuple(findings))


def _path(run: Run) -> str:
    """What is backfilled of a run: of a declared one without a best its newest."""
    return run.prefix if run.kind == "declared" and run.prefix is not None else run.path


def _as_given(row: BulkRow, root: str) -> BulkRow:
    """The row with its paths as they were told: relative ones stay relative."""
    top = os.path.join(os.path.abspath(root), "")

    def shown(path: str | None) -> str | None:
        return path if path is None or not path.startswith(top) else os.path.join(root, path.removeprefix(top))

    done = row.outcome
    if done.error is not None:
        done.error.path = shown(done.error.path)
    findings = tuple(replace(finding, path=shown(finding.path)) for finding in done.findings)
    path = shown(done.path) or done.path
    outcome = replace(done, path=path, prefix=shown(done.prefix), backup=shown(done.backup), findings=findings)
    return replace(row, outcome=outcome)


def _work(path: str, report: Report, *, options: Options) -> Outcome:
    # Another worker may just be changing another checkpoint of the same directory.
    with durable.patient(_PATIENCE_SECONDS):
        return backfill(path, options, report)


def _unwritten(options: Options) -> Status:
    return "would-write" if options.dry_run else "had-it"


def _is_target(run: Run, options: Options) -> bool:
    """Experiments, and checkpoints that lie in none: an older one beside a best has a log that is not about it.

    Keras files are such checkpoints when it is said how the value of another trainer's run is found.
    """
    kinds = ("checkpoint", "keras") if options.from_logs or options.measures else ("checkpoint",)
    return run.kind in ("experiment", "declared") or (run.kind in kinds and Experiment.containing(run.path) is None)


def _settled(run: Run, options: Options) -> BulkRow | None:
    """The row of a run that needs no work; None for one that does."""
    if run.problem is not None:
        empty = not paths.is_directory(run.path) or not run.nbytes
        return BulkRow("skipped" if empty else "failed", failed(run.path, run.problem))
    try:
        with open_meant(run.path) as checkpoint:
            lineage = identify(checkpoint)
            without = options.graph and not has_graph(checkpoint)
            told = (
                None if lineage is not None else best_of(checkpoint, tell_roles(checkpoint.tensors, checkpoint.graph))
            )
        if told is not None:
            if not (options.from_logs or options.measures):
                return BulkRow(
                    "skipped", Outcome(run.path, "not a checkpoint of a known trainer: left alone", run.prefix)
                )
            if told.status == "present" and not options.force:
                sentence = f"has {bare(told.key or BEST_METRIC)} {told.value:.6g} already: left alone"
                return BulkRow("had-it", Outcome(run.path, sentence, run.prefix, value=told.value))
            return _without_graph(run) if without else None
        assert lineage is not None
        if lineage.best_metric.status == "present" and not options.force:
            return BulkRow("had-it", backfill(run.path, options))
        if without:
            return _without_graph(run)
    except CkptError as error:
        return BulkRow("failed", failed(run.path, error))
    return None


def _without_graph(run: Run) -> BulkRow:
    return BulkRow("skipped", Outcome(run.path, "no graph (.meta) lies beside it: left alone", run.prefix))
