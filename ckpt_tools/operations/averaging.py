"""The mean of several checkpoints of one model, as one checkpoint to be used.

Weights are averaged in float64 and stored in their own type; so are moving averages of them. What is no mean of
anything is left out, and said: moments and steps, which belong to one run at one place, and best metrics, which were
measured of other weights. What no training changes (vocabularies, numbers that are no floats) must be the same in all.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckpt_tools.analysis.pairing import pair
from ckpt_tools.errors import MismatchError, UsageError
from ckpt_tools.findings import Finding
from ckpt_tools.fs import durable
from ckpt_tools.lineages.names import SAVE_COUNTER
from ckpt_tools.lineages.naming import Named, by_canonical_name
from ckpt_tools.lineages.tensor_names import Role, Roles, tell_roles
from ckpt_tools.operations.comparing import ByProgram, ByUsers, Comparison, WithValues, compare
from ckpt_tools.operations.evaluators import OnProgress
from ckpt_tools.operations.weight_files import (
    bundle_target,
    make_bundle,
    plan_bundle,
    require_new_file,
    require_writable_format,
    write_keras,
)
from ckpt_tools.readers import Bundle, Checkpoint, open_checkpoint
from ckpt_tools.runs.opening import open_meant
from ckpt_tools.transactions import Plan, Value

if TYPE_CHECKING:
    import numpy as np

REASON = "average"
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_COMPLEX = ("complex64", "complex128")


@dataclass(frozen=True)
class Averaged:
    """The answer of ``ckpt average``: keys of the first checkpoint, by what was done with them.

    ``kept`` are those that are the same in all, or counters of the saver, taken from the last. ``comparison`` is what
    was measured of it, where it was to be written only when it is better.
    """

    sources: tuple[str, ...]
    output: str
    averaged: tuple[str, ...]
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    plan: Plan | None = None
    written: bool = False
    comparison: Comparison | None = None
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "sources": list(self.sources),
            "output": self.output,
            "averaged": list(self.averaged),
            "kept": list(self.kept),
            "dropped": list(self.dropped),
            "written": self.written,
            "plan": self.plan.to_json() if self.plan else None,
            "comparison": self.comparison.to_json() if self.comparison else None,
            "findings": [finding.to_json() for finding in self.findings],
        }


def average(
    paths: Sequence[str],
    out: str,
    *,
    dry_run: bool = False,
    how: ByProgram | ByUsers | None = None,
    metric: str = "metric",
    progress: OnProgress | None = None,
) -> Averaged:
    """Write the mean of some checkpoints, in the format of the first, to ``out``.

    Which tensor of one is which of another, `pairing` tells; each of the first must be in all the others, with its type
    and shape. With ``how`` it is measured, as each of them is, and written only when it is better than all, by more
    than noise; ``metric`` is how what is measured is called. With ``dry_run`` nothing is measured.

    Raises:
        UsageError: fewer than two checkpoints, or the output is there already.
        MismatchError: they are not checkpoints of one model; the message names the first tensor that shows it.
        UnsupportedError: a format that is not written.
        and what `open_checkpoint`, reading and `comparing.compare` raise; nothing is written then.
    """
    if len(paths) < 2:
        raise UsageError("an average is of two checkpoints or more")
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(open_meant(path)) for path in paths]
        first = opened[0]
        if len({checkpoint.prefix for checkpoint in opened}) < len(opened):
            raise UsageError("one checkpoint is named twice: it would count twice")
        require_writable_format(first)
        target = bundle_target(out, first.prefix, dry_run=dry_run) if isinstance(first, Bundle) else out
        if not isinstance(first, Bundle):
            require_new_file(first, out)
        found, values = _averaged(opened, target)
        comparison = None
        if how is not None and not dry_run:
            comparison = _compared(opened, found, values, how, metric, progress)
            if not comparison.better:
                message = f"not better than each of them by more than noise, so not written: {comparison.sentence}"
                finding = Finding("not-better", "error", message, comparison.best.prefix)
                return _done(found, comparison=comparison, findings=(*found.findings, finding))
        evidence = {"measured": comparison.to_json()} if comparison else {}
        plan = _planned(first, found, values, target, evidence) if isinstance(first, Bundle) else None
        if not dry_run and plan is None:
            write_keras(first, out, [*found.averaged, *found.kept], values)
    if not dry_run and plan is not None:
        make_bundle(plan)
    return _done(found, plan=plan, comparison=comparison, written=not dry_run)


def _averaged(opened: Sequence[Checkpoint], target: str) -> tuple[Averaged, dict[str, np.ndarray]]:
    """What becomes of each tensor of the first, and the values of those that are not copied."""
    first = opened[0]
    roles = tell_roles(first.tensors, first.graph)
    chosen = {key: _kind(key, roles.roles[key], first.tensors[key].dtype, roles) for key in first.tensors}
    rows = _aligned(opened, [key for key, kind in chosen.items() if kind != "drop"])
    values: dict[str, np.ndarray] = {}
    odd: list[str] = []
    for key, tensors in rows.items():
        if chosen[key] == "mean":
            values[key] = _mean(tensors, odd, key)
        elif chosen[key] == "last":
            values[key] = tensors[-1].read()
        else:
            _require_same(tensors, opened)
    found = Averaged(
        tuple(checkpoint.prefix for checkpoint in opened),
        target,
        tuple(key for key, kind in chosen.items() if kind == "mean"),
        tuple(key for key, kind in chosen.items() if kind in ("same", "last")),
        tuple(key for key, kind in chosen.items() if kind == "drop"),
        findings=tuple(_not_finite(first.prefix, key) for key in odd),
    )
    if not found.averaged:
        raise UsageError("holds no weights to average", path=first.prefix)
    return found, values


def _planned(
    first: Bundle, found: Averaged, values: Mapping[str, np.ndarray], target: str, evidence: Mapping[str, Any]
) -> Plan:
    return plan_bundle(
        first,
        [key for key in found.kept if key not in values],
        {key: _value(first, key, value) for key, value in values.items()},
        found.dropped,
        reason=REASON,
        evidence={"of": list(found.sources), **evidence},
        target=target,
    )


def _compared(
    opened: Sequence[Checkpoint],
    found: Averaged,
    values: Mapping[str, np.ndarray],
    how: ByProgram | ByUsers,
    metric: str,
    progress: OnProgress | None,
) -> Comparison:
    """Measure the mean, in a directory that is gone afterwards, and what it is of."""
    first = opened[0]
    if isinstance(how, ByUsers):
        return compare(WithValues.of(first, values), opened, how, metric, progress)
    with tempfile.TemporaryDirectory(prefix="ckpt-average-") as directory:
        draft = os.path.join(directory, "mean", os.path.basename(found.output))
        if isinstance(first, Bundle):
            make_bundle(_planned(first, found, values, draft, {}))
        else:
            durable.make_directory(os.path.dirname(draft))
            write_keras(first, draft, [*found.averaged, *found.kept], values)
        with open_checkpoint(draft) as mean:
            return compare(mean, opened, how, metric, progress)


def _done(found: Averaged, **more: Any) -> Averaged:
    return Averaged(**{**vars(found), **more})


def _kind(key: str, role: Role, dtype: str, roles: Roles) -> str:
    """What is done with a tensor: ``mean``, ``same`` (it must be, in all), ``last`` (that of the last) or ``drop``."""
    if role.group == "optimizer" or key in {*roles.steps, *roles.bests, *roles.stops}:
        return "drop"
    if role.group == "state":
        return "last" if key.startswith(SAVE_COUNTER) else "drop"
    return "mean" if dtype in (*_FLOATS, *_COMPLEX) else "same"


def _aligned(opened: Sequence[Checkpoint], keys: Sequence[str]) -> dict[str, list[Named]]:
    """For each key of the first checkpoint its tensor in every one. Raises MismatchError where one has none."""
    named = [by_canonical_name(checkpoint) for checkpoint in opened]
    own = {tensor.keys: tensor for tensor in named[0].values() if tensor.stored}
    rows = {key: [own[key,]] for key in keys if (key,) in own}
    # A tensor of which several are made (TensorFlow 1's GRU) is averaged as it is stored.
    rows |= {key: [_as_stored(opened[0], key)] for key in keys if key not in rows}
    for checkpoint, tensors in zip(opened[1:], named[1:], strict=True):
        partners = {left.keys: right for left, right in pair(named[0], tensors)}
        for key, row in rows.items():
            other = partners.get((key,))
            if other is None and key in checkpoint.tensors:
                other = _as_stored(checkpoint, key)
            if other is None:
                raise MismatchError(
                    "not a checkpoint of the same model: it lacks a tensor", path=checkpoint.prefix, key=key
                )
            if (other.dtype, other.shape) != (row[0].dtype, row[0].shape):
                message = f"is {other.dtype} {list(other.shape)} here, {row[0].dtype} {list(row[0].shape)} in the first"
                raise MismatchError(message, path=checkpoint.prefix, key=other.keys[0])
            row.append(other)
    return rows


def _as_stored(checkpoint: Checkpoint, key: str) -> Named:
    info = checkpoint.tensors[key]
    return Named(key, (key,), info.dtype, info.shape, True, lambda: checkpoint.read(key))


def _mean(tensors: Sequence[Named], odd: list[str], key: str) -> np.ndarray:
    """The mean, added up in float64 (complex128), in the stored type."""
    import numpy as np

    wide = np.complex128 if tensors[0].dtype in _COMPLEX else np.float64
    total: np.ndarray | None = None
    with np.errstate(all="ignore"):
        for tensor in tensors:
            value = tensor.read()
            if not value.size:
                return value  # of a shape, perhaps, that has no place for wider elements
            dtype = value.dtype
            total = value.astype(wide) if total is None else total + value
        assert total is not None
        mean = total / len(tensors)
        if not np.isfinite(mean).all():
            odd.append(key)
        return np.asarray(mean.astype(dtype))


def _require_same(tensors: Sequence[Named], opened: Sequence[Checkpoint]) -> None:
    first = tensors[0].read()
    for tensor, checkpoint in zip(tensors[1:], opened[1:], strict=True):
        other = tensor.read()
        same = (first == other).all() if first.dtype == object else first.tobytes() == other.tobytes()
        if not same:
            message = f"{tensor.dtype} values that differ from the first's, and have no mean"
            raise MismatchError(message, path=checkpoint.prefix, key=tensor.keys[0])


def _not_finite(path: str, key: str) -> Finding:
    message = f"{key}: the mean is not finite everywhere: one of the checkpoints is not, or the sum is too large"
    return Finding("not-finite", "warning", message, path, key)


def _value(bundle: Bundle, key: str, value: np.ndarray) -> Value:
    return Value.of(bundle.tensors[key].dtype, value.shape, value.tobytes())
