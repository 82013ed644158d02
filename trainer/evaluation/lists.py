"""What a model recommends to each user: exact top-N lists for people and services. Needs no TensorFlow and no faiss."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np

from ckpt_tools.errors import UnsupportedError, UsageError
from ckpt_tools.fs import durable, local
from trainer.data.interactions import Interactions, require_ids_below
from trainer.data.names import Names
from trainer.evaluation.measuring import OnProgress, vectors_of
from trainer.extras import installed
from trainer.models.recommenders import Recommender

# As an evaluation takes them, so that MIND's noise is the same.
_USERS_AT_ONCE = 512
# Scores that are made at once: 64 MB of float32.
_SCORES_AT_ONCE = 1 << 24
_LISTS_AT_ONCE = 4096


@dataclass(frozen=True)
class List:
    """A user's items, best first: ``items`` int64 [N] and ``scores`` float32 [N]; fewer where no more are left."""

    user: int
    items: np.ndarray
    scores: np.ndarray


def lists_for(
    model: Recommender,
    split: Interactions,
    cuts: np.ndarray,
    *,
    maxlen: int,
    top_n: int,
    with_seen: bool = False,
    progress: OnProgress | None = None,
) -> Iterator[List]:
    """The top N of each user of a split, whose history are the items before ``cuts`` [U].

    An item's score is that of the interest that scores it highest; equal ones go by id. Items of the history are left
    out unless ``with_seen``, and so is id 0, the padding. Raises MismatchError for an item without a row.
    """
    items = np.ascontiguousarray(model.item_embedding, np.float32)
    require_ids_below(split, len(items))
    for start in range(0, len(cuts), _USERS_AT_ONCE):
        users = np.arange(start, min(start + _USERS_AT_ONCE, len(cuts)))
        vectors = vectors_of(model, split, users, cuts[users], maxlen).astype(np.float32)
        at_once = max(1, _SCORES_AT_ONCE // (vectors.shape[1] * len(items)))
        for first in range(0, len(users), at_once):
            part = users[first : first + at_once]
            of_part = vectors[first : first + at_once]
            products = of_part.reshape(-1, of_part.shape[2]) @ items.T
            scores = products.reshape(len(part), -1, len(items)).max(axis=1)
            scores[:, 0] = -np.inf
            for row, user in zip(scores, part, strict=True):
                if not with_seen:
                    begin = split.offsets[user]
                    row[split.items[begin : begin + cuts[user]]] = -np.inf
                yield List(int(split.users[user]), *_best(row, top_n))
        if progress is not None:
            progress(int(users[-1]) + 1, len(cuts))


def _best(scores: np.ndarray, top_n: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores of the N largest that are finite; of equal ones the smaller ids."""
    count = min(top_n, len(scores))
    least = np.partition(scores, -count)[-count]
    candidates = np.flatnonzero((scores >= least) & (scores > -np.inf))
    order = np.lexsort((candidates, -scores[candidates]))[:count]
    chosen = candidates[order]
    return chosen, scores[chosen]


# ------------------------------------------------------------------------------------------- files


def require_writer(path: str) -> None:
    """Raise UnsupportedError when Parquet is wanted and pyarrow is not there, UsageError when there is such a file."""
    if _is_parquet(path) and not installed("pyarrow"):
        raise UnsupportedError(
            "Parquet needs pyarrow, which is not installed", path=path, hint="pip install pyarrow; or name it .jsonl"
        )
    if local.is_there(path):
        raise UsageError("there is such a file already", path=path, hint="choose another name, or remove it")


def write_lists(path: str, lists: Iterable[List], names: Names) -> int:
    """Write lists, as Parquet when the path ends so, else as JSON lines; returns how many. The file gets its name when
    it is whole. Raises StorageError."""
    count = 0
    block: list[List] = []
    with durable.created(path) as file, (_parquet if _is_parquet(path) else _json_lines)(file, names) as writer:
        for one in lists:
            block.append(one)
            count += 1
            if len(block) == _LISTS_AT_ONCE:
                writer.write(block)
                block = []
        writer.write(block)
    return count


class _Writer(Protocol):
    def write(self, lists: Sequence[List]) -> None: ...


def _is_parquet(path: str) -> bool:
    return path.lower().endswith(".parquet")


@dataclass
class _JsonLines:
    file: BinaryIO
    names: Names

    def write(self, lists: Sequence[List]) -> None:
        for one in lists:
            items = [
                {"item": item, "name": self.names.items.get(item), "score": score}
                for item, score in zip(one.items.tolist(), one.scores.tolist(), strict=True)
            ]
            row = {"user": one.user, "name": self.names.users.get(one.user), "items": items}
            self.file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")


@contextmanager
def _json_lines(file: BinaryIO, names: Names) -> Iterator[_Writer]:
    yield _JsonLines(file, names)


@dataclass
class _Parquet:
    writer: Any
    schema: Any
    names: Names

    def write(self, lists: Sequence[List]) -> None:
        import pyarrow

        columns = {
            "user": [one.user for one in lists],
            "name": [self.names.users.get(one.user) for one in lists],
            "items": [one.items.tolist() for one in lists],
            "item_names": [[self.names.items.get(item) for item in one.items.tolist()] for one in lists],
            "scores": [one.scores.tolist() for one in lists],
        }
        self.writer.write_table(pyarrow.table(columns, schema=self.schema))


@contextmanager
def _parquet(file: BinaryIO, names: Names) -> Iterator[_Writer]:
    """Columns user, name, items, item_names and scores; a row for each user."""
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema(
        [
            ("user", pyarrow.int64()),
            ("name", pyarrow.string()),
            ("items", pyarrow.list_(pyarrow.int64())),
            ("item_names", pyarrow.list_(pyarrow.string())),
            ("scores", pyarrow.list_(pyarrow.float32())),
        ]
    )
    with parquet.ParquetWriter(file, schema) as writer:
        yield _Parquet(writer, schema, names)
