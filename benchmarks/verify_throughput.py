"""``ckpt verify`` of 2 GB in the page cache beside ``cat FILE > /dev/null``, as whole processes, in one run.

Prints the best seconds of each, their ratio, and the most memory that verify took.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ckpt_tools.format import checksum
from ckpt_tools.format.bundle import Entry
from ckpt_tools.format.dtypes import BY_NAME
from ckpt_tools.format.table import write_table

TENSORS, BYTES = 20, 100_000_000
RUNS = 5


def make(directory: Path) -> tuple[str, str]:
    prefix, data = str(directory / "big"), str(directory / "big.data-00000-of-00001")
    raw = os.urandom(BYTES)
    entries = {b"": bytes.fromhex("08011a020801")}
    with open(data, "wb") as file:
        for number in range(TENSORS):
            place = (0, number * BYTES, BYTES, checksum.masked(raw))
            entries[b"tensor%02d" % number] = Entry(BY_NAME["float32"], (BYTES // 4,), *place).encode()
            file.write(raw)
    Path(f"{prefix}.index").write_bytes(write_table(entries))
    return prefix, data


def seconds(*command: str) -> tuple[float, int]:
    """The best time of a command, and the bytes of memory it took."""
    best, memory = float("inf"), 0
    for _ in range(RUNS):
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, command
        best, memory = min(best, time.perf_counter() - start), max(memory, used.ru_maxrss << 10)
    return best, memory


def main() -> None:
    scratch = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        prefix, data = make(Path(directory))
        cat, _ = seconds("cat", data)
        verify, memory = seconds(str(Path(sys.executable).parent / "ckpt"), "verify", prefix)
    print(f"cat           {cat:6.3f} s")
    print(f"ckpt verify   {verify:6.3f} s   {memory / 1e6:.0f} MB")
    print(f"ratio         {verify / cat:6.2f}")


if __name__ == "__main__":
    main()
