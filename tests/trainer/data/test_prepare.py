from __future__ import annotations

import gzip
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ckpt_tools.errors import CorruptError, UsageError
from ckpt_tools.fs import durable
from trainer import cli
from trainer.data.interactions import read_categories, read_split
from trainer.data.names import read_names
from trainer.data.preparation import prepare
from trainer.data.raw import FORMATS

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
    "movielens": "".join(f"{user}::{item}::5::{time}\n" for user, item, time in ROWS),
    "steam": "".join(
        f"{{u'username': u'{user}', u'product_id': u'{item}', u'early_access': False, u'date': u'2017-{day}'}}\n"
        for (user, item, _), day in zip(
            ROWS,
            (f"{1 + number % 60 // 28:02}-{1 + number % 28:02}" for number in (row[2] % 100 for row in ROWS)),
            strict=True,
        )
    ),
    "pairs": "".join(f"{user} {item}\n" for user, item, _ in ROWS),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("kind", list(SOURCES))
def test_every_source_gives_the_same_files(kind: Any, packed: bool, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("polars")
    monkeypatch.setattr("trainer.data.raw._BLOCK", 100)  # many parts
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
    source.write_text(
        "".join(line for line in SOURCES["csv"].splitlines(keepends=True) if line[:3] in ("u8,", "u9,")) * 5
    )
    with pytest.raises(UsageError, match=r"2 users are left, of which none would be in valid: 6 are needed"):
        prepare(str(source), "csv", str(tmp_path / "out"), "d", fewest=1)
    assert not (tmp_path / "out").exists()
    assert CliRunner().invoke(cli.app, ["prepare", str(tmp_path / "none"), "--dataset", "d"]).exit_code == 3


def test_a_line_that_names_the_columns_is_left_out(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    source = tmp_path / "raw"
    source.write_text(SOURCES["csv"])
    prepare(str(source), "csv", str(tmp_path / "plain"), "d")
    for header in ("user,item,time\n", "user_id,item_id,timestamp\r\n"):
        source.write_text(header + SOURCES["csv"])
        assert prepare(str(source), "csv", str(tmp_path / "headed"), "d", overwrite=True).read == len(ROWS)
        assert contents(tmp_path / "headed") == contents(tmp_path / "plain")
    # Only the first line can be one, and the numbers of lines count it.
    source.write_text("user,item,time\nu1,i1,5\nuser,item,time\n")
    with pytest.raises(CorruptError, match="line 3: not a line of csv"):
        prepare(str(source), "csv", str(tmp_path / "out"), "d")
    source.write_text("user,item,time\n")
    with pytest.raises(CorruptError, match="holds no interactions"):
        prepare(str(source), "csv", str(tmp_path / "out"), "d")


def test_the_names_of_two_columns_are_told_by_the_numbers_below_them(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    assert prepare(write(tmp_path, "user item\n" + SOURCES["pairs"]), "pairs", str(tmp_path / "a"), "d").read == len(
        ROWS
    )
    words = SOURCES["pairs"].translate(str.maketrans("0123456789", "abcdefghij"))
    assert prepare(write(tmp_path, words), "pairs", str(tmp_path / "b"), "d").read == len(ROWS)


def test_quotes_between_commas_enclose_names_and_between_tabs_are_themselves(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    lines = [(f'"{user}, ""x"""', f'"{item}"', time) for user, item, time in ROWS]
    text = '"user","item","time"\r\n' + "".join(f"{user},{item},{time}\r\n" for user, item, time in lines)
    prepare(write(tmp_path, text), "csv", str(tmp_path / "commas"), "d")
    names = read_names(str(tmp_path / "commas"), "d")
    assert (names.items[1], names.users[0]) == ("i01", 'u1, "x"')
    plain = "".join(f'"{user}\t{item}\t{time}\n' for user, item, time in ROWS)
    prepare(write(tmp_path, plain), "csv", str(tmp_path / "tabs"), "d")
    assert read_names(str(tmp_path / "tabs"), "d").users[0] == '"u1'
    with pytest.raises(CorruptError, match=f"line {len(ROWS) + 1}: "):
        prepare(write(tmp_path, SOURCES["csv"] + '"u1,i1,5\n'), "csv", str(tmp_path / "out"), "d")


@pytest.mark.parametrize("nothing", ["", "null", "NULL", "NaN", "None", "\\N"])
def test_what_stands_for_no_value_is_no_name(tmp_path: Path, nothing: str) -> None:
    pytest.importorskip("polars")
    with pytest.raises(CorruptError, match=f"line {len(ROWS) + 1}: ") as caught:
        prepare(write(tmp_path, SOURCES["csv"] + f"{nothing},i1,5\n"), "csv", str(tmp_path / "out"), "d")
    assert "leave such lines out" in (caught.value.hint or "")


def test_whole_numbers_with_a_point_are_times_as_given(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    text = "".join(f"{user},{item},{time}.0\n" for user, item, time in ROWS)
    assert prepare(write(tmp_path, text), "csv", str(tmp_path / "out"), "d").times == "as given"
    prepare(write(tmp_path, SOURCES["csv"], "raw2"), "csv", str(tmp_path / "plain"), "d")
    assert (tmp_path / "out" / "d_train.txt").read_bytes() == (tmp_path / "plain" / "d_train.txt").read_bytes()


@pytest.mark.parametrize("mark", [b"PK\x03\x04", b"BZh91AY&SY", b"\xfd7zXZ\x00"])
def test_an_archive_is_told_from_lines_that_are_malformed(tmp_path: Path, mark: bytes) -> None:
    pytest.importorskip("polars")
    packed = write(tmp_path, mark + b"\n1,2,3\n", "packed")
    with pytest.raises(UsageError, match="this is"):
        prepare(packed, "csv", str(tmp_path / "out"), "d")
    raw = write(tmp_path, SOURCES["amazon2014"])
    with pytest.raises(UsageError, match="this is"):
        prepare(raw, "amazon2014", str(tmp_path / "out"), "d", metadata=packed)
    assert not (tmp_path / "out").exists()


def test_flags_that_would_do_nothing_and_names_that_are_none_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    source = write(tmp_path, SOURCES["csv"])
    for flags in (
        ["--behavior", "buy"],
        ["--item-field", "asin"],
        ["--seed", "-1"],
        ["--dataset", "a/b"],
        ["--dataset", " "],
    ):
        done = CliRunner().invoke(
            cli.app, ["prepare", source, "--dataset", "d", "--data-dir", str(tmp_path / "x"), *flags]
        )
        assert done.exit_code == 2, flags
    meta = write(tmp_path, json.dumps({"asin": "other", "categories": [["C"]]}) + "\n", "meta")
    raw = write(tmp_path, SOURCES["amazon2014"], "reviews")
    with pytest.raises(UsageError, match="none of these items"):
        prepare(raw, "amazon2014", str(tmp_path / "x"), "d", metadata=meta)
    assert not (tmp_path / "x").exists()


def test_an_encoding_that_was_guessed_is_said(tmp_path: Path) -> None:
    """Big5 is GB 18030 too, of other words."""
    pytest.importorskip("polars")
    text = "".join(f"用戶{user},{item},{time}\n" for user, item, time in ROWS)
    for encoding, said in (("big5", True), ("utf-8", False), ("utf-16", False)):
        source = write(tmp_path, text.encode(encoding))
        command = ["prepare", source, "--dataset", "d", "--data-dir", str(tmp_path / encoding)]
        assert ("name another --encoding" in CliRunner().invoke(cli.app, command).output) == said


@pytest.mark.parametrize("kind", list(SOURCES))
def test_a_file_of_another_format_is_recognised(kind: Any, tmp_path: Path) -> None:
    pytest.importorskip("polars")
    source = tmp_path / "raw"
    source.write_text(SOURCES[kind])
    for other in SOURCES:
        if other != kind and "pairs" not in (kind, other):  # a pair has nothing to tell it by
            with pytest.raises(CorruptError, match=f"line 1: not a line of {other}") as refused:
                prepare(str(source), other, str(tmp_path / "out"), "d")
            assert refused.value.hint == f"it looks like --format {kind}"


BROKEN: dict[Any, list[bytes]] = {
    "csv": [b"a,b,1.5.5", b"a,b,nan", b"a,b,", b",b,1", b"a,b,1,2", b"\xff,b,1", b"a,b,9223372036854775808", b"  "],
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
    monkeypatch.setattr("trainer.data.raw._BLOCK", 100)
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
    monkeypatch.setattr("trainer.data.raw._BLOCK", 100)
    monkeypatch.setattr("trainer.data.raw._LONGEST_LINE", 1000)
    source = tmp_path / "raw"
    source.write_bytes(b"u,i,1\nu,i,2\n" + b"x" * 5000)
    with pytest.raises(CorruptError, match="line 3: longer than 1000 bytes"):
        prepare(str(source), "csv", str(tmp_path / "out"), "d")


def write(tmp_path: Path, text: str | bytes, name: str = "raw") -> str:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_only_page_views_of_taobao_count_unless_others_are_asked_for(tmp_path: Path) -> None:
    """Published figures are of pv alone."""
    pytest.importorskip("polars")
    others = "".join(
        f"{user[1:]},{item[1:]},1,{kind},{time}\n" for user, item, time in ROWS for kind in ("buy", "cart")
    )
    source = write(tmp_path, SOURCES["taobao"] + others)
    done = prepare(source, "taobao", str(tmp_path / "pv"), "d")
    assert (done.read, done.left_out) == (len(ROWS), 2 * len(ROWS))
    prepare(write(tmp_path, SOURCES["taobao"], "pure"), "taobao", str(tmp_path / "pure_out"), "d")
    for split in ("train", "valid", "test", "item_cate"):
        assert (tmp_path / "pv" / f"d_{split}.txt").read_bytes() == (
            tmp_path / "pure_out" / f"d_{split}.txt"
        ).read_bytes()
    both = prepare(source, "taobao", str(tmp_path / "both"), "d", behaviors=("pv", "buy"))
    assert (both.read, both.left_out) == (2 * len(ROWS), len(ROWS))
    with pytest.raises(UsageError, match="no line has the behavior fav") as caught:
        prepare(source, "taobao", str(tmp_path / "fav"), "d", behaviors=("pv", "fav"))
    assert caught.value.hint == "choose from buy, cart, pv"


def test_fractions_of_a_second_keep_their_order(tmp_path: Path) -> None:
    """Cut off, they would be equal, and the order that of the file: here the wrong one."""
    pytest.importorskip("polars")
    rows = [(user, item, f"1000.{99 - place:02}") for user in "abcdefghij" for place, item in enumerate("vwxyz")]
    for kind, text in (
        ("csv", "".join(f"{user},{item},{time}\n" for user, item, time in rows)),
        (
            "amazon2023",
            "".join(f'{{"user_id": "{u}", "parent_asin": "{i}", "timestamp": {t}}}\n' for u, i, t in rows),
        ),
    ):
        done = prepare(write(tmp_path, text, kind), kind, str(tmp_path / f"{kind}_out"), "d")  # type: ignore[arg-type]
        assert done.times == "positions"
        names = dict(
            line.split(",")[::-1] for line in (tmp_path / f"{kind}_out" / "d_item_map.txt").read_text().split()
        )
        lines = (tmp_path / f"{kind}_out" / "d_valid.txt").read_text().splitlines()
        assert [names[line.split(",")[1]] for line in lines] == list("zyxwv")
        assert [line.split(",")[2] for line in lines] == ["0", "1", "2", "3", "4"]
    # Nanoseconds are whole numbers, larger than a float64 tells apart.
    rows = [
        (user, item, 1_700_000_000_000_000_000 + 5 - place)
        for user in "abcdefghij"
        for place, item in enumerate("vwxyz")
    ]
    text = "".join(f'{{"user_id": "{u}", "parent_asin": "{i}", "timestamp": {t}}}\n' for u, i, t in rows)
    assert prepare(write(tmp_path, text), "amazon2023", str(tmp_path / "ns"), "d").times == "as given"
    assert (tmp_path / "ns" / "d_valid.txt").read_text().splitlines()[0].endswith("000000001")


def test_exports_can_be_joined_back_by_the_maps(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    done = prepare(write(tmp_path, SOURCES["csv"]), "csv", str(tmp_path / "out"), "d")
    users = dict(line.split(",") for line in (tmp_path / "out" / "d_user_map.txt").read_text().split())
    assert len(users) == done.users == 10
    found = contents(tmp_path / "out")
    assert {name: len(found[int(number)]) for name, number in users.items()} == {
        f"u{user}": min(user + 4, 10) for user in range(1, 11)
    }


@pytest.mark.parametrize("python", [False, True])
def test_amazon_categories_come_from_the_file_about_the_items(tmp_path: Path, python: bool) -> None:
    pytest.importorskip("polars")
    about = [{"asin": f"i{n:02}", "categories": [["Books", f"Kind {n % 3}"], ["Other"]]} for n in range(1, 9)]
    dump = repr if python else json.dumps
    metadata = write(
        tmp_path, "".join(dump(item) + "\n" for item in [*about, {"asin": "i09", "title": "none"}]), "meta"
    )
    source = write(tmp_path, SOURCES["amazon2014"])
    done = prepare(source, "amazon2014", str(tmp_path / "out"), "d", metadata=metadata)
    assert (done.items, done.categories) == (10, 8)
    named = dict(line.rsplit(",", 1) for line in (tmp_path / "out" / "d_cate_map.txt").read_text().splitlines())
    assert set(named) == {"Kind 0", "Kind 1", "Kind 2"}
    categories = read_categories(tmp_path / "out", "d")
    assert categories[1] == categories[4] == int(named["Kind 1"])
    with pytest.raises(CorruptError, match="no line of it tells the category"):
        prepare(source, "amazon2014", str(tmp_path / "no"), "d", metadata=source)
    with pytest.raises(UsageError, match="--metadata is not known for --format csv"):
        prepare(write(tmp_path, SOURCES["csv"]), "csv", str(tmp_path / "no"), "d", metadata=metadata)


def test_a_variation_is_its_parent_or_an_item_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    text = "".join(
        json.dumps({"user_id": user, "asin": f"{item}{'ab'[time % 2]}", "parent_asin": item, "timestamp": time}) + "\n"
        for user, item, time in ROWS
        for time in (time, time + 1)
    )
    meta = write(
        tmp_path,
        "".join(json.dumps({"parent_asin": f"i{n:02}", "categories": ["A", "B"]}) + "\n" for n in range(15)),
        "m",
    )
    source = write(tmp_path, text)
    parents = prepare(source, "amazon2023", str(tmp_path / "parents"), "d", metadata=meta)
    own = prepare(source, "amazon2023", str(tmp_path / "own"), "d", item_field="asin", metadata=meta)
    assert own.items > parents.items
    assert (parents.categories, own.categories) == (parents.items, own.items), "of a variation its parent's"


@pytest.mark.parametrize("encoding", ["gbk", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", "\t"])
def test_tabs_and_other_encodings(
    tmp_path: Path, encoding: str, separator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("polars")
    monkeypatch.setattr("trainer.data.raw._BLOCK", 200)
    text = "用户,商品,时间\n" + "".join(f"张{user},物品{item},{time}\n" for user, item, time in ROWS)
    source = write(tmp_path, text.replace(",", separator).encode(encoding))
    assert prepare(source, "csv", str(tmp_path / "out"), "d").read == len(ROWS)
    assert "物品i01,1\n" in (tmp_path / "out" / "d_item_map.txt").read_text(encoding="utf-8")
    prepare(source, "csv", str(tmp_path / "named"), "d", encoding=encoding)
    assert contents(tmp_path / "named") == contents(tmp_path / "out")


def test_an_encoding_that_shows_late_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("polars")
    monkeypatch.setattr("trainer.data.raw._BLOCK", 100)
    source = write(tmp_path, SOURCES["csv"].encode() + "u张,i01,5\n".encode("gbk"))
    with pytest.raises(CorruptError, match=f"line {len(ROWS) + 1}: not a line of csv") as caught:
        prepare(source, "csv", str(tmp_path / "out"), "d")
    assert "--encoding gbk" in (caught.value.hint or "")
    assert prepare(source, "csv", str(tmp_path / "out"), "d", encoding="gbk").read == len(ROWS) + 1
    with pytest.raises(UsageError, match="there is no encoding"):
        prepare(source, "csv", str(tmp_path / "none"), "d", encoding="klingon")


@pytest.mark.parametrize("separator", [",", "\t", "::"])
def test_the_three_forms_of_movielens(tmp_path: Path, separator: str) -> None:
    pytest.importorskip("polars")
    header = "userId,movieId,rating,timestamp\n" if separator == "," else ""
    text = header + "".join(separator.join((user[1:], item[1:], "3.5", str(time))) + "\n" for user, item, time in ROWS)
    about = {
        ",": "movieId,title,genres\n" + "".join(f'{n:02},"Film, The ({n})",Drama|War\n' for n in range(1, 15)),
        "\t": "".join(
            f"{n:02}|Film {n}|01-Jan-1995||http://x|{'|'.join('0' * 8 + '1' + '0' * 10)}\n" for n in range(1, 15)
        ),
        "::": "".join(f"{n:02}::Film ({n})::Drama|War\n" for n in range(1, 15)),
    }
    done = prepare(
        write(tmp_path, text),
        "movielens",
        str(tmp_path / "out"),
        "d",
        metadata=write(tmp_path, about[separator], "movies"),
    )
    assert (done.read, done.items, done.categories) == (len(ROWS), 10, 10)
    prepare(write(tmp_path, SOURCES["csv"]), "csv", str(tmp_path / "plain"), "d")
    assert contents(tmp_path / "out") == contents(tmp_path / "plain")


@pytest.mark.parametrize(
    ("source", "about"), [("gbk", "gbk"), ("gbk", "utf-8"), ("gbk", "utf-16"), ("utf-8", "utf-8"), ("utf-16", "utf-8")]
)
def test_the_file_about_the_items_is_read_in_its_own_encoding(tmp_path: Path, source: str, about: str) -> None:
    pytest.importorskip("polars")
    text = "".join(f"用户{user[1:]},{item[1:]},3.5,{time}\n" for user, item, time in ROWS)
    films = "movieId,title,genres\n" + "".join(f"{n:02},片名 ({n}),喜剧|战争\n" for n in range(1, 15))
    raw, metadata = write(tmp_path, text.encode(source)), write(tmp_path, films.encode(about), "movies.csv")
    done = prepare(raw, "movielens", str(tmp_path / "out"), "d", metadata=metadata)
    assert done.categories == done.items == 10
    assert (tmp_path / "out" / "d_cate_map.txt").read_text(encoding="utf-8") == "喜剧,1\n"
    assert (tmp_path / "out" / "d_user_map.txt").read_text(encoding="utf-8").startswith("用户")


def test_a_file_about_the_items_that_begins_with_ascii_is_read_as_it_is_named(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    text = "".join(f"{user[1:]},{item[1:]},3.5,{time}\n" for user, item, time in ROWS)
    padding = "".join(f"{n},Film,Drama\n" for n in range(1000, 90_000))
    films = padding + "".join(f"{n:02},片名 ({n}),喜剧\n" for n in range(1, 15))
    metadata = write(tmp_path, films.encode("gbk"), "movies.csv")
    prepare(write(tmp_path, text), "movielens", str(tmp_path / "out"), "d", metadata=metadata, encoding="gbk")
    assert (tmp_path / "out" / "d_cate_map.txt").read_text(encoding="utf-8") == "喜剧,1\n"


def test_a_broken_line_about_an_item_is_none(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    text = "".join(f"{user[1:]},{item[1:]},3.5,{time}\n" for user, item, time in ROWS)
    films = "1,a\rb,Drama\n" + "".join(f'{n:02},"Film ({n})",Drama\n' for n in range(1, 15))
    films += f"99,{'x' * 200_000},Drama\n"
    done = prepare(
        write(tmp_path, text), "movielens", str(tmp_path / "out"), "d", metadata=write(tmp_path, films, "movies.csv")
    )
    assert done.categories == done.items == 10


def test_steam_games_have_genres(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    about = "".join(f"{{u'id': u'i{n:02}', u'genres': [u'Action', u'Indie']}}\n" for n in range(1, 15))
    done = prepare(
        write(tmp_path, SOURCES["steam"]), "steam", str(tmp_path / "out"), "d", metadata=write(tmp_path, about, "games")
    )
    assert done.categories == done.items == 10


def test_a_data_set_is_not_written_over_unless_asked_and_the_next_step_is_said(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    source, out = write(tmp_path, SOURCES["csv"]), tmp_path / "out"
    command = ["prepare", source, "--dataset", "d", "--data-dir", str(out)]
    first = CliRunner().invoke(cli.app, command)
    assert first.exit_code == 0, first.output
    assert f"next: trainer train --dataset d --model-type ComiRec-SA --exp-name first --data-dir {out}" in first.stdout
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    again = CliRunner().invoke(cli.app, [*command, "--seed", "5"])
    assert again.exit_code == 2
    assert "there is a data set of this name already" in again.stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (out / "d_item_cate.txt").write_text("1,2\n")  # of another numbering of the items
    assert CliRunner().invoke(cli.app, [*command, "--seed", "5", "--overwrite"]).exit_code == 0
    assert not (out / "d_item_cate.txt").exists()


def test_what_became_of_the_items_of_older_data_is_told(tmp_path: Path) -> None:
    source = tmp_path / "old.csv"
    source.write_text(SOURCES["csv"])
    old = str(tmp_path / "old" / "d_item_map.txt")
    prepare(str(source), "csv", str(tmp_path / "old"), "d")
    newer = tmp_path / "new.csv"
    newer.write_text(SOURCES["csv"].replace("i01", "j01"))
    options = ["prepare", str(newer), "--dataset", "d", "--grow", old, "--json", "--data-dir"]
    done = CliRunner().invoke(cli.app, [*options, str(tmp_path / "new")])
    assert json.loads(done.stdout)["catalogue"] == {"kept": 9, "added": 1, "gone": 1}
    before = Path(old).read_bytes()
    done = CliRunner().invoke(cli.app, [*options, str(tmp_path / "old"), "--overwrite"])
    assert (done.exit_code, Path(old).read_bytes()) == (2, before)


def test_every_format_has_a_public_set_whose_command_is_one_of_prepare(tmp_path: Path) -> None:
    found = CliRunner().invoke(cli.app, ["datasets", "--json"])
    assert found.exit_code == 0
    sets = json.loads(found.stdout)["datasets"]
    assert {one["format"] for one in sets} == set(FORMATS)
    for one in sets:
        program, command, *arguments = shlex.split(one["command"])
        assert (program, command) == ("trainer", "prepare")
        # Every flag is known: what is missing is the file.
        result = CliRunner().invoke(cli.app, [command, *arguments, "--data-dir", str(tmp_path / "out")])
        assert result.exit_code == 3, result.output
        assert one["file"] in result.stderr


@pytest.mark.parametrize("writes", range(5))
def test_one_who_is_stopped_while_writing_over_leaves_nothing_to_train_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Half of one data set and half of another would train, and mean nothing."""
    source, directory = tmp_path / "raw.csv", tmp_path / "data"
    source.write_text("".join(f"u{user},i{item},{item}\n" for user in range(12) for item in range(6)))
    prepare(str(source), "csv", str(directory), "d")
    write, left = durable.write_atomic, writes

    def stops(path: str, data: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(durable, "write_atomic", stops)
    with pytest.raises(KeyboardInterrupt):
        prepare(str(source), "csv", str(directory), "d", seed=7, overwrite=True)
    assert not (directory / "d_train.txt").exists()
    monkeypatch.undo()
    prepare(str(source), "csv", str(directory), "d", seed=7, overwrite=True)
    assert (directory / "d_train.txt").exists()
