"""``ckpt audit`` of 1,000 experiments, beside ``ls -lR`` of the same tree, as whole processes in one run.

The runs are hard links to one real experiment of the fixtures, each with its logs. Prints seconds and the ratio.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "experiments" / "tf2.21"
EXPERIMENT = "book_DNN_b128_lr0.005_d8_len20_k3_DNN"
RUNS = 1000


def make_tree(root: Path) -> None:
    for kind in ("best_model", "runs"):
        shutil.copytree(FIXTURES / kind / EXPERIMENT, root / kind / f"{EXPERIMENT}0")
        for number in range(1, RUNS):
            shutil.copytree(
                root / kind / f"{EXPERIMENT}0", root / kind / f"{EXPERIMENT}{number}", copy_function=os.link
            )


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        make_tree(Path(directory))
        listing = ["ls", "-lR", directory]
        audit = [str(Path(sys.executable).parent / "ckpt"), "audit", directory, "--json"]
        seconds(listing)
        theirs, ours = seconds(listing), seconds(audit)
        print(f"ckpt audit, {RUNS} runs   {ours:7.3f} s")
        print(f"ls -lR                 {theirs:7.3f} s")
        print(f"ratio                  {ours / theirs:7.1f}")


if __name__ == "__main__":
    main()
