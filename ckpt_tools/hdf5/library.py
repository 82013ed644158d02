"""What is done with h5py, in a process that may crash.

The library follows links into other files, reads values that a dataset keeps in other files, loads code for filters it
does not know, and believes the sizes it is told. Here a file with any of that is refused before a value is read, and
the library only ever sees the bytes of this one file: it is given a file object, not a path.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ckpt_tools.errors import CkptError, CorruptError, UnsafeError, UnsupportedError
from ckpt_tools.format.overlay import Overlay, Patch
from ckpt_tools.format.stored_best import BEST_METRIC, BEST_METRIC_MEANING

if TYPE_CHECKING:
    import h5py
    import numpy as np

MAX_OBJECTS = 1_000_000
MAX_DEPTH = 64
# What compression may make of a file: so many times its size, and some for small files of zeros.
MAX_EXPANSION = 100
MAX_EXPANSION_FREE = 16 << 20
# Of the names in lists, and of a configuration.
MAX_TEXT = 64 << 20

# The filters that are part of the library: deflate, shuffle, fletcher32, and h5py's own lzf.
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
_COMPRESSING = {1, 32000}
_NUMBERS = {
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *("float16", "float32", "float64", "complex64", "complex128", "bool"),
}
# What an element of varying length takes where the others lie.
_VARYING = 16
_TRUNCATED = re.compile(r"truncated file: eof = (\d+).*stored_eof = (\d+)")
_LISTS = re.compile(r"(?P<name>layer_names|weight_names)(?P<part>\d*)")
_TEXTS = ("model_config",)
# What is longer is no version.
_MOST_VERSION = 32
# An attribute has less than 64 KiB.
MOST_MEANING = 32 << 10


class Library:
    """An open HDF5 file.

    Args:
        stream: its bytes.
        size: how many there are.

    Raises:
        CorruptError: the library cannot make sense of the file.
        UnsafeError: it refers to other files or to itself, needs a plug-in, or is larger inside than its bytes allow.
    """

    def __init__(self, stream: io.RawIOBase, size: int, read: Callable[[int, int], bytes]) -> None:
        import h5py

        self._limit = MAX_EXPANSION * size + MAX_EXPANSION_FREE
        self._size = size
        self._read = read
        self._datasets: dict[str, h5py.Dataset] = {}
        self._groups: dict[str, h5py.Group] = {}
        with translated():
            self._file = h5py.File(stream, "r")
        try:
            with translated():
                self._legacy = "layer_names" in self._file.attrs or "model_weights" in self._file
                self._rows = sorted(self._walk(), key=lambda row: str(row["name"]))
        except BaseException:
            self.close()
            raise

    def outline(self) -> dict[str, Any]:
        """All datasets; and what is kept in the root itself: the version of Keras, a best value and its meaning."""
        with translated():
            version = _short_text(self._file, "keras_version")
            value, meaning = (
                _number(self._file, BEST_METRIC),
                _short_text(self._file, BEST_METRIC_MEANING, MOST_MEANING),
            )
        said = None if value is None else {"value": value, "meaning": meaning}
        return {"legacy": self._legacy, "tensors": self._rows, "keras_version": version, "best": said}

    def edited(self, edits: Iterable[Mapping[str, Any]]) -> Patch:
        """What becomes of the file when some small values are set in it; nothing is written.

        Each edit names an ``attribute`` of the root with a ``number`` or a ``text``, or a scalar ``dataset`` with a
        ``number``.
        """
        import h5py

        overlay = Overlay(self._read, self._size)
        with translated(), h5py.File(overlay, "r+") as file:
            for edit in edits:
                if "dataset" in edit:
                    if str(edit["dataset"]) not in self._datasets:
                        raise CorruptError(f"no dataset is called {edit['dataset']!r}")
                    file[str(edit["dataset"])][()] = float(edit["number"])
                elif "number" in edit:
                    file.attrs.create(str(edit["attribute"]), float(edit["number"]), dtype="<f8")
                else:
                    text = str(edit["text"]).encode()
                    dtype = h5py.string_dtype("utf-8", max(1, len(text)))
                    file.attrs.create(str(edit["attribute"]), text, dtype=dtype)
        return overlay.patch()

    def attributes(self) -> dict[str, Any]:
        """What the file itself says that it holds: Keras' lists of names, and the configuration of the model.

        Text that lies in a heap cannot be found, and so not be checked, without the library, which may go round in a
        broken one for ever: this is a question of its own.
        """
        lists: dict[tuple[str, str], dict[int, list[str]]] = {}
        texts: dict[str, str] = {}
        left = MAX_TEXT
        for path, group in self._groups.items():
            with translated(path or None):
                for attribute in map(_text, group.attrs):
                    match = _LISTS.fullmatch(attribute)
                    if match is None and (path or attribute not in _TEXTS):
                        continue
                    if math.prod(group.attrs.get_id(attribute).shape or (1,)) > MAX_OBJECTS:
                        raise CorruptError(f"{attribute} has more than {MAX_OBJECTS} elements")
                    value = group.attrs[attribute]
                    names = [_as_bytes(each).decode("utf-8", "replace") for each in getattr(value, "flat", [value])]
                    if match is not None:
                        lists.setdefault((path, match["name"]), {})[int(match["part"] or 0)] = names
                    elif names:
                        texts[attribute] = names[0]
                    left -= sum(map(len, names))
                    if left < 0:
                        raise UnsafeError(f"more than {MAX_TEXT} bytes of names in attributes")
        rows = [
            {"group": path, "attribute": attribute, "names": [name for part in sorted(parts) for name in parts[part]]}
            for (path, attribute), parts in lists.items()
        ]
        return {"lists": rows, "texts": texts}

    def strings(self, name: str) -> list[bytes]:
        """The elements of a dataset of strings, in C order."""
        dataset = self._datasets[name]
        with translated(name):
            if dataset.shape is None:
                return []
            if dataset.dtype.kind == "O":
                self._check_lengths(dataset)
            value = dataset[()]
            flat = value.reshape(-1).tolist() if dataset.shape else [value]
            return [_as_bytes(element) for element in flat]

    def rows(self, name: str, first: int, count: int) -> bytes:
        """The raw little-endian bytes of some rows of a dataset of numbers, in C order; of a scalar all."""
        import numpy as np

        dataset = self._datasets[name]
        with translated(name):
            if dataset.shape is None:
                return b""
            value = dataset[first : first + count] if dataset.shape else np.asarray(dataset[()])
            return bytes(_little_endian(value).tobytes())

    def places(self, name: str) -> list[tuple[int, int]]:
        """Where the bytes of a dataset lie as they are stored, undecoded: the start and size of each part."""
        dataset = self._datasets[name]
        found: list[tuple[int, int]] = []
        with translated(name):
            if (start := dataset.id.get_offset()) is not None:
                found.append((int(start), int(dataset.id.get_storage_size())))
            elif dataset.chunks is not None:
                dataset.id.chunk_iter(lambda chunk: found.append((int(chunk.byte_offset), int(chunk.size))))
        return found

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._file.close()

    def _check_lengths(self, dataset: h5py.Dataset) -> None:
        """Refuse strings whose place holds more or less than they say, or nothing: the library copies first, then asks.

        element: length:u32  heap:u64  index:u32, all 0 for an empty string
        """
        start, count = dataset.id.get_offset(), dataset.size
        if not count:
            return
        if start is None:
            raise UnsupportedError("strings of varying length are read from one piece only, not from chunks")
        raw = self._read(start, _VARYING * count)
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
        head = self._read(start, _VARYING)
        size = int.from_bytes(head[8:], "little")
        if head[:4] != b"GCOL" or size > self._size:
            raise CorruptError("a string that lies in no heap", offset=start)
        heap = self._read(start, size)
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

    def _walk(self) -> Iterator[dict[str, Any]]:
        import h5py

        groups: list[tuple[str, int, h5py.Group]] = [("", 0, self._file)]
        seen = {h5py.h5o.get_info(self._file.id).addr}
        count = 0
        unbacked = 0
        while groups:
            prefix, depth, group = groups.pop()
            self._groups[prefix.rstrip("/")] = group
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
                address = h5py.h5o.get_info(found.id).addr
                if isinstance(found, h5py.Group):
                    if address in seen:
                        raise UnsafeError("a group that contains itself or has two names", key=path)
                    groups.append((f"{path}/", depth + 1, found))
                elif isinstance(found, h5py.Dataset):
                    row, backed = self._describe(path, found)
                    # A second name of a dataset has no bytes of its own.
                    unbacked += 0 if backed and address not in seen else int(row["nbytes"])
                    if unbacked > self._limit:
                        raise UnsafeError(
                            f"stands for more than {self._limit} bytes in a file of {self._size}", key=path
                        )
                    self._datasets[path] = found
                    yield row
                seen.add(address)

    def _describe(self, path: str, dataset: h5py.Dataset) -> tuple[dict[str, Any], bool]:
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
        row: dict[str, Any] = {"name": path, "dtype": dtype, "shape": [0], "nbytes": 0, "written": True}
        if dataset.shape is None:
            return row, True
        shape = [int(size) for size in dataset.shape]
        nbytes = math.prod(shape) * int(dataset.id.get_type().get_size())
        stored = int(dataset.id.get_storage_size())
        if stored > self._size:
            raise CorruptError(f"says that it takes {stored} bytes of a file of {self._size}", key=path)
        if layout == h5py.h5d.CHUNKED:
            chunk = math.prod(plan.get_chunk()) * int(dataset.id.get_type().get_size())
            if chunk > self._limit:
                raise UnsafeError(f"has chunks of {chunk} bytes", key=path)
            if 3 in filters:
                _check_chunks(dataset, path, chunk, compressed=any(code in _COMPRESSING for code in filters))
        row |= {"shape": shape, "nbytes": nbytes, "written": bool(stored) or not nbytes}
        if layout == h5py.h5d.CONTIGUOUS and not filters and stored == nbytes and nbytes and _is_as_stored(dataset):
            row |= {"start": int(dataset.id.get_offset()), "stored": dataset.dtype.str}
        if dtype == "opaque":
            row["plain"] = _is_plain(dataset)
        return row, not filters and stored >= nbytes


@contextlib.contextmanager
def translated(key: str | None = None) -> Iterator[None]:
    """For each use of the library: whatever it raises for a damaged file becomes one of our errors."""
    try:
        yield
    except CkptError as error:
        error.key = error.key or key
        raise
    except (Exception, MemoryError) as error:
        raise _explained(error, key) from None


def _check_chunks(dataset: h5py.Dataset, path: str, size: int, *, compressed: bool) -> None:
    """Refuse chunks too short for the checksum (4 bytes) at their end: the library would read beyond them."""

    def check(chunk: Any) -> None:
        if chunk.size <= 4 or not (compressed or chunk.filter_mask or chunk.size == size + 4):
            raise CorruptError(f"a chunk of {chunk.size} bytes, with its checksum", key=path)

    dataset.id.chunk_iter(check)


def _explained(error: BaseException, key: str | None) -> CorruptError:
    match = _TRUNCATED.search(str(error))
    if match:
        message = f"cut off: has {match[1]} bytes of {match[2]}"
        return CorruptError(message, offset=int(match[1]), hint="copy or download the file again")
    return CorruptError(f"damaged HDF5: {error or type(error).__name__}", key=key)


def _dtype_name(dataset: h5py.Dataset) -> str:
    """TensorFlow's name of the type; ``opaque`` for types that no tensor has."""
    import h5py

    try:
        dtype = dataset.dtype
    except TypeError:
        return "opaque"
    if h5py.check_string_dtype(dtype) is not None:
        return "string"
    name = str(dtype.newbyteorder("=").name)
    if name in _NUMBERS:
        return name
    # HDF5 has no bfloat16: Keras stores two opaque bytes and says so in an attribute.
    return "bfloat16" if dtype.kind == "V" and dtype.itemsize == 2 and "dtype" in dataset.attrs else "opaque"


def _number(group: h5py.Group, name: str) -> float | None:
    """A finite scalar attribute; None for anything else."""
    import h5py

    if name not in group.attrs:
        return None
    attribute = h5py.h5a.open(group.id, name.encode())
    if attribute.get_type().get_class() not in (h5py.h5t.FLOAT, h5py.h5t.INTEGER) or attribute.shape:
        return None
    value = float(group.attrs[name])
    return value if math.isfinite(value) else None


def _short_text(group: h5py.Group, name: str, most: int = _MOST_VERSION) -> str | None:
    """A short attribute that is kept in the object itself."""
    import h5py

    if name not in group.attrs:
        return None
    attribute = h5py.h5a.open(group.id, name.encode())
    kind = attribute.get_type()
    if kind.get_class() != h5py.h5t.STRING or kind.is_variable_str() or kind.get_size() > most:
        return None
    if attribute.shape:
        return None
    return _as_bytes(group.attrs[name]).decode("utf-8", "replace").strip("\0 ") or None


def _is_as_stored(dataset: h5py.Dataset) -> bool:
    """Whether the stored bytes are those of the array: no bits to be left out, no text elsewhere."""
    import h5py

    try:
        dtype = dataset.dtype
        if dtype.kind == "V":
            return dtype.itemsize == 2 and isinstance(dataset.id.get_type(), h5py.h5t.TypeOpaqueID)
        return dtype.kind in "fiuc" and bool(dataset.id.get_type() == h5py.h5t.py_create(dtype))
    except TypeError:  # a type that numpy does not have
        return False


def _is_plain(dataset: h5py.Dataset) -> bool:
    """Whether each element is its own bytes, and none says where in the file they are."""
    try:
        return not dataset.dtype.hasobject
    except TypeError:  # a type that numpy does not have
        return False


def _little_endian(value: np.ndarray) -> np.ndarray:
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
