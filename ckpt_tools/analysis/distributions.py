"""How the values of a tensor are distributed, and the norms of embeddings by how frequent their items are."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckpt_tools.analysis.stability import steady
from ckpt_tools.errors import NotFoundError, UnsupportedError
from ckpt_tools.readers import Checkpoint, TensorInfo
from ckpt_tools.runs.opening import open_meant

if TYPE_CHECKING:
    import numpy as np

FLOATS = ("float16", "bfloat16", "float32", "float64")
_BINS = 40
_BANDS = 40
# So many values of a tensor tell its distribution; more would only take memory.
_SAMPLE = 1_000_000


@dataclass(frozen=True)
class Histogram:
    """The values of one tensor: ``counts[i]`` lie between ``edges[i]`` and ``edges[i + 1]``; ``odd`` are not finite."""

    name: str
    counts: tuple[int, ...]
    edges: tuple[float, ...]
    odd: int = 0


@dataclass(frozen=True)
class NormBand:
    """The norms of the embeddings of the items ``first`` to ``last``: their tenths and their middle."""

    first: int
    last: int
    low: float
    middle: float
    high: float


@steady
def histogram_of(path: str, name: str) -> Histogram:
    """Of a tensor of the checkpoint that a path means, by its stored name.

    Raises UnsupportedError for one that holds no floats, NotFoundError and what else reading it raises.
    """
    with open_meant(path) as checkpoint:
        info = checkpoint.tensors.get(name)
        if info is None:
            raise NotFoundError("no such tensor", path=path, key=name)
        if info.dtype not in FLOATS:
            raise UnsupportedError(f"values of type {info.dtype} are not counted", path=path, key=name)
        return histogram(checkpoint, info)


def histogram(checkpoint: Checkpoint, info: TensorInfo) -> Histogram:
    """Of a tensor of floats; of a large one so many of its values, evenly spread.

    Raises CorruptError and others when it cannot be read.
    """
    import numpy as np

    from ckpt_tools.format import dtypes

    dtype = dtypes.to_numpy(dtypes.BY_NAME[info.dtype])
    stride = max(1, info.nbytes // dtype.itemsize // _SAMPLE)
    parts = [
        np.frombuffer(chunk, dtype)[::stride].astype(np.float64)
        for chunk in checkpoint.chunks(info.name)
        if len(chunk) % dtype.itemsize == 0
    ]
    values = np.concatenate(parts) if parts else np.empty(0)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Histogram(info.name, (), (), int(values.size))
    counts, edges = np.histogram(finite, bins=_edges(float(finite.min()), float(finite.max())))
    return Histogram(info.name, tuple(counts.tolist()), tuple(edges.tolist()), int(values.size - finite.size))


def _edges(low: float, high: float) -> np.ndarray:
    """Rising edges from the lowest to the highest value: fewer where floats have no room for so many between them."""
    import numpy as np

    share = np.linspace(0, 1, _BINS + 1)
    # Not low + share * (high - low): two finite numbers can be infinitely far apart.
    edges = np.unique(np.clip(low * (1 - share) + high * share, low, high))
    if len(edges) > 1:
        edges[0], edges[-1] = low, high
        return edges
    # A constant, in the middle of a bin; of a large one even half a unit is no distance.
    above, below = max(high + 0.5, math.nextafter(high, math.inf)), min(low - 0.5, math.nextafter(low, -math.inf))
    return np.array([max(below, -sys.float_info.max), min(above, sys.float_info.max)])


def norm_bands(table: np.ndarray) -> tuple[NormBand, ...]:
    """Bands of ids that grow by a factor: ids fall in frequency, which falls as a power of them. 0 is padding."""
    import numpy as np

    if table.ndim != 2 or len(table) < 3:
        return ()
    norms = np.linalg.norm(table.astype(np.float32, copy=False), axis=1)
    edges = np.unique(np.geomspace(1, len(norms), _BANDS + 1).astype(int))
    bands = []
    for first, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        low, middle, high = np.quantile(norms[first:end], [0.1, 0.5, 0.9]).tolist()
        if np.isfinite([low, middle, high]).all():
            bands.append(NormBand(first, end - 1, low, middle, high))
    return tuple(bands)
