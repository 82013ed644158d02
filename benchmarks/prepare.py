"""Preparing raw interactions: the time, and the memory at its largest. Goal: below 2 GB for 10^7 interactions.

``python benchmarks/prepare.py [INTERACTIONS] [FORMAT...]``, a million of each by default. One interaction in thirty
is of a new item and one in ten of a new user; items are drawn by Zipf's law.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

GOAL_GB = 2.0
_AT_ONCE = 100_000

# A child of its own for each format: the largest memory of a process never falls again.
_PROGRAM = """
import sys
from trainer.data.preparation import prepare
done = prepare(sys.argv[1], sys.argv[2], sys.argv[3], "made_up")
print(f"{done.kept} of {done.read} kept, {done.users} users, {done.items} items")
"""


def _line(kind: str, user: int, item: int, moment: int) -> str:
    if kind == "taobao":
        return f"{user},{item},{item % 9_000},pv,{moment}\n"
    name, product = f"A{user:013X}", f"B{item:09X}"
    if kind == "csv":
        return f"{name},{product},{moment}\n"
    text = "Bought it for my sister, who would not give it back. " * (1 + user % 5)
    if kind == "amazon2014":
        return (
            f'{{"reviewerID": "{name}", "asin": "{product}", "helpful": [0, 0], "reviewText": "{text}", '
            f'"overall": 5.0, "unixReviewTime": {moment}, "reviewTime": "09 13, 2009"}}\n'
        )
    return (
        f'{{"rating": 5.0, "title": "Five", "text": "{text}", "images": [], "asin": "{product}", '
        f'"parent_asin": "{product}", "user_id": "{name}", "timestamp": {1000 * moment}, "verified_purchase": true}}\n'
    )


def write_source(path: str, kind: str, count: int) -> None:
    random = np.random.default_rng(0)
    items = max(count // 33, 100)
    with open(path, "w", encoding="utf-8") as file:
        for start in range(0, count, _AT_ONCE):
            size = min(_AT_ONCE, count - start)
            user = random.integers(1, max(count // 10, 10), size).tolist()
            # Popular items have any number, as in the raw data.
            item = (np.exp(random.random(size) * np.log(items)).astype(np.int64) * 7_919 % items + 1).tolist()
            moment = random.integers(1_300_000_000, 1_500_000_000, size).tolist()
            file.write("".join(map(_line, [kind] * size, user, item, moment)))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as directory:
        for kind in sys.argv[2:] or ("amazon2014", "amazon2023", "taobao", "csv"):
            source = os.path.join(directory, "raw")
            write_source(source, kind, count)
            size = os.path.getsize(source) / 1e6
            begun = time.perf_counter()
            child = subprocess.Popen([sys.executable, "-c", _PROGRAM, source, kind, directory], stdout=subprocess.PIPE)
            assert child.stdout is not None
            found = child.stdout.read().decode().strip()
            _, status, usage = os.wait4(child.pid, 0)
            assert status == 0, status
            seconds, gigabytes = time.perf_counter() - begun, _peak_gb(usage)
            print(
                f"{kind:10} {count} interactions, {size:.0f} MB: {seconds:.1f} s, at most {gigabytes:.2f} GB of memory "
                f"(goal {GOAL_GB:g} GB for 10^7); {found}",
                flush=True,
            )


def _peak_gb(usage: resource.struct_rusage) -> float:
    """Linux counts in kilobytes, macOS in bytes."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


if __name__ == "__main__":
    main()
