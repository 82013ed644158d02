"""A million objects of an inventory listed, grouped and sharded; and indexes read from a server that speaks S3.

    python benchmarks/inventory.py [ROWS] [INDEXES]

The first part measures seconds and the peak of memory of the whole command. The second makes INDEXES small objects and
reads all of them through S3, by range, 1 and 64 at a time: from a lean server (`s3_server.py`) that answers at once,
from one that answers after 30 ms as a store does, and, of a thousand, from moto's, which is slow itself. ROWS or
INDEXES may be 0.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support")]


def measured(path: Path, shard: str, out: Path) -> str:
    """Seconds and the peak of memory of the whole command."""
    ckpt = str(Path(sys.executable).parent / "ckpt")
    command = [ckpt, "audit", "s3://shelf", "--inventory", str(path), "--shard", shard, "--out", str(out)]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    cpu = usage.ru_utime + usage.ru_stime
    return f"{said}: {seconds:.1f} s ({cpu:.1f} s of one core), peak {usage.ru_maxrss / 1024:.0f} MiB"


def generated(path: Path, rows: int) -> None:
    """Runs of 100 checkpoints with an index and a data file each."""
    with gzip.open(path, "wt", compresslevel=1, newline="") as file:
        write = csv.writer(file, quoting=csv.QUOTE_ALL)
        for number in range(rows // 2):
            prefix = f"team-{number % 7}/runs/exp-{number // 100:06d}/model.ckpt-{number % 100 * 1000}"
            for name, size in ((f"{prefix}.index", 1500), (f"{prefix}.data-00000-of-00001", 5_000_000)):
                write.writerow(["shelf", name, size, "2026-01-02T03:04:05.000Z", "9b2cf535f27731c974343645a3985328"])


@contextlib.contextmanager
def moto() -> Iterator[str]:
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


@contextlib.contextmanager
def lean(place: Path, delay: float) -> Iterator[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "s3_server.py"), str(place), f"{delay:g}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def shelf(place: Path, indexes: int) -> tuple[Path, int]:
    """So many real indexes and, of each, a data file's row in an inventory; each object is a file of its own."""
    import numpy as np
    from checkpoints import build_bundle

    runs = place / "shelf"
    listed = place / "store.csv"
    kinds = [Path(f"{build_bundle(place / f'x{n}', _tensors(np, n))}.index").read_bytes() for n in range(16)]
    with listed.open("w", newline="") as file:
        write = csv.writer(file)
        for number in range(indexes):
            key = f"run-{number // 100:05d}/ckpt-{number}"
            index = kinds[number % len(kinds)]
            path = runs / f"{key}.index"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(index)
            write.writerow(["shelf", f"{key}.index", len(index), "", ""])
            write.writerow(["shelf", f"{key}.data-00000-of-00001", 30 * 64 + number % 16 * 4, "", ""])
    return listed, round(sum(map(len, kinds)) / len(kinds))


def _tensors(np: Any, more: int) -> dict[str, Any]:
    return {**{f"layer_{n}/kernel": np.zeros((4, 4), "f") for n in range(30)}, "more": np.zeros(more, "f")}


def read_from(endpoint: str, listed: Path, indexes: int, at_once: int) -> str:
    """Audit with --indexes in a process of its own: how many a second, and how much of one core that took."""
    environment = {**os.environ, "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    environment |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    program = (
        "import sys; from ckpt_tools.analysis import inventory; inventory.AT_ONCE = int(sys.argv[3]);"
        "found = inventory.list_checkpoints('s3://shelf', [sys.argv[1]], indexes=True);"
        "assert found.totals['health'] == {'whole': int(sys.argv[2])}, found.totals"
    )
    command = [sys.executable, "-c", program, str(listed), str(indexes), str(at_once)]
    start = time.perf_counter()
    with subprocess.Popen(command, env=environment) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    assert process.returncode == 0
    cpu = usage.ru_utime + usage.ru_stime
    return f"{indexes / seconds:.0f} a second ({seconds:.0f} s, {cpu:.0f} s of one core, {usage.ru_maxrss >> 10} MiB)"


def upload(endpoint: str, place: Path) -> None:
    import boto3

    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=endpoint, **keys)
    client.create_bucket(Bucket="shelf")
    for path in sorted((place / "shelf").rglob("*.index")):
        client.put_object(Bucket="shelf", Key=str(path.relative_to(place / "shelf")), Body=path.read_bytes())


def read_from_stores(indexes: int, place: Path) -> None:
    listed, size = shelf(place, indexes)
    print(f"{indexes} indexes of {size} bytes on average")
    for delay in (0.0, 30.0) if indexes <= 10_000 else (30.0,):
        with lean(place, delay) as endpoint:
            for at_once in (1, 64) if indexes <= 10_000 and not delay else (64,):
                found = read_from(endpoint, listed, indexes, at_once)
                print(f"  a lean server that answers after {delay:g} ms, {at_once} at a time: {found}", flush=True)
    if indexes <= 1000:
        with moto() as endpoint:
            upload(endpoint, place)
            for at_once in (1, 64):
                print(f"  moto's server, {at_once} at a time: {read_from(endpoint, listed, indexes, at_once)}")


def main(rows: int = 1_000_000, indexes: int = 1000) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "inventory.csv.gz")
        generated(path, rows)
        for shard in ("1/1", "3/20"):
            if rows:
                print(measured(path, shard, Path(place, "out.parquet")))
        if indexes:
            read_from_stores(indexes, Path(place))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
