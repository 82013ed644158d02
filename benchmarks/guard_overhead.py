"""``ckpt guard`` beside the same training without it: the cost of guarding a run that saves every second.

A TensorFlow loop of a fixed amount of work prints its metric and overwrites one checkpoint (4 MB) about once a second,
each a new best, so that each is verified, pinned, and has its value written into it. The two kinds of runs take turns.
Two things are told apart: what the training loses (the seconds and the processor time of its own loop, against the same
script run directly), and what the guard's processes use beside it, as the system accounts for them.

Reference of the latter: what no guard can do without, in one process that does nothing else: the 4 MB copied once (not
for data that has a second name), read with their CRC32C, and for a Keras file copied once more with the value.

    python benchmarks/guard_overhead.py [bundle] [h5] [keras] [--pairs N]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import google_crc32c

FORMATS = ("bundle", "h5", "keras")
SAVES = 10
TRAINER = """
import os, sys, time
import keras
import tensorflow as tf
run, steps, kind, saves = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
os.makedirs(run, exist_ok=True)
model = keras.Sequential([keras.layers.Input((1000,)), keras.layers.Dense(1000, use_bias=False)])
weights = model.layers[-1].kernel.value
checkpoint = tf.train.Checkpoint(weights=weights)
x = tf.random.normal([700, 700], seed=1)

@tf.function
def train():
    y = x
    for _ in tf.range(12):
        y = tf.tanh(tf.matmul(y, x))
    weights.assign_add(tf.ones([1000, 1000]) * tf.reduce_mean(y))

def save(name):
    if kind == "bundle":
        checkpoint.write(f"{run}/{name}")
    elif kind == "h5":
        model.save_weights(f"{run}/{name}.weights.h5")
    else:
        model.save(f"{run}/{name}.keras")

def others():  # seconds of processor time of the processes beside this one in its session
    used, tick = 0, os.sysconf("SC_CLK_TCK")
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{process}/stat").read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(process) != os.getpid() and int(fields[3]) == os.getsid(0):
            used += int(fields[11]) + int(fields[12])
    return used / tick

train()
save("warm")
time.sleep(2)  # what starts beside it has started
start, used, beside = time.perf_counter(), time.process_time(), others()
for epoch in range(saves):
    for step in range(steps):
        train()
    print(f"epoch {epoch} valid recall: {0.01 * (epoch + 1):.4f}")
    save("model")
wall, used = time.perf_counter() - start, time.process_time() - used
time.sleep(1)  # the last pin is of this loop too
print("SECONDS", wall, used, others() - beside)
"""


class Cost(NamedTuple):
    """Of one training: its seconds, its own processor's, and those of what ran beside it."""

    wall: float
    used: float
    beside: float


def cost(script: Path, run: Path, steps: int, kind: str, *, guarded: bool) -> Cost:
    command = [sys.executable, str(script), str(run), str(steps), kind, str(SAVES)]
    if guarded:
        ckpt = Path(sys.executable).parent / "ckpt"
        command = [str(ckpt), "guard", str(run), "--quiet", "--metric", "valid recall", "--", *command]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, start_new_session=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("SECONDS"))
    return Cost(*map(float, line.split()[1:]))


def floor(place: Path, kind: str) -> float:
    """The processor seconds of what cannot be left out, for one save."""
    source = place / "floor"
    source.write_bytes(os.urandom(4_000_000))
    copies = 0 if kind == "bundle" else 2
    start = time.process_time()
    rounds = 20
    for _ in range(rounds):
        data = source.read_bytes()
        google_crc32c.value(data)
        for copy in range(copies):
            target = place / f"floor{copy}"
            target.write_bytes(data)
            target.unlink()
    return (time.process_time() - start) / rounds


def measure(place: Path, kind: str, pairs: int) -> None:
    script = place / "train.py"
    script.write_text(TRAINER)
    calibration = cost(script, place / f"{kind}-calibrate", 20, kind, guarded=False)
    steps = max(1, round(20 * SAVES / calibration.wall))  # so that an epoch takes about a second here
    plain, guarded, least = [], [], []
    for pair in range(pairs):
        plain.append(cost(script, place / f"{kind}-plain{pair}", steps, kind, guarded=False))
        guarded.append(cost(script, place / f"{kind}-guarded{pair}", steps, kind, guarded=True))
        least.append(floor(place, kind))
    print(f"{kind}: {SAVES} saves, about one a second, {pairs} pairs")
    for name, runs in (("unguarded", plain), ("ckpt guard", guarded)):
        wall, used = (statistics.median(each) for each in (next(zip(*runs, strict=True)), [run.used for run in runs]))
        print(f"  {name:12}  {wall:7.3f} s, fastest {min(runs).wall:7.3f} s, processor {used:7.3f} s")
    for name, ratios in (
        ("seconds", [b.wall / a.wall for a, b in zip(plain, guarded, strict=True)]),
        ("processor", [b.used / a.used for a, b in zip(plain, guarded, strict=True)]),
    ):
        print(f"  the training's {name} grew by {100 * (statistics.median(ratios) - 1):.2f} % (median of pairs)")
    beside = statistics.median(run.beside / run.wall for run in guarded)
    each = statistics.median(run.beside for run in guarded) / SAVES
    print(
        f"  beside it: {1000 * each:.1f} ms of a processor for each save, {100 * beside:.2f} % of one; what no guard "
        f"can do without: {1000 * statistics.median(least):.1f} ms"
    )


def main() -> None:
    pairs = int(sys.argv[sys.argv.index("--pairs") + 1]) if "--pairs" in sys.argv else 5
    kinds = [kind for kind in FORMATS if kind in sys.argv[1:]] or FORMATS
    with tempfile.TemporaryDirectory() as place:
        for kind in kinds:
            measure(Path(place), kind, pairs)


if __name__ == "__main__":
    main()
