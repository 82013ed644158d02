"""The best metric of a run of any trainer: given, logged, or measured by its own program, with what it means.

Beside ``best_metric`` (float32 scalar) the bundle gets ``best_metric_meaning``, a scalar string of JSON: name, mode,
split, top-n, unit, step and evidence. TensorFlow restores both as variables; a Saver that does not ask for them never
sees them. Where a Keras file has them, `keras_values` tells.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shlex
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ckpt_tools.errors import NotFoundError, UnsupportedError, UsageError
from ckpt_tools.findings import Finding
from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY
from ckpt_tools.format.object_graph import VALUE_SUFFIX, add_variable
from ckpt_tools.format.stored_best import BEST_METRIC_MEMBER
from ckpt_tools.lineages.base import BestMetric, float32
from ckpt_tools.lineages.declared.roles import key_of, roles_of
from ckpt_tools.lineages.declared.trust import require_trust
from ckpt_tools.lineages.names import BEST_METRIC, BEST_METRIC_MEANING
from ckpt_tools.lineages.scalars import is_start_value
from ckpt_tools.lineages.tensor_names import bare
from ckpt_tools.lineages.unknown import best_of, step_of
from ckpt_tools.operations.command_evaluator import CommandEvaluation, measure
from ckpt_tools.operations.weight_files import KERAS
from ckpt_tools.readers import Bundle, Checkpoint
from ckpt_tools.runs.declared_history import choose_declared, history_of, value_declared
from ckpt_tools.runs.declared_run import DeclaredRun
from ckpt_tools.runs.metric_history import from_name
from ckpt_tools.runs.metric_lines import Mode, better, mode_of, words_of
from ckpt_tools.transactions import FilePlan, Plan, Value, plan_values

if TYPE_CHECKING:
    from ckpt_tools.operations.backfill_options import Options

# What a scalar variable of a best may be stored as, and how its little-endian bytes are made.
_PACK = {"float32": "<f", "float64": "<d", "float16": "<e"}
_VALIDATION = {"val", "valid", "validation", "dev", "eval"}
_TOP = re.compile(r"@(\d{1,6})")


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
    run = DeclaredRun.of(checkpoint)
    options = _as_declared(checkpoint, options, run)
    roles = roles_of(checkpoint.tensors, checkpoint.graph, run.declaration if run else None)
    step = step_of(checkpoint, roles)
    stored = _stored(checkpoint, best_of(checkpoint, roles), options)
    if stored.status == "present" and not (options.value is not None or options.from_logs or options.evaluation):
        return _left_alone(stored, stored.value or 0.0, {})
    known = _known(checkpoint, options, step, run)
    if not math.isfinite(known.value):
        raise UsageError(f"the value found is {known.value}: no best metric is NaN or infinite", path=checkpoint.prefix)
    direction = options.mode or known.mode or (mode_of(known.metric) if known.metric else None)
    meaning = {
        "name": known.metric,
        "mode": direction,
        **({} if known.metric is None else _told_by_name(known.metric)),
        "unit": options.unit,
        "step": step,
        "value": known.value,
        "evidence": known.reason,
    }
    if stored.value is not None and stored.status == "present":
        if _same(checkpoint, stored, known.value):
            return _left_alone(stored, known.value, meaning)
        if not options.force:
            raise UsageError(
                f"{stored.key} is {stored.value:.6g} already, not {known.value:.6g}",
                path=checkpoint.prefix,
                hint="add --force to replace it (ckpt undo takes it back)",
            )
    key = stored.key if options.into or _is_ours(stored.key) else None
    if isinstance(checkpoint, Bundle):
        plan: Plan | FilePlan = _plan(checkpoint, key, known, meaning)
    else:
        plan = _plan_of_keras(checkpoint, key if options.into else None, known, meaning)
    what = f"{known.metric} " if known.metric else ""
    sentence = f"{BEST_METRIC if plan.changes and not options.into else stored.key} {what}{known.value:.6g}"
    if direction:
        sentence += f" ({direction})"
    sentence += f"; {known.reason}"
    return Found(known.value, meaning, sentence, plan, known.findings)


def _as_declared(checkpoint: Checkpoint, options: Options, run: DeclaredRun | None) -> Options:
    """What was not asked for as the declaration has it: the variable of the best, the unit, the evaluation.

    Raises UnsafeError when the declaration names a command and is not trusted.
    """
    if run is None:
        return options
    said = run.declaration
    into = options.into or (said.variables.best if key_of(said.variables.best, checkpoint.tensors) else None)
    options = replace(options, into=into, unit=options.unit or said.metric.unit)
    if said.evaluate is None or options.value is not None or options.from_logs or options.evaluation is not None:
        return options
    require_trust(said)
    evaluation = CommandEvaluation(
        said.evaluate.command, said.evaluate.pattern, directory=said.directory or os.getcwd()
    )
    metric, mode = options.metric or said.metric.name, options.mode or said.metric.mode
    return replace(options, evaluation=evaluation, metric=metric, mode=mode)


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
    if info.shape != () or info.dtype not in _PACK:
        raise UsageError(
            f"--into {options.into}: a {info.dtype} {list(info.shape)} cannot hold a metric", path=checkpoint.prefix
        )
    value = float(struct.unpack(_PACK[info.dtype], b"".join(checkpoint.chunks(key)))[0])
    unset = is_start_value(value)
    return BestMetric("unset" if unset else "present", value, key)


def _same(checkpoint: Checkpoint, stored: BestMetric, value: float) -> bool:
    assert stored.key is not None
    info = checkpoint.tensors.get(stored.key)
    return stored.value == value or (info is not None and info.dtype == "float32" and stored.value == float32(value))


def _left_alone(stored: BestMetric, value: float, meaning: Mapping[str, Any]) -> Found:
    return Found(value, meaning, f"has {bare(stored.key or BEST_METRIC)} {value:.6g} already: left alone", None)


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
    if options.evaluation is not None:
        measured = measure(checkpoint, options.evaluation, step)
        reason = "measured with --evaluate"
        if len(measured.values) > 1:
            reason += f", the mean of {len(measured.values)} (deviation {measured.deviation:.3g})"
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


def _plan_of_keras(checkpoint: Checkpoint, into: str | None, known: _Known, meaning: Mapping[str, Any]) -> FilePlan:
    """The value beside the weights, with what it means; or only in the variable ``into``."""
    from ckpt_tools.operations.keras_values import plan_value  # bundles need no HDF5

    # A variable of that name, as this project's callback writes one, must not tell another value.
    own = BEST_METRIC if BEST_METRIC in checkpoint.tensors and checkpoint.tensors[BEST_METRIC].dtype in _PACK else None
    return plan_value(
        checkpoint,  # type: ignore[arg-type]  # its format says so
        known.value,
        None if into else meaning,
        dataset=into or own,
        reason="backfill",
        evidence={**known.evidence, "meaning": dict(meaning)},
    )


def _told_by_name(metric: str) -> dict[str, Any]:
    """Which split and which length of lists the name of a metric tells: ``valid_recall@50``."""
    words = {*words_of(metric)}
    split = "valid" if words & _VALIDATION else "test" if "test" in words else None
    at = _TOP.search(metric)
    return {"split": split, "top_n": int(at[1]) if at else None}


def _plan(bundle: Bundle, key: str | None, known: _Known, meaning: Mapping[str, Any]) -> Plan:
    """``best_metric`` and what it means; or only the value, in the variable that has it already."""
    evidence = {**known.evidence, "meaning": dict(meaning)}
    suffix = VALUE_SUFFIX if bundle.graph is not None else ""
    own = key or BEST_METRIC + suffix
    dtype = bundle.tensors[own].dtype if own in bundle.tensors else "float32"
    code = _PACK.get(dtype)
    if code is None:
        raise UsageError(f"{own} is stored as {dtype}, which cannot hold a metric", path=bundle.prefix)
    try:
        values = {own: Value.of(dtype, (), struct.pack(code, known.value), known.value)}
    except OverflowError:
        raise UsageError(f"{known.value:g} does not fit into {dtype}, as {own} is stored", path=bundle.prefix) from None
    ours = own == BEST_METRIC + suffix  # one that is spelt nearly so is another trainer's
    if ours:
        text = json.dumps(dict(meaning), sort_keys=True, ensure_ascii=False, allow_nan=False)
        values[BEST_METRIC_MEANING + suffix] = Value.of_string(text.encode(), text)
    graph = bundle.graph
    if graph is not None:
        grown = bundle.graph_bytes
        for name in (BEST_METRIC, BEST_METRIC_MEANING) if ours else ():
            if graph.child(name) is None:
                grown = add_variable(grown, name=name, key=name + suffix)
        if grown != bundle.graph_bytes:
            values[OBJECT_GRAPH_KEY] = Value.of_string(grown, f"with {BEST_METRIC!r} and {BEST_METRIC_MEANING!r}")
    return plan_values(bundle, values, reason="backfill", evidence=evidence)
