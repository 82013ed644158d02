"""Indexes of a bucket, read many at a time, beside what its inventory says."""

from __future__ import annotations

import csv
from pathlib import Path

import boto3
import numpy as np
from checkpoints import build_bundle

from ckpt_tools.analysis.inventory import list_checkpoints


def test_indexes_of_a_bucket_are_read_and_what_is_gone_is_said(bucket: str, s3_server: str, tmp_path: Path) -> None:
    client = boto3.client("s3", endpoint_url=s3_server)
    name = bucket.removeprefix("s3://")
    prefix = build_bundle(tmp_path / "x", {"a": np.arange(10.0)})
    index = Path(f"{prefix}.index").read_bytes()
    rows = []
    for number in range(70):
        key = f"run {number % 3}/ckpt-{number}"
        if number != 5:
            client.put_object(Bucket=name, Key=f"{key}.index", Body=index + b"longer" * (number == 6))
        rows += [[name, f"{key}.index", len(index)], [name, f"{key}.data-00000-of-00001", 80 - (number == 7)]]
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["bucket", "key", "size"], *rows])
    found = list_checkpoints(bucket, [str(tmp_path / "list.csv")], indexes=True)
    odd = {row.url.rpartition("-")[2]: row.health for row in found.checkpoints if row.health != "whole"}
    assert odd == {"5": "unread", "6": "unread", "7": "damaged"}
    assert {row.tensors for row in found.checkpoints if row.health == "whole"} == {1}
