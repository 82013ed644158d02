"""A million objects of an inventory listed, grouped and sharded; and indexes read from a server that speaks S3.

    python benchmarks/inventory.py [ROWS] [INDEXES]

The first part measures seconds and the peak of memory of the whole command. The second starts moto's server on this
machine, puts INDEXES small checkpoints there and reads all indexes, 1 and 64 at a time. It tells how much this machine
takes in beside such a server, which is slow itself; of a real store it tells a lower bound.
"""

from __future__ import annotations

import csv
import gzip
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def read_from_a_store(indexes: int, place: Path) -> None:
    import boto3
    import numpy as np
    from checkpoints import build_bundle
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    from ckpt_tools.analysis import inventory

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    os.environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="shelf")
    prefix = build_bundle(place / "x", {f"layer_{n}/kernel": np.zeros((4, 4), "f") for n in range(30)})
    index = Path(f"{prefix}.index").read_bytes()
    listed = place / "store.csv"
    with listed.open("w", newline="") as file:
        for number in range(indexes):
            client.put_object(Bucket="shelf", Key=f"run/ckpt-{number}.index", Body=index)
            csv.writer(file).writerow(["shelf", f"run/ckpt-{number}.index", len(index), "", ""])
            csv.writer(file).writerow(["shelf", f"run/ckpt-{number}.data-00000-of-00001", 30 * 64, "", ""])
    taken = {}
    for at_once in (1, 64, 1, 64):
        inventory.AT_ONCE = at_once
        start = time.perf_counter()
        found = inventory.list_checkpoints("s3://shelf", [str(listed)], indexes=True)
        seconds = time.perf_counter() - start
        assert found.totals["health"] == {"whole": indexes}, found.totals
        taken[at_once] = min(seconds, taken.get(at_once, seconds))
    server.stop()
    for at_once, seconds in taken.items():
        print(f"{indexes} indexes of {len(index)} bytes, {at_once} at a time: {indexes / seconds:.0f} a second")


def main(rows: int = 1_000_000, indexes: int = 1000) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "inventory.csv.gz")
        generated(path, rows)
        for shard in ("1/1", "3/20"):
            print(measured(path, shard, Path(place, "out.parquet")))
        read_from_a_store(indexes, Path(place))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
