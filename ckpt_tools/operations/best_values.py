"""Planning to store a best value in a checkpoint of any trainer, with what it means beside it.

A bundle gets ``best_metric`` and ``best_metric_meaning``, a scalar string of JSON: TensorFlow restores both as
variables, and a Saver that does not ask for them never sees them. Where a Keras file has them, `keras_values` tells.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from typing import Any

from ckpt_tools.errors import UsageError
from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY
from ckpt_tools.format.object_graph import VALUE_SUFFIX, add_variable
from ckpt_tools.lineages.names import BEST_METRIC, BEST_METRIC_MEANING
from ckpt_tools.readers import Bundle, Checkpoint
from ckpt_tools.runs.metric_lines import Mode, words_of
from ckpt_tools.transactions import FilePlan, Plan, Value, plan_values

# What a scalar variable of a best may be stored as, and how its little-endian bytes are made.
PACK = {"float32": "<f", "float64": "<d", "float16": "<e"}
_VALIDATION = {"val", "valid", "validation", "dev", "eval"}
_TOP = re.compile(r"@(\d{1,6})")


def meaning_of(
    value: float, metric: str | None, mode: Mode | None, *, unit: str | None = None, step: int | None, evidence: str
) -> dict[str, Any]:
    """What a value means, as it is stored beside it; split and length of lists as the metric's name tells them."""
    told = {} if metric is None else _told_by_name(metric)
    return {"name": metric, "mode": mode, **told, "unit": unit, "step": step, "value": value, "evidence": evidence}


def _require_text(word: object) -> None:
    """Raise UsageError for what was typed as bytes that are no text: it cannot be stored."""
    try:
        str(word).encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{word!r} is no text (UTF-8): it cannot be stored", hint="write it in other letters"
        ) from error


def _told_by_name(metric: str) -> dict[str, Any]:
    """Which split and which length of lists the name of a metric tells: ``valid_recall@50``."""
    words = {*words_of(metric)}
    split = "valid" if words & _VALIDATION else "test" if "test" in words else None
    at = _TOP.search(metric)
    return {"split": split, "top_n": int(at[1]) if at else None}


def plan_best(
    checkpoint: Checkpoint,
    value: float,
    meaning: Mapping[str, Any],
    *,
    key: str | None = None,
    reason: str,
    evidence: Mapping[str, Any],
) -> Plan | FilePlan:
    """Plan to store a value and what it means; or only the value, in the variable ``key`` that has one already.

    Raises UsageError for a variable that cannot hold it and for words that are no text, and what `plan_values` or
    `keras_values.plan_value` raise.
    """
    for what in ("name", "unit"):
        _require_text(meaning.get(what))
    told = {**evidence, "meaning": dict(meaning)}
    if isinstance(checkpoint, Bundle):
        return _plan_of_bundle(checkpoint, key, value, meaning, reason, told)
    from ckpt_tools.operations.keras_values import plan_value  # bundles need no HDF5

    # A variable of that name, as this project's callback once wrote one, must not tell another value.
    info = checkpoint.tensors.get(BEST_METRIC)
    own = BEST_METRIC if info is not None and info.dtype in PACK and info.shape == () else None
    return plan_value(
        checkpoint,  # type: ignore[arg-type]  # its format says so
        value,
        None if key else meaning,
        dataset=key or own,
        reason=reason,
        evidence=told,
    )


def _plan_of_bundle(
    bundle: Bundle, key: str | None, value: float, meaning: Mapping[str, Any], reason: str, evidence: Mapping[str, Any]
) -> Plan:
    suffix = VALUE_SUFFIX if bundle.graph is not None else ""
    own = key or BEST_METRIC + suffix
    dtype = bundle.tensors[own].dtype if own in bundle.tensors else "float32"
    code = PACK.get(dtype)
    if code is None:
        raise UsageError(f"{own} is stored as {dtype}, which cannot hold a metric", path=bundle.prefix)
    try:
        values = {own: Value.of(dtype, (), struct.pack(code, value), value)}
    except OverflowError:
        raise UsageError(f"{value:g} does not fit into {dtype}, as {own} is stored", path=bundle.prefix) from None
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
    return plan_values(bundle, values, reason=reason, evidence=evidence)
