"""``ckpt backfill --all`` with one worker and with two, on 20 experiments whose evaluation dominates.

Prints the seconds of each and their ratio; meaningful only on a machine with two idle cores.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ckpt_tools.operations.backfilling import Options
from ckpt_tools.operations.bulk_backfilling import backfill_all
from ckpt_tools.operations.workers import Processes

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
EXPERIMENT = FIXTURES / "experiments/tf2.10/best_model/book_ComiRec-DR_b128_lr0.005_d8_len20_k210_ComiRec-DR"
EXPERIMENTS = 20


def make(root: Path, users: int) -> None:
    """Copies of one experiment without its logs, and generated users; the categories are not needed."""
    for number in range(EXPERIMENTS):
        shutil.copytree(EXPERIMENT, root / "best_model" / f"{EXPERIMENT.name}{number}")
    random = np.random.default_rng(1)
    items = random.zipf(1.3, size=(users, 40)).clip(1, 1273)
    lines = (f"{user},{item},{time}\n" for user, row in enumerate(items.tolist()) for time, item in enumerate(row))
    (root / "data").mkdir()
    (root / "data" / "book_valid.txt").write_text("".join(lines))


def seconds(root: Path, workers: int) -> float:
    start = time.perf_counter()
    found = backfill_all(str(root), Options(str(root / "data"), dry_run=True), Processes(workers))
    assert found.totals == {"would-write": EXPERIMENTS}, found.totals
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        make(Path(directory), int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
        one, two = seconds(Path(directory), 1), seconds(Path(directory), 2)
    print(f"1 worker    {one:6.2f} s")
    print(f"2 workers   {two:6.2f} s")
    print(f"ratio       {one / two:6.2f}")


if __name__ == "__main__":
    main()
