"""Indexes of items beside each other: how much of the exact top 50 each finds, and how long a query takes.

Usage: ``python benchmarks/indexes.py DIRECTORY`` with what ``trainer export --users FILE`` has written there:
``item_vectors.npy`` and ``user_vectors.npy``.

One query at a time on one thread, as a service answers; the exact index of the same run is the reference. What
``trainer export --index`` sets is marked.
"""

from __future__ import annotations

import os
import sys
import time

import faiss
import numpy as np

from trainer.evaluation import indexes

TOP_N, QUERIES = 50, 500


def vectors(directory: str) -> tuple[np.ndarray, np.ndarray]:
    """Items float32 [n, D] and queries float32 [Q, D]."""
    items, users = (np.load(os.path.join(directory, f"{name}_vectors.npy")) for name in ("item", "user"))
    queries = users.reshape(-1, users.shape[-1])
    chosen = np.random.default_rng(2).permutation(len(queries))[:QUERIES]
    return np.ascontiguousarray(items, np.float32), np.ascontiguousarray(queries[chosen], np.float32)


def main() -> None:
    faiss.omp_set_num_threads(1)
    items, queries = vectors(sys.argv[1])
    print(f"{len(items)} items of {items.shape[1]} numbers, {len(queries)} queries, top {TOP_N}")
    for kind in ("ivf", "hnsw"):
        begun = time.perf_counter()
        index = indexes.build(kind, items)
        seconds = time.perf_counter() - begun
        size = len(faiss.serialize_index(index)) / 2**20
        print(f"{kind}: built in {seconds:.1f} s, {size:.0f} MB")
        own = index.nprobe if kind == "ivf" else index.hnsw.efSearch
        for value in sorted({own // 8, own // 4, own // 2, own, own * 2} - {0}):
            if kind == "ivf":
                index.nprobe = value
            else:
                index.hnsw.efSearch = value
            found = indexes.tried(index, items, queries, TOP_N)
            name = "nprobe" if kind == "ivf" else "efSearch"
            mark = "  (as exported)" if value == own else ""
            print(
                f"  {name} {value:4}  recall@{TOP_N} {found.recall:.4f}  {found.milliseconds:7.3f} ms"
                f"  exact {found.exact_milliseconds:7.3f} ms{mark}",
                flush=True,
            )


if __name__ == "__main__":
    main()
