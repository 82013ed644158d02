"""HDF5 files: their structure is told by a process of its own, the values are read here where they lie in one piece.

Nearly all values of Keras do: then the library has only to say where. It decodes what is compressed or converted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckpt_tools.errors import CorruptError, UnsupportedError
from ckpt_tools.format.overlay import MAX_BYTES, Patch
from ckpt_tools.format.stored_best import BEST_METRIC
from ckpt_tools.hdf5 import client
from ckpt_tools.hdf5.library import MAX_EXPANSION, MAX_EXPANSION_FREE
from ckpt_tools.readers.base import StoredBest, TensorInfo
from ckpt_tools.readers.common import CHUNK, error_context
from ckpt_tools.readers.window import Bytes

if TYPE_CHECKING:
    import numpy as np

# The text of attributes is short, and where it lies in a broken heap the library may look for its end for ever.
_ATTRIBUTES_SECONDS, _ATTRIBUTE_SECONDS = 0.5, 0.001

__all__ = ["MAX_EXPANSION", "MAX_EXPANSION_FREE", "Hdf5File", "Listed"]


@dataclass(frozen=True)
class Listed:
    """A list of names that the file keeps in an attribute of a group: ``layer_names`` or ``weight_names``."""

    group: str
    attribute: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """Where a value lies in one piece, and numpy's name of its type there."""

    start: int
    stored: str


class Hdf5File:
    """An open HDF5 file; ``tensors`` are all its datasets, by path without the leading slash, sorted.

    ``unwritten`` are the datasets for which no bytes were ever written; ``legacy`` is the format of Keras 1 and 2,
    ``keras_version`` what the file says of its writer, ``best`` the value that an attribute of the root has.

    Raises:
        CorruptError: the library cannot make sense of the file, crashes or hangs on it.
        UnsafeError: it refers to other files or to itself, needs a plug-in, or is larger inside than its bytes allow.
    """

    def __init__(self, source: Bytes) -> None:
        self.path = source.path
        self._source = source
        self._child, self._number, outline = client.open_file(source)
        try:
            self._take(outline)
        except (KeyError, TypeError, ValueError) as error:
            self.close()
            raise CorruptError(f"the HDF5 library tells nonsense of this file: {error!r}", path=self.path) from error

    def _take(self, outline: dict[str, Any]) -> None:
        tensors: dict[str, TensorInfo] = {}
        self._places: dict[str, _Place] = {}
        self._plain: set[str] = set()
        unwritten = []
        for row in outline["tensors"]:
            name = str(row["name"])
            tensors[name] = TensorInfo(name, str(row["dtype"]), tuple(map(int, row["shape"])), int(row["nbytes"]))
            if "start" in row:
                self._places[name] = _Place(int(row["start"]), str(row["stored"]))
            if row.get("plain"):
                self._plain.add(name)
            if not row["written"]:
                unwritten.append(name)
        self.legacy = bool(outline["legacy"])
        self.tensors: Mapping[str, TensorInfo] = tensors
        self.unwritten = tuple(unwritten)
        version = outline["keras_version"]
        self.keras_version = version if isinstance(version, str) and version.isprintable() else None
        said, self.best = outline["best"], None
        if said is not None:
            meaning = said["meaning"]
            self.best = StoredBest(float(said["value"]), BEST_METRIC, None if meaning is None else str(meaning))

    def attributes(self) -> tuple[tuple[Listed, ...], dict[str, str]]:
        """Keras' lists of what the file should hold, and the configuration of its model where it has one.

        Raises CorruptError when they cannot be read.
        """
        answer = self._ask("attributes", None, seconds=_ATTRIBUTES_SECONDS + _ATTRIBUTE_SECONDS * len(self.tensors))
        try:
            lists = tuple(
                Listed(str(each["group"]), str(each["attribute"]), tuple(map(str, each["names"])))
                for each in answer["lists"]
            )
            return lists, {str(name): str(text) for name, text in answer["texts"].items()}
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptError(f"the HDF5 library tells nonsense of this file: {error!r}", path=self.path) from error

    def edited(self, edits: Sequence[Mapping[str, Any]]) -> Patch:
        """What becomes of the file when some small values are set in it (see `Library.edited`); nothing is written.

        Raises CorruptError or UnsafeError when the library cannot do it, or would change more than that.
        """
        answer = self._ask("edit", None, edits=list(edits))
        try:
            pieces = tuple((int(offset), bytes.fromhex(data)) for offset, data in answer["pieces"])
            patch = Patch(int(answer["kept"]), int(answer["size"]), pieces)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptError(f"the HDF5 library tells nonsense of this file: {error!r}", path=self.path) from error
        size, ends = self._source.size, [offset + len(data) for offset, data in pieces]
        if not (0 <= patch.kept <= size and patch.size <= size + MAX_BYTES and max(ends, default=0) <= patch.size):
            raise CorruptError("the HDF5 library would make another file of it", path=self.path)
        return patch

    def read(self, name: str) -> np.ndarray:
        """The value; strings as an object array of bytes. Raises UnsupportedError for types that are no numbers."""
        import numpy as np

        info = self.tensors[name]
        if info.dtype == "opaque":
            raise UnsupportedError("its HDF5 type is not that of a tensor", path=self.path, key=name)
        if info.dtype == "string":
            flat = self._strings(name)
            strings = np.empty(len(flat), object)
            strings[:] = flat
            return strings.reshape(info.shape)
        return _array(info, self.chunks(name), info.shape)

    def rows(self, name: str, first: int, count: int) -> np.ndarray:
        """``value[first : first + count]``; of what is compressed the library decodes the chunks that these lie in."""
        info = self.tensors[name]
        if not info.shape or not info.shape[0] or info.dtype in ("string", "opaque"):
            return self.read(name)[first : first + count]
        place, row = self._places.get(name), info.nbytes // info.shape[0]
        pieces: Iterable[bytes]
        if place is not None:
            pieces = self._straight(name, place, place.start + first * row, count * row)
        else:
            pieces = [self._ask("rows", name, first=first, count=count)]
        return _array(info, pieces, (count, *info.shape[1:]))

    def chunks(self, name: str) -> Iterator[bytes]:
        """The raw little-endian bytes in C order, in pieces; of types that no array has, what is stored."""
        info = self.tensors[name]
        place = self._places.get(name)
        if place is not None:
            yield from self._straight(name, place, place.start, info.nbytes)
        elif info.dtype == "string":
            yield self.read(name).tobytes()
        elif info.dtype == "opaque" and name not in self._plain:
            yield from self._stored(name)
        else:
            count = info.shape[0] if info.shape else 1
            rows = max(1, CHUNK // max(1, info.nbytes // max(1, count)))
            for first in range(0, count, rows):
                yield self._ask("rows", name, first=first, count=rows)

    def close(self) -> None:
        self._child.close_file(self._number)

    def _straight(self, name: str, place: _Place, start: int, nbytes: int) -> Iterator[bytes]:
        turned = place.stored[:1] == ">"
        for at in range(start, start + nbytes, CHUNK):
            with error_context(self.path, name):
                piece = self._source.read(at, min(CHUNK, start + nbytes - at))
            if turned:
                import numpy as np

                piece = np.frombuffer(piece, place.stored).astype(place.stored.replace(">", "<")).tobytes()
            yield piece

    def _stored(self, name: str) -> Iterator[bytes]:
        """The bytes of a dataset itself, undecoded: places in this file, which the library would follow unchecked."""
        for start, size in self._ask("places", name):
            for at in range(int(start), int(start) + int(size), CHUNK):
                with error_context(self.path, name):
                    yield self._source.read(at, min(CHUNK, int(start) + int(size) - at))

    def _strings(self, name: str) -> list[bytes]:
        """All strings. They come as: count:u64 length:u64* bytes."""
        answer = self._ask("strings", name)
        try:
            (count,) = struct.unpack_from("<Q", answer)
            lengths = struct.unpack_from(f"<{count}Q", answer, 8)
        except struct.error as error:
            raise CorruptError("the HDF5 library tells nonsense of its strings", path=self.path, key=name) from error
        found, at = [], 8 * (count + 1)
        for length in lengths:
            found.append(answer[at : at + length])
            at += length
        return found

    def _ask(self, ask: str, name: str | None, **more: Any) -> Any:
        nbytes = 0 if name is None else self.tensors[name].nbytes
        for again in client.tries():
            with again:
                if not self._child.usable:
                    # It came to its end with another file.
                    self._child, self._number, _ = client.open_file(self._source)
                with error_context(self.path, name):
                    return self._child.ask(ask, self._number, nbytes, name=name, **more)
        raise AssertionError


def _array(info: TensorInfo, pieces: Iterable[bytes], shape: tuple[int, ...]) -> np.ndarray:
    import numpy as np

    # A bytearray, for what is read from bytes cannot be written to.
    value: np.ndarray = np.frombuffer(bytearray().join(pieces), _numpy_type(info.dtype))
    return value.reshape(shape)


def _numpy_type(dtype: str) -> Any:
    import numpy as np

    if dtype == "bfloat16":
        import ml_dtypes

        return ml_dtypes.bfloat16
    return np.dtype(dtype).newbyteorder("<")
