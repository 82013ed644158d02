"""``ckpt inspect`` beside TensorFlow's own ``inspect_checkpoint``, as whole processes, in one run.

Prints the median seconds of each and their ratio. Reference: ``python -m
tensorflow.python.tools.inspect_checkpoint`` of the TensorFlow in this environment.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

PREFIX = Path(__file__).resolve().parent.parent / (
    "fixtures/experiments/tf2.21/best_model/book_DNN_b128_lr0.005_d8_len20_k3_DNN/keras_ckpt/ckpt-3"
)
CKPT = [str(Path(sys.executable).parent / "ckpt"), "inspect", str(PREFIX)]
TENSORFLOW = [sys.executable, "-m", "tensorflow.python.tools.inspect_checkpoint", f"--file_name={PREFIX}"]


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    ours, theirs = [], []
    seconds(CKPT)  # the first run of each pays for the disk
    seconds(TENSORFLOW)
    for _ in range(5):
        ours.append(seconds(CKPT))
        theirs.append(seconds(TENSORFLOW))
    fast, slow = statistics.median(ours), statistics.median(theirs)
    print(f"ckpt inspect          {fast:6.3f} s")
    print(f"inspect_checkpoint    {slow:6.3f} s")
    print(f"ratio                 {slow / fast:6.1f}")


if __name__ == "__main__":
    main()
