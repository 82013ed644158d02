"""How two checkpoints differ: which tensors each has, then their values."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ckpt_tools.analysis.pairing import pair
from ckpt_tools.analysis.stability import steady
from ckpt_tools.errors import CkptError, UnsupportedError
from ckpt_tools.findings import Finding
from ckpt_tools.lineages.naming import Named, by_canonical_name
from ckpt_tools.readers.common import damage
from ckpt_tools.runs.opening import open_meant

if TYPE_CHECKING:
    import numpy as np

OnProgress = Callable[[int, int], None]

# A table has rows that stand for things; a smaller matrix is just a matrix.
_TABLE_ROWS = 64
_BLOCK_ELEMENTS = 1 << 20


@dataclass(frozen=True)
class Rows:
    """The rows of an embedding table: how many there are, and how many differ.

    ``untrained_a`` and ``untrained_b`` count rows that never got a gradient (Adam's second moment is all zeros);
    None where the checkpoint has no moments of it.
    """

    total: int
    moved: int
    untrained_a: int | None = None
    untrained_b: int | None = None


@dataclass(frozen=True)
class Change:
    """One tensor that differs. ``kind`` is what differs first; the numbers are there for ``values`` only.

    Differences are of finite values: ``max_relative`` is to the larger of the two, ``cosine`` is None when one is all
    zeros; ``nan_a`` and ``nan_b`` count NaNs, ``elements`` how many elements differ in their bits (None: of types that
    no array has only the stored bytes are compared).
    """

    name: str
    kind: Literal["dtype", "shape", "values"]
    key_a: str
    key_b: str
    dtype_a: str
    dtype_b: str
    shape_a: tuple[int, ...]
    shape_b: tuple[int, ...]
    elements: int | None = None
    max_abs: float | None = None
    max_relative: float | None = None
    cosine: float | None = None
    nan_a: int | None = None
    nan_b: int | None = None
    rows: Rows | None = None


@dataclass(frozen=True)
class Difference:
    """The answer of ``ckpt diff``."""

    a: str
    b: str
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    changed: tuple[Change, ...]
    same: int
    findings: tuple[Finding, ...] = ()

    @property
    def equal(self) -> bool:
        return not (self.only_a or self.only_b or self.changed or self.findings)

    def to_json(self) -> dict[str, Any]:
        return {
            "a": self.a,
            "b": self.b,
            "equal": self.equal,
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "changed": [asdict(change) for change in self.changed],
            "same": self.same,
            "findings": [finding.to_json() for finding in self.findings],
        }


@steady
def diff(a: str | os.PathLike[str], b: str | os.PathLike[str], *, progress: OnProgress | None = None) -> Difference:
    """Compare two checkpoints of any formats; which tensor is which, `pairing` tells.

    Tensors that cannot be read are in ``findings``. Raises what `readers.open_checkpoint` raises.
    """
    with open_meant(a) as first, open_meant(b) as second:
        named_a, named_b = by_canonical_name(first), by_canonical_name(second)
        pairs = pair(named_a, named_b)
        changed: list[Change] = []
        findings: list[Finding] = []
        for number, (left, right) in enumerate(pairs):
            try:
                change = _compare(left, right, named_a, named_b)
            except CkptError as error:
                findings.append(damage(error))
            else:
                changed += [change] if change else []
            if progress is not None:
                progress(number + 1, len(pairs))
        matched_a, matched_b = {pair[0].name for pair in pairs}, {pair[1].name for pair in pairs}
        return Difference(
            first.prefix,
            second.prefix,
            tuple(name for name in named_a if name not in matched_a),
            tuple(name for name in named_b if name not in matched_b),
            tuple(changed),
            len(pairs) - len(changed) - len(findings),
            tuple(findings),
        )


def _compare(a: Named, b: Named, all_a: dict[str, Named], all_b: dict[str, Named]) -> Change | None:
    import numpy as np

    change = Change(a.name, "values", a.keys[0], b.keys[0], a.dtype, b.dtype, a.shape, b.shape)
    if a.dtype != b.dtype:
        return replace(change, kind="dtype")
    if a.stored and b.stored and a.shape != b.shape:
        return replace(change, kind="shape")
    if a.pieces is not None and b.pieces is not None:
        some, others = a.pieces(), b.pieces()
        if some and others and some.keys() == others.keys():
            return None if some == others else change
    try:
        left, right = a.read(), b.read()
    except UnsupportedError:
        # No array has such values or such a shape, but the same bytes are the same value.
        if a.digest is None or b.digest is None:
            raise
        return None if a.digest() == b.digest() else change
    change = replace(change, shape_a=left.shape, shape_b=right.shape)
    if left.shape != right.shape:
        return replace(change, kind="shape")
    if not left.size:
        return None  # whatever its other dimensions are
    if left.dtype == object:
        differing = int((left != right).sum())
        return replace(change, elements=differing) if differing else None
    by_row = _differing(left, right)
    elements = int(by_row.sum())
    if not elements:
        return None
    if left.ndim == 2 and len(left) >= _TABLE_ROWS:
        moved = int(np.count_nonzero(by_row))
        rows = Rows(len(left), moved, _untrained(a.name, all_a), _untrained(b.name, all_b))
        change = replace(change, rows=rows)
    return replace(change, elements=elements, **_numbers(left, right))


def _differing(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """For each row, how many elements differ in their bits: -0.0 is not 0.0, and a NaN is itself."""
    import numpy as np

    if not a.size:
        return np.zeros(1, np.int64)
    rows = len(a) if a.ndim else 1
    bytes_a, bytes_b = (
        np.ascontiguousarray(x).view(np.uint8).reshape(rows, -1, x.itemsize) for x in _at_least_1d(a, b)
    )
    counts = np.empty(rows, np.int64)
    step = max(1, _BLOCK_ELEMENTS // max(1, bytes_a[0].size))
    for start in range(0, rows, step):
        block = slice(start, start + step)
        counts[block] = (bytes_a[block] != bytes_b[block]).any(axis=2).sum(axis=1)
    return counts


def _at_least_1d(*arrays: np.ndarray) -> Iterator[np.ndarray]:
    import numpy as np

    return (np.atleast_1d(array) for array in arrays)


def _numbers(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """Differences over the elements that are finite in both, in float64, block by block."""
    import numpy as np

    wide = np.complex128 if np.iscomplexobj(a) else np.float64
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    largest = relative = dot = square_a = square_b = 0.0
    nan_a = nan_b = 0
    for start in range(0, flat_a.size, _BLOCK_ELEMENTS):
        x, y = (flat[start : start + _BLOCK_ELEMENTS].astype(wide) for flat in (flat_a, flat_b))
        nan_a += int(np.isnan(x).sum())
        nan_b += int(np.isnan(y).sum())
        finite = np.isfinite(x) & np.isfinite(y)
        x, y = x[finite], y[finite]
        if not x.size:
            continue
        # Two finite numbers can be infinitely far apart, and their squares overflow: then infinity is the answer.
        with np.errstate(over="ignore", invalid="ignore"):
            gap, size = np.abs(x - y), np.maximum(np.abs(x), np.abs(y))
            largest = max(largest, float(gap.max()))
            relative = max(relative, float((gap / np.where(size == 0, 1, size)).max()))
            dot += float((x * np.conj(y)).real.sum())
            square_a += float((np.abs(x) ** 2).sum())
            square_b += float((np.abs(y) ** 2).sum())
    norm = math.sqrt(square_a) * math.sqrt(square_b)
    cosine = max(-1.0, min(1.0, dot / norm)) if norm and math.isfinite(norm) else None
    return {"max_abs": largest, "max_relative": relative, "cosine": cosine, "nan_a": nan_a, "nan_b": nan_b}


def _untrained(name: str, tensors: dict[str, Named]) -> int | None:
    """Rows whose second moment is zero throughout: no gradient ever reached them."""
    moment = tensors.get(f"optimizer/v/{name.removeprefix('model/')}")
    if moment is None or len(moment.shape) != 2:
        return None
    value = moment.read()
    return int((~value.any(axis=1)).sum())
