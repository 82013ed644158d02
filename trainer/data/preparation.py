"""Raw interactions to the trainer's files, by the recipe that ComiRec publishes. Needs polars, no TensorFlow.

Source of the recipe: THUDM/ComiRec, preprocess/data.py and category.py. Items with at least 5 interactions are kept;
then users with at least 5 of those; items are numbered from 1 by falling frequency (the sampler of negatives needs that
order), users are split 80/10/10 at random. Ties in frequency go by the item's name and the split by a seed, so that
the result repeats.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ckpt_tools.errors import CorruptError, UsageError
from ckpt_tools.fs import durable, local
from trainer.config import require_name
from trainer.data.categories import categories_of
from trainer.data.raw import Format, ItemField, OnProgress, Source

FEWEST = 5
# With fewer, 80/10/10 leaves a split without any.
_FEWEST_USERS = 6
_FILES = ("train", "valid", "test", "item_map", "user_map", "item_cate", "cate_map")


@dataclass(frozen=True)
class Prepared:
    """What was written. ``read`` counts the interactions of the source, ``kept`` those that are left; ``left_out`` its
    lines that are no interactions of the wanted kind (Taobao's other behaviors).

    ``encoding`` is that of the source. ``times``: ``as given``, or ``positions`` where times have fractions, which the
    files cannot hold: then each is the number of the interaction among its user's. ``categories``: items with one, None
    where nothing tells them.
    """

    paths: tuple[str, ...]
    read: int
    kept: int
    users: int
    items: int
    left_out: int
    encoding: str
    times: str
    categories: int | None


def prepare(
    source: str,
    kind: Format,
    directory: str,
    dataset: str,
    *,
    seed: int = 1230,
    fewest: int = FEWEST,
    behaviors: Sequence[str] = ("pv",),
    item_field: ItemField = "parent_asin",
    metadata: str | None = None,
    encoding: str | None = None,
    overwrite: bool = False,
    progress: OnProgress | None = None,
) -> Prepared:
    """Write ``{dataset}_{train,valid,test}.txt``, ``_item_map.txt`` and ``_user_map.txt`` (name,id) into ``directory``.

    ``_item_cate.txt`` (item,category, both as ids) is written where the source tells categories (Taobao) or a file
    about the items does (``metadata``); then also ``_cate_map.txt`` (name,id). ``progress`` is told (bytes read, bytes
    in all).

    Raises NotFoundError, CorruptError (with the line), UsageError (files are there already, too little is left).
    """
    require_name(dataset)
    if not overwrite:
        _require_absent(directory, dataset)
    raw = Source(source, kind, behaviors, item_field, encoding)
    columns = _read(raw, progress)
    user, item, time = columns.user, columns.item, columns.time
    kept = np.bincount(item, minlength=len(columns.items))[item] >= fewest
    kept &= np.bincount(user[kept], minlength=len(columns.users))[user] >= fewest
    if not kept.any():
        raise UsageError(
            f"no user has {fewest} interactions with items that have {fewest}",
            path=source,
            hint="keep more with a smaller --fewest" if fewest > 1 else None,
        )
    old_users, user = np.unique(user[kept], return_inverse=True)
    user, item, time = user.ravel().astype(np.int32), item[kept], time[kept]
    people = len(old_users)
    parts = _parts(people, source)
    counts = np.bincount(item, minlength=len(columns.items))
    names = columns.items
    ranked = sorted(np.flatnonzero(counts).tolist(), key=lambda number: (-counts[number], names[number]))
    ids = np.zeros(len(names), np.int32)
    ids[ranked] = np.arange(1, len(ranked) + 1)
    order = np.lexsort((time, user))  # stable: equal times keep the order of the source
    user, item, time = user[order], ids[item[order]], time[order]
    whole = time.dtype.kind == "i"
    if not whole:
        time = np.arange(len(user)) - np.searchsorted(user, user)
    place = np.empty(people, np.int32)
    place[np.random.default_rng(seed).permutation(people)] = np.arange(people)
    item_names = [names[number] for number in ranked]
    written: dict[str, bytes] = {}
    for split, (low, high) in parts.items():
        chosen = ((place >= low) & (place < high))[user]
        written[split] = _lines(user[chosen], item[chosen], time[chosen])
    written["item_map"] = _lines(item_names, ids[ranked])
    written["user_map"] = _lines([columns.users[number] for number in old_users.tolist()], np.arange(people))
    known = _categories(columns, ranked, item_names, raw, metadata)
    if known is not None:
        numbers, named = known
        written["item_cate"] = _lines(list(numbers), list(numbers.values()))
        if named:
            written["cate_map"] = _lines(list(named), list(named.values()))
    durable.make_directory(directory)
    # What another source told of items that had other numbers goes. Without the training file nobody trains: it goes
    # first and comes last, so that one who is killed between leaves no mixture of two data sets.
    for name in _FILES:
        if name == "train" or name not in written:
            durable.remove(os.path.join(directory, f"{dataset}_{name}.txt"))
    paths = {name: os.path.join(directory, f"{dataset}_{name}.txt") for name in written}
    for name in sorted(written, key=lambda name: name == "train"):
        durable.write_atomic(paths[name], written[name])
    return Prepared(
        paths=tuple(paths.values()),
        read=len(columns.user),
        kept=len(user),
        users=people,
        items=len(ranked),
        left_out=raw.left_out,
        encoding=raw.read_as,
        times="as given" if whole else "positions",
        categories=None if known is None else len(known[0]),
    )


def _require_absent(directory: str, dataset: str) -> None:
    names = [f"{dataset}_{name}.txt" for name in _FILES]
    there = [name for name in names if local.is_there(os.path.join(directory, name))]
    if there:
        raise UsageError(
            f"there is a data set of this name already: {', '.join(there)}",
            path=directory,
            hint="choose another --dataset or --data-dir, or write over it with --overwrite",
        )


def _parts(people: int, source: str) -> dict[str, tuple[int, int]]:
    """Of each split the first and last user, 80/10/10. Raises UsageError when one of them would have none."""
    first, second = int(people * 0.8), int(people * 0.9)
    parts = {"train": (0, first), "valid": (first, second), "test": (second, people)}
    if empty := [split for split, (low, high) in parts.items() if low == high]:
        raise UsageError(
            f"{people} users are left, of which none would be in {' and '.join(empty)}: {_FEWEST_USERS} are needed at "
            "least",
            path=source,
            hint="take more of the data, or keep more of it with a smaller --fewest",
        )
    return parts


@dataclass(frozen=True)
class _Columns:
    """Users and items as int32 numbers in order of appearance, times int64 or float64, and their names. ``category`` by
    an item's number; ``parents`` the item that an item is a variation of, by name."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    users: list[Any]
    items: list[Any]
    category: Mapping[int, int]
    parents: Mapping[str, str]


def _read(raw: Source, progress: OnProgress | None) -> _Columns:
    users, items = _Numbers(), _Numbers()
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    category: dict[int, int] = {}
    parents: dict[str, str] = {}
    for frame in raw.frames(progress):
        if not frame.height:
            continue
        user = users.of(frame["user"])
        item = items.of(frame["item"])
        parts.append((user, item, frame["time"].to_numpy()))
        if "category" in frame.columns:
            seen, where = np.unique(item, return_index=True)
            category |= dict(zip(seen.tolist(), frame["category"].to_numpy()[where].tolist(), strict=True))
        if "parent" in frame.columns:
            parents |= dict(frame.select("item", "parent").unique(keep="any").iter_rows())
    if raw.behaviors_there and (unknown := [name for name in raw.behaviors if name not in raw.behaviors_there]):
        raise UsageError(
            f"no line has the behavior {' or '.join(unknown)}",
            path=raw.path,
            hint=f"choose from {', '.join(sorted(raw.behaviors_there)[:20])}",
        )
    names = items.names()
    if not names:
        raise CorruptError("holds no interactions", path=raw.path)
    user, item, time = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Columns(user, item, time, users.names(), names, category, parents)


def _categories(
    columns: _Columns, ranked: Sequence[int], names: Sequence[Any], source: Source, metadata: str | None
) -> tuple[dict[int, int], dict[str, int]] | None:
    """Category by item id, and the ids of named categories; None where nothing tells them."""
    if metadata is None:
        if not columns.category:
            return None
        return {number: columns.category[old] for number, old in enumerate(ranked, 1)}, {}
    keys = [columns.parents.get(name, name) for name in names]
    found = categories_of(metadata, source.format, {*keys, *names}, source.read_as)
    named: dict[str, int] = {}
    numbers = {}
    for number, (name, key) in enumerate(zip(names, keys, strict=True), 1):
        category = found.get(name, found.get(key))
        if category is not None:
            numbers[number] = named.setdefault(category, len(named) + 1)
    return numbers, named


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


def _lines(*columns: np.ndarray | list[Any]) -> bytes:
    import polars as pl

    frame = pl.DataFrame({str(place): column for place, column in enumerate(columns)})
    text: str = frame.write_csv(include_header=False)
    return text.encode()
