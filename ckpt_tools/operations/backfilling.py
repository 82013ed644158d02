"""Putting a lost ``best_metric`` back into an old checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ckpt_tools import transactions
from ckpt_tools.errors import CkptError, MismatchError, NotFoundError, UsageError
from ckpt_tools.findings import Finding
from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.fs import durable
from ckpt_tools.lineages import Lineage, identify
from ckpt_tools.lineages.base import float32
from ckpt_tools.lineages.names import BEST_METRIC
from ckpt_tools.operations import any_trainer
from ckpt_tools.operations.backfill_options import Options as Options
from ckpt_tools.operations.evaluators import (
    Measurement,
    OnProgress,
    find_evaluator,
    find_graph_evaluator,
)
from ckpt_tools.readers import Bundle, Checkpoint, open_checkpoint
from ckpt_tools.runs.evaluations import LoggedEvaluation
from ckpt_tools.runs.experiments import Experiment, data_directory, resolve
from ckpt_tools.runs.logs import Evidence, collect
from ckpt_tools.transactions import FilePlan, Plan

Agreement = Literal["match", "differs", "no-log"]


@dataclass(frozen=True)
class Outcome:
    """What was found and done for one experiment. ``sentence`` says it in one line."""

    path: str
    sentence: str
    prefix: str | None = None
    lineage: Lineage | None = None
    measurement: Measurement | None = None
    value: float | None = None
    logged_best: LoggedEvaluation | None = None
    agreement: Agreement | None = None
    plan: Plan | FilePlan | None = None
    written: bool = False
    backup: str | None = None
    findings: tuple[Finding, ...] = ()
    error: CkptError | None = field(default=None, compare=False)
    metric: Mapping[str, Any] | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        if self.metric is not None:
            metric: dict[str, Any] | None = dict(self.metric)
        elif self.measurement:
            metric = self.measurement.to_json()
        else:
            metric = None if self.value is None else {"name": "recall", "value": self.value}
        return {
            "path": self.path,
            "prefix": self.prefix,
            "lineage": self.lineage.to_json() if self.lineage else None,
            "metric": metric,
            "logged_best": self.logged_best.to_json() if self.logged_best else None,
            "agreement": self.agreement,
            "written": self.written,
            "backup": self.backup,
            "plan": self.plan.to_json() if self.plan else None,
            "sentence": self.sentence,
        }


def backfill(path: str, options: Options, progress: OnProgress | None = None) -> Outcome:
    """Find the best metric of one experiment (or checkpoint) and write it into the checkpoint.

    A checkpoint that has one already is left alone. Nothing is written when the measured value is not one of
    those in the run's log: then the data is probably not what the run was evaluated on.

    Raises:
        UsageError: no data directory, or another value is stored and ``force`` was not given.
        MismatchError: the measured value is in no log, and ``force`` was not given.
        StorageError, UnsafeError: a log is there and cannot be read, and no value was given.
        UnsupportedError: nothing installed can evaluate it, or the file is of a kind that cannot be written to.
        and what `open_checkpoint` and `rewrite.apply` raise.
    """
    with durable.locking(options.lock):
        return _backfill(path, options, progress)


def _backfill(path: str, options: Options, progress: OnProgress | None) -> Outcome:
    prefix = resolve(path)
    if not options.dry_run:
        transactions.recover(prefix)
    with open_checkpoint(prefix) as checkpoint:
        lineage = identify(checkpoint)
        if lineage is None or options.means_another_metric or not isinstance(checkpoint, Bundle):
            return _of_any_trainer(path, checkpoint, options)
        if options.value is not None:
            _require_metric(options.value, "--value")
        stored = lineage.best_metric
        experiment = Experiment.containing(prefix)
        evidence = collect(experiment) if experiment else Evidence()
        found = Outcome(path, "", prefix, lineage, logged_best=evidence.best, findings=evidence.findings)
        if stored.status == "present" and options.value is None and not options.force:
            agreement = _agreement(evidence, stored.value or 0.0)
            sentence = f"has best_metric {stored.value:.6f} already: left alone"
            return replace(found, sentence=sentence, value=stored.value, agreement=agreement)

        measurement = None
        value = options.value
        # With a log unread, another value could be the best; the one that was given depends on no log.
        if evidence.unread is not None and value is None and (options.from_logs or not options.force):
            raise evidence.unread
        if options.from_logs:
            value = _logged_value(evidence, lineage, prefix)
        elif value is None:
            data_dir = options.data_dir or default_data_dir(experiment, lineage)
            how = {"data_dir": data_dir, "split": options.split, "top_n": options.top_n, "progress": progress}
            measurement = _measured(checkpoint, lineage, options, how)
            value = measurement.value
            if evidence.best and measurement.within_noise(evidence.best.recall):
                # No measurement repeats: the run's own one is confirmed, and what it knew as its best.
                value = evidence.best.recall
        _require_metric(value, "the value found")
        agreement = _agreement(evidence, value)
        found = replace(found, measurement=measurement, value=value, agreement=agreement)
        # Compared as float64, a restored best could beat itself.
        same = stored.value is not None and float32(stored.value) == float32(value)
        if same:
            end = f"{_how(options, measurement)} it is the same, nothing to replace" if options.force else "left alone"
            return replace(found, sentence=f"has best_metric {value:.6f} already: {end}")
        if stored.status == "present" and not options.force:
            raise UsageError(
                f"best_metric is {stored.value:.6f} already, not {value:.6f}",
                path=prefix,
                hint="add --force to replace it (ckpt undo takes it back)",
            )
        findings = list(found.findings)
        if agreement == "differs":
            findings.append(_judge(evidence, value, measurement, options, prefix))
        plan = transactions.plan_scalar(
            checkpoint,
            key=stored.key or (BEST_METRIC + VALUE_SUFFIX if checkpoint.graph else BEST_METRIC),
            name=BEST_METRIC,
            value=float32(value),
            reason="backfill",
            evidence=_evidence_json(measurement, evidence, agreement),
        )
    words = _agreement_words(agreement, evidence, measurement)
    found = replace(found, plan=plan, findings=tuple(findings))
    if options.dry_run:
        return replace(found, sentence=f"would write best_metric {value:.6f} {words}")
    applied = transactions.apply(plan)
    sentence = f"best_metric {value:.6f} written {words}"
    return replace(found, sentence=sentence, written=True, backup=applied.backup)


def _measured(checkpoint: Bundle, lineage: Lineage, options: Options, how: Mapping[str, Any]) -> Measurement:
    if not options.graph:
        return find_evaluator(lineage).measure(checkpoint, lineage, **how)
    if options.repeat != 1:
        raise UsageError(
            "--repeat goes with a [graph] of a ckpt.toml: of ComiRec's graphs only MIND's draws, eight times"
        )
    # A graph is large, and what interprets it too: only who asks for it waits for them.
    from ckpt_tools.graphs.call import Limits
    from ckpt_tools.runs.run_graph import read_run_graph

    graph = read_run_graph(checkpoint, limits=Limits(seconds=options.seconds))
    return find_graph_evaluator(lineage).measure_graph(checkpoint, lineage, graph, **how)


def _of_any_trainer(path: str, checkpoint: Checkpoint, options: Options) -> Outcome:
    """The same for a run that nothing is known of but what it left."""
    found = any_trainer.find(checkpoint, options)
    done = Outcome(path, "", checkpoint.prefix, value=found.value, findings=found.findings, metric=found.meaning)
    if found.plan is None:
        return replace(done, sentence=found.sentence)
    done = replace(done, plan=found.plan)
    if options.dry_run:
        return replace(done, sentence=f"would write {found.sentence}")
    if isinstance(found.plan, Plan):
        applied = transactions.apply(found.plan)
    else:
        applied = transactions.replace_file(found.plan)
    return replace(done, sentence=f"written: {found.sentence}", written=True, backup=applied.backup)


def _how(options: Options, measurement: Measurement | None) -> str:
    return "measured again" if measurement else "in its log" if options.from_logs else "as given"


def default_data_dir(experiment: Experiment | None, lineage: Lineage) -> str:
    """The data directory that the old trainers used beside ``best_model``. Raises UsageError when there is none."""
    dataset = lineage.hyper.get("dataset")
    if experiment is not None and dataset:
        directory = data_directory(experiment.root, dataset)
        if directory is not None:
            return directory
    name = f"{dataset or 'DATASET'}_valid.txt"
    raise UsageError(
        f"no data to evaluate on: {name} is not beside the experiment",
        path=experiment.path if experiment else None,
        hint=f"add --data DIR, the directory with {name}; or give the value yourself with --value",
    )


def _require_metric(value: float, what: str) -> None:
    if not math.isfinite(value) or not 0 <= value <= 1:
        raise UsageError(f"{what} is {value}: a recall lies between 0 and 1")


def _logged_value(evidence: Evidence, lineage: Lineage, prefix: str) -> float:
    """The recall that the logs give for the very step of this checkpoint: its best may be another one's."""
    logged = evidence.at_step(lineage.step) if lineage.step is not None else None
    if logged is None:
        what = "nothing" if evidence.best is None else "no evaluation of the step of this checkpoint"
        raise NotFoundError(
            f"the run's logs hold {what} (step {lineage.step})",
            path=prefix,
            hint="leave --from-logs out and add --data DIR: the checkpoint is then evaluated again",
        )
    return logged.recall


def _agreement(evidence: Evidence, value: float) -> Agreement:
    if evidence.best is None:
        return "no-log"
    return "match" if evidence.best.agrees_with(value) else "differs"


def _judge(evidence: Evidence, value: float, measurement: Measurement | None, options: Options, prefix: str) -> Finding:
    """A value other than the logged best: either the best is lost, or something is not what it should be."""
    best = evidence.best
    assert best is not None
    logged = evidence.matching(value)
    if logged is not None:
        return Finding(
            "best-lost",
            "warning",
            f"the log's best is {best.recall:.6f} at step {best.step}, but this checkpoint is the one of step "
            f"{logged.step} ({logged.recall:.6f}): the better model was overwritten",
            path=prefix,
        )
    if measurement is None:
        message = f"--value {value:.6f} is in no log (logged best {best.recall:.6f})"
        return Finding("not-in-log", "warning", message, path=prefix)
    if not options.force:
        raise MismatchError(
            f"measured {value:.6f}, but the log's best is {best.recall:.6f} and no evaluation in it gave this value: "
            "nothing written",
            path=prefix,
            hint="check --data, --split and --top-n; or add --force to write it all the same",
        )
    message = f"the measured {value:.6f} is in no log (logged best {best.recall:.6f})"
    return Finding("not-in-log", "warning", message, path=prefix)


def _agreement_words(agreement: Agreement, evidence: Evidence, measurement: Measurement | None) -> str:
    how = "(not measured)"
    if measurement:
        top_n, users, split = measurement.top_n, measurement.users, measurement.split
        how = f"(recall@{top_n} of {users} {split} users)"
        if measurement.graph:
            how = f"(recall@{top_n} of {users} {split} users, by its own graph)"
    best = evidence.best
    if best is None:
        return f"{how}; no log to compare with"
    if measurement and measurement.within_noise(best.recall):
        mean, deviation = measurement.details["recall_mean"], measurement.details["recall_deviation"]
        noise = f"within the noise of its evaluation, {mean:.6f} ± {deviation:.6f} (one standard deviation)"
        return f"{how}; from the log, step {best.step}: {noise}"
    if agreement == "match":
        return f"{how}; agrees with the log, {best.recall:.6f} at step {best.step}"
    return f"{how}; the log's best is {best.recall:.6f} at step {best.step}"


def _evidence_json(measurement: Measurement | None, evidence: Evidence, agreement: Agreement) -> dict[str, Any]:
    return {
        "measured": measurement.to_json() if measurement else None,
        "logged_best": evidence.best.to_json() if evidence.best else None,
        "agreement": agreement,
    }


def failed(path: str, error: CkptError) -> Outcome:
    """The outcome of an experiment that could not be done; the others go on."""
    prefix = error.path if isinstance(error, NotFoundError) else None
    return Outcome(path, str(error), prefix=prefix, error=error)
