"""Tensor bundles: ``PREFIX.index`` and ``PREFIX.data-00000-of-00001``, of TensorFlow 1 (V2 savers) and 2.

Source of the layout: tensorflow/core/util/tensor_bundle/tensor_bundle.h.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from ckpt_tools import storage
from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, StorageError, UnsafeError, UnsupportedError
from ckpt_tools.findings import Finding
from ckpt_tools.format import checksum, dtypes
from ckpt_tools.format.bundle import HEADER_KEY, OBJECT_GRAPH_KEY, Entry, Header
from ckpt_tools.format.strings import decode_strings
from ckpt_tools.format.table import read_table
from ckpt_tools.graph import ObjectGraph
from ckpt_tools.readers.base import TensorInfo

if TYPE_CHECKING:
    import numpy as np

# 10^6 tensors take about 100 MB of index.
MAX_INDEX_BYTES = 1 << 30
_CHUNK = 1 << 22


def index_name(prefix: str) -> str:
    return f"{prefix}.index"


def shard_name(prefix: str, shard: int, num_shards: int) -> str:
    return f"{prefix}.data-{shard:05d}-of-{num_shards:05d}"


@contextlib.contextmanager
def _placed(path: str, key: str | None = None) -> Iterator[None]:
    """Tell an error of the pure formats in which file it happened."""
    try:
        yield
    except CkptError as error:
        error.path = error.path or path
        error.key = error.key or key
        raise


class Bundle:
    """A tensor bundle. The index is read and checked when opened; data only when asked for."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.path = index_name(prefix)
        self._shards: dict[int, storage.RandomAccessFile] = {}
        with _placed(self.path):
            with storage.RandomAccessFile(self.path) as file:
                if file.size > MAX_INDEX_BYTES:
                    raise UnsafeError(f"an index of {file.size} bytes is over the limit of {MAX_INDEX_BYTES}")
                self.index_bytes = file.read(0, file.size)
                self.index_fingerprint = file.fingerprint
            table = read_table(self.index_bytes)
            if next(iter(table), None) != HEADER_KEY:
                raise CorruptError("the index has no header")
            self.header = Header.decode(table.pop(HEADER_KEY))
            self.entries: dict[str, Entry] = {}
            for raw_key, value in table.items():
                key = _decode_key(raw_key)
                with _placed(self.path, key):
                    entry = Entry.decode(value)
                    if entry.shard >= self.header.num_shards:
                        raise CorruptError(f"shard {entry.shard} of {self.header.num_shards} does not exist")
                    self.entries[key] = entry
            self._refuse_overlaps()

    @property
    def format(self) -> str:
        return "bundle-object" if OBJECT_GRAPH_KEY in self.entries else "bundle-name"

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return MappingProxyType(
            {
                key: TensorInfo(key, entry.dtype.name, entry.shape, entry.size)
                for key, entry in self.entries.items()
                if key != OBJECT_GRAPH_KEY
            }
        )

    @cached_property
    def graph(self) -> ObjectGraph | None:
        if OBJECT_GRAPH_KEY not in self.entries:
            return None
        with _placed(self.path, OBJECT_GRAPH_KEY):
            graph = ObjectGraph(self.graph_bytes)
            for key in graph.paths:
                if key not in self.entries:
                    raise CorruptError(f"the object graph names {key!r}, which is not in the index")
        return graph

    @property
    def graph_bytes(self) -> bytes:
        """The serialized object graph."""
        return self._strings(OBJECT_GRAPH_KEY)[0]

    @property
    def shard_paths(self) -> list[str]:
        return [shard_name(self.prefix, shard, self.header.num_shards) for shard in range(self.header.num_shards)]

    def shard(self, number: int) -> storage.RandomAccessFile:
        """The opened shard. Raises NotFoundError (with all missing names) when there is no such file."""
        if number not in self._shards:
            path = self.shard_paths[number]
            if not os.path.lexists(path):
                missing = [os.path.basename(p) for p in self.shard_paths if not os.path.lexists(p)]
                raise NotFoundError(
                    f"the data file is missing ({len(missing)} of {len(self.shard_paths)}: {', '.join(missing[:4])})",
                    path=path,
                    hint="an .index needs its .data files beside it: copy them from where the checkpoint was made",
                )
            self._shards[number] = storage.RandomAccessFile(path)
        return self._shards[number]

    def read(self, name: str) -> np.ndarray:
        import numpy as np

        entry = self._entry(name)
        with _placed(self.path, name):
            if entry.dtype.name == "string":
                array = np.empty(entry.elements, object)
                array[:] = self._strings(name)
                return array.reshape(entry.shape)
            dtype = dtypes.to_numpy(entry.dtype)
            raw = b"".join(self.chunks(name))
            return np.frombuffer(raw, dtype).reshape(entry.shape)

    def digest(self, name: str) -> str:
        entry = self._entry(name)
        digest = hashlib.sha256()
        if entry.dtype.name == "string":
            for element in self._strings(name):
                digest.update(len(element).to_bytes(8, "little") + element)
        elif entry.dtype.size == 0:
            raise UnsupportedError(f"values of type {entry.dtype.name} have no digest", path=self.path, key=name)
        else:
            for chunk in self.chunks(name):
                digest.update(chunk)
        return digest.hexdigest()

    def chunks(self, name: str) -> Iterator[bytes]:
        """The stored bytes of a tensor in pieces of 4 MiB; its checksum is verified behind the last one."""
        entry = self._entry(name)
        if entry.slices:
            raise UnsupportedError(
                "a partitioned variable: its parts are not put together yet", path=self.path, key=name
            )
        with _placed(self.path, name):
            shard = self.shard(entry.shard)
            crc = 0
            for offset in range(0, entry.size, _CHUNK):
                chunk = shard.read(entry.offset + offset, min(_CHUNK, entry.size - offset))
                crc = checksum.extend(crc, chunk)
                yield chunk
            # The checksums of strings and variants run over other bytes than the stored ones.
            if entry.dtype.size and checksum.mask(crc) != entry.crc:
                raise CorruptError("checksum does not match", path=shard.path, offset=entry.offset)

    def verify(self) -> Iterator[Finding]:
        for name, entry in self.entries.items():
            try:
                if entry.dtype.name == "string":
                    self._strings(name)
                elif not entry.slices:
                    for _ in self.chunks(name):
                        pass
            except (CorruptError, NotFoundError, StorageError) as error:
                yield Finding(error.id, "damage", error.message, error.path, error.key, error.offset, error.hint)

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()
        self._shards.clear()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _entry(self, name: str) -> Entry:
        entry = self.entries.get(name)
        if entry is None:
            raise NotFoundError("no such tensor", path=self.path, key=name)
        return entry

    def _strings(self, name: str) -> list[bytes]:
        entry = self._entry(name)
        with _placed(self.path, name):
            raw = b"".join(self.chunks(name))
            elements, crc = decode_strings(raw, entry.elements)
            if crc != entry.crc:
                raise CorruptError("checksum does not match", path=self.shard_paths[entry.shard], offset=entry.offset)
        return elements

    def _refuse_overlaps(self) -> None:
        """No two tensors share bytes: a file that makes them is built to mislead."""
        ends: dict[int, int] = {}
        stored = [(entry.shard, entry.offset, entry.size, key) for key, entry in self.entries.items() if entry.size]
        for shard, offset, size, key in sorted(stored):
            if offset < ends.get(shard, 0):
                raise CorruptError("its bytes overlap those of another tensor", path=self.path, key=key)
            ends[shard] = offset + size


def _decode_key(raw: bytes) -> str:
    try:
        key = raw.decode()
    except UnicodeDecodeError as error:
        raise CorruptError(f"key {raw!r} is not UTF-8") from error
    if "\0" in key:
        raise CorruptError(f"key {key!r} holds a zero byte")
    return key
