"""Writing a model's vectors for other programs."""

from __future__ import annotations

import io
import os

import numpy as np

from ckpt_tools.fs import durable
from trainer.data.interactions import read_interactions, require_ids_below
from trainer.evaluation.measuring import vectors_of
from trainer.models.recommenders import Recommender

_USERS_AT_ONCE = 512


def export(
    model: Recommender, directory: str, *, maxlen: int, index: bool = False, histories: str | None = None
) -> list[str]:
    """Write ``item_vectors.npy`` [n, D]; with ``index`` also ``items.faiss``, an inner-product index of them.

    ``histories`` is a file of ``user,item,time`` lines: ``user_vectors.npy`` [U, K, D] are made of all items of each of
    its users, and ``user_ids.npy`` [U] says whose they are. Returns the paths. Raises CorruptError (a malformed line),
    MismatchError (an item without a row), StorageError.
    """
    items = np.ascontiguousarray(model.item_embedding, np.float32)
    arrays = {"item_vectors.npy": items}
    if histories is not None:
        split = read_interactions(histories)
        require_ids_below(split, len(items))
        parts = [
            vectors_of(model, split, users, split.lengths[users], maxlen)
            for users in np.split(np.arange(len(split.users)), range(_USERS_AT_ONCE, len(split.users), _USERS_AT_ONCE))
        ]
        arrays |= {"user_vectors.npy": np.concatenate(parts).astype(np.float32), "user_ids.npy": split.users}
    durable.make_directory(directory)
    written = []
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        written.append(_write(directory, name, buffer.getvalue()))
    if index:
        import faiss

        flat = faiss.IndexFlatIP(items.shape[1])
        flat.add(items)
        written.append(_write(directory, "items.faiss", faiss.serialize_index(flat).tobytes()))
    return written


def _write(directory: str, name: str, data: bytes) -> str:
    path = os.path.join(directory, name)
    durable.write_atomic(path, data)
    return path
