"""From a path to the reader of its format, which the content decides, not the name."""

from __future__ import annotations

import os

from ckpt_tools.errors import NotFoundError
from ckpt_tools.format.filenames import index_name
from ckpt_tools.fs import paths
from ckpt_tools.readers.base import Checkpoint
from ckpt_tools.readers.bundle import Bundle
from ckpt_tools.readers.location import locate, raise_stranger, what_is
from ckpt_tools.readers.saved_model import VARIABLES, SavedModel, is_saved_model
from ckpt_tools.readers.signatures import sniff
from ckpt_tools.readers.v1_names import shard_names

# Whole files of other formats.
_ENDINGS = {
    "hdf5": ("an HDF5 file", ".h5"),
    "zip": ("a .keras file", ".keras"),
    "safetensors": ("a safetensors file", ".safetensors"),
}


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open whatever `locate` takes: a prefix, a file of a checkpoint, a directory, a SavedModel, a Keras file, an
    Orbax step.

    Raises:
        NotFoundError: there is no checkpoint; the message says what was found instead.
        CorruptError: the index, the header or the ``checkpoint`` file is damaged.
        UnsafeError: the file refers to other files, or is over a limit.
        UnsupportedError: a format or version that this program does not read.
    """
    where = locate(path)
    if not paths.is_lone(where) and paths.has_file(index_name(where)):
        _require_table(index_name(where))
        return Bundle(where)
    if paths.is_directory(where):
        if not is_saved_model(where):
            from ckpt_tools.readers.orbax import Orbax

            return Orbax(where)
        _require_table(index_name(os.path.join(where, VARIABLES)))
        return SavedModel(where)
    # What one format needs (h5py, archives) is not loaded for the others.
    if shard_names(where) != [where]:
        return _version_1(where)
    with paths.open_file(where) as file:
        kind = sniff(file)
    if kind is None or kind.id not in ("table", "hdf5", "zip", "json", "safetensors"):
        raise_stranger(where, kind)
    if kind.id == "table":
        return _version_1(where)
    if kind.id == "safetensors":
        from ckpt_tools.readers.safetensors import Safetensors

        return Safetensors(where)
    if kind.id == "zip":
        from ckpt_tools.readers.keras_zip import KerasZip

        return KerasZip(where)
    from ckpt_tools.readers.keras_h5 import open_h5, open_shards

    return open_h5(where) if kind.id == "hdf5" else open_shards(where)


def _version_1(path: str) -> Checkpoint:
    from ckpt_tools.readers.v1 import V1Checkpoint

    return V1Checkpoint(path)


def _require_table(path: str) -> None:
    """An ``.index`` that is no table at all is another file under its name: say which."""
    kind = what_is(path)
    if kind is not None and not kind.readable:
        raise_stranger(path, kind)
    if kind is not None and kind.id in _ENDINGS:
        name, ending = _ENDINGS[kind.id]
        raise NotFoundError(
            f"this is {name}, not an index", path=path, hint=f"rename it to end in {ending}, then pass it"
        )
