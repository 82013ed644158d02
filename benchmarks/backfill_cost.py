"""What ``ckpt backfill --value`` costs on a checkpoint of 4 GB and on one of 4 MB: it should cost the same.

The large one is made of zeros in a sparse file, so that it takes no room; its checksums are those of 4 GB. Prints the
median seconds of both, as whole processes, and their ratio; exit code 1 when that is more than 1.5. A rewrite is taken
back before the next one.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from ckpt_tools.format import checksum
from ckpt_tools.format.table import read_table, write_table
from ckpt_tools.readers import Bundle

EXPERIMENT = "book_DNN_b128_lr0.005_d8_len20_k3_DNN"
SOURCE = Path(__file__).resolve().parent.parent / "fixtures/experiments/tf2.21/best_model" / EXPERIMENT
CKPT = str(Path(sys.executable).parent / "ckpt")
ROUNDS = 7
MOST = 1.5


def grow(root: Path, size: int) -> Path:
    """A copy of a real experiment whose tables of items, and their moments, are so many bytes of zeros."""
    experiment = root / "best_model" / EXPERIMENT
    shutil.copytree(SOURCE, experiment)
    prefix = experiment / "keras_ckpt" / "ckpt-3"
    with Bundle(str(prefix)) as bundle:
        table = read_table(bundle.index_bytes)
        rows = max(entry.shape[0] for entry in bundle.entries.values() if len(entry.shape) == 2)
        tables = [key for key, entry in bundle.entries.items() if len(entry.shape) == 2 and entry.shape[0] == rows]
        end = bundle.shard(0).size
        for key in tables:
            entry = bundle.entries[key]
            count = size // len(tables) // (4 * entry.shape[1])
            nbytes = 4 * count * entry.shape[1]
            grown = replace(entry, shape=(count, entry.shape[1]))
            table[key.encode()] = grown.moved(shard=0, offset=end, size=nbytes, crc=crc_of_zeros(nbytes)).encode()
            end += nbytes
        for key, entry in bundle.entries.items():  # what has one number for each item
            if entry.shape == (rows,):
                nbytes = 4 * count
                grown = replace(entry, shape=(count,))
                table[key.encode()] = grown.moved(shard=0, offset=end, size=nbytes, crc=crc_of_zeros(nbytes)).encode()
                end += nbytes
    Path(f"{prefix}.index").write_bytes(write_table(table))
    with open(f"{prefix}.data-00000-of-00001", "r+b") as file:
        file.truncate(end)
    return experiment


def crc_of_zeros(size: int) -> int:
    piece = bytes(1 << 24)
    crc = 0
    while size:
        part = min(size, len(piece))
        crc = checksum.extend(crc, piece[:part])
        size -= part
    return checksum.mask(crc)


def seconds(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([CKPT, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> int:
    with tempfile.TemporaryDirectory() as place:
        experiments = {name: grow(Path(place) / name, size) for name, size in (("4 MB", 4 << 20), ("4 GB", 4 << 30))}
        times: dict[str, list[float]] = {name: [] for name in experiments}
        for number in range(ROUNDS + 1):
            for name, experiment in experiments.items():
                taken = seconds("backfill", str(experiment), "--value", "0.1", "--force")
                subprocess.run([CKPT, "undo", str(experiment)], check=True, capture_output=True)
                if number:  # the first round pays for the disk
                    times[name].append(taken)
    small, large = (statistics.median(times[name]) for name in ("4 MB", "4 GB"))
    print(f"backfill of 4 MB  {small:6.3f} s")
    print(f"backfill of 4 GB  {large:6.3f} s")
    print(f"ratio             {large / small:6.2f}")
    return int(large / small > MOST)


if __name__ == "__main__":
    sys.exit(main())
