"""Raw interactions in the formats that public data sets come in, as blocks of columns. Needs polars, no TensorFlow.

    csv          user,item,time              commas or tabs; with commas, quotes as spreadsheets write them
    pairs        user item                   in the order of time, as SASRec's repository has its data sets
    amazon2014   JSON lines                  reviewerID, asin, unixReviewTime
    amazon2023   JSON lines                  user_id, parent_asin (or asin), timestamp
    taobao       UserBehavior.csv            user,item,category,behavior,time; published figures are of pv alone
    movielens    ratings.csv, .dat, u.data   user, item, rating, time: commas, :: or tabs
    steam        steam_reviews.json          lines of Python: username, product_id, date

Every line counts or is refused by its number: nothing is left out but a first line that names the columns, blank lines,
and Taobao's other behaviors, which are counted.
"""

from __future__ import annotations

import ast
import codecs
import contextlib
import csv
import datetime
import gzip
import io
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Literal

from ckpt_tools.errors import CorruptError, NotFoundError, UsageError
from ckpt_tools.format import json_text
from ckpt_tools.fs import local

Format = Literal["csv", "pairs", "amazon2014", "amazon2023", "taobao", "movielens", "steam"]
FORMATS: tuple[Format, ...] = ("csv", "pairs", "amazon2014", "amazon2023", "taobao", "movielens", "steam")
ItemField = Literal["parent_asin", "asin"]

_BLOCK = 16 << 20
_LONGEST_LINE = 64 << 20
_GZIP = b"\x1f\x8b"
_PACKED = (
    (b"PK\x03\x04", "a zip archive"),
    (b"BZh91AY&SY", "packed by bzip2"),
    (b"\xfd7zXZ\x00", "packed by xz"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd"),
    (b"Rar!\x1a\x07", "a rar archive"),
)
# float64 tells whole numbers apart up to here.
_EXACT = 2**53

# The columns of the formats with one interaction in a line of fields.
_COLUMNS: dict[Format, tuple[str, ...]] = {
    "csv": ("user", "item", "time"),
    "pairs": ("user", "item"),
    "taobao": ("user", "item", "category", "behavior", "time"),
    "movielens": ("user", "item", "rating", "time"),
}
_SEPARATORS: dict[Format, tuple[bytes, ...]] = {
    "csv": (b",", b"\t"),
    "pairs": (b"\t", b",", b" "),
    "taobao": (b",", b"\t"),
    "movielens": (b"::", b",", b"\t"),
}
# How what has no value is written where fields are text: pandas, SQL, Spark, Hive.
_NOTHING = frozenset({"", "null", "NULL", "nan", "NaN", "None", "\\N"})
_TEXT: tuple[Format, ...] = ("csv", "pairs", "movielens")
# Of a column that holds what is not asked for, so many values are enough to show.
_SHOWN = 20
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

OnProgress = Callable[[int, int], None]


@dataclass
class Source:
    """A raw file and how to read it. ``left_out`` counts what was read and does not count, once it has been read;
    ``behaviors_there`` are those of its lines, and ``read_as`` is the encoding.

    ``encoding`` None: UTF-8, or GB 18030 (of which GBK is a part) when the beginning is not UTF-8 and is that.
    """

    path: str
    format: Format
    behaviors: Sequence[str] = ("pv",)
    item_field: ItemField = "parent_asin"
    encoding: str | None = None
    left_out: int = field(default=0, init=False)
    behaviors_there: set[str] = field(default_factory=set, init=False)
    read_as: str = field(default="utf-8", init=False)

    def frames(self, progress: OnProgress | None = None) -> Iterator[Any]:
        """polars frames of user, item, time and, for Taobao, category, a block of the file each; ``parent`` beside an
        ``asin``. Times are Int64, or Float64 where one has a fraction.

        Raises UsageError for an unknown format or an archive, NotFoundError for no file, CorruptError for a line of
        another form.
        """
        if self.format not in FORMATS:
            raise UsageError(f"there is no format {self.format!r}", hint=f"choose one of {', '.join(FORMATS)}")
        if not local.is_file(self.path, follow=True):
            folder = local.is_directory(self.path, follow=True)
            raise NotFoundError("expected a file, found a directory" if folder else "no such file", path=self.path)
        self.left_out = 0
        blocks = _Blocks(self)
        for block, line in blocks.read(progress):
            yield _frame(block, self, blocks.separator, line)


class _Blocks:
    """Whole lines of a source, in UTF-8 and separated by one byte; ``separator`` is known after the first block."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.separator = b","
        self._in_file = b","

    def read(self, progress: OnProgress | None) -> Iterator[tuple[bytes, int]]:
        """(block, number of its first line)"""
        path = self._source.path
        total = os.path.getsize(path)
        line = 1
        with open(path, "rb") as raw:
            packed = is_gzip(raw, path)
            stream: IO[bytes] = gzip.open(raw) if packed else raw  # type: ignore[assignment]  # noqa: SIM115
            try:
                for block in self._decoded(stream):
                    if line == 1:
                        self._look_at(block)
                    if self._in_file != self.separator:
                        block = block.replace(self._in_file, self.separator)
                    count = block.count(b"\n")
                    if line == 1 and (header := self._header(block)):
                        block = block[header:]
                        line += 1
                        count -= 1
                    yield block, line
                    line += count
                    if progress is not None:
                        progress(raw.tell(), total)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise CorruptError(f"the gzip file is damaged or cut off after line {line - 1}", path=path) from error

    def _decoded(self, stream: IO[bytes]) -> Iterator[bytes]:
        buffered = io.BufferedReader(stream, _BLOCK)  # type: ignore[type-var]
        encoding = self._source.encoding or encoding_of(buffered)
        self._source.read_as = encoding
        if encoding == "utf-8":
            yield from self._lines(buffered, b"\n")
            return
        try:
            text = io.TextIOWrapper(buffered, encoding=encoding, newline="\n")
        except LookupError as error:
            raise UsageError(f"there is no encoding {encoding!r}", hint="for example --encoding gbk") from error
        try:
            for part in self._lines(text, "\n"):
                yield part.encode()
        except UnicodeError as error:
            raise CorruptError(f"is not {encoding}: {error}", path=self._source.path, hint="name --encoding") from error

    def _lines(self, stream: Any, end: Any) -> Iterator[Any]:
        line = 1
        while block := stream.read(_BLOCK):
            rest = stream.readline(_LONGEST_LINE)
            if len(rest) >= _LONGEST_LINE:
                number = line + block.count(end)
                raise CorruptError(f"line {number}: longer than {_LONGEST_LINE} bytes", path=self._source.path)
            block += rest
            line += block.count(end)
            yield block

    def _look_at(self, block: bytes) -> None:
        """Find out what separates the fields of the first line that has any."""
        choices = _SEPARATORS.get(self._source.format, ())
        first = next((line for line in block.split(b"\n") if line.strip()), b"")
        count = len(_COLUMNS.get(self._source.format, ())) - 1
        fitting = [each for each in choices if first.count(each) == count] or [
            each for each in choices if each in first
        ]
        self._in_file = (fitting or [*choices, b","])[0]
        self.separator = b"\t" if self._in_file in (b"::", b" ") else self._in_file

    def _header(self, block: bytes) -> int:
        """How long a first line is that names the columns: the time of an interaction has digits. Without times, one
        that has none before one that has some in each field."""
        columns = _COLUMNS.get(self._source.format)
        if columns is None:
            return 0
        end = block.find(b"\n") + 1 or len(block)
        fields = block[:end].split(self.separator)
        if len(fields) != len(columns) or not fields[-1].strip():
            return 0
        if columns[-1] == "time":
            return 0 if _DIGIT.search(fields[-1]) else end
        following = block[end:].partition(b"\n")[0].split(self.separator)
        return end if not any(map(_DIGIT.search, fields)) and all(map(_DIGIT.search, following)) else 0


_DIGIT = re.compile(rb"\d")


def is_gzip(raw: IO[bytes], path: str) -> bool:
    """Whether a file is packed by gzip. Raises UsageError for what has to be unpacked first."""
    beginning = raw.read(16)
    raw.seek(0)
    for mark, form in _PACKED:
        if beginning.startswith(mark):
            raise UsageError(f"this is {form}", path=path, hint="unpack it first; only .gz is unpacked on the way")
    return beginning.startswith(_GZIP)


def encoding_of(file: io.BufferedReader[Any], choices: Sequence[str] = ("utf-8", "gb18030")) -> str:
    """The encoding that a file's mark names, else the first of the choices that its beginning is in, else UTF-8. One
    that is known by its mark is no choice without it: nearly everything can be read as UTF-16. Reads nothing away."""
    beginning = file.peek(_BLOCK)[:_BLOCK]
    for mark, encoding in _BOMS:
        if beginning.startswith(mark):
            return encoding
    marked = [encoding for _, encoding in _BOMS]
    for encoding in choices:
        if encoding in marked:
            continue
        try:
            codecs.getincrementaldecoder(encoding)().decode(beginning)
        except UnicodeDecodeError:
            continue
        return encoding
    return "utf-8"  # and then the line that is not is named


# ------------------------------------------------------------------------------------------- one block


def _frame(block: bytes, source: Source, separator: bytes, first_line: int) -> Any:
    """polars reads a block at once; one that it has a doubt about is read line by line, for the line's number."""
    import polars as pl

    kind = source.format
    frame = None
    if kind != "steam" and not _quoted(block, source, separator):
        for time in ("whole", "fractional"):
            try:
                frame = _read(block, source, separator, pl.Int64 if time == "whole" else pl.Float64)
                break
            except pl.exceptions.PolarsError:
                frame = None
    if frame is None or not _sound(frame, kind):
        rows = []
        for number, line in enumerate(block.split(b"\n"), first_line):
            if line.strip():
                rows.append(_row(line, source, separator, number))
        names = _names(source)
        frame = pl.DataFrame(rows, schema={name: _type(name, rows, names, kind) for name in names}, orient="row")
    if frame.schema.get("time") == pl.Float64 and (frame["time"] == frame["time"].floor()).all():
        frame = frame.with_columns(pl.col("time").cast(pl.Int64))
    if kind == "pairs":
        frame = frame.with_columns(pl.int_range(first_line, first_line + frame.height, dtype=pl.Int64).alias("time"))
    if kind == "taobao":
        there = frame["behavior"].unique().sort().to_list()
        source.behaviors_there.update(there[:_SHOWN], set(there).intersection(source.behaviors))
        wanted = frame["behavior"].is_in(list(source.behaviors))
        source.left_out += frame.height - int(wanted.sum())
        frame = frame.filter(wanted).drop("behavior")
    return frame


def _names(source: Source) -> tuple[str, ...]:
    if source.format == "taobao":
        return ("user", "item", "time", "category", "behavior")
    if source.format == "pairs":
        return ("user", "item")
    parent = source.format == "amazon2023" and source.item_field == "asin"
    return ("user", "item", "time", "parent") if parent else ("user", "item", "time")


def _type(name: str, rows: Sequence[Sequence[Any]], names: Sequence[str], kind: Format) -> Any:
    import polars as pl

    if name == "time":
        return pl.Float64 if any(isinstance(row[names.index("time")], float) for row in rows) else pl.Int64
    if name == "category" or (kind == "taobao" and name in ("user", "item")):
        return pl.Int64
    return pl.String


def _read(block: bytes, source: Source, separator: bytes, time: Any) -> Any:
    import polars as pl

    kind, names = source.format, _names(source)
    if kind in ("amazon2014", "amazon2023"):
        in_file = _json_fields(source)
        # Given a whole number's type, polars would cut off fractions.
        types = {in_file[name]: pl.Float64 if name == "time" else pl.String for name in names}
        return pl.read_ndjson(block, schema=types).rename({in_file[name]: name for name in names})
    identity = pl.Int64 if kind == "taobao" else pl.String
    types_in_file: dict[str, Any] = {"user": identity, "item": identity, "time": time, "category": pl.Int64}
    schema = {name: types_in_file.get(name, pl.String) for name in _COLUMNS[kind]}
    frame = pl.read_csv(block, has_header=False, schema=schema, quote_char=None, separator=separator.decode())
    return frame.select(names)


def _quoted(block: bytes, source: Source, separator: bytes) -> bool:
    """Whether quotes stand for themselves no more: between commas they enclose a field."""
    return source.format == "csv" and separator == b"," and b'"' in block


def _sound(frame: Any, kind: Format) -> bool:
    """Whether every field holds what it should: an empty name or a time without end is not one."""
    import polars as pl

    if any(frame.null_count().row(0)):
        return False
    names = [name for name in ("user", "item") if frame.schema[name] == pl.String]
    nothing = list(_NOTHING) if kind in _TEXT else [""]
    if any(frame[name].str.strip_chars().is_in(nothing).any() for name in names):
        return False
    if frame.schema.get("time") == pl.Float64:
        return bool(frame["time"].is_finite().all() and (frame["time"].abs() < _EXACT).all())
    return True


def _json_fields(source: Source) -> dict[str, str]:
    """The names that the two releases of the Amazon reviews give to user, item and time."""
    if source.format == "amazon2014":
        return {"user": "reviewerID", "item": "asin", "time": "unixReviewTime"}
    return {"user": "user_id", "item": source.item_field, "time": "timestamp", "parent": "parent_asin"}


def _row(line: bytes, source: Source, separator: bytes, number: int) -> tuple[Any, ...]:
    """One interaction in the order of ``_names``. Raises CorruptError with the line's number and what it looks like."""
    kind = source.format
    try:
        if kind in ("amazon2014", "amazon2023"):
            review = json_text.parse(line)
            in_file = _json_fields(source)
            row = tuple(
                _time(review[in_file[name]]) if name == "time" else _name(review[in_file[name]])
                for name in _names(source)
            )
        elif kind == "steam":
            review = literal(line)
            row = (_name(review["username"]), _name(review["product_id"]), _day(review["date"]))
        else:
            found = dict(zip(_COLUMNS[kind], _fields(line, source, separator), strict=True))
            numbers = ("user", "item", "category") if kind == "taobao" else ()
            if kind in _TEXT and not _NOTHING.isdisjoint((found["user"].strip(), found["item"].strip())):
                raise ValueError(found)
            row = tuple(
                _time(found[name]) if name == "time" else int(found[name]) if name in numbers else _name(found[name])
                for name in _names(source)
            )
        if any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in row):
            raise ValueError(row)
        return row
    except (
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
        SyntaxError,
        RecursionError,
        MemoryError,
        csv.Error,
    ) as error:
        shown = line[:60].decode("utf-8", "replace").strip()
        raise CorruptError(
            f"line {number}: not a line of {kind}: {shown!r}", path=source.path, hint=_advice(line, source)
        ) from error


def _fields(line: bytes, source: Source, separator: bytes) -> list[str]:
    """The fields of a line. Raises ValueError, csv.Error."""
    text = line.decode().rstrip("\r")
    if _quoted(line, source, separator):
        return next(csv.reader([text], strict=True))
    return text.split(separator.decode())


def _name(value: object) -> str:
    if not isinstance(value, (str, int)) or isinstance(value, bool) or not str(value).strip():
        raise ValueError(value)
    return str(value)


def _time(value: object) -> int | float:
    """Whole numbers stay whole, however large; what has a fraction keeps it."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(value)
    with contextlib.suppress(ValueError):
        if not isinstance(value, float):
            return int(value)
    number = float(value)
    if not math.isfinite(number) or abs(number) >= _EXACT:
        raise ValueError(value)
    return int(number) if number.is_integer() else number


def _day(value: object) -> int:
    """Seconds of a date since 1970."""
    if not isinstance(value, str):
        raise ValueError(value)
    date = datetime.datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=datetime.timezone.utc)
    return int(date.timestamp())


def literal(line: bytes) -> Any:
    """A line of JSON, or one that Python wrote (``u'...'``, ``True``). Raises ValueError, SyntaxError and such."""
    try:
        return json_text.parse(line)
    except ValueError:
        return ast.literal_eval(line.decode())


def _advice(line: bytes, source: Source) -> str | None:
    try:
        line.decode(source.encoding or "utf-8")
    except (UnicodeDecodeError, LookupError):
        return "it is not UTF-8: name its encoding, for example --encoding gbk"
    if source.format in _TEXT and any(part.strip() in _NOTHING for part in re.split("[,\t]", line.decode())):
        return "a field is empty or null: leave such lines out"
    looks = _format_of(line)
    return f"it looks like --format {looks}" if looks not in (None, source.format) else None


def _format_of(line: bytes) -> Format | None:
    """What a line could be one of, None when it is nothing that is known."""
    try:
        review = literal(line)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        review = None
    if isinstance(review, dict):
        for kind, names in (
            ("amazon2014", {"reviewerID", "asin", "unixReviewTime"}),
            ("amazon2023", {"user_id", "parent_asin", "timestamp"}),
            ("steam", {"username", "product_id", "date"}),
        ):
            if names <= {*review}:
                return kind  # type: ignore[return-value]
        return None
    if line.count(b"::") == 3:
        return "movielens"
    commas = max(line.count(b","), line.count(b"\t"))
    return {2: "csv", 3: "movielens", 4: "taobao"}.get(commas)  # type: ignore[return-value]
