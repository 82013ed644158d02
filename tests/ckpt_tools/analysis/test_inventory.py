"""`ckpt audit --inventory`: what is listed is what lies in the bucket, in every form of list, once in all shares."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from urllib.parse import quote_plus

import numpy as np
import pytest
from checkpoints import build_bundle

from ckpt_tools.analysis.inventory import AT_ONCE, ListedCheckpoint, Listing, list_checkpoints
from ckpt_tools.cli import run
from ckpt_tools.errors import CorruptError, NotFoundError, UnsafeError, UsageError
from ckpt_tools.runs.sharding import Shard, parse_shard

OBJECTS = [
    ("runs/a/model.ckpt-1.index", 100),
    ("runs/a/model.ckpt-1.data-00000-of-00002", 10),
    ("runs/a/model.ckpt-1.data-00001-of-00002", 20),
    ("runs/a/model.ckpt-1.meta", 5),
    ("runs/a/checkpoint", 50),
    ("runs/a/model.ckpt-2.index", 100),
    ("runs/a/model.ckpt-2.data-00000-of-00002", 10),
    ("runs/b/ckpt-3.data-00000-of-00001", 10),
    ("runs/b/ckpt-4.index", 10),
    ("runs/c d/é,+%.keras", 7),
    ("runs/e/saved_model.pb", 3),
    ("runs2/ckpt-1.index", 1),
    ("notes.txt", 1),
]


def write_csv(path: Path, objects: list[tuple[str, int]], bucket: str = "shelf") -> str:
    """As S3 writes it: no names of columns, everything in quotes, keys URL-encoded."""
    with gzip.open(path, "wt") as file:
        rows = csv.writer(file, quoting=csv.QUOTE_ALL)
        rows.writerows(
            [bucket, quote_plus(key, safe="/"), size, "2026-01-02T03:04:05.000Z", "etag"] for key, size in objects
        )
    return str(path)


def write_parquet(path: Path, objects: list[tuple[str, int]]) -> str:
    pa = pytest.importorskip("pyarrow")
    columns = {
        "bucket": ["shelf"] * len(objects),
        "key": [key for key, _ in objects],
        "size": [size for _, size in objects],
        "is_latest": [True] * len(objects),
        "last_modified_date": ["2026-01-02T03:04:05.000Z"] * len(objects),
    }
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), path)
    return str(path)


def by_name(found: Listing) -> dict[str, ListedCheckpoint]:
    return {row.url.removeprefix("s3://shelf/"): row for row in found.checkpoints}


@pytest.mark.parametrize("form", ["csv", "headed", "parquet"])
def test_objects_are_grouped_into_checkpoints(form: str, tmp_path: Path) -> None:
    if form == "csv":
        path = write_csv(tmp_path / "inventory.csv.gz", OBJECTS)
    elif form == "parquet":
        path = write_parquet(tmp_path / "inventory.parquet", OBJECTS)
    else:
        path = str(tmp_path / "list.csv")
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(
                [["size", "Key", "last_modified"], *([n, k, "2026-01-02T03:04:05.000Z"] for k, n in OBJECTS)]
            )
    found = by_name(list_checkpoints("s3://shelf/runs", [path]))
    assert {name: (row.kind, row.files, row.shards, row.nbytes, row.health) for name, row in found.items()} == {
        "runs/a/model.ckpt-1": ("bundle", 4, 2, 135, "listed"),
        "runs/a/model.ckpt-2": ("bundle", 2, 2, 110, "missing"),
        "runs/b/ckpt-3": ("bundle", 1, None, 10, "missing"),
        "runs/b/ckpt-4": ("bundle", 1, None, 10, "missing"),
        "runs/c d/é,+%.keras": ("keras", 1, None, 7, "listed"),
        "runs/e": ("saved-model", 1, None, 3, "listed"),
    }
    assert {row.time[:19] for row in found.values()} == {"2026-01-02T03:04:05"}
    assert found["runs/a/model.ckpt-2"].problem == "1 of 2 data files are not there"


def test_old_versions_and_delete_markers_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "versions.csv"
    rows = ["b,x.index,v2,true,false,5", "b,x.index,v1,false,false,9", "b,y.index,v1,true,true,"]
    path.write_text("\n".join(rows) + "\n")
    schema = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size"
    (row,) = list_checkpoints("s3://b", [str(path)], schema=schema).checkpoints
    assert (row.url, row.nbytes) == ("s3://b/x", 5)


def test_every_checkpoint_is_in_exactly_one_share_and_a_directory_stays_together(tmp_path: Path) -> None:
    objects = [(f"d{n % 40}/ckpt-{n}.{part}", 1) for n in range(400) for part in ("index", "data-00000-of-00001")]
    path = write_csv(tmp_path / "inventory.csv.gz", objects)
    whole = [row.url for row in list_checkpoints("s3://shelf", [path]).checkpoints]
    parts = [
        [row.url for row in list_checkpoints("s3://shelf", [path], shard=Shard(n, 7)).checkpoints] for n in range(1, 8)
    ]
    assert sorted(url for part in parts for url in part) == sorted(whole)
    assert len(whole) == 400
    folders = [{url.rpartition("/")[0] for url in part} for part in parts]
    assert sum(map(len, folders)) == 40
    assert sum(map(bool, folders)) > 4
    for text in ("0/3", "4/3", "1", "1/0", "a/b", ""):
        with pytest.raises(UsageError):
            parse_shard(text)


def test_indexes_are_compared_with_the_sizes_that_are_listed(tmp_path: Path) -> None:
    """Of a directory that a store shows: whole, cut off, one data file gone, damaged, and replaced since."""
    import fsspec

    objects = []
    fs = fsspec.filesystem("memory")
    for name in ("whole", "cut", "gone", "damaged", "replaced"):
        prefix = build_bundle(tmp_path / name, {"a": np.arange(10.0), "b": np.arange(3)})
        index = bytearray(Path(f"{prefix}.index").read_bytes())
        if name == "damaged":
            index[5] ^= 1
        fs.pipe_file(f"/shelf/{name}.index", bytes(index))
        objects.append((f"{name}.index", len(index) + (name == "replaced")))
        if name != "gone":
            objects.append((f"{name}.data-00000-of-00001", 104 - (name == "cut")))
    path = write_csv(tmp_path / "inventory.csv.gz", objects)
    found = list_checkpoints("memory://shelf", [path], indexes=True)
    rows = {row.url.rpartition("/")[2]: row for row in found.checkpoints}
    assert {name: row.health for name, row in rows.items()} == {
        **{"whole": "whole", "cut": "damaged", "gone": "missing", "damaged": "damaged", "replaced": "unread"}
    }
    assert (rows["whole"].tensors, rows["whole"].shards) == (2, 1)
    assert rows["cut"].problem == "data file 0 of 1 has 103 bytes, its tensors need 104"
    assert {finding.severity for finding in found.findings} == {"damage", "warning"}


@pytest.mark.parametrize("text", ["b,x.index\n", "b,x.index,many\n", "\x00\n", "b,x.index,5\nb,y\n"])
def test_what_is_no_inventory_is_said_with_its_row(text: str, tmp_path: Path) -> None:
    path = tmp_path / "inventory.csv"
    path.write_text(text)
    with pytest.raises(CorruptError):
        list_checkpoints("s3://b", [str(path)])


def test_odd_files_end_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"b,x.index,5\n" * 1000)[:30])
    (tmp_path / "odd.parquet").write_bytes(b"PAR1 no")
    for name, error in (("cut.csv.gz", CorruptError), ("none.csv", NotFoundError), ("", UnsafeError)):
        with pytest.raises(error):
            list_checkpoints("s3://b", [str(tmp_path / name)])
    pytest.importorskip("pyarrow")
    with pytest.raises(CorruptError):
        list_checkpoints("s3://b", [str(tmp_path / "odd.parquet")])
    for root in ("here", "s3://"):
        with pytest.raises(UsageError):
            list_checkpoints(root, [])


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_table_is_written_whole(ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = write_csv(tmp_path / "inventory.csv.gz", OBJECTS), tmp_path / f"part.{ending}"
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    out.write_text("of an earlier run")
    assert run(["audit", "s3://shelf", "--inventory", path, "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    if ending == "csv":
        rows = list(csv.DictReader(out.read_text().splitlines()))
    else:
        from pyarrow import parquet

        rows = parquet.read_table(out).to_pylist()
    assert [row["url"] for row in rows] == [row["url"] for row in answer["checkpoints"]]
    assert answer["totals"]["objects"] == len(OBJECTS)
    assert {path.name for path in tmp_path.iterdir()} == {"inventory.csv.gz", out.name}
    for wrong in (["--out", "x.txt"], ["--verify"], ["--shard", "2/1"]):
        assert run(["audit", "s3://shelf", "--inventory", path, *wrong]) == 2
    assert run(["audit", str(tmp_path), "--indexes"]) == 2
    assert AT_ONCE == 64
