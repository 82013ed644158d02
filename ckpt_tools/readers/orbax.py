"""Orbax checkpoints, as Keras 3's OrbaxCheckpoint and JAX programs write them: directories of arrays in Zarr.

A step has items, each a directory with a tree of arrays; names are ``ITEM/path/of/leaf``. Arrays are read through
TensorStore (extra ``orbax``), which knows OCDBT, Zarr and their codecs. It gets paths of this machine only, and never
more to unpack than the files could hold.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckpt_tools.errors import (
    CkptError,
    CorruptError,
    StorageError,
    UnsafeError,
    UnsupportedError,
)
from ckpt_tools.findings import Finding
from ckpt_tools.format import orbax
from ckpt_tools.format.dtypes import BY_NAME, to_numpy
from ckpt_tools.fs import local, paths
from ckpt_tools.readers.base import Progress, TensorInfo
from ckpt_tools.readers.common import CHUNK, Reader, error_context
from ckpt_tools.readers.orbax_places import items_of, optional_file

if TYPE_CHECKING:
    import numpy as np

INSTALL = "pip install 'ckpt-tools[orbax]'"
NO_CHECKSUMS = (
    "Orbax keeps checksums of its lists and of small values; of larger arrays it can be checked that all is there and "
    "unpacks to its size"
)
# A weight that is all zeros packs to next to nothing; what unpacks to more than this is a bomb.
MAX_EXPANSION, MAX_EXPANSION_FREE = 1 << 12, 1 << 30
_MOST_FILES = 1_000_000


@dataclass(frozen=True)
class _Stored:
    """An array of an item: its name in the store, what Zarr says of it, and the driver that reads it."""

    item: _Item
    name: str
    array: orbax.Array
    driver: str


class _Item:
    """One directory with a tree."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.nbytes = _size_of(path)
        self._manifest = local.is_file(os.path.join(path, orbax.MANIFEST), follow=True)
        data = optional_file(os.path.join(path, orbax.TREE_METADATA))
        with error_context(os.path.join(path, orbax.TREE_METADATA)):
            self.tree = orbax.Tree({}, True) if data is None else orbax.decode_tree(data)
        texts = optional_file(os.path.join(path, orbax.STRINGS))
        with error_context(os.path.join(path, orbax.STRINGS)):
            self.strings = {} if texts is None else orbax.decode_strings(texts)

    @cached_property
    def _store(self) -> Any:
        import tensorstore as ts

        files = {"driver": "file", "path": os.path.join(os.path.abspath(self.path), "")}
        limits = {"file_io_concurrency": {"limit": 4}, "data_copy_concurrency": {"limit": 2}}
        spec = {"driver": "ocdbt", "base": files} if self._manifest else files
        with _translated(self.path):
            return ts.KvStore.open({**spec, "context": limits}).result()

    def arrays(self) -> Iterator[tuple[str, _Stored]]:
        """What is stored, by the path of its leaf. Raises CorruptError when the lists of the store are damaged."""
        with _translated(self.path):
            keys = [key.decode("utf-8", "surrogateescape") for key in self._store.list().result()]
        for key in keys:
            name, _, last = key.rpartition("/")
            if last not in (orbax.ZARR_2, orbax.ZARR_3):
                continue
            with _translated(self.path, name):
                described = self._store.read(key.encode("utf-8", "surrogateescape")).result()
            if described.state != "value":
                raise CorruptError("what describes an array is gone", path=self.path, key=name)
            with error_context(self.path, name):
                array = orbax.decode_array(bytes(described.value))
            driver = "zarr" if last == orbax.ZARR_2 else "zarr3"
            leaf = self.tree.leaves.get(name)
            yield leaf.name if leaf else name.replace(".", "/"), _Stored(self, name, array, driver)

    def pieces(self, stored: _Stored, first: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
        """The values of some rows of an array, as many at a time as are stored together."""
        import tensorstore as ts

        spec = {"driver": stored.driver, "kvstore": (self._store / f"{stored.name}/").spec().to_json(), "open": True}
        # What is left out is only the fill value where Orbax may leave it out; else it is lost.
        spec["fill_missing_data_reads"] = self.tree.sparse
        array = stored.array
        with _translated(self.path, stored.name):
            opened = ts.open(spec).result()
        if tuple(opened.shape) != array.shape:
            message = f"has the shape {list(opened.shape)}, not {list(array.shape)}"
            raise CorruptError(message, path=self.path, key=stored.name)
        if not array.shape:
            with _translated(self.path, stored.name):
                yield opened.read().result()
            return
        end = array.shape[0] if count is None else min(array.shape[0], first + count)
        row = max(1, _nbytes(array) // max(1, array.shape[0]))
        step = array.rows * max(1, CHUNK // (row * array.rows))
        for start in range(first - first % step, end, step):
            with _translated(self.path, stored.name):
                yield opened[max(first, start) : min(end, start + step)].read().result()


class Orbax(Reader):
    """The arrays and texts of a step, or of one item.

    Raises:
        UnsupportedError: TensorStore is not installed, or the directory is not one of this machine.
        CorruptError: what lists the arrays is damaged.
        UnsafeError: the directory holds what is no file.
    """

    def __init__(self, path: str) -> None:
        if paths.is_url(path):
            raise UnsupportedError(
                "an Orbax checkpoint is read from this machine only", path=path, hint="copy the directory here first"
            )
        try:
            import tensorstore  # noqa: F401
        except ImportError as error:
            raise UnsupportedError("reading Orbax needs TensorStore", path=path, hint=INSTALL) from error
        self.prefix = path
        self._items = {name: _Item(os.path.join(path, name)) for name in items_of(path)}
        self._arrays: dict[str, _Stored] = {}
        self._strings: dict[str, bytes] = {}
        infos: dict[str, TensorInfo] = {}
        for label, item in self._items.items():
            before = f"{label}/" if label else ""
            for name, stored in item.arrays():
                self._arrays[before + name] = stored
                array = stored.array
                infos[before + name] = TensorInfo(before + name, array.dtype, array.shape, _nbytes(array))
            for name, text in item.strings.items():
                leaf = item.tree.leaves.get(name)
                full = before + (leaf.name if leaf else name.replace(".", "/"))
                self._strings[full] = text
                infos[full] = TensorInfo(full, "string", (), len(text))
        self._tensors = MappingProxyType(dict(sorted(infos.items())))

    @property
    def format(self) -> str:
        return "orbax"

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._tensors

    def read(self, name: str) -> np.ndarray:
        import numpy as np

        info = self.info(name)
        if info.dtype == "string":
            value = np.empty((), object)
            value[()] = self._strings[name]
            return value
        return self._joined(name, 0, None, info.shape)

    def rows(self, name: str, first: int, count: int) -> np.ndarray:
        info = self.info(name)
        if not info.shape or info.dtype == "string" or not 0 <= first <= info.shape[0]:
            return super().rows(name, first, count)
        return self._joined(name, first, count, (min(count, info.shape[0] - first), *info.shape[1:]))

    def chunks(self, name: str) -> Iterator[bytes]:
        if self.info(name).dtype == "string":
            yield self._strings[name]
            return
        for piece in self._values(name):
            yield from _bytes_of(piece)

    def outline(self) -> Iterator[Finding]:
        for label, item in self._items.items():
            before = f"{label}/" if label else ""
            for leaf in item.tree.leaves.values():
                if before + leaf.name not in self._tensors:
                    message = "is in the tree of the checkpoint, and not stored"
                    yield Finding("corrupt", "damage", message, item.path, before + leaf.name)

    def examine(self) -> Iterator[Progress]:
        yield Progress(finding=Finding("no-checksums", "note", NO_CHECKSUMS, self.prefix))
        yield from super().examine()

    def close(self) -> None:
        self._items.clear()

    def _values(self, name: str, first: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
        stored, info = self._arrays[name], self.info(name)
        if info.dtype == "opaque":
            raise UnsupportedError("its type is not one of TensorFlow", path=self.prefix, key=name)
        limit = MAX_EXPANSION * stored.item.nbytes + MAX_EXPANSION_FREE
        if info.nbytes > limit:
            message = f"unpacks from {stored.item.nbytes} bytes of files to {info.nbytes}"
            raise UnsafeError(message, path=stored.item.path, key=name)
        with error_context(stored.item.path, name):
            yield from stored.item.pieces(stored, first, count)

    def _joined(self, name: str, first: int, count: int | None, shape: tuple[int, ...]) -> np.ndarray:
        import numpy as np

        dtype = to_numpy(BY_NAME[self.info(name).dtype]) if self.info(name).dtype in BY_NAME else None
        found = list(self._values(name, first, count))
        if not found:
            return np.zeros(shape, dtype)
        value = found[0] if len(found) == 1 else np.concatenate(found)
        return np.array(value, dtype=dtype).reshape(shape)


def _nbytes(array: orbax.Array) -> int:
    size = 0 if array.dtype == "opaque" else BY_NAME[array.dtype].size
    for length in array.shape:
        size *= length
    return size


def _bytes_of(value: np.ndarray) -> Iterator[bytes]:
    import numpy as np

    little = np.ascontiguousarray(value)
    if little.dtype.byteorder == ">":
        little = little.byteswap()
    flat = little.reshape(-1).view(np.uint8)
    for start in range(0, flat.size, CHUNK):
        yield flat[start : start + CHUNK].tobytes()


def _size_of(directory: str) -> int:
    """The bytes of all files below. Raises UnsafeError for what is neither file nor directory: opening it may wait."""
    total = 0
    for number, path in enumerate(paths.files_below(directory)):
        found = local.look(path, follow=True)
        if number >= _MOST_FILES:
            raise UnsafeError(f"holds more than {_MOST_FILES} files", path=directory)
        if found is None:
            continue
        if not stat.S_ISREG(found.st_mode):
            raise UnsafeError("neither a file nor a directory", path=path)
        total += found.st_size
    return total


@contextlib.contextmanager
def _translated(path: str, key: str | None = None) -> Iterator[None]:
    """Errors of TensorStore as ours: what the system refuses, what is not there, and damage."""
    try:
        yield
    except CkptError:
        raise
    except (ValueError, TypeError, OSError, RuntimeError, OverflowError, KeyError, NotImplementedError) as error:
        said = str(error).partition(" [")[0][:300] or type(error).__name__
        if said.startswith(("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "ABORTED")):
            raise StorageError(f"cannot be read: {said}", path=path, key=key) from error
        if isinstance(error, NotImplementedError) or said.startswith("UNIMPLEMENTED"):
            raise UnsupportedError(f"TensorStore does not read it: {said}", path=path, key=key) from error
        raise CorruptError(f"TensorStore cannot read it: {said}", path=path, key=key) from error
