"""``ckpt inspect`` of 10^4 and 10^5 tensors beside TensorFlow's own reader, as whole processes, in one run.

Prints the best seconds of each, the ratio to TensorFlow, and how much longer ten times as many tensors take.
Reference: a process that calls ``tf.train.load_checkpoint(PREFIX).get_variable_to_shape_map()``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ckpt_tools.format import checksum
from ckpt_tools.format.bundle import Entry, Header
from ckpt_tools.format.dtypes import BY_NAME
from ckpt_tools.format.table import write_table

CKPT = [str(Path(sys.executable).parent / "ckpt"), "inspect"]
TENSORFLOW = "import sys, tensorflow as tf; tf.train.load_checkpoint(sys.argv[1]).get_variable_to_shape_map()"
HEADER = Header(1, bytes.fromhex("08011a020801"))
RUNS = 3


def make(directory: Path, count: int) -> str:
    """A bundle of so many matrices of 64 bytes."""
    entries, data = {b"": HEADER.raw}, bytearray()
    for number in range(count):
        raw = number.to_bytes(4, "little") * 16
        key = f"model/layer_{number // 100:04d}/block_{number % 100:02d}/kernel".encode()
        entries[key] = Entry(BY_NAME["float32"], (4, 4), 0, len(data), len(raw), checksum.masked(raw)).encode()
        data += raw
    prefix = directory / f"tensors-{count}"
    Path(f"{prefix}.index").write_bytes(write_table(entries))
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)
    return str(prefix)


def seconds(*command: str) -> float:
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        few, many = make(Path(directory), 10_000), make(Path(directory), 100_000)
        theirs = seconds(sys.executable, "-c", TENSORFLOW, many)
        for name, options in (("text", []), ("--json", ["--json"])):
            fast, slow = seconds(*CKPT, *options, few), seconds(*CKPT, *options, many)
            print(f"ckpt inspect, {name:7}  10^4 {fast:6.3f} s   10^5 {slow:6.3f} s   {slow / fast:5.2f} times")
            print(f"TensorFlow                           10^5 {theirs:6.3f} s   ratio {theirs / slow:.2f}")


if __name__ == "__main__":
    main()
