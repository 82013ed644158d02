"""``ckpt guard`` beside the same training without it: the cost of guarding a run that saves every second.

A TensorFlow loop of a fixed amount of work prints its metric and overwrites one checkpoint (4 MB) about once a second,
each a new best, so that each is verified, pinned, and has its value written into it. The two kinds of runs take turns;
each tells the seconds and the processor time of its own loop. Prints the medians and what the guard adds.
Reference: the same script, run directly.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PAIRS = 7
TRAINER = """
import os, sys, time
import tensorflow as tf
run = sys.argv[1]
os.makedirs(run, exist_ok=True)
weights = tf.Variable(tf.zeros([1000, 1000]))
checkpoint = tf.train.Checkpoint(weights=weights)
x = tf.random.normal([700, 700], seed=1)

@tf.function
def train():
    y = x
    for _ in tf.range(12):
        y = tf.tanh(tf.matmul(y, x))
    weights.assign_add(tf.ones([1000, 1000]) * tf.reduce_mean(y))

train()
checkpoint.write(f"{run}/warm")
start, used = time.perf_counter(), time.process_time()
for epoch in range(10):
    for step in range(int(sys.argv[2])):
        train()
    print(f"epoch {epoch} valid recall: {0.01 * (epoch + 1):.4f}")
    checkpoint.write(f"{run}/model")
print("SECONDS", time.perf_counter() - start, time.process_time() - used)
"""


def seconds(script: Path, run: Path, steps: int, *, guarded: bool) -> tuple[float, float]:
    """The wall and processor seconds of one training."""
    command = [sys.executable, str(script), str(run), str(steps)]
    if guarded:
        ckpt = Path(sys.executable).parent / "ckpt"
        command = [str(ckpt), "guard", str(run), "--quiet", "--metric", "valid recall", "--", *command]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    line = next(line for line in done.stdout.splitlines() if line.startswith("SECONDS"))
    wall, used = map(float, line.split()[1:])
    return wall, used


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        script = Path(place) / "train.py"
        script.write_text(TRAINER)
        wall, _ = seconds(script, Path(place) / "calibrate", 20, guarded=False)
        steps = max(1, round(20 * 10 / wall))  # so that an epoch takes about a second here
        plain, guarded = [], []
        for pair in range(PAIRS):
            plain.append(seconds(script, Path(place) / f"plain{pair}", steps, guarded=False))
            guarded.append(seconds(script, Path(place) / f"guarded{pair}", steps, guarded=True))
        for name, runs in (("unguarded", plain), ("ckpt guard", guarded)):
            walls, used = zip(*runs, strict=True)
            median = statistics.median(walls)
            print(
                f"{name:12}  {median:7.3f} s, fastest {min(walls):7.3f} s, processor {statistics.median(used):7.3f} s"
            )
        added = statistics.median(b[0] / a[0] for a, b in zip(plain, guarded, strict=True)) - 1
        fastest = min(b[0] for b in guarded) / min(a[0] for a in plain) - 1
        print(
            f"added         {100 * added:6.2f} % of the time (median of {PAIRS} pairs; fastest {100 * fastest:.2f} %)"
        )


if __name__ == "__main__":
    main()
