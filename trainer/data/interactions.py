"""The ComiRec text files as flat arrays.

``{dataset}_{train,valid,test}.txt`` hold one ``user,item,time`` a line, ``{dataset}_item_cate.txt`` one
``item,category``. All numbers are integers; lines may come in any order (THUDM/ComiRec, src/data_iterator.py).
"""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ckpt_tools.errors import CkptError, CorruptError, MismatchError, NotFoundError
from ckpt_tools.fs import local
from ckpt_tools.runs.experiments import data_directory, usual_data_directory


@dataclass(frozen=True)
class Interactions:
    """One split. Users ascend by id; each user's items ascend by time, ties in the order of the file.

    ``users`` int64 [U] · ``offsets`` int64 [U+1]: user u's items are ``items[offsets[u]:offsets[u+1]]`` ·
    ``items`` int32 [N].
    """

    path: str
    users: np.ndarray
    offsets: np.ndarray
    items: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """int64 [U]: how many items each user has."""
        return np.diff(self.offsets)

    @cached_property
    def digest(self) -> str:
        """sha256 of what the split says, whatever the order of its lines.

        Over the little-endian int64 of: U, users, offsets, items.
        """
        digest = hashlib.sha256()
        for part in (np.array([len(self.users)]), self.users, self.offsets, self.items):
            digest.update(part.astype("<i8").tobytes())
        return digest.hexdigest()

    def windows(self, users: np.ndarray, cuts: np.ndarray, maxlen: int) -> tuple[np.ndarray, np.ndarray]:
        """The last ``maxlen`` items before each cut, left-aligned: what the models see of a user.

        ``users`` [B] are row numbers, ``cuts`` [B] positions in those users' items. Returns the history
        int32 [B, L], padded with 0, and its mask float32 [B, L].
        """
        used = np.minimum(cuts, maxlen)
        column = np.arange(maxlen)
        mask = column < used[:, None]
        position = (self.offsets[users] + cuts - used)[:, None] + column
        history = np.where(mask, self.items[np.where(mask, position, 0)], 0)
        return history.astype(np.int32), mask.astype(np.float32)


def split_path(data_dir: str | os.PathLike[str], dataset: str, split: str) -> str:
    return os.path.join(data_dir, f"{dataset}_{split}.txt")


def has_split(data_dir: str | os.PathLike[str], dataset: str, split: str) -> bool:
    """Whether the file of a split is there: without test users only the others are. Raises StorageError."""
    return local.is_file(split_path(data_dir, dataset, split), follow=True)


def default_data_dir(root: str, dataset: str) -> str:
    """Where the data of a run lies when nobody says: where it is found, else where it usually is."""
    return data_directory(root, dataset) or usual_data_directory(root, dataset)


def read_split(data_dir: str | os.PathLike[str], dataset: str, split: str) -> Interactions:
    """Read one split.

    Raises NotFoundError (naming the files that belong here), CorruptError (with the line's number).
    """
    return read_interactions(_existing(split_path(data_dir, dataset, split), data_dir, dataset))


def read_interactions(path: str) -> Interactions:
    """Read a file of ``user,item,time`` lines. Raises NotFoundError, CorruptError (with the line's number)."""
    if not local.is_file(path, follow=True):
        raise NotFoundError("no such file", path=path)
    user, item, time = _read_integers(path, "user,item,time")
    order = np.lexsort((time, user))  # stable: equal times keep the order of the file
    user, item = user[order], item[order]
    users, first = np.unique(user, return_index=True)
    offsets = np.append(first, len(user)).astype(np.int64)
    _require_int32(path, item)
    return Interactions(path, users, offsets, item.astype(np.int32))


def read_categories(data_dir: str | os.PathLike[str], dataset: str) -> dict[int, int]:
    """Category by item id; some items may have none. Raises as ``read_split``; a later line wins."""
    path = _existing(os.path.join(data_dir, f"{dataset}_item_cate.txt"), data_dir, dataset)
    item, category = _read_integers(path, "item,category")
    return dict(zip(item.tolist(), category.tolist(), strict=True))


def find_dataset(data_dir: str | os.PathLike[str]) -> str:
    """The only dataset in a directory. Raises NotFoundError when there is none, or more than one."""
    suffix = "_valid.txt"
    names = sorted(os.listdir(data_dir)) if local.is_directory(data_dir, follow=True) else []
    datasets = [name.removesuffix(suffix) for name in names if name.endswith(suffix)]
    if len(datasets) == 1:
        return datasets[0]
    found = f"{len(datasets)} datasets ({', '.join(datasets)})" if datasets else "no {dataset}_valid.txt"
    raise NotFoundError(
        f"expected one dataset here, found {found}",
        path=data_dir,
        hint="give the directory of one dataset, or name it with --dataset of trainer",
    )


def items_needed(*splits: Interactions) -> int:
    """The largest id and one more: the rows of an item table for these splits."""
    return max(int(split.items.max()) for split in splits) + 1


def require_ids_below(split: Interactions, item_count: int, *, error: type[CkptError] = MismatchError) -> None:
    """Raise ``error``, naming the line, for an item id without a row in a table of ``item_count`` rows."""
    outside = (split.items < 0) | (split.items >= item_count)
    if outside.any():
        item = int(split.items[np.argmax(outside)])
        line = next(
            number for number, text in _lines(split.path) if text.count(",") == 2 and int(text.split(",")[1]) == item
        )
        raise error(
            f"line {line}: item id {item} has no row in the item table, which has {item_count}",
            path=split.path,
            hint="check the data directory: a checkpoint fits the data that it was trained on"
            if issubclass(error, MismatchError)
            else "check --data-dir and --item-count",
        )


def _existing(path: str, data_dir: str | os.PathLike[str], dataset: str) -> str:
    if not local.is_file(path, follow=True):
        raise NotFoundError(
            f"no such file; {os.fspath(data_dir)} should hold {dataset}_train.txt, {dataset}_valid.txt, "
            f"{dataset}_test.txt and {dataset}_item_cate.txt",
            path=path,
            hint="give the directory with these files: --data of ckpt, --data-dir of trainer",
        )
    return path


def _read_integers(path: str, layout: str) -> np.ndarray:
    """The columns of a file of comma-separated integers: int64 [columns, lines]."""
    columns = layout.count(",") + 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # numpy warns about a file without data
            table = np.loadtxt(path, dtype=np.int64, delimiter=",", comments=None, ndmin=2)
    except (ValueError, OverflowError, UserWarning):
        table = np.empty((0, 0), np.int64)
    if table.shape[1] != columns:
        raise _malformed(path, layout)
    by_column: np.ndarray = table.T
    return by_column


def _malformed(path: str, layout: str) -> CorruptError:
    """The error for the first line that is not what ``layout`` says."""
    for number, line in _lines(path):
        fields = line.split(",")
        try:
            numbers = [int(field) for field in fields]
        except ValueError:
            numbers = []
        if len(numbers) != layout.count(",") + 1 or not all(-(2**63) <= value < 2**63 for value in numbers):
            shown = line if len(line) <= 60 else line[:57] + "..."
            return CorruptError(f"line {number}: expected {layout} as integers, found {shown!r}", path=path)
    return CorruptError(f"expected lines of {layout}, found none", path=path)


def _lines(path: str) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1. For messages: slow is fine."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return [(number, line.strip()) for number, line in enumerate(file, 1) if line.strip()]


def _require_int32(path: str, items: np.ndarray) -> None:
    limit = np.iinfo(np.int32)
    if items.size and (items.max() > limit.max or items.min() < limit.min):
        raise CorruptError(f"an item id does not fit into 32 bits: {np.abs(items).max()}", path=path)
