from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ckpt_tools.errors import CorruptError, UsageError
from trainer import cli
from trainer.data import read_categories, read_split
from trainer.prepare import prepare

# User u has items 1..u+4; so item 1 is in every history, item 14 in one, and items from 11 on in fewer than 5.
ROWS = [(f"u{user}", f"i{item:02}", 100 * user + item) for user in range(1, 11) for item in range(1, user + 5)]


def contents(directory: Path) -> dict[int, list[int]]:
    found = {}
    for split in ("train", "valid", "test"):
        part = read_split(directory, "d", split)
        for place, user in enumerate(part.users):
            found[int(user)] = part.items[part.offsets[place] : part.offsets[place + 1]].tolist()
    return found


def amazon(names: tuple[str, str, str]) -> str:
    return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in ROWS)


SOURCES: dict[Any, str] = {
    "csv": "".join(f"{user},{item},{time}\n" for user, item, time in ROWS),
    "amazon2014": amazon(("reviewerID", "asin", "unixReviewTime")),
    "amazon2023": amazon(("user_id", "parent_asin", "timestamp")),
    "taobao": "".join(f"{user[1:]},{item[1:]},{int(item[1:]) % 3},pv,{time}\n" for user, item, time in ROWS),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("kind", list(SOURCES))
def test_every_source_gives_the_same_files(kind: Any, packed: bool, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("polars")
    monkeypatch.setattr("trainer.prepare._BLOCK", 100)  # many parts
    source = tmp_path / ("raw.gz" if packed else "raw")
    source.write_bytes(gzip.compress(SOURCES[kind].encode()) if packed else SOURCES[kind].encode())
    done = prepare(str(source), kind, str(tmp_path / "out"), "d")
    # Items 1 to 10 have 5 users or more; all users keep 5 items or more.
    assert (done.read, done.items, done.users) == (len(ROWS), 10, 10)
    found = contents(tmp_path / "out")
    assert sorted(map(len, found.values())) == [5, 6, 7, 8, 9, 10, 10, 10, 10, 10]
    assert all(items == list(range(1, len(items) + 1)) for items in found.values())  # by frequency, then by name
    assert [len(read_split(tmp_path / "out", "d", split).users) for split in ("train", "valid", "test")] == [8, 1, 1]
    if kind == "taobao":
        assert read_categories(tmp_path / "out", "d") == {item: item % 3 for item in range(1, 11)}


def test_a_malformed_line_is_named_and_little_data_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    source = tmp_path / "raw"
    source.write_text("a,b,1\na,b\n")
    with pytest.raises(CorruptError, match="line 2: not a line of csv: 'a,b'"):
        prepare(str(source), "csv", str(tmp_path / "out"), "d")
    for damage in (b"\n \n", b""):
        source.write_bytes(damage)
        with pytest.raises(CorruptError, match="holds no interactions"):
            prepare(str(source), "csv", str(tmp_path / "out"), "d")
    source.write_text("a,b,1\n")
    with pytest.raises(UsageError, match="no user has 5 interactions"):
        prepare(str(source), "csv", str(tmp_path / "out"), "d")
    assert not (tmp_path / "out").exists()
    assert CliRunner().invoke(cli.app, ["prepare", str(tmp_path / "none"), "--dataset", "d"]).exit_code == 3


def test_a_line_that_names_the_columns_is_left_out(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    source = tmp_path / "raw"
    source.write_text(SOURCES["csv"])
    prepare(str(source), "csv", str(tmp_path / "plain"), "d")
    for header in ("user,item,time\n", "user_id,item_id,timestamp\r\n"):
        source.write_text(header + SOURCES["csv"])
        assert prepare(str(source), "csv", str(tmp_path / "headed"), "d").read == len(ROWS)
        assert contents(tmp_path / "headed") == contents(tmp_path / "plain")
    # Only the first line can be one, and the numbers of lines count it.
    source.write_text("user,item,time\nu1,i1,5\nuser,item,time\n")
    with pytest.raises(CorruptError, match="line 3: not a line of csv"):
        prepare(str(source), "csv", str(tmp_path / "out"), "d")
    source.write_text("user,item,time\n")
    with pytest.raises(CorruptError, match="holds no interactions"):
        prepare(str(source), "csv", str(tmp_path / "out"), "d")


@pytest.mark.parametrize("kind", list(SOURCES))
def test_a_file_of_another_format_is_recognised(kind: Any, tmp_path: Path) -> None:
    pytest.importorskip("polars")
    source = tmp_path / "raw"
    source.write_text(SOURCES[kind])
    for other in SOURCES:
        if other != kind:
            with pytest.raises(CorruptError, match=f"line 1: not a line of {other}") as refused:
                prepare(str(source), other, str(tmp_path / "out"), "d")
            assert refused.value.hint == f"it looks like --format {kind}"


BROKEN: dict[Any, list[bytes]] = {
    "csv": [b"a,b,1.5", b"a,b,", b",b,1", b"a,b,1,2", b"\xff,b,1", b"a,b,9223372036854775808", b"  "],
    "taobao": [b"u1,2,3,pv,4", b"1,2,3,pv", b"1,2,3,pv,", b"1,99999999999999999999,3,pv,4"],
    "amazon2014": [
        b"{",
        b"[]",
        b'{"asin": "b"}',
        b'{"reviewerID": "a", "asin": "b", "unixReviewTime": null}',
        b'{"reviewerID": "", "asin": "b", "unixReviewTime": 1}',
        b'{"reviewerID": "a", "asin": "b", "unixReviewTime": 1e400}',
        b'{"reviewerID": "\xff", "asin": "b", "unixReviewTime": 1}',
    ],
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("kind", list(BROKEN))
def test_the_line_that_is_malformed_is_named_whatever_block_it_is_in(
    kind: Any, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("polars")
    monkeypatch.setattr("trainer.prepare._BLOCK", 100)
    good = SOURCES[kind].encode().splitlines(keepends=True)
    for broken in BROKEN[kind]:
        data = b"".join([*good[:50], b"\n", broken + b"\n", *good[50:]])
        source = tmp_path / "raw"
        source.write_bytes(gzip.compress(data) if packed else data)
        if broken.strip():
            with pytest.raises(CorruptError, match="line 52: not a line of"):
                prepare(str(source), kind, str(tmp_path / "out"), "d")
            assert not (tmp_path / "out").exists()
        else:
            assert prepare(str(source), kind, str(tmp_path / "blank"), "d").read == len(ROWS)


@pytest.mark.parametrize("change", [lambda data: data[:-20], lambda data: data[:100] + b"~~~~" + data[104:]])
def test_a_damaged_gzip_file_is_refused(change: Any, tmp_path: Path) -> None:
    source = tmp_path / "raw.gz"
    source.write_bytes(change(gzip.compress(SOURCES["csv"].encode())))
    with pytest.raises(CorruptError, match="damaged or cut off"):
        prepare(str(source), "csv", str(tmp_path / "out"), "d")


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.prepare._BLOCK", 100)
    monkeypatch.setattr("trainer.prepare._LONGEST_LINE", 1000)
    source = tmp_path / "raw"
    source.write_bytes(b"u,i,1\nu,i,2\n" + b"x" * 5000)
    with pytest.raises(CorruptError, match="line 3: longer than 1000 bytes"):
        prepare(str(source), "csv", str(tmp_path / "out"), "d")
