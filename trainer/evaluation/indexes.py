"""Indexes of the items for services: exact, or approximate and faster. Needs faiss, no TensorFlow.

All of them search by inner product, and are set so that most of the exact top N is found (``benchmarks/indexes.py``);
whoever loads one can trade recall for time by ``nprobe`` (IVF) or ``hnsw.efSearch`` (HNSW).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["flat", "ivf", "hnsw"]
KINDS: tuple[Kind, ...] = ("flat", "ivf", "hnsw")

# Links of each item, and candidates that are looked at while an item is added and while one is searched.
_LINKS, _WHILE_ADDED, _WHILE_SEARCHED = 32, 200, 128
# Of the clusters, the share that a search looks into, and how many at least; fewer than so many items need no clusters.
_SHARE_PROBED, _PROBED = 1 / 8, 32
_FEWEST = 1000


def build(kind: Kind, items: np.ndarray) -> Any:
    """A faiss index of ``items`` float32 [n, D]; ids are row numbers."""
    import faiss

    count, dim = items.shape
    index: Any
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, _LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _WHILE_ADDED
        index.hnsw.efSearch = _WHILE_SEARCHED
    elif kind == "ivf" and count >= _FEWEST:
        clusters = round(4 * math.sqrt(count))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, clusters, faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1  # fewer are no reason for a warning on stderr
        index.train(items)
        index.nprobe = max(_PROBED, round(clusters * _SHARE_PROBED))
    else:
        index = faiss.IndexFlatIP(dim)
    index.add(items)
    return index


@dataclass(frozen=True)
class Tried:
    """How an index answers: the share of the exact top N that it finds, and milliseconds for a query, one at a time."""

    recall: float
    milliseconds: float
    exact_milliseconds: float


def tried(index: Any, items: np.ndarray, queries: np.ndarray, top_n: int) -> Tried:
    """Search for each of ``queries`` float32 [Q, D] exactly and through the index."""
    import faiss

    exact = faiss.IndexFlatIP(items.shape[1])
    exact.add(items)
    top_n = min(top_n, len(items))
    found, seconds = _search(index, queries, top_n)
    wanted, exact_seconds = _search(exact, queries, top_n)
    hits = sum(len(np.intersect1d(one, other)) for one, other in zip(found, wanted, strict=True))
    each = 1000 / len(queries)
    return Tried(hits / wanted.size, seconds * each, exact_seconds * each)


def _search(index: Any, queries: np.ndarray, top_n: int) -> tuple[np.ndarray, float]:
    begun = time.perf_counter()
    found = [index.search(query[None], top_n)[1][0] for query in queries]
    return np.array(found), time.perf_counter() - begun
