"""Raw interactions to the trainer's files, by the recipe that ComiRec publishes. Needs polars, no TensorFlow.

Source of the recipe: THUDM/ComiRec, preprocess/data.py. Items with at least 5 interactions are kept; then users with at
least 5; items are numbered from 1 by falling frequency (the sampler of negatives needs that order), users are split
80/10/10 at random. Ties in frequency go by the item's name and the split by a seed, so that the result repeats.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np

from ckpt_tools import storage
from ckpt_tools.errors import CorruptError, NotFoundError, UsageError

Format = Literal["amazon2014", "amazon2023", "taobao", "csv"]
FORMATS: tuple[Format, ...] = ("amazon2014", "amazon2023", "taobao", "csv")
FEWEST = 5

_BLOCK = 16 << 20
_LONGEST_LINE = 64 << 20
_GZIP = b"\x1f\x8b"
# The names that the two releases of the Amazon reviews give to user, item and time.
_FIELDS: dict[Format, tuple[str, str, str]] = {
    "amazon2014": ("reviewerID", "asin", "unixReviewTime"),
    "amazon2023": ("user_id", "parent_asin", "timestamp"),
}

# A first line of three names; the time of an interaction has digits.
_HEADER = re.compile(rb"[^,\n]+,[^,\n]+,[^,\d\n]*[^,\d\s][^,\d\n]*(\n|\Z)")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prepared:
    """What was written. ``read`` counts the interactions of the source, ``kept`` those that are left."""

    paths: tuple[str, ...]
    read: int
    kept: int
    users: int
    items: int


def prepare(
    source: str,
    kind: Format,
    directory: str,
    dataset: str,
    *,
    seed: int = 1230,
    progress: Progress | None = None,
) -> Prepared:
    """Write ``{dataset}_{train,valid,test}.txt`` and ``{dataset}_item_map.txt`` (name,id) into ``directory``.

    ``{dataset}_item_cate.txt`` is written where the source tells categories (Taobao). ``progress`` is told
    (bytes read, bytes in all). A first line of user,item,time that names the columns is left out.

    Raises NotFoundError, CorruptError (with the line), UsageError (nothing is left).
    """
    user, item, time, category, names = _read(source, kind, progress)
    read = len(user)
    kept = np.bincount(item, minlength=len(names))[item] >= FEWEST
    kept &= np.bincount(user[kept], minlength=int(user.max()) + 1)[user] >= FEWEST
    if not kept.any():
        raise UsageError(f"no user has {FEWEST} interactions with items that have {FEWEST}", path=source)
    user, item, time = _renumbered(user[kept]), item[kept], time[kept]
    counts = np.bincount(item, minlength=len(names))
    ranked = sorted(np.flatnonzero(counts).tolist(), key=lambda number: (-counts[number], names[number]))
    ids = np.zeros(len(names), np.int32)
    ids[ranked] = np.arange(1, len(ranked) + 1)
    order = np.lexsort((time, user))  # stable: equal times keep the order of the source
    user, item, time = user[order], ids[item[order]], time[order]
    people = int(user[-1]) + 1
    place = np.empty(people, np.int32)
    place[np.random.default_rng(seed).permutation(people)] = np.arange(people)
    first, second = int(people * 0.8), int(people * 0.9)
    parts = {"train": (0, first), "valid": (first, second), "test": (second, people)}
    storage.make_directory(directory)
    paths = []
    for split, (low, high) in parts.items():
        chosen = ((place >= low) & (place < high))[user]
        lines = _lines(user[chosen], item[chosen], time[chosen])
        paths.append(_write(directory, f"{dataset}_{split}.txt", lines))
    paths.append(
        _write(directory, f"{dataset}_item_map.txt", _lines([names[number] for number in ranked], ids[ranked]))
    )
    if category is not None:
        paths.append(_write(directory, f"{dataset}_item_cate.txt", _lines(ids[ranked], category[ranked])))
    return Prepared(tuple(paths), read, len(user), people, len(ranked))


Columns = tuple[np.ndarray, np.ndarray, np.ndarray, "np.ndarray | None", list[Any]]


def _read(source: str, kind: Format, progress: Progress | None) -> Columns:
    """Users and items as int32 numbers in order of appearance, times int64, an item's category, items' names."""
    users, items = _Numbers(), _Numbers()
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    categories: dict[int, int] = {}
    for frame in _frames(source, kind, progress):
        user = users.of(frame["user"])
        item = items.of(frame["item"])
        parts.append((user, item, frame["time"].to_numpy()))
        if "category" in frame.columns:
            seen, where = np.unique(item, return_index=True)
            categories |= dict(zip(seen.tolist(), frame["category"].to_numpy()[where].tolist(), strict=True))
    names = items.names()
    if not names:
        raise CorruptError("holds no interactions", path=source)
    user, item, time = (np.concatenate(column) for column in zip(*parts, strict=True))
    category = np.array([categories[number] for number in range(len(names))]) if categories else None
    return user, item, time, category, names


def _renumbered(numbers: np.ndarray) -> np.ndarray:
    """int32: the same order, but without the numbers that do not occur."""
    dense: np.ndarray = (np.cumsum(np.bincount(numbers) > 0) - 1).astype(np.int32)[numbers]
    return dense


class _Numbers:
    """Numbers names from 0 in the order in which they appear."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}

    def of(self, column: Any) -> np.ndarray:
        """int32, one for each value of a polars column."""
        import polars as pl

        different = column.unique(maintain_order=True)
        known = self._numbers
        numbers = [known.setdefault(name, len(known)) for name in different.to_list()]
        numbered: np.ndarray = column.replace_strict(different, pl.Series(numbers, dtype=pl.Int32)).to_numpy()
        return numbered

    def names(self) -> list[Any]:
        return list(self._numbers)


def _frames(source: str, kind: Format, progress: Progress | None) -> Iterator[Any]:
    """polars frames of user, item, time and, for Taobao, category, a block of the file each."""
    if not os.path.isfile(source):
        found = "expected a file, found a directory" if os.path.isdir(source) else "no such file"
        raise NotFoundError(found, path=source)
    total = os.path.getsize(source)
    with open(source, "rb") as raw:
        packed = raw.read(len(_GZIP)) == _GZIP
        raw.seek(0)
        stream: IO[bytes] = gzip.open(raw) if packed else raw  # type: ignore[assignment]  # noqa: SIM115
        line = 1
        try:
            while block := stream.read(_BLOCK):
                rest = stream.readline(_LONGEST_LINE)
                if len(rest) == _LONGEST_LINE:
                    number = line + block.count(b"\n")
                    raise CorruptError(f"line {number}: longer than {_LONGEST_LINE} bytes", path=source)
                block += rest
                if line == 1 and kind == "csv" and (header := _HEADER.match(block)):
                    block = block[header.end() :]
                    line += 1
                yield _frame(block, kind, source, line)
                line += block.count(b"\n")
                if progress is not None:
                    progress(raw.tell(), total)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise CorruptError(f"the gzip file is damaged or cut off after line {line - 1}", path=source) from error


def _frame(block: bytes, kind: Format, source: str, first_line: int) -> Any:
    """polars reads a block at once; one that it has a doubt about is read line by line, for the line's number."""
    import polars as pl

    names = ("user", "item", "time", "category") if kind == "taobao" else ("user", "item", "time")
    identity = pl.Int64 if kind == "taobao" else pl.String
    types: list[Any] = [identity, identity, pl.Int64, pl.Int64][: len(names)]
    try:
        if kind in _FIELDS:
            frame = pl.read_ndjson(block, schema=dict(zip(_FIELDS[kind], types, strict=True)))
            frame = frame.rename(dict(zip(_FIELDS[kind], names, strict=True)))
        else:
            in_file = {"user": 0, "item": 1, "category": 2, "behavior": 3, "time": 4} if kind == "taobao" else names
            schema = {name: pl.String if name == "behavior" else types[names.index(name)] for name in in_file}
            frame = pl.read_csv(block, has_header=False, schema=schema, quote_char=None).select(names)
        nameless = identity == pl.String and frame.select((pl.col("user", "item") == "").any()).row(0) != (False, False)
        if not nameless and not any(frame.null_count().row(0)):
            return frame
    except pl.exceptions.PolarsError:
        pass
    lines = enumerate(block.split(b"\n"), first_line)
    rows = [_row(line, kind, source, number) for number, line in lines if line.strip()]
    return pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")


def _row(line: bytes, kind: Format, source: str, number: int) -> tuple[Any, ...]:
    """(user, item, time) or, for Taobao, (user, item, time, category)."""
    try:
        if kind in _FIELDS:
            review = json.loads(line)
            user, item, time = (review[name] for name in _FIELDS[kind])
            row: tuple[Any, ...] = (str(user), str(item), int(time))
        elif kind == "taobao":
            user, item, category, _, time = line.decode().split(",")
            row = (int(user), int(item), int(time), int(category))
        else:
            user, item, time = line.decode().split(",")
            row = (user, item, int(time))
        if "" in row or any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in row):
            raise ValueError(row)
        return row
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        shown = line[:60].decode("utf-8", "replace").strip()
        looks = _format_of(line)
        hint = f"it looks like --format {looks}" if looks not in (None, kind) else None
        raise CorruptError(f"line {number}: not a line of {kind}: {shown!r}", path=source, hint=hint) from error


def _format_of(line: bytes) -> Format | None:
    """What a line could be one of, None when it is nothing that is known."""
    try:
        review = json.loads(line)
    except ValueError:
        return "csv" if line.count(b",") == 2 else "taobao" if line.count(b",") == 4 else None
    for kind, names in _FIELDS.items():
        if isinstance(review, dict) and {*names} <= {*review}:
            return kind
    return None


def _lines(*columns: np.ndarray | list[Any]) -> bytes:
    import polars as pl

    frame = pl.DataFrame({str(place): column for place, column in enumerate(columns)})
    text: str = frame.write_csv(include_header=False)
    return text.encode()


def _write(directory: str, name: str, data: bytes) -> str:
    path = os.path.join(directory, name)
    storage.write_atomic(path, data)
    return path
