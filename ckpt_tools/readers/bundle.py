"""Tensor bundles: ``PREFIX.index`` and ``PREFIX.data-00000-of-00001``, of TensorFlow 1 (V2 savers) and 2.

Source of the layout: tensorflow/core/util/tensor_bundle/tensor_bundle.h.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from ckpt_tools.errors import BusyError, CkptError, CorruptError, NotFoundError, UnsafeError
from ckpt_tools.findings import Finding
from ckpt_tools.format import checksum, dtypes
from ckpt_tools.format.bundle import HEADER_KEY, OBJECT_GRAPH_KEY, Entry, Header
from ckpt_tools.format.filenames import data_name, index_name
from ckpt_tools.format.graph import ObjectGraph
from ckpt_tools.format.object_graph import without_keys
from ckpt_tools.format.slices import Box, Slice, require_apart
from ckpt_tools.format.strings import check_strings, decode_strings
from ckpt_tools.format.table import read_table
from ckpt_tools.format.variants import check_variants
from ckpt_tools.fs import paths
from ckpt_tools.readers.base import Progress, TensorInfo
from ckpt_tools.readers.common import CHUNK, Reader, damage, error_context, shaped
from ckpt_tools.readers.open_files import OpenFiles
from ckpt_tools.readers.side_by_side import in_threads
from ckpt_tools.readers.signatures import sniff

if TYPE_CHECKING:
    import numpy as np

    from ckpt_tools.readers.renamed import Renamed

# 10^6 tensors take about 100 MB of index.
MAX_INDEX_BYTES = 1 << 30
# So many bytes are worth a second thread, which takes a batch of so many at a time.
_LARGE, _BATCH = 64 << 20, 8 << 20
# So many shards that hold no tensor are looked at, for bytes that belong to none.
_MAX_EMPTY = 1000


class Part(NamedTuple):
    """A piece of a partitioned variable: where it belongs, and the entry with its bytes."""

    box: Box
    entry: Entry


class Bundle(Reader):
    """A tensor bundle. The index is read and checked when opened; data only when asked for.

    ``index`` is the file to read it from when the prefix's own is lost, ``file`` the open one where there is one.

    ``entries`` holds one entry for each tensor; of a partitioned variable it has no bytes of its own, they are
    those of its ``parts``; ``absent`` says how many of its elements are in none, as in a piece of a sharded save.

    Raises:
        NotFoundError: there is no such index.
        CorruptError: it is no table with a header, or its entries break a rule of the format.
        UnsafeError: it is over `MAX_INDEX_BYTES`.
    """

    def __init__(self, prefix: str, *, index: str | None = None, file: paths.File | None = None) -> None:
        self.prefix = prefix
        self.path = index or index_name(prefix)
        self._files = OpenFiles()
        self._shards: dict[int, paths.File] = {}
        with error_context(self.path):
            with paths.open_file(self.path) if file is None else file as file:
                if file.size > MAX_INDEX_BYTES:
                    raise UnsafeError(f"an index of {file.size} bytes is over the limit of {MAX_INDEX_BYTES}")
                self.index_bytes = file.read(0, file.size)
                self.index_fingerprint = file.fingerprint
            table = read_table(self.index_bytes)
            if next(iter(table), None) != HEADER_KEY:
                raise CorruptError("the index has no header")
            self.header = Header.decode(table.pop(HEADER_KEY))
            self.entries: dict[str, Entry] = {}
            self.parts: dict[str, list[Part]] = {}
            self.absent: dict[str, int] = {}
            pieces = {key: table.pop(key) for key in [key for key in table if key.startswith(b"\0")]}
            for raw_key, value in table.items():
                key = _decode_key(raw_key)
                try:
                    entry = self.entries[key] = self._decode_entry(value)
                    if entry.slices:
                        self.parts[key] = self._find_parts(key, entry, pieces)
                except CkptError as error:
                    error.key = key
                    raise
            if pieces:
                raise CorruptError(f"key {min(pieces)!r} belongs to no tensor")
            self._refuse_overlaps()

    @property
    def format(self) -> str:
        return "bundle-object" if OBJECT_GRAPH_KEY in self.entries else "bundle-name"

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        infos = {}
        for key, entry in self.entries.items():
            nbytes = sum(part.entry.size for part in self.parts[key]) if key in self.parts else entry.size
            infos[key] = TensorInfo(key, entry.dtype.name, entry.shape, nbytes)
        infos.pop(OBJECT_GRAPH_KEY, None)
        return MappingProxyType(infos)

    @cached_property
    def graph(self) -> ObjectGraph | None:
        if OBJECT_GRAPH_KEY not in self.entries:
            return None
        with error_context(self.path, OBJECT_GRAPH_KEY):
            graph = ObjectGraph(self.graph_bytes)
            valueless = self._without_value(graph)
            return ObjectGraph(without_keys(self.graph_bytes, valueless)) if valueless else graph

    def _without_value(self, graph: ObjectGraph) -> list[str]:
        """The keys of a graph that nothing is stored under: of variables that had no value when they were saved."""
        names = list(self.entries)
        found = []
        for key in graph.keys:
            # An object may store several tensors behind one key: a lookup table has KEY-keys and KEY-values.
            following = bisect.bisect_left(names, key)
            if following == len(names) or not names[following].startswith(key):
                found.append(key)
        return found

    @property
    def graph_bytes(self) -> bytes:
        """The serialized object graph. Raises CorruptError where its entry is not one string, and what reads raise."""
        entry = self._entry(OBJECT_GRAPH_KEY)
        if entry.dtype.name != "string" or entry.shape != () or OBJECT_GRAPH_KEY in self.parts:
            raise CorruptError("the object graph should be one string", path=self.path, key=OBJECT_GRAPH_KEY)
        with error_context(self.path, OBJECT_GRAPH_KEY):
            return self._strings(entry)[0]

    @cached_property
    def shard_paths(self) -> list[str]:
        return [self._shard_path(shard) for shard in range(self.header.num_shards)]

    def stored(self, name: str) -> list[Entry]:
        """The entries with the bytes of a tensor: its own, or those of its parts."""
        if name in self.parts:
            return [part.entry for part in self.parts[name]]
        return [self.entries[name]]

    def ends(self, names: Iterable[str] | None = None) -> dict[int, int]:
        """How many bytes each shard must have for its tensors; for some of them: only the shards that hold them."""
        ends = dict.fromkeys(range(self.header.num_shards), 0) if names is None else {}
        for name in self.entries if names is None else names:
            for entry in self.stored(name):
                end = entry.offset + entry.size
                if entry.size and end > ends.get(entry.shard, 0):
                    ends[entry.shard] = end
        return ends

    def shard(self, number: int) -> paths.File:
        """The opened shard. Raises NotFoundError (with all missing names) when there is no such file.

        A rewrite gives the data files other names: then the index that is open here is not the one on disk any
        more, and what is raised is BusyError.
        """
        if number not in self._shards:
            path = self._shard_path(number)
            if not paths.has_file(path):
                if paths.has_file(self.path) and paths.fingerprint(self.path) != self.index_fingerprint:
                    hint = "run the same command again"
                    raise BusyError("written again while it was read", path=self.path, hint=hint)
                names = ", ".join(os.path.basename(self._shard_path(lost)) for lost in self.missing[:4])
                hint = "an .index needs its .data files beside it: copy them from where the checkpoint was made"
                lost = f"the data file is missing ({len(self.missing)} of {self.header.num_shards}: {names})"
                raise NotFoundError(
                    f"{lost}; a directory has its name" if paths.is_directory(path) else lost,
                    path=path,
                    hint=hint if self.renamed is None else self.renamed.command,
                )
            self._shards[number] = self._files.open(path)
        return self._shards[number]

    def read(self, name: str) -> np.ndarray:
        import numpy as np

        entry = self._entry(name)
        with error_context(self.path, name):
            if name not in self.parts:
                return self._array(entry)
            dtype = object if entry.dtype.name == "string" else dtypes.to_numpy(entry.dtype)
            self._require_all_parts(name)
            whole = shaped(np.empty(entry.elements, dtype), entry.shape)
            for box, part in self.parts[name]:
                whole[box.index] = self._array(part)
            return whole

    def rows(self, name: str, first: int, count: int) -> np.ndarray:
        import numpy as np

        entry = self._entry(name)
        if not entry.shape or not entry.shape[0] or not entry.dtype.size:
            return super().rows(name, first, count)
        with error_context(self.path, name):
            if name not in self.parts:
                return self._rows(entry, first, count)
            self._require_all_parts(name)
            row = entry.elements // entry.shape[0]
            found = shaped(np.empty(count * row, dtypes.to_numpy(entry.dtype)), (count, *entry.shape[1:]))
            for box, part in self.parts[name]:
                start, end = max(first, box.start[0]), min(first + count, box.start[0] + box.shape[0])
                if start < end:
                    place = (slice(start - first, end - first), *box.index[1:])
                    found[place] = self._rows(part, start - box.start[0], end - start)
            return found

    def chunks(self, name: str) -> Iterator[bytes]:
        """The stored bytes of a tensor in pieces; its checksum is verified behind the last one."""
        entry = self._entry(name)
        with error_context(self.path, name):
            self._require_all_parts(name)
            parts = sorted(self.parts.get(name, ()), key=lambda part: part.box.start)
            if any(box.shape[1:] != entry.shape[1:] for box, _ in parts):
                yield self.read(name).tobytes()
                return
            # Cut along the first dimension only: the parts lie one behind the other in the whole.
            for piece in [part.entry for part in parts] or [entry]:
                yield from self._chunks(piece)

    def outline(self) -> Iterator[Finding]:
        named: set[int] = set()
        held = self._held()
        # A shard without a tensor need not be there; an index may claim 10^5 of them, and a look is not free.
        empty = 0
        for number, end in self.ends().items():
            if number in named:
                continue
            if number not in held:
                empty += 1
                if empty > _MAX_EMPTY or not paths.has_file(self._shard_path(number)):
                    continue
            try:
                shard = self.shard(number)
            except NotFoundError as error:
                # It names all that are missing: one finding, however many shards the index claims.
                named.update(self.missing)
                yield damage(error)
                continue
            if shard.size < end:
                kind = sniff(shard)
                what = f"{kind.sentence}, not the data" if kind else "cut off"
                lost = [name for name in held[number] if self._reaches_beyond(name, number, shard.size)]
                message = f"{what}: has {shard.size} bytes of the {end} that its tensors need; {_naming(lost)} lost"
                yield Finding("corrupt", "damage", message, shard.path, None, shard.size, kind.hint if kind else None)
            elif shard.size > end:
                message = f"{shard.size - end} bytes behind the last tensor belong to none (harmless)"
                yield Finding("trailing-bytes", "note", message, shard.path, None, end)
        for name, count in self.absent.items():
            whole = self.entries[name].elements
            message = (
                f"{whole - count} of its {whole} elements are here: a part of a sharded save, which TensorFlow restores"
            )
            yield Finding("partial", "warning", f"{message} piece by piece, never as a whole", self.path, name)
        try:
            if self.graph is not None:
                for key in self._without_value(ObjectGraph(self.graph_bytes)):
                    message = f"the object graph names {key}, and the index has no value for it, as of a variable"
                    message += " that was never initialised"
                    yield Finding("no-value", "note", message, self.path, key)
        except (CorruptError, NotFoundError) as error:
            yield damage(error)

    def examine(self) -> Iterator[Progress]:
        def place(name: str) -> tuple[int, int]:
            first = self.stored(name)[0]
            return first.shard, first.offset

        def examine(name: str) -> Iterator[Progress]:
            return self._examined(name, self._pieces(name))

        names = sorted(self.entries, key=place)
        # A store is read in order, ahead of what is asked for; and little is done before a thread has started.
        if paths.is_url(self.path) or sum(map(self._stored_bytes, names)) < _LARGE:
            for name in names:
                yield from examine(name)
        else:
            yield from in_threads(self._batches(names), examine)

    def _stored_bytes(self, name: str) -> int:
        return sum(entry.size for entry in self.stored(name))

    def _batches(self, names: Iterable[str]) -> Iterator[list[str]]:
        """Neighbours, a few megabytes of them together."""
        batch: list[str] = []
        nbytes = 0
        for name in names:
            batch.append(name)
            nbytes += self._stored_bytes(name)
            if nbytes >= _BATCH:
                yield batch
                batch, nbytes = [], 0
        yield batch

    def close(self) -> None:
        self._files.close()
        self._shards.clear()

    def check(self, name: str) -> Iterator[int]:
        """Read all bytes of a tensor, and compare every checksum; the sizes of the pieces. Raises CorruptError."""
        return self._pieces(name)

    def _pieces(self, name: str) -> Iterator[int]:
        with error_context(self.path, name):
            for entry in self.stored(name):
                if entry.dtype.name == "string":
                    # The elements need not be taken apart for that: a million of them would be a million objects.
                    with error_context(self._shard_path(entry.shard)):
                        *_, crc = check_strings(b"".join(self._chunks(entry)), entry.elements)
                    self._require(crc == entry.crc, entry)
                    yield entry.size
                elif entry.dtype.name == "variant":
                    raw = b"".join(self._chunks(entry))
                    with error_context(self._shard_path(entry.shard)):
                        crc = check_variants(raw, entry.elements)
                    self._require(crc == entry.crc, entry)
                    yield entry.size
                else:
                    yield from map(len, self._chunks(entry))

    def _shard_path(self, number: int) -> str:
        return data_name(self.prefix, number, self.header.num_shards)

    @cached_property
    def missing(self) -> list[int]:
        """The shards that tensors lie in, but that have no file, looked up once: an index may claim 10^5 of them.

        A shard without a tensor needs no file: TensorFlow opens only those that it reads from.
        """
        return [number for number in sorted(self._held()) if not paths.has_file(self._shard_path(number))]

    @cached_property
    def renamed(self) -> Renamed | None:
        """Where the missing shards are, when they lie in the same directory under other names."""
        from ckpt_tools.readers.renamed import renamed_data  # what is whole does not wait for it

        lost: dict[int, list[Entry]] = {number: [] for number in self.missing}
        for name in self.entries:
            for entry in self.stored(name):
                if entry.shard in lost:
                    lost[entry.shard].append(entry)
        return renamed_data(self.shard_paths, lost)

    def _entry(self, name: str) -> Entry:
        entry = self.entries.get(name)
        if entry is None:
            raise NotFoundError("no such tensor", path=self.path, key=name)
        return entry

    def pieces(self, name: str) -> Mapping[Box, str] | None:
        """Of a tensor of which only a part is here: the SHA-256 of the stored bytes of each of its pieces, by where it
        belongs; None for one that is here as a whole. Raises what `read` raises."""
        if name not in self.absent:
            return None
        import hashlib

        found = {}
        for part in self.parts[name]:
            digest = hashlib.sha256()
            for chunk in self._chunks(part.entry):
                digest.update(chunk)
            found[part.box] = digest.hexdigest()
        return found

    def _require_all_parts(self, name: str) -> None:
        if name in self.absent:
            whole = self.entries[name].elements
            raise NotFoundError(
                f"only {whole - self.absent[name]} of its {whole} elements are here: the others are in other files of "
                "the sharded save",
                path=self.path,
                key=name,
                hint="open the checkpoint that all parts were merged into",
            )

    def _array(self, entry: Entry) -> np.ndarray:
        """The value of an entry that has bytes of its own."""
        import numpy as np

        if entry.dtype.name == "string":
            strings = np.empty(entry.elements, object)
            strings[:] = self._strings(entry)
            return shaped(strings, entry.shape)
        dtype = dtypes.to_numpy(entry.dtype)
        self._require_extent(entry)
        raw = np.empty(entry.size, np.uint8)
        offset = 0
        for chunk in self._chunks(entry):
            raw[offset : offset + len(chunk)] = np.frombuffer(chunk, np.uint8)
            offset += len(chunk)
        return shaped(raw.view(dtype), entry.shape)

    def _rows(self, entry: Entry, first: int, count: int) -> np.ndarray:
        """Some rows of an entry that has bytes of its own, their elements all of one size; not verified."""
        import numpy as np

        dtype = dtypes.to_numpy(entry.dtype)
        row = entry.size // entry.shape[0]
        raw = bytearray(self._require_extent(entry).read(entry.offset + first * row, count * row))
        return shaped(np.frombuffer(raw, dtype), (count, *entry.shape[1:]))

    def _chunks(self, entry: Entry) -> Iterator[bytes]:
        shard = self._require_extent(entry)
        crc = 0
        for offset in range(0, entry.size, CHUNK):
            chunk = shard.read(entry.offset + offset, min(CHUNK, entry.size - offset))
            crc = checksum.extend(crc, chunk)
            yield chunk
            # The next one then comes to lie where this one was, which is in the processor's cache.
            del chunk
        # The checksums of strings and variants run over other bytes than the stored ones.
        if entry.dtype.size:
            self._require(checksum.mask(crc) == entry.crc, entry)

    def _strings(self, entry: Entry) -> list[bytes]:
        with error_context(self._shard_path(entry.shard)):
            elements, crc = decode_strings(b"".join(self._chunks(entry)), entry.elements)
        self._require(crc == entry.crc, entry)
        return elements

    def _require(self, matches: bool, entry: Entry) -> None:
        if not matches:
            raise CorruptError("checksum does not match", path=self._shard_path(entry.shard), offset=entry.offset)

    def _require_extent(self, entry: Entry) -> paths.File:
        """The shard of an entry, which has all its bytes."""
        shard = self.shard(entry.shard)
        if entry.offset + entry.size > shard.size:
            message = f"lies beyond the end of the file, which was cut off at {shard.size} bytes"
            raise CorruptError(message, path=shard.path, offset=entry.offset)
        return shard

    def _held(self) -> dict[int, list[str]]:
        """The names of the tensors that have bytes in each shard."""
        held: dict[int, list[str]] = {}
        for name in self.entries:
            for number in dict.fromkeys(entry.shard for entry in self.stored(name)):
                held.setdefault(number, []).append(name)
        return held

    def _reaches_beyond(self, name: str, number: int, size: int) -> bool:
        return any(entry.shard == number and entry.offset + entry.size > size for entry in self.stored(name))

    def _decode_entry(self, data: bytes) -> Entry:
        entry = Entry.decode(data)
        if entry.shard >= self.header.num_shards:
            raise CorruptError(f"shard {entry.shard} of {self.header.num_shards} does not exist")
        return entry

    def _find_parts(self, name: str, entry: Entry, pieces: dict[bytes, bytes]) -> list[Part]:
        """The parts of a partitioned variable, taken out of ``pieces``."""
        parts = []
        for raw in entry.slices:
            piece = Slice.decode(raw)
            box = piece.box(entry.shape)
            stored = pieces.pop(piece.key(name), None)
            if stored is None:
                raise CorruptError(f"its part that starts at {list(box.start)} is not in the index, or listed twice")
            part = self._decode_entry(stored)
            if part.slices or part.dtype != entry.dtype or part.shape != box.shape:
                raise CorruptError(f"its part that starts at {list(box.start)} has another type or shape")
            parts.append(Part(box, part))
        if absent := require_apart([part.box for part in parts], entry.shape):
            self.absent[name] = absent
        return parts

    def _refuse_overlaps(self) -> None:
        """No two tensors share bytes: a file that makes them is built to mislead."""
        ends: dict[int, int] = {}
        stored = [
            (entry.shard, entry.offset, entry.size, name)
            for name in self.entries
            for entry in self.stored(name)
            if entry.size
        ]
        for shard, offset, size, name in sorted(stored):
            if offset < ends.get(shard, 0):
                raise CorruptError("its bytes overlap those of another tensor", path=self.path, key=name)
            ends[shard] = offset + size


def _naming(names: list[str]) -> str:
    """``'a', 'b' and 3 more tensors are``"""
    shown = ", ".join(map(repr, names[:3]))
    return (
        f"{shown} and {len(names) - 3} more are" if len(names) > 3 else f"{shown} {'is' if len(names) == 1 else 'are'}"
    )


def _decode_key(raw: bytes) -> str:
    try:
        key = raw.decode()
    except UnicodeDecodeError as error:
        raise CorruptError(f"key {raw!r} is not UTF-8") from error
    if "\0" in key:
        raise CorruptError(f"key {key!r} holds a zero byte")
    return key
