"""Writing a model's vectors for other programs."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from ckpt_tools.errors import UsageError
from ckpt_tools.fs import durable, local
from trainer.data.interactions import read_interactions, require_ids_below
from trainer.evaluation import indexes
from trainer.evaluation.measuring import vectors_of
from trainer.models.recommenders import Recommender

SAVED_MODEL = "saved_model"
_ITEMS, _INDEX, _USERS = "item_vectors.npy", "items.faiss", ("user_vectors.npy", "user_ids.npy")
_USERS_AT_ONCE = 512
# So many vectors are searched for to see how an approximate index answers.
_QUERIES = 200


@dataclass(frozen=True)
class Exported:
    """``tried``: how an approximate index answers, None without one."""

    paths: tuple[str, ...]
    tried: indexes.Tried | None


def export(
    model: Recommender,
    directory: str,
    *,
    maxlen: int,
    index: indexes.Kind | None = None,
    histories: str | None = None,
    top_n: int = 50,
) -> Exported:
    """Write ``item_vectors.npy`` [n, D]; with ``index`` also ``items.faiss``, an inner-product index of them.

    ``histories`` is a file of ``user,item,time`` lines: ``user_vectors.npy`` [U, K, D] are made of all items of each of
    its users, and ``user_ids.npy`` [U] says whose they are. An approximate index is tried with their vectors, or else
    with those of items. Raises CorruptError (a malformed line), MismatchError (an item without a row), UsageError (what
    another model's export left there would stay beside this one's), StorageError.
    """
    items = np.ascontiguousarray(model.item_embedding, np.float32)
    arrays = {_ITEMS: items}
    queries = items
    if histories is not None:
        split = read_interactions(histories)
        require_ids_below(split, len(items))
        parts = [
            vectors_of(model, split, users, split.lengths[users], maxlen)
            for users in np.split(np.arange(len(split.users)), range(_USERS_AT_ONCE, len(split.users), _USERS_AT_ONCE))
        ]
        vectors = np.concatenate(parts).astype(np.float32)
        arrays |= dict(zip(_USERS, (vectors, split.users), strict=True))
        queries = vectors.reshape(-1, vectors.shape[2])
    made = {name: _encoded(array) for name, array in arrays.items()}
    _require_no_mixture(directory, made, {*made, _INDEX} if index else made.keys())
    durable.make_directory(directory)
    written = [_write(directory, name, data) for name, data in made.items()]
    tried = None
    if index is not None:
        import faiss

        built = indexes.build(index, items)
        if index != "flat":
            few = queries[:: max(1, len(queries) // _QUERIES)][:_QUERIES]
            tried = indexes.tried(built, items, np.ascontiguousarray(few), top_n)
        written.append(_write(directory, _INDEX, faiss.serialize_index(built).tobytes()))
    return Exported(tuple(written), tried)


def require_no_saved_model(directory: str) -> None:
    """Raise UsageError when there is one in the directory: asked before other files of an export are replaced."""
    path = os.path.join(directory, SAVED_MODEL)
    if local.is_there(path):
        raise UsageError("there is a SavedModel already", path=path, hint="choose another directory, or remove it")


def _encoded(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _require_no_mixture(directory: str, made: Mapping[str, bytes], names: Collection[str]) -> None:
    """Raise UsageError for files of an earlier export that this one, of other item vectors, does not make anew: a
    service that reads the directory would search the items of one model with the users or the index of another."""
    stay = [name for name in (_INDEX, *_USERS) if name not in names and local.is_there(os.path.join(directory, name))]
    if stay and not _holds(os.path.join(directory, _ITEMS), made[_ITEMS]):
        raise UsageError(
            f"{', '.join(stay)} of other item vectors would stay beside these",
            path=directory,
            hint="choose another directory, or remove them",
        )


def _holds(path: str, data: bytes) -> bool:
    if not local.is_there(path) or local.fingerprint(path).size != len(data):
        return False
    return local.read_file(path, limit=len(data)) == data


def _write(directory: str, name: str, data: bytes) -> str:
    path = os.path.join(directory, name)
    durable.write_atomic(path, data)
    return path
