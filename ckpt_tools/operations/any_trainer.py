"""The best metric of a run of any trainer: given, logged, or measured by its own program, with what it means.

How it is stored, `best_values` tells.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ckpt_tools.errors import NotFoundError, UnsupportedError, UsageError
from ckpt_tools.findings import Finding
from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.format.stored_best import BEST_METRIC_MEMBER
from ckpt_tools.lineages.base import BestMetric, float32
from ckpt_tools.lineages.declared.roles import key_of, roles_of
from ckpt_tools.lineages.declared.trust import require_trust
from ckpt_tools.lineages.meaning import describe
from ckpt_tools.lineages.names import BEST_METRIC
from ckpt_tools.lineages.scalars import is_start_value
from ckpt_tools.lineages.tensor_names import bare
from ckpt_tools.lineages.unknown import best_of, step_of
from ckpt_tools.operations.best_values import PACK, meaning_of, plan_best
from ckpt_tools.operations.command_evaluator import CommandEvaluation, measure
from ckpt_tools.operations.weight_files import KERAS
from ckpt_tools.readers import Bundle, Checkpoint
from ckpt_tools.runs.declared_history import choose_declared, history_of, value_declared
from ckpt_tools.runs.declared_run import DeclaredRun
from ckpt_tools.runs.metric_history import from_name
from ckpt_tools.runs.metric_lines import Mode, better, mode_of
from ckpt_tools.transactions import FilePlan, Plan

if TYPE_CHECKING:
    from ckpt_tools.lineages.declared.grammar import Declaration
    from ckpt_tools.operations.backfill_options import Options


# What tells a metric from another one.
_IDENTITY = ("name", "mode", "split", "top_n", "unit")


@dataclass(frozen=True)
class Found:
    """A value with its meaning, and the plan that writes it; no plan where the checkpoint has it already."""

    value: float
    meaning: Mapping[str, Any]
    sentence: str
    plan: Plan | FilePlan | None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class _Known:
    value: float
    metric: str | None
    mode: Mode | None
    reason: str
    evidence: Mapping[str, Any]
    findings: tuple[Finding, ...] = ()


def find(checkpoint: Checkpoint, options: Options) -> Found:
    """Find the value and plan to write it. Nothing is written here.

    Raises UsageError where it must be said which metric is meant, or another value is stored; NotFoundError where no
    log tells; UnsupportedError for a format that is not written; what `command_evaluator.measure` raises.
    """
    if not isinstance(checkpoint, Bundle) and checkpoint.format not in KERAS:
        hint = f"ckpt inspect {shlex.quote(checkpoint.prefix)}"
        raise UnsupportedError(f"a {checkpoint.format} file cannot be written to", path=checkpoint.prefix, hint=hint)
    # What has a value is not measured again because its declaration says how that is done.
    asked = options.value is not None or options.from_logs or options.measures or options.force
    run = DeclaredRun.of(checkpoint)
    options = _as_declared(checkpoint, options, run)
    roles = roles_of(checkpoint.tensors, checkpoint.graph, run.declaration if run else None)
    step = step_of(checkpoint, roles)
    stored = _stored(checkpoint, best_of(checkpoint, roles), options)
    if stored.status == "present" and not asked:
        return _left_alone(stored, stored.value or 0.0, {})
    options = _measured_as_declared(options, run)
    known = _known(checkpoint, options, step, run)
    if not math.isfinite(known.value):
        raise UsageError(f"the value found is {known.value}: no best metric is NaN or infinite", path=checkpoint.prefix)
    direction = options.mode or known.mode or (mode_of(known.metric) if known.metric else None)
    meaning = meaning_of(known.value, known.metric, direction, unit=options.unit, step=step, evidence=known.reason)
    if stored.value is not None and stored.status == "present":
        if _same(checkpoint, stored, known.value) and not (options.force and _means_more(stored, meaning)):
            return _left_alone(stored, known.value, meaning, how=known.reason if options.force else None)
        if not options.force:
            raise UsageError(
                f"{stored.key} is {stored.value:.6g} already, not {known.value:.6g}",
                path=checkpoint.prefix,
                hint="add --force to replace it (ckpt undo takes it back)",
            )
    key = stored.key if options.into or _is_ours(stored.key) else None
    if not isinstance(checkpoint, Bundle) and not options.into:
        key = None
    plan = plan_best(checkpoint, known.value, meaning, key=key, reason="backfill", evidence=known.evidence)
    what = f"{known.metric} " if known.metric else ""
    sentence = f"{BEST_METRIC if plan.changes and not options.into else stored.key} {what}{known.value:.6g}"
    if direction:
        sentence += f" ({direction})"
    sentence += f"; {known.reason}"
    return Found(known.value, meaning, sentence, plan, known.findings)


def _as_declared(checkpoint: Checkpoint, options: Options, run: DeclaredRun | None) -> Options:
    """What was not asked for as the declaration has it: the variable of the best, the unit."""
    if run is None:
        return options
    said = run.declaration
    into = options.into or (said.variables.best if key_of(said.variables.best, checkpoint.tensors) else None)
    return replace(options, into=into, unit=options.unit or said.metric.unit)


def _measured_as_declared(options: Options, run: DeclaredRun | None) -> Options:
    """Where no way to find the value was asked for, the declared one.

    Raises UnsafeError when the declaration names a command and is not trusted.
    """
    if run is None:
        return options
    said = run.declaration
    if options.graph:
        return _named_as_declared(options, said, _measure_of(said))
    if options.value is not None or options.from_logs or options.evaluation is not None:
        return options
    if said.evaluate is None:
        if said.graph is None:
            return options
        # A graph is data: what it computes is bounded, and nothing has to be trusted.
        return _named_as_declared(replace(options, graph=True), said, _measure_of(said))
    require_trust(said)
    evaluation = CommandEvaluation(
        said.evaluate.command, said.evaluate.pattern, directory=said.directory or os.getcwd()
    )
    return _named_as_declared(replace(options, evaluation=evaluation), said)


def _named_as_declared(options: Options, said: Declaration, otherwise: str | None = None) -> Options:
    metric = options.metric or said.metric.name or otherwise
    return replace(options, metric=metric, mode=options.mode or said.metric.mode)


def _measure_of(said: Declaration) -> str | None:
    return said.graph.measure if said.graph is not None else None


def _by_graph(checkpoint: Checkpoint, options: Options, run: DeclaredRun | None) -> _Known:
    rule = run.declaration.graph if run is not None else None
    if run is None or rule is None:
        raise UsageError(
            "nothing says what its graph is fed, and which of its values is the score: that is [graph] of a ckpt.toml",
            path=checkpoint.prefix,
            hint=f"ckpt inspect {shlex.quote(checkpoint.prefix)} --graph",
        )
    from ckpt_tools.operations.graph_evaluation import measure_by_graph  # only who asks for it waits for it

    directory = options.data_dir or run.declaration.directory or os.getcwd()
    measured = measure_by_graph(checkpoint, rule, directory, seconds=options.seconds, repeat=options.repeat)
    reason = f"measured by its own graph, {measured.measure or 'fetched'} of {measured.output}"
    if measured.deviation:
        reason += f", {measured.spread}"
    return _Known(measured.value, options.metric, options.mode, reason, {"measured": measured.to_json()})


def _is_ours(key: str | None) -> bool:
    return key is not None and bare(key) in (BEST_METRIC, BEST_METRIC_MEMBER)


def _stored(checkpoint: Checkpoint, best: BestMetric, options: Options) -> BestMetric:
    """What is stored where the value is to be written: in ``best_metric``, or in the variable that was named."""
    if options.into is None:
        return best if _is_ours(best.key) else BestMetric("absent")
    fitting = [key for key in checkpoint.tensors if options.into in (key, bare(key), key.removesuffix(VALUE_SUFFIX))]
    if not fitting:
        raise NotFoundError(f"--into {options.into}: there is no such tensor", path=checkpoint.prefix)
    key = fitting[0]
    info = checkpoint.tensors[key]
    if info.shape != () or info.dtype not in PACK:
        raise UsageError(
            f"--into {options.into}: a {info.dtype} {list(info.shape)} cannot hold a metric", path=checkpoint.prefix
        )
    value = float(struct.unpack(PACK[info.dtype], b"".join(checkpoint.chunks(key)))[0])
    unset = is_start_value(value)
    return BestMetric("unset" if unset else "present", value, key)


def _same(checkpoint: Checkpoint, stored: BestMetric, value: float) -> bool:
    assert stored.key is not None
    info = checkpoint.tensors.get(stored.key)
    return stored.value == value or (info is not None and info.dtype == "float32" and stored.value == float32(value))


def _means_more(stored: BestMetric, meaning: Mapping[str, Any]) -> bool:
    """Whether a name, a direction or a unit is told now that is not stored beside the value."""
    told = describe(json.dumps({name: meaning.get(name) for name in _IDENTITY}), 0.0)
    return _is_ours(stored.key) and told is not None and told not in (stored.meaning or "")


def _left_alone(stored: BestMetric, value: float, meaning: Mapping[str, Any], *, how: str | None = None) -> Found:
    """``how``: it was found again, as was asked for, and is the same."""
    end = "left alone" if how is None else f"the same was found ({how}), nothing to replace"
    return Found(value, meaning, f"has {bare(stored.key or BEST_METRIC)} {value:.6g} already: {end}", None)


def _known(checkpoint: Checkpoint, options: Options, step: int | None, run: DeclaredRun | None) -> _Known:
    if options.value is not None:
        findings, chosen = [], None
        with contextlib.suppress(NotFoundError, UsageError):
            chosen = choose_declared(history_of(checkpoint.prefix, run), run, options.metric, options.mode)
        if chosen is not None and not any(each.agrees_with(options.value) for each in chosen.evaluations):
            best = chosen.best
            message = f"--value {options.value:g} is in no log of {chosen.name}"
            message += f" (logged best {best.value:g})" if best else ""
            findings.append(Finding("not-in-log", "warning", message, checkpoint.prefix))
        metric = options.metric or (chosen.name if chosen is not None and not findings else None)
        return _Known(options.value, metric, options.mode, "given with --value", {}, tuple(findings))
    if options.graph:
        return _by_graph(checkpoint, options, run)
    if options.evaluation is not None:
        measured = measure(checkpoint, options.evaluation, step)
        reason = "measured with --evaluate"
        if len(measured.values) > 1:
            reason += f", {measured.spread}"
        return _Known(measured.value, options.metric, options.mode, reason, {"measured": measured.to_json()})
    if not options.from_logs:
        raise UnsupportedError(
            "no rule is known for how this checkpoint is evaluated",
            path=checkpoint.prefix,
            hint="take the value from its logs with --from-logs, measure it with --evaluate COMMAND --pattern REGEX, "
            "or give it with --value and --metric",
        )
    return _logged(checkpoint, options, step, run)


def _logged(checkpoint: Checkpoint, options: Options, step: int | None, run: DeclaredRun | None) -> _Known:
    history = history_of(checkpoint.prefix, run)
    if history.unread is not None:
        raise history.unread
    try:
        chosen = choose_declared(history, run, options.metric, options.mode)
    except NotFoundError:
        named = from_name(checkpoint.prefix, options.metric, options.mode)
        if named is None:
            raise
        chosen = named
    found = value_declared(chosen, run, checkpoint.prefix, step)
    findings = list(history.findings)
    best = chosen.best
    value = found.evaluation.value
    if best is not None and not best.agrees_with(value) and better(chosen.mode, best.value, value):
        at = f" in epoch {best.epoch}" if best.step is None and best.epoch is not None else ""
        at = f" at step {best.step}" if best.step is not None else at
        message = f"the log's best {chosen.name} is {best.value:g}{at}, but this checkpoint is another one's"
        findings.append(Finding("best-lost", "warning", f"{message} ({value:g})", checkpoint.prefix))
    reason = f"{found.reason} ({chosen.reason})"
    evidence = {"logged": found.evaluation.to_json(), "logged_best": best.to_json() if best else None}
    return _Known(value, chosen.name, chosen.mode, reason, evidence, tuple(findings))
