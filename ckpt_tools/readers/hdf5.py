"""HDF5 files, read so that a hostile one can do no harm.

The library h5py follows links into other files, reads values that a dataset keeps in other files, loads code for
filters it does not know, and believes the sizes it is told. Here a file with any of that is refused before a value
is read, and the library only ever sees the bytes of this one file: it is given a file object, not a path.
"""

from __future__ import annotations

import contextlib
import gc
import math
import re
import struct
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ckpt_tools.errors import CkptError, CorruptError, UnsafeError, UnsupportedError
from ckpt_tools.readers.base import TensorInfo
from ckpt_tools.readers.common import CHUNK
from ckpt_tools.readers.window import Bytes, Stream

if TYPE_CHECKING:
    import h5py
    import numpy as np

MAX_OBJECTS = 1_000_000
MAX_DEPTH = 64
# What compression may make of a file: so many times its size, and some for small files of zeros.
MAX_EXPANSION = 100
MAX_EXPANSION_FREE = 16 << 20

# The filters that are part of the library: deflate, shuffle, fletcher32, and h5py's own lzf.
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
_COMPRESSING = {1, 32000}
_NUMBERS = {
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *("float16", "float32", "float64", "complex64", "complex128", "bool"),
}
# What an element of varying length takes where the others lie.
_VARYING = 16
# A version number is short.
_MOST_TEXT = 64
_TRUNCATED = re.compile(r"truncated file: eof = (\d+).*stored_eof = (\d+)")


class Hdf5File:
    """An open HDF5 file; ``tensors`` are all its datasets, by path without the leading slash, sorted.

    Raises:
        CorruptError: the library cannot make sense of the file.
        UnsafeError: it refers to other files or to itself, needs a plug-in, or is larger inside than its bytes allow.
    """

    def __init__(self, source: Bytes) -> None:
        import h5py

        self.path = source.path
        self._limit = MAX_EXPANSION * source.size + MAX_EXPANSION_FREE
        self._size = source.size
        self._source = source
        self._stream = Stream(source)
        self._datasets: dict[str, h5py.Dataset] = {}
        with self._translated():
            self._file = h5py.File(self._stream, "r")
        try:
            with self._translated():
                self.legacy = "layer_names" in self._file.attrs or "model_weights" in self._file
                self.keras_version = _short_text(self._file, "keras_version")
                self.tensors: Mapping[str, TensorInfo] = dict(sorted(self._walk()))
        except BaseException:
            self.close()
            raise

    def read(self, name: str) -> np.ndarray:
        """The value; strings as an object array of bytes. Raises UnsupportedError for types that are no numbers."""
        import numpy as np

        info = self.tensors[name]
        if info.dtype == "opaque":
            raise UnsupportedError("its HDF5 type is not that of a tensor", path=self.path, key=name)
        dataset = self._datasets[name]
        with self._translated(name):
            if dataset.shape is None:
                return np.empty((0,), dataset.dtype)
            if dataset.dtype.kind == "O":
                self._check_lengths(dataset)
            value = np.asarray(dataset[()])
            if info.dtype == "string":
                flat = [_as_bytes(element) for element in value.reshape(-1).tolist()]
                strings = np.empty(len(flat), object)
                strings[:] = flat
                return strings.reshape(info.shape)
            return _little_endian(value, info.dtype)

    def chunks(self, name: str) -> Iterator[bytes]:
        """The raw little-endian bytes in C order, some rows at a time; of types that no array has, what is stored."""
        dataset, info = self._datasets[name], self.tensors[name]
        if info.dtype == "opaque" and not _is_plain(dataset):
            yield from self._stored(name, dataset)
            return
        if not info.shape or dataset.shape is None or info.dtype == "string":
            yield self.read(name).tobytes()
            return
        rows = max(1, CHUNK // max(1, info.nbytes // max(1, info.shape[0])))
        for first in range(0, info.shape[0], rows):
            with self._translated(name):
                piece = _little_endian(dataset[first : first + rows], info.dtype).tobytes()
            yield piece

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._file.close()

    def _stored(self, name: str, dataset: h5py.Dataset) -> Iterator[bytes]:
        """The bytes of a dataset itself, undecoded: places in this file, which the library would follow unchecked."""
        places: list[tuple[int, int]] = []
        with self._translated(name):
            if (start := dataset.id.get_offset()) is not None:
                places.append((start, int(dataset.id.get_storage_size())))
            elif dataset.chunks is not None:
                dataset.id.chunk_iter(lambda chunk: places.append((chunk.byte_offset, chunk.size)))
        for start, size in places:
            for at in range(start, start + size, CHUNK):
                with self._translated(name):
                    piece = self._source.read(at, min(CHUNK, start + size - at))
                yield piece

    def _check_lengths(self, dataset: h5py.Dataset) -> None:
        """Refuse strings whose place holds more or less than they say, or nothing: the library copies first, then asks.

        element: length:u32  heap:u64  index:u32, all 0 for an empty string
        """
        start, count = dataset.id.get_offset(), dataset.size
        if not count:
            return
        if start is None:
            raise UnsupportedError("strings of varying length are read from one piece only, not from chunks")
        raw = self._source.read(start, _VARYING * count)
        elements = list(struct.iter_unpack("<IQI", raw))
        longest = max(length for length, _, _ in elements)
        if sum(length for length, _, _ in elements) > self._limit or longest > self._size:
            raise CorruptError(f"a string of {longest} bytes in a file of {self._size}")
        heaps: dict[int, Mapping[int, int]] = {}
        for length, heap, index in elements:
            if not length:
                continue
            if heap not in heaps:
                heaps[heap] = self._heap(self._file.userblock_size + heap)
            if heaps[heap].get(index) != length:
                raise CorruptError(f"a string of {length} bytes, where its heap has {heaps[heap].get(index, 'none')}")

    def _heap(self, start: int) -> Mapping[int, int]:
        """How long each object of a heap of strings is, by index.

        One that leads nowhere is refused: the library would go round in it for ever.

        heap:    "GCOL"  version:u8  0 0 0  size:u64  object*
        object:  index:u16  references:u16  0:u32  size:u64  bytes up to a multiple of 8
                 index 0 is the free rest, whose size counts its own header
        """
        head = self._source.read(start, _VARYING)
        size = int.from_bytes(head[8:], "little")
        if head[:4] != b"GCOL" or size > self._size:
            raise CorruptError("a string that lies in no heap", offset=start)
        heap = self._source.read(start, size)
        lengths: dict[int, int] = {}
        at = _VARYING
        while at + _VARYING <= size:
            index, length = (
                int.from_bytes(heap[at : at + 2], "little"),
                int.from_bytes(heap[at + 8 : at + 16], "little"),
            )
            step = _VARYING + (length + 7) // 8 * 8 if index else length
            if step < _VARYING or step > size - at:
                raise CorruptError("a heap of strings is broken", offset=start + at)
            if index:
                lengths.setdefault(index, length)
            at += step
        return lengths

    def _walk(self) -> Iterator[tuple[str, TensorInfo]]:
        import h5py

        groups: list[tuple[str, int, h5py.Group]] = [("", 0, self._file)]
        seen = {h5py.h5o.get_info(self._file.id).addr}
        count = 0
        unbacked = 0
        while groups:
            prefix, depth, group = groups.pop()
            for name in group:
                count += 1
                path = prefix + _text(name)
                if count > MAX_OBJECTS or depth > MAX_DEPTH:
                    raise UnsafeError(f"more than {MAX_OBJECTS} objects, or nested deeper than {MAX_DEPTH}")
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    kind = "another file" if isinstance(link, h5py.ExternalLink) else "another name"
                    raise UnsafeError(f"is a link to {kind}, which is not followed", key=path)
                found = group[name]
                if isinstance(found, h5py.Group):
                    address = h5py.h5o.get_info(found.id).addr
                    if address in seen:
                        raise UnsafeError("a group that contains itself or has two names", key=path)
                    seen.add(address)
                    groups.append((f"{path}/", depth + 1, found))
                elif isinstance(found, h5py.Dataset):
                    info, backed = self._describe(path, found)
                    unbacked += 0 if backed else info.nbytes
                    if unbacked > self._limit:
                        raise UnsafeError(
                            f"stands for more than {self._limit} bytes in a file of {self._size}", key=path
                        )
                    self._datasets[path] = found
                    yield path, info

    def _describe(self, path: str, dataset: h5py.Dataset) -> tuple[TensorInfo, bool]:
        """What a dataset is, and whether each byte of its value is one in the file."""
        import h5py

        plan = dataset.id.get_create_plist()
        if plan.get_external_count():
            raise UnsafeError("keeps its values in another file, which is not read", key=path)
        layout = plan.get_layout()
        if layout == h5py.h5d.VIRTUAL:
            raise UnsafeError("is put together from other datasets, which are not read", key=path)
        filters = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
        for code in filters:
            if code not in _FILTERS:
                raise UnsafeError(f"needs filter {code}, which would be a plug-in; none is loaded", key=path)
        if sum(code in _COMPRESSING for code in filters) > 1:
            raise UnsafeError("is compressed twice", key=path)
        dtype = _dtype_name(dataset)
        if dataset.shape is None:
            return TensorInfo(path, dtype, (0,), 0), True
        shape = tuple(int(size) for size in dataset.shape)
        nbytes = math.prod(shape) * dataset.id.get_type().get_size()
        stored = int(dataset.id.get_storage_size())
        if stored > self._size:
            raise CorruptError(f"says that it takes {stored} bytes of a file of {self._size}", key=path)
        if layout == h5py.h5d.CHUNKED:
            chunk = math.prod(plan.get_chunk()) * dataset.id.get_type().get_size()
            if chunk > self._limit:
                raise UnsafeError(f"has chunks of {chunk} bytes", key=path)
            if 3 in filters:
                _check_chunks(dataset, path, chunk, compressed=any(code in _COMPRESSING for code in filters))
        return TensorInfo(path, dtype, shape, nbytes), not filters and stored >= nbytes

    @contextlib.contextmanager
    def _translated(self, key: str | None = None) -> Iterator[None]:
        """For each use of the library: whatever it raises for a damaged file becomes one of our errors."""
        try:
            with _no_collection():
                yield
        except CkptError as error:
            error.path = error.path or self.path
            error.key = error.key or key
            raise
        except (Exception, MemoryError) as error:
            import traceback  # only when there is something to clear

            # What the library was working with must not live until the end of the program, where it crashes.
            traceback.clear_frames(error.__traceback__)
            failure, self._stream.error = self._stream.error, None
            raise failure or _explained(error, self.path, key) from None


class _Collector:
    """Whether cyclic garbage is collected: not while somebody uses the library."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.was_enabled = True


_collector = _Collector()


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Without automatic garbage collection, in any thread.

    h5py holds a lock while it waits for the file object, and needs it to free any object of its own. A remote file
    object waits for a thread: were that one to collect such an object, they would wait for each other for ever
    (https://docs.h5py.org/en/stable/high/file.html#python-file-like-objects).
    """
    with _collector.lock:
        if not _collector.users:
            _collector.was_enabled = gc.isenabled()
            gc.disable()
        _collector.users += 1
    try:
        yield
    finally:
        with _collector.lock:
            _collector.users -= 1
            if not _collector.users and _collector.was_enabled:
                gc.enable()


def _check_chunks(dataset: h5py.Dataset, path: str, size: int, *, compressed: bool) -> None:
    """Refuse chunks too short for the checksum (4 bytes) at their end: the library would read beyond them."""

    def check(chunk: Any) -> None:
        if chunk.size <= 4 or not (compressed or chunk.filter_mask or chunk.size == size + 4):
            raise CorruptError(f"a chunk of {chunk.size} bytes, with its checksum", key=path)

    dataset.id.chunk_iter(check)


def _explained(error: BaseException, path: str, key: str | None) -> CorruptError:
    match = _TRUNCATED.search(str(error))
    if match:
        message = f"cut off: has {match[1]} bytes of {match[2]}"
        return CorruptError(message, path=path, offset=int(match[1]), hint="copy or download the file again")
    return CorruptError(f"damaged HDF5: {error}", path=path, key=key)


def _short_text(group: h5py.Group, name: str) -> str | None:
    """A short attribute that is kept in the object itself; text in a heap is not read, which the library trusts."""
    import h5py

    if name not in group.attrs:
        return None
    attribute = h5py.h5a.open(group.id, name.encode())
    kind = attribute.get_type()
    if kind.get_class() != h5py.h5t.STRING or kind.is_variable_str() or kind.get_size() > _MOST_TEXT or attribute.shape:
        return None
    text = group.attrs[name]
    text = bytes(text).decode("utf-8", "replace") if not isinstance(text, str) else text
    return text.strip("\0 ") or None


def _dtype_name(dataset: h5py.Dataset) -> str:
    """TensorFlow's name of the type; ``opaque`` for types that no tensor has."""
    import h5py

    try:
        dtype = dataset.dtype
    except TypeError:
        return "opaque"
    if h5py.check_string_dtype(dtype) is not None:
        return "string"
    name: str = dtype.newbyteorder("=").name
    if name in _NUMBERS:
        return name
    # HDF5 has no bfloat16: Keras stores two opaque bytes and says so in an attribute. It is not read, because its text
    # lies in a heap that cannot be found, and so not be checked, without the library that trusts it.
    return "bfloat16" if dtype.kind == "V" and dtype.itemsize == 2 and "dtype" in dataset.attrs else "opaque"


def _is_plain(dataset: h5py.Dataset) -> bool:
    """Whether each element is its own bytes, and none says where in the file they are."""
    try:
        return not dataset.dtype.hasobject
    except TypeError:  # a type that numpy does not have
        return False


def _little_endian(value: np.ndarray, dtype: str) -> np.ndarray:
    import numpy as np

    if dtype == "bfloat16":
        import ml_dtypes

        halves: np.ndarray = np.ascontiguousarray(value).view(ml_dtypes.bfloat16).reshape(value.shape)
        return halves
    return value.astype(value.dtype.newbyteorder("<"), copy=False)


def _as_bytes(value: Any) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)


def _text(name: Any) -> str:
    try:
        text = name.decode() if isinstance(name, bytes) else str(name)
        text.encode()
    except UnicodeError as error:
        raise CorruptError(f"a name is not UTF-8: {name!r}") from error
    return text
