"""Raw interactions to the trainer's files, by the recipe that ComiRec publishes. Needs polars, no TensorFlow.

Source of the recipe: THUDM/ComiRec, preprocess/data.py. Items with at least 5 interactions are kept; then users with at
least 5; items are numbered from 1 by falling frequency (the sampler of negatives needs that order), users are split
80/10/10 at random. Ties in frequency go by the item's name and the split by a seed, so that the result repeats.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np

from ckpt_tools import storage
from ckpt_tools.errors import CorruptError, NotFoundError, UsageError

Format = Literal["amazon2014", "amazon2023", "taobao", "csv"]
FORMATS: tuple[Format, ...] = ("amazon2014", "amazon2023", "taobao", "csv")
FEWEST = 5

_LINES_AT_ONCE = 500_000
# The names that the two releases of the Amazon reviews give to user, item and time.
_FIELDS = {
    "amazon2014": ("reviewerID", "asin", "unixReviewTime"),
    "amazon2023": ("user_id", "parent_asin", "timestamp"),
}

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
    (bytes read, bytes in all). Raises NotFoundError, CorruptError (with the line), UsageError (nothing is left).
    """
    columns = _read(source, kind, progress)
    user, item, time, category, names = columns
    read = len(user)
    kept = np.bincount(item)[item] >= FEWEST
    kept &= np.bincount(user[kept], minlength=int(user.max(initial=0)) + 1)[user] >= FEWEST
    user, item, time = user[kept], item[kept], time[kept]
    if not len(user):
        raise UsageError(f"no user has {FEWEST} interactions with items that have {FEWEST}", path=source)
    counts = np.bincount(item, minlength=len(names))
    present = np.flatnonzero(counts)
    ranked = present[np.lexsort((names[present], -counts[present]))]
    ids = np.zeros(len(names), np.int64)
    ids[ranked] = np.arange(1, len(ranked) + 1)
    people, number = np.unique(user, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(people))
    place = np.empty(len(people), np.int64)
    place[shuffled] = np.arange(len(people))
    order = np.lexsort((time, number))  # stable: equal times keep the order of the source
    number, item, time = number[order], ids[item[order]], time[order]
    first, second = int(len(people) * 0.8), int(len(people) * 0.9)
    parts = {"train": (0, first), "valid": (first, second), "test": (second, len(people))}
    storage.make_directory(directory)
    paths = []
    for split, (low, high) in parts.items():
        chosen = (place[number] >= low) & (place[number] < high)
        table = (number[chosen], item[chosen], time[chosen])
        paths.append(_write(directory, f"{dataset}_{split}.txt", _lines(*table)))
    paths.append(_write(directory, f"{dataset}_item_map.txt", _lines(names[ranked], ids[ranked])))
    if category is not None:
        paths.append(_write(directory, f"{dataset}_item_cate.txt", _lines(ids[ranked], category[ranked])))
    return Prepared(tuple(paths), read, len(user), len(people), len(ranked))


Columns = tuple[np.ndarray, np.ndarray, np.ndarray, "np.ndarray | None", np.ndarray]


def _read(source: str, kind: Format, progress: Progress | None) -> Columns:
    """Users and items as int32 numbers in order of appearance, times int64, an item's category, items' names."""
    import polars as pl

    users, items = _Numbers(), _Numbers()
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    categories: dict[int, int] = {}
    for frame in _frames(source, kind, progress):
        user = users.of(frame["user"])
        item = items.of(frame["item"])
        parts.append((user, item, frame["time"].cast(pl.Int64).to_numpy()))
        if "category" in frame.columns:
            seen, where = np.unique(item, return_index=True)
            categories |= dict(zip(seen.tolist(), frame["category"].to_numpy()[where].tolist(), strict=True))
    if not parts:
        raise CorruptError("holds no interactions", path=source)
    user, item, time = (np.concatenate(column) for column in zip(*parts, strict=True))
    names = np.array(items.names())
    category = np.array([categories[number] for number in range(len(names))]) if categories else None
    return user, item, time, category, names


class _Numbers:
    """Numbers names from 0 in the order in which they appear."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}

    def of(self, column: Any) -> np.ndarray:
        """int32, one for each value of a polars column."""
        different = column.unique(maintain_order=True)
        for name in different.to_list():
            self._numbers.setdefault(name, len(self._numbers))
        known = different.to_list()
        return column.replace_strict(known, [self._numbers[name] for name in known]).to_numpy().astype(np.int32)

    def names(self) -> list[Any]:
        return list(self._numbers)


def _frames(source: str, kind: Format, progress: Progress | None) -> Iterator[Any]:
    """polars frames of user, item, time and, for Taobao, category, some hundred thousand lines each."""
    import polars as pl

    if not os.path.isfile(source):
        raise NotFoundError("no such file", path=source)
    total = os.path.getsize(source)
    with open(source, "rb") as raw:
        stream: IO[bytes] = gzip.open(raw) if source.endswith(".gz") else raw  # type: ignore[assignment]  # noqa: SIM115
        start = 1
        while lines := list(_some(stream)):
            rows = [_row(line, kind, source, number) for number, line in enumerate(lines, start) if line.strip()]
            start += len(lines)
            if rows:
                names = ("user", "item", "time", "category")[: len(rows[0])]
                yield pl.DataFrame(dict(zip(names, zip(*rows, strict=True), strict=True)))
            if progress is not None:
                progress(raw.tell(), total)


def _some(stream: IO[bytes]) -> Iterator[bytes]:
    for _ in range(_LINES_AT_ONCE):
        line = stream.readline()
        if not line:
            return
        yield line


def _row(line: bytes, kind: Format, source: str, number: int) -> tuple[Any, ...]:
    """(user, item, time) or, for Taobao, (user, item, time, category)."""
    try:
        if kind in _FIELDS:
            review = json.loads(line)
            user, item, time = (review[name] for name in _FIELDS[kind])
            return str(user), str(item), int(time)
        fields = line.decode().strip().split(",")
        if kind == "taobao":
            user, item, category, _, time = fields
            return int(user), int(item), int(time), int(category)
        user, item, time = fields
        return user, item, int(time)
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        shown = line[:60].decode("utf-8", "replace").strip()
        raise CorruptError(f"line {number}: not a line of {kind}: {shown!r}", path=source) from error


def _lines(*columns: np.ndarray) -> bytes:
    import polars as pl

    frame = pl.DataFrame({str(place): column for place, column in enumerate(columns)})
    text: str = frame.write_csv(include_header=False)
    return text.encode()


def _write(directory: str, name: str, data: bytes) -> str:
    path = os.path.join(directory, name)
    storage.write_atomic(path, data)
    return path
