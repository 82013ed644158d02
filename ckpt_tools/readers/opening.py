"""From a path to the reader of its format, which the content decides, not the name."""

from __future__ import annotations

import os

from ckpt_tools.errors import NotFoundError
from ckpt_tools.format.filenames import index_name
from ckpt_tools.fs import paths
from ckpt_tools.readers.base import Checkpoint
from ckpt_tools.readers.bundle import Bundle
from ckpt_tools.readers.content import look_into
from ckpt_tools.readers.location import Located, find, raise_stranger, what_is
from ckpt_tools.readers.saved_model import VARIABLES, SavedModel, is_saved_model
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
    return open_located(find(path))


def open_located(found: Located) -> Checkpoint:
    """The same of what was found already. Raises what `open_checkpoint` raises."""
    where, content = found.path, found.content
    if content is None:
        if not paths.is_lone(where) and paths.has_file(index_name(where)):
            return Bundle(where, file=_open_index(index_name(where)))
        if paths.is_directory(where) and not is_saved_model(where):
            from ckpt_tools.readers.orbax import Orbax

            return Orbax(where)
        if paths.is_directory(where):
            return SavedModel(where, file=_open_index(index_name(os.path.join(where, VARIABLES))))
        if shard_names(where) != [where]:
            return _version_1(where)
        content = look_into(where)
    with content.closed_on_error():
        kind, file = content.kind, content.file
        # What one format needs (h5py, archives) is not loaded for the others.
        if kind is None or kind.id not in ("table", "hdf5", "zip", "json", "safetensors"):
            raise_stranger(where, kind)
        if kind.id == "table":
            return _version_1(where, file)
        if kind.id == "safetensors":
            from ckpt_tools.readers.safetensors import Safetensors

            return Safetensors(where, file)
        if kind.id == "zip":
            from ckpt_tools.readers.keras_zip import KerasZip

            return KerasZip(where, file)
        from ckpt_tools.readers.keras_h5 import open_h5, open_shards

        return open_h5(where, file) if kind.id == "hdf5" else open_shards(where, file)


def _version_1(path: str, file: paths.File | None = None) -> Checkpoint:
    from ckpt_tools.readers.v1 import V1Checkpoint

    return V1Checkpoint(path, file)


def _open_index(path: str) -> paths.File:
    """The open file. An ``.index`` that is no table at all is another file under its name: say which."""
    content = look_into(path)
    with content.closed_on_error():
        kind = what_is(content)
        if kind is not None and not kind.readable:
            raise_stranger(path, kind)
        if kind is not None and kind.id in _ENDINGS:
            name, ending = _ENDINGS[kind.id]
            raise NotFoundError(
                f"this is {name}, not an index", path=path, hint=f"rename it to end in {ending}, then pass it"
            )
    return content.file
