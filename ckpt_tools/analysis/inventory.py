"""The checkpoints of a bucket as its inventory lists them: no request to the store, unless the indexes are asked for.

An inventory (S3 Inventory, S3 Metadata, or any table of keys and sizes) is CSV or Parquet. A CSV of S3 has no line of
names: its columns are told by the ``fileSchema`` of its manifest, and its keys are URL-encoded. What a key is to a
checkpoint is told by its name; whether all data is there, by the numbers in the names, and, with the index read, by the
sizes that it needs.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal
from urllib.parse import unquote_plus

from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, UnsafeError, UnsupportedError, UsageError
from ckpt_tools.findings import Finding
from ckpt_tools.format.bundle import HEADER_KEY, Entry, Header
from ckpt_tools.format.filenames import KERAS_ENDINGS, bundle_part, index_name
from ckpt_tools.format.table import read_table
from ckpt_tools.fs import local, paths
from ckpt_tools.runs.sharding import WHOLE, Shard

Health = Literal["listed", "whole", "missing", "damaged", "unread"]
Listed = tuple[str, str, int, str]  # bucket, key, size, time

DEFAULT_SCHEMA = "Bucket, Key, Size, LastModifiedDate, ETag"
INSTALL = "pip install 'ckpt-tools[inventory]'"
MAX_INDEX_BYTES = 64 << 20
AT_ONCE = 64
_NAMES = {"bucket": "bucket", "key": "key", "size": "size", "lastmodifieddate": "time", "lastmodified": "time"}
_KEEPS = re.compile(r"[\s_-]+")
_SAVED_MODEL = "saved_model.pb"


@dataclass(slots=True)
class ListedCheckpoint:
    """One checkpoint. ``shards`` is how many data files there should be, ``files`` how many files there are, ``time``
    the newest of theirs as the inventory writes it. ``tensors`` and ``health`` beyond ``listed`` and ``missing`` are
    known only when the index was read: then ``whole`` says that every data file is as large as the index needs."""

    url: str
    kind: str
    files: int = 0
    shards: int | None = None
    nbytes: int = 0
    time: str = ""
    tensors: int | None = None
    health: Health = "listed"
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        # Not asdict(), which copies deeply: there may be a million of these.
        return {name: getattr(self, name) for name in COLUMNS}


COLUMNS = tuple(field.name for field in fields(ListedCheckpoint))


@dataclass(frozen=True)
class Listing:
    """The answer of ``ckpt audit --inventory``. ``objects`` counts the rows of the inventory below the root."""

    root: str
    shard: Shard
    objects: int
    checkpoints: tuple[ListedCheckpoint, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def totals(self) -> dict[str, Any]:
        return {
            "objects": self.objects,
            "checkpoints": len(self.checkpoints),
            "bytes": sum(row.nbytes for row in self.checkpoints),
            "kind": dict(Counter(row.kind for row in self.checkpoints)),
            "health": dict(Counter(row.health for row in self.checkpoints)),
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "shard": str(self.shard),
            "checkpoints": [row.to_json() for row in self.checkpoints],
            "totals": self.totals,
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(slots=True)
class _Group:
    """The files of one prefix: sizes of data files by their number and count."""

    index: int | None = None
    data: dict[tuple[int, int], int] | None = None
    other: int = 0
    files: int = 0
    time: str = ""


def read_inventory(path: str, schema: str = DEFAULT_SCHEMA) -> Iterator[Listed]:
    """The rows of an inventory, one after the other; delete markers and old versions are left out.

    ``schema`` names the columns of a CSV without a line of names. Raises CorruptError (with the line), NotFoundError,
    UnsupportedError for Parquet without pyarrow, UsageError for a schema without keys and sizes.
    """
    return _from_parquet(path) if path.endswith(".parquet") else _from_csv(path, schema)


def _column(name: str) -> str:
    return _KEEPS.sub("", name).lower()


def _from_csv(path: str, schema: str) -> Iterator[Listed]:
    _require_file(path)
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            binary: Any = gzip.GzipFile(fileobj=raw) if packed else raw
            rows = csv.reader(io.TextIOWrapper(binary, encoding="utf-8", errors="surrogateescape", newline=""))
            first = next(rows, None)
            if first is None:
                return
            headed = "key" in [_column(cell) for cell in first]
            names = [_column(cell) for cell in (first if headed else schema.split(","))]
            yield from _rows(path, names, rows if headed else itertools.chain([first], rows), encoded=not headed)
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise CorruptError(f"cannot be read as an inventory: {error}", path=path) from error


def _rows(path: str, names: list[str], rows: Iterable[list[str]], *, encoded: bool) -> Iterator[Listed]:
    places = {_NAMES[name]: place for place, name in enumerate(names) if name in _NAMES}
    if not {"key", "size"} <= places.keys():
        raise UsageError("the columns of an inventory must name Key and Size", hint=f"for example: {DEFAULT_SCHEMA}")
    latest, marker = (names.index(name) if name in names else None for name in ("islatest", "isdeletemarker"))
    key, size, bucket, time = (places.get(name) for name in ("key", "size", "bucket", "time"))
    assert key is not None
    assert size is not None
    for number, row in enumerate(rows, start=1):
        if not row:
            continue
        try:
            if (latest is not None and row[latest] == "false") or (marker is not None and row[marker] == "true"):
                continue
            name = row[key]
            if encoded and ("%" in name or "+" in name):
                name = unquote_plus(name)
            count = int(row[size]) if row[size] else 0
            yield "" if bucket is None else row[bucket], name, count, "" if time is None else row[time]
        except (IndexError, ValueError) as error:
            raise CorruptError(f"row {number} does not have the columns {', '.join(names)}", path=path) from error


def _require_file(path: str) -> None:
    if not local.is_there(path):
        raise NotFoundError("there is no such inventory", path=path)
    if not local.is_file(path, follow=True):
        raise UnsafeError("expected a file of this machine", path=path)


def _from_parquet(path: str) -> Iterator[Listed]:
    _require_file(path)
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UnsupportedError("reading Parquet needs pyarrow", path=path, hint=INSTALL) from error
    try:
        with parquet.ParquetFile(path) as file:
            known = {_column(name): name for name in file.schema_arrow.names}
            if not {"key", "size"} <= known.keys():
                raise CorruptError("has no columns key and size", path=path)
            wanted = [name for name in (*_NAMES, "islatest", "isdeletemarker") if name in known]
            for batch in file.iter_batches(batch_size=65536, columns=[known[name] for name in wanted]):
                columns = {name: batch.column(known[name]).to_pylist() for name in wanted}
                times = columns.get("lastmodifieddate", columns.get("lastmodified"))
                for number, key in enumerate(columns["key"]):
                    if "islatest" in columns and columns["islatest"][number] is False:
                        continue
                    if "isdeletemarker" in columns and columns["isdeletemarker"][number]:
                        continue
                    time = "" if times is None or times[number] is None else str(times[number])
                    bucket = columns["bucket"][number] if "bucket" in columns else ""
                    yield str(bucket), str(key), int(columns["size"][number] or 0), time
    except (pyarrow.ArrowException, OSError) as error:
        raise CorruptError(f"cannot be read as Parquet: {error}", path=path) from error


def list_checkpoints(
    root: str,
    inventories: Sequence[str],
    *,
    schema: str = DEFAULT_SCHEMA,
    shard: Shard = WHOLE,
    indexes: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Listing:
    """Group the objects of inventories into checkpoints.

    Args:
        root: ``s3://BUCKET`` or a prefix in it; only what lies below it counts.
        shard: only the checkpoints of the directories of this share.
        indexes: read each index from the store, ``AT_ONCE`` at a time, and compare it with the sizes that are listed.
        progress: told the indexes read and the indexes there are.

    Raises UsageError for a root that is no place of a store, and what `read_inventory` raises;
    what is wrong with one checkpoint is in its row.
    """
    scheme, _, place = root.partition("://")
    if not place:
        raise UsageError(f"{root}: with --inventory the root is the place of the objects, such as s3://bucket/prefix")
    wanted, _, below = place.partition("/")
    groups: dict[tuple[str, str], _Group] = {}
    objects = 0
    shared: dict[str, bool] = {}
    for inventory in inventories:
        for bucket, key, size, time in read_inventory(inventory, schema):
            if bucket not in ("", wanted) or not (key.startswith(below) and _is_below(key, below)):
                continue
            objects += 1
            directory = key.rpartition("/")[0]
            if directory not in shared:
                shared[directory] = shard.holds(directory)
            if shared[directory]:
                _add(groups, key, size, time)
    rows = [_row(f"{scheme}://{wanted}/", name, kind, group) for (name, kind), group in groups.items()]
    if indexes:
        _read_indexes(rows, groups, progress)
    rows.sort(key=lambda row: row.url)
    return Listing(root, shard, objects, tuple(rows), tuple(_findings(root, rows)))


def _is_below(key: str, below: str) -> bool:
    return not below or below.endswith("/") or len(key) == len(below) or key[len(below)] in "/.-_"


def _add(groups: dict[tuple[str, str], _Group], key: str, size: int, time: str) -> None:
    part = bundle_part(key)
    if part is not None:
        group = groups.setdefault((part.prefix, "bundle"), _Group())
        if part.part == "index":
            group.index = size
        elif part.count is not None and part.shard is not None:
            group.data = group.data if group.data is not None else {}
            group.data[part.shard, part.count] = size
    elif key.endswith(KERAS_ENDINGS):
        group = groups.setdefault((key, "keras"), _Group())
    elif key.endswith(f"/{_SAVED_MODEL}"):
        group = groups.setdefault((os.path.dirname(key), "saved-model"), _Group())
    else:
        return
    group.other += size
    group.files += 1
    group.time = max(group.time, time)


def _row(bucket: str, name: str, kind: str, group: _Group) -> ListedCheckpoint:
    row = ListedCheckpoint(f"{bucket}{name}", kind, group.files, None, group.other, group.time)
    if kind == "bundle":
        counts = sorted({count for _, count in group.data or ()})
        if group.index is None:
            row.health, row.problem = "missing", "there is no index: nothing names these files"
        elif not counts:
            row.health, row.problem = "missing", "there are no data files"
        elif len(counts) == 1:
            row.shards = counts[0]
            lost = counts[0] - len(group.data or ())
            if lost:
                row.health, row.problem = "missing", f"{lost} of {counts[0]} data files are not there"
        else:
            row.problem = f"data files of saves with {', '.join(map(str, counts))} shards: only its index tells which"
    return row


def _read_indexes(
    rows: list[ListedCheckpoint],
    groups: dict[tuple[str, str], _Group],
    progress: Callable[[int, int], None] | None,
) -> None:
    chosen = [
        (row, group)
        for row, group in zip(rows, groups.values(), strict=True)
        if row.kind == "bundle" and group.index is not None
    ]
    for row, group in chosen:
        if (group.index or 0) > MAX_INDEX_BYTES:
            row.health, row.problem = "unread", f"its index has {group.index} bytes, over the limit"
    small = [(row, group) for row, group in chosen if (group.index or 0) <= MAX_INDEX_BYTES]
    files = [(index_name(row.url), group.index or 0) for row, group in small]
    for done, ((row, group), found) in enumerate(zip(small, paths.read_many(files, AT_ONCE), strict=True), start=1):
        if isinstance(found, CkptError):
            damaged = isinstance(found, CorruptError)
            row.health, row.problem = "damaged" if damaged else "unread", found.message
        else:
            _compare(row, group, found)
        if progress is not None:
            progress(done, len(small))


def _compare(row: ListedCheckpoint, group: _Group, index: bytes) -> None:
    """What an index says of the data files whose sizes are listed."""
    try:
        table = read_table(index)
        row.shards = Header.decode(table[HEADER_KEY]).num_shards
        ends: dict[int, int] = {}
        tensors = 0
        for key, value in table.items():
            if key != HEADER_KEY:
                entry = Entry.decode(value)
                tensors += not key.startswith(b"\0")
                if entry.size:
                    ends[entry.shard] = max(ends.get(entry.shard, 0), entry.offset + entry.size)
    except KeyError:
        row.health, row.problem = "damaged", "its index has no header"
        return
    except CkptError as error:
        row.health, row.problem = "damaged", f"its index: {error.message}"
        return
    row.tensors = tensors
    sizes = {shard: size for (shard, count), size in (group.data or {}).items() if count == row.shards}
    for shard, end in sorted(ends.items()):
        if shard not in sizes:
            row.health, row.problem = "missing", f"data file {shard} of {row.shards} is not there"
            return
        if sizes[shard] < end:
            row.health = "damaged"
            row.problem = f"data file {shard} of {row.shards} has {sizes[shard]} bytes, its tensors need {end}"
            return
    row.health, row.problem = "whole", None


def _findings(root: str, rows: list[ListedCheckpoint]) -> Iterator[Finding]:
    for row in rows:
        if row.health == "damaged":
            yield Finding("damaged-run", "damage", row.problem or "damaged", row.url)
        elif row.health in ("missing", "unread"):
            yield Finding(f"{row.health}-run", "warning", row.problem or row.health, row.url)
    if not rows:
        yield Finding("no-runs", "warning", "no checkpoint is listed below this place", root)
