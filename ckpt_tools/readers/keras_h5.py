"""Keras weights in HDF5: whole models and weights of Keras 1 and 2 (``.h5``), ``.weights.h5`` of Keras 3.

Keras 3 may cut them into shards:

    NAME.weights.json    {"metadata": {...}, "weight_map": {"/layers/dense/vars": "NAME_00000.weights.h5", ...}}
    NAME_00000.weights.h5 ...

No configuration of a model is ever followed: its layers are counted and their sizes compared.
Source: keras/src/saving/saving_lib.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, UnsafeError
from ckpt_tools.findings import Finding
from ckpt_tools.format import json_text
from ckpt_tools.format.overlay import Patch
from ckpt_tools.fs import paths, witness
from ckpt_tools.fs.local import Fingerprint
from ckpt_tools.readers.base import Progress, StoredBest, TensorInfo
from ckpt_tools.readers.common import Reader, damage, error_context
from ckpt_tools.readers.hdf5 import Hdf5File
from ckpt_tools.readers.keras_contents import MAX_CONFIG_BYTES, problems
from ckpt_tools.readers.open_files import OpenFiles
from ckpt_tools.readers.window import Bytes

if TYPE_CHECKING:
    import numpy as np

MAX_MAP_BYTES = 64 << 20
CONFIG = "config.json"

NO_CHECKSUMS = "HDF5 keeps no checksums: damage that leaves the structure whole cannot be seen"

# Opens the bytes of an HDF5 file, among the files of the checkpoint.
Source = Callable[[OpenFiles], Bytes]


class Hdf5Checkpoint(Reader):
    """The datasets of one HDF5 file or of several shards; ``sources`` gives each, or raises when it is missing.

    ``fingerprint`` is that of the one file that all is read from, as it was when it was opened; None with a map.

    Raises CorruptError for a tensor in two shards, NotFoundError when all are missing, and what `Hdf5File` raises.
    """

    def __init__(
        self, prefix: str, format: str, sources: Mapping[str, Source], fingerprint: Fingerprint | None = None
    ) -> None:
        self.prefix = prefix
        self.fingerprint = fingerprint
        self._open = OpenFiles()
        self._missing: list[CkptError] = []
        self._files: dict[str, Hdf5File] = {}
        self._opened: list[Hdf5File] = []
        tensors: dict[str, TensorInfo] = {}
        try:
            for label, source in sources.items():
                try:
                    file = Hdf5File(source(self._open))
                except NotFoundError as error:
                    self._missing.append(error)
                    continue
                self._opened.append(file)
                if (watch := witness.current()) is not None:
                    watch.saw_unchecked(file.path)
                for name, info in file.tensors.items():
                    if name in tensors:
                        raise CorruptError(f"is in two shards, {label} among them", path=prefix, key=name)
                    tensors[name] = info
                    self._files[name] = file
            if not self._opened:
                raise self._missing[0]
        except BaseException:
            self.close()
            raise
        self._tensors = MappingProxyType(dict(sorted(tensors.items())))
        self._format = "keras-h5" if format == "keras-weights-h5" and self._opened[0].legacy else format

    @property
    def format(self) -> str:
        return self._format

    @property
    def keras_version(self) -> str | None:
        """The version that wrote the file, where it says so; else "3" or "1 or 2" as it calls its weights.

        Keras 1 and 2 end the name of each with the number of an output, as TensorFlow 1 does: ``kernel:0``.
        """
        told = self._opened[0].keras_version
        if told or not self._tensors:
            return told
        if not self._opened[0].legacy:
            # Keras 3 keeps the variables of each layer in a group of this name.
            return "3" if any("vars" in _slashed(name).split("/") for name in self._tensors) else None
        weights = [name for name in self._tensors if not name.startswith("optimizer_weights/")]
        return "1 or 2" if all(name[-2:-1] == ":" or name[-3:-2] == ":" for name in weights) else "3"

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._tensors

    @property
    def best(self) -> StoredBest | None:
        return self._opened[0].best if len(self._opened) == 1 else None

    def edited(self, edits: Sequence[Mapping[str, Any]]) -> Patch:
        """What becomes of a single file when some small values are set in it; see `Hdf5File.edited`."""
        (file,) = self._opened
        return file.edited(edits)

    def read(self, name: str) -> np.ndarray:
        self.info(name)
        return self._files[name].read(name)

    def rows(self, name: str, first: int, count: int) -> np.ndarray:
        self.info(name)
        return self._files[name].rows(name, first, count)

    def chunks(self, name: str) -> Iterator[bytes]:
        self.info(name)
        return self._files[name].chunks(name)

    def outline(self) -> Iterator[Finding]:
        yield from map(damage, self._missing)
        told: dict[str, None] = {}
        for file in self._opened:
            try:
                lists, texts = file.attributes()
            except CorruptError as error:
                yield damage(error)
                continue
            config = texts.get("model_config") if file.legacy else self._config()
            told.update(dict.fromkeys(problems(self._tensors, lists, file.unwritten, config)))
        # What is in a missing shard is missed for that reason.
        for problem in told if not self._missing else ():
            message = (
                f"{problem}: its save was interrupted, or it was changed" if "are not there" in problem else problem
            )
            yield Finding(
                "incomplete", "damage", message, self.prefix, fix="go on from another copy or an earlier save"
            )

    def _config(self) -> str | None:
        """The configuration of the model that lies beside the weights, as in a ``.keras`` file that was unpacked."""
        directory, name = os.path.split(self.prefix)
        path = os.path.join(directory, CONFIG)
        if name != "model.weights.h5" or not paths.exists(path):
            return None
        return paths.read_file(path, limit=MAX_CONFIG_BYTES).decode("utf-8", "replace")

    def examine(self) -> Iterator[Progress]:
        yield Progress(finding=Finding("no-checksums", "note", NO_CHECKSUMS, self.prefix))
        yield from super().examine()

    def close(self) -> None:
        for file in self._opened:
            file.close()
        self._open.close()


def _slashed(name: str) -> str:
    return name.replace("\\", "/")


def open_h5(path: str, file: paths.File) -> Hdf5Checkpoint:
    """A single HDF5 file, which is open. Raises what `Hdf5File` raises."""
    return Hdf5Checkpoint(path, "keras-weights-h5", {path: lambda files: files.keep(file)}, file.fingerprint)


def open_shards(path: str, file: paths.File) -> Hdf5Checkpoint:
    """The shards that a map beside them names; ``file`` is the map, which is open.

    Raises what `shards_of_map` and `Hdf5File` raise.
    """

    def opener(shard: str) -> Source:
        return lambda files: files.open(shard)

    shards = {os.path.basename(shard): opener(shard) for shard in shards_of_map(path, file)}
    return Hdf5Checkpoint(path, "keras-weights-h5", shards)


def shards_of_map(path: str, file: paths.File | None = None) -> list[str]:
    """The paths of the files that a map of weights names; ``file`` is the map where it is open.

    Raises what `shards_in` raises, NotFoundError, and UnsafeError for a map over `MAX_MAP_BYTES`.
    """
    with error_context(path), paths.open_file(path) if file is None else file as opened:
        names = shards_in(paths.read_all(opened, limit=MAX_MAP_BYTES))
    return [os.path.join(os.path.dirname(path), name) for name in names]


def shards_in(data: bytes) -> list[str]:
    """The files that a map of weights names.

    Raises CorruptError when it is none, UnsafeError when it names a file elsewhere.
    """
    document: Any
    try:
        document = json_text.parse(data)
    except ValueError as error:
        raise CorruptError(f"not JSON: {error}") from error
    weights = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weights, dict):
        raise CorruptError("not a map of sharded Keras weights (no weight_map)")
    names: dict[str, None] = {}
    for value in weights.values():
        for name in value if isinstance(value, list) else [value]:
            if not isinstance(name, str) or not name:
                raise CorruptError(f"the map names a file {name!r}")
            if name != os.path.basename(name) or "\\" in name or name in (".", ".."):
                raise UnsafeError(f"the map names {name!r}, a place outside its directory")
            names[name] = None
    if not names:
        raise CorruptError("the map names no files")
    return sorted(names)
