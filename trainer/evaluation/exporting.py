"""Writing a model's vectors for other programs."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass

import numpy as np

from ckpt_tools.errors import UsageError
from ckpt_tools.fs import durable, local
from trainer.data.interactions import read_interactions, require_ids_below
from trainer.evaluation import indexes
from trainer.evaluation.measuring import vectors_of
from trainer.models.recommenders import Recommender

SAVED_MODEL = "saved_model"
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
    with those of items. Raises CorruptError (a malformed line), MismatchError (an item without a row), StorageError.
    """
    items = np.ascontiguousarray(model.item_embedding, np.float32)
    arrays = {"item_vectors.npy": items}
    queries = items
    if histories is not None:
        split = read_interactions(histories)
        require_ids_below(split, len(items))
        parts = [
            vectors_of(model, split, users, split.lengths[users], maxlen)
            for users in np.split(np.arange(len(split.users)), range(_USERS_AT_ONCE, len(split.users), _USERS_AT_ONCE))
        ]
        vectors = np.concatenate(parts).astype(np.float32)
        arrays |= {"user_vectors.npy": vectors, "user_ids.npy": split.users}
        queries = vectors.reshape(-1, vectors.shape[2])
    durable.make_directory(directory)
    written = []
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        written.append(_write(directory, name, buffer.getvalue()))
    tried = None
    if index is not None:
        import faiss

        built = indexes.build(index, items)
        if index != "flat":
            few = queries[:: max(1, len(queries) // _QUERIES)][:_QUERIES]
            tried = indexes.tried(built, items, np.ascontiguousarray(few), top_n)
        written.append(_write(directory, "items.faiss", faiss.serialize_index(built).tobytes()))
    return Exported(tuple(written), tried)


def require_no_saved_model(directory: str) -> None:
    """Raise UsageError when there is one in the directory: asked before other files of an export are replaced."""
    path = os.path.join(directory, SAVED_MODEL)
    if local.is_there(path):
        raise UsageError("there is a SavedModel already", path=path, hint="choose another directory, or remove it")


def _write(directory: str, name: str, data: bytes) -> str:
    path = os.path.join(directory, name)
    durable.write_atomic(path, data)
    return path
