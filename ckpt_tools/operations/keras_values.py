"""Putting a best value into a Keras file, where Keras passes over it.

    .h5, .weights.h5   attributes of the root: best_metric (float64), best_metric_meaning (JSON)
    .keras             the member best_metric.json, with both in it

Or into a scalar dataset of a file that has one already (``BestCheckpoint`` writes one). Everything else in the file
stays as it is, byte for byte: attributes need a few words in its metadata, a member a new list of members.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from ckpt_tools.errors import CorruptError, UnsupportedError, UsageError
from ckpt_tools.format.stored_best import BEST_METRIC, BEST_METRIC_MEANING, BEST_METRIC_MEMBER
from ckpt_tools.hdf5.library import MOST_MEANING
from ckpt_tools.readers import Checkpoint, open_checkpoint
from ckpt_tools.readers.keras_h5 import Hdf5Checkpoint
from ckpt_tools.readers.keras_zip import KerasZip
from ckpt_tools.transactions import FilePlan, patched
from ckpt_tools.transactions.plan import Change


def plan_value(
    checkpoint: Hdf5Checkpoint,
    value: float,
    meaning: Mapping[str, Any] | None,
    *,
    dataset: str | None = None,
    reason: str,
    evidence: Mapping[str, Any],
) -> FilePlan:
    """Plan to put a value and its meaning into a Keras file.

    ``dataset`` shall have the value too; or, without a ``meaning``, it alone.

    Raises UnsupportedError for a file in which there is no place for it, UsageError for a meaning that is too long,
    CorruptError or UnsafeError where the file does not bear it.
    """
    path = checkpoint.prefix
    if path.endswith(".json"):
        raise UnsupportedError("weights in several files with a map are not written", path=path)
    text = json.dumps({**(meaning or {}), "value": value}, sort_keys=True, ensure_ascii=False, allow_nan=False)
    if len(text.encode()) > MOST_MEANING:
        raise UsageError("what the value means is too long to be stored", path=path, hint="give a shorter --metric")
    # Not as it is by now: a trainer may have saved since, and what was read and measured is not of that.
    source = checkpoint.fingerprint
    archive = checkpoint if isinstance(checkpoint, KerasZip) else None
    if archive is not None:
        if dataset is not None:
            raise UnsupportedError("a variable in a .keras archive is not changed in place", path=path, key=dataset)
        patch = archive.with_member(BEST_METRIC_MEMBER, text.encode())
        changes = [Change(BEST_METRIC_MEMBER, _action(checkpoint), "float64", (), value)]
    else:
        edits: list[dict[str, Any]] = []
        changes = []
        if meaning is not None:
            edits += [{"attribute": BEST_METRIC, "number": value}, {"attribute": BEST_METRIC_MEANING, "text": text}]
            changes += [Change(BEST_METRIC, _action(checkpoint), "float64", (), value)]
            changes += [Change(BEST_METRIC_MEANING, _action(checkpoint), "string", (), text)]
        if dataset is not None:
            edits += [{"dataset": dataset, "number": value}]
            changes += [Change(dataset, "replace", checkpoint.tensors[dataset].dtype, (), value)]
        patch = checkpoint.edited(edits)

    check = partial(_check, path, value, dataset, meaning is not None)
    return FilePlan(path, reason, evidence, tuple(changes), source, patched(path, patch), check, patch.nbytes)


def _check(path: str, value: float, dataset: str | None, beside: bool, new: str) -> None:
    """Raise CorruptError unless the file ``new`` is the one at ``path`` with the value."""
    with open_checkpoint(path) as before, open_checkpoint(new) as after:
        _require_same_but(before, after, dataset)
        if beside and (after.best is None or after.best.value != value):
            raise CorruptError("reads back without the value", path=new)
        # A variable may have fewer digits than the value.
        if dataset is not None and not math.isclose(float(after.read(dataset)), value, rel_tol=1e-3):
            raise CorruptError("reads back with another value", path=new, key=dataset)


def _action(checkpoint: Checkpoint) -> str:
    return "add" if checkpoint.best is None else "replace"


def _require_same_but(before: Checkpoint, after: Checkpoint, key: str | None) -> None:
    """Raise CorruptError unless all tensors are equal, but for one, and nothing is missing that was there."""
    if dict(before.tensors) != dict(after.tensors):
        raise CorruptError("reads back with other tensors", path=after.prefix)
    for name, info in before.tensors.items():
        if name == key or info.dtype in ("variant", "resource"):
            continue
        if not _same_values(before, after, name):
            raise CorruptError("reads back differently", path=after.prefix, key=name)
    old, new = ({finding.message for finding in each.outline()} for each in (before, after))
    if new - old:
        raise CorruptError(f"reads back with damage: {min(new - old)}", path=after.prefix)


def _same_values(before: Checkpoint, after: Checkpoint, name: str) -> bool:
    """Whether a tensor is the same in both: most are cut into the same pieces, which are compared without digests."""
    if before.tensors[name].dtype != "string":
        pieces = itertools.zip_longest(before.chunks(name), after.chunks(name))
        if all(old == new for old, new in pieces):
            return True
    return before.digest(name) == after.digest(name)
