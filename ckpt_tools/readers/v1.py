"""Checkpoints of version 1, of TensorFlow before 0.12 and of savers asked for it: one table, or one for each shard.

A tensor may be cut into parts, in one file or over several.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, UnsupportedError
from ckpt_tools.findings import Finding
from ckpt_tools.format import dtypes
from ckpt_tools.format.slices import Slice, require_cover
from ckpt_tools.format.table import Table
from ckpt_tools.format.v1 import HEADER_KEY, SavedTensor, decode_header, decode_value
from ckpt_tools.fs import paths
from ckpt_tools.readers.base import Progress, TensorInfo
from ckpt_tools.readers.common import CHUNK, Reader, damage, error_context, shaped
from ckpt_tools.readers.open_files import OpenFiles
from ckpt_tools.readers.v1_names import shard_names

if TYPE_CHECKING:
    import numpy as np


class _Shard:
    """One file: its table and the tensors that its header lists."""

    def __init__(self, path: str, files: OpenFiles, file: paths.File | None) -> None:
        self.path = path
        self.file = files.open(path) if file is None else files.keep(file)
        with error_context(path):
            self.table = Table(self.file.read, self.file.size)
            header = self.table.get(HEADER_KEY)
            if header is None:
                raise CorruptError("a table without the header of a checkpoint", offset=0)
            self.tensors = decode_header(header)


class V1Checkpoint(Reader):
    """A checkpoint of version 1. The headers are read when opened, values (a block at a time) when asked for.

    ``path`` is one file, or ``PREFIX-?????-of-N``; ``file`` is the one file where it is open. Missing shards are found
    by `outline`; what the others hold can be read.

    Raises:
        NotFoundError: no file of it is there.
        CorruptError: a file is no table, or two parts of a tensor disagree.
    """

    def __init__(self, path: str, file: paths.File | None = None) -> None:
        self.prefix = path
        self._missing: list[CkptError] = []
        self._files = OpenFiles()
        self._shards: list[_Shard] = []
        for name in shard_names(path):
            try:
                self._shards.append(_Shard(name, self._files, file))
            except NotFoundError as error:
                self._missing.append(error)
        if not self._shards:
            raise self._missing[0]
        self._saved: dict[str, SavedTensor] = {}
        self._parts: dict[str, list[tuple[_Shard, Slice]]] = {}
        for shard in self._shards:
            for tensor in shard.tensors:
                known = self._saved.setdefault(tensor.name, tensor)
                if (known.dtype, known.shape) != (tensor.dtype, tensor.shape):
                    raise CorruptError("two parts of it disagree in type or shape", path=shard.path, key=tensor.name)
                parts = self._parts.setdefault(tensor.name, [])
                parts += [(shard, part) for part in tensor.slices]

    @property
    def format(self) -> str:
        return "v1"

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        infos = {}
        strings = self._string_sizes()
        for name, tensor in sorted(self._saved.items()):
            nbytes = strings.get(name, tensor.dtype.size * math.prod(tensor.shape))
            infos[name] = TensorInfo(name, tensor.dtype.name, tensor.shape, nbytes)
        return MappingProxyType(infos)

    def read(self, name: str) -> np.ndarray:
        """As `Checkpoint.read`. Raises CorruptError too where the header lists what is not there."""
        import numpy as np

        tensor = self._tensor(name)
        parts = self._parts[name]
        with error_context(self.prefix, name):
            boxes = [part.box(tensor.shape) for _, part in parts]
            require_cover(boxes, tensor.shape)
            arrays = []
            for (shard, part), box in zip(parts, boxes, strict=True):
                with error_context(shard.path, name):
                    stored = shard.table.get(part.key(name))
                    if stored is None:
                        raise CorruptError("the header lists it, but it is not there")
                    arrays.append(shaped(decode_value(stored, tensor.dtype, box.elements), box.shape))
            if len(arrays) == 1:
                # Of what is read from bytes, which cannot be written to, a copy: a value belongs to who asked.
                return arrays[0] if arrays[0].flags.writeable else arrays[0].copy()
            whole = np.empty(tensor.shape, object if tensor.dtype.name == "string" else dtypes.to_numpy(tensor.dtype))
            for box, array in zip(boxes, arrays, strict=True):
                whole[box.index] = array
            return whole

    def chunks(self, name: str) -> Iterator[bytes]:
        """As `Checkpoint.chunks`. Raises UnsupportedError for strings, and what `read` raises."""
        if not self._tensor(name).dtype.size:
            raise UnsupportedError("elements of varying length have no plain bytes here", path=self.prefix, key=name)
        raw = memoryview(self.read(name).tobytes())
        for offset in range(0, len(raw), CHUNK):
            yield bytes(raw[offset : offset + CHUNK])

    def outline(self) -> Iterator[Finding]:
        yield from map(damage, self._missing)
        for name, tensor in self._saved.items():
            try:
                with error_context(self.prefix, name):
                    require_cover([part.box(tensor.shape) for _, part in self._parts[name]], tensor.shape)
            except CkptError as error:
                yield damage(error)

    def examine(self) -> Iterator[Progress]:
        """One pass over every table; a value that belongs to no tensor is damage, as is one that is missing.

        Nothing is raised for damage: a CorruptError becomes the finding of a step. Raises StorageError.
        """
        for shard in self._shards:
            wanted = {part.key(tensor.name): (tensor, part) for tensor in shard.tensors for part in tensor.slices}
            try:
                with error_context(shard.path):
                    for key, value in shard.table.items():
                        if key != HEADER_KEY and key not in wanted:
                            raise CorruptError(f"key {key!r} belongs to no tensor")
                        if key in wanted:
                            yield from self._examined(
                                wanted[key][0].name, self._decoded(shard, *wanted.pop(key), value)
                            )
            except CorruptError as error:
                yield Progress(finding=damage(error))
            for tensor, _ in wanted.values():
                lost = "lies in or behind a damaged block, or is not there"
                yield Progress(tensor=tensor.name, finding=Finding("corrupt", "damage", lost, shard.path, tensor.name))

    def close(self) -> None:
        self._files.close()

    def _decoded(self, shard: _Shard, tensor: SavedTensor, part: Slice, value: bytes) -> Iterator[int]:
        with error_context(shard.path, tensor.name):
            decode_value(value, tensor.dtype, part.box(tensor.shape).elements)
            yield len(value)

    def _string_sizes(self) -> Mapping[str, int]:
        """What the strings of each tensor take, which no header says.

        Of the first damaged one and those behind it nothing is known (`examine` names the damage): each tensor of a
        damaged block would read all of that block again.
        """
        sizes: dict[str, int] = {}
        with contextlib.suppress(CkptError):
            for name, tensor in sorted(self._saved.items()):
                if tensor.dtype.name == "string":
                    sizes[name] = sum(map(len, self.read(name).flat))
        return sizes

    def _tensor(self, name: str) -> SavedTensor:
        tensor = self._saved.get(name)
        if tensor is None:
            raise NotFoundError("no such tensor", path=self.prefix, key=name)
        return tensor
