"""``ckpt inspect`` beside TensorFlow's own ``inspect_checkpoint``, as whole processes, in one run.

Prints the median seconds of each and their ratio. Reference: ``python -m
tensorflow.python.tools.inspect_checkpoint`` of the TensorFlow in this environment.

``--tree DIR``: beside another version of this project instead, whose files lie in DIR; 40 runs of each in turn, by the
least processor time, which a busy machine does not change.
"""

from __future__ import annotations

import os
import resource
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


def processor_seconds(tree: Path) -> float:
    """Of one inspection by the files of ``tree``, in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [
        sys.executable,
        "-c",
        "import sys; from ckpt_tools.cli import main; sys.exit(main())",
        "inspect",
        str(PREFIX),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(tree)
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=tree)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def against(tree: Path) -> None:
    here = Path(__file__).resolve().parent.parent
    for each in (here, tree):
        processor_seconds(each)  # which compiles the modules, once
    pairs = [(processor_seconds(here), processor_seconds(tree)) for _ in range(40)]
    new, old = (min(column) for column in zip(*pairs, strict=True))
    print(f"ckpt inspect here     {new:6.3f} s of a processor")
    print(f"ckpt inspect there    {old:6.3f} s of a processor")
    print(f"ratio                 {new / old:6.2f}")


def main() -> None:
    if sys.argv[1:2] == ["--tree"]:
        against(Path(sys.argv[2]).resolve())
        return
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
