"""safetensors files: a header, then the values one behind the other; no code, no checksums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from ckpt_tools.errors import CorruptError, UnsafeError, UnsupportedError
from ckpt_tools.findings import Finding
from ckpt_tools.format.dtypes import BY_NAME
from ckpt_tools.format.safetensors import MAX_HEADER_BYTES, decode_header, gaps
from ckpt_tools.fs import paths
from ckpt_tools.readers.base import Progress, TensorInfo
from ckpt_tools.readers.common import CHUNK, Reader, error_context

if TYPE_CHECKING:
    import numpy as np

NO_CHECKSUMS = "safetensors keeps no checksums: of the values only the size can be checked"


class Safetensors(Reader):
    """The tensors of one file; ``file`` is that file where it is open.

    Raises:
        CorruptError: the header is cut off, or breaks a rule of the format.
        UnsafeError: it is over the limit of the format.
    """

    def __init__(self, path: str, file: paths.File | None = None) -> None:
        self.prefix = path
        self._file = file or paths.open_file(path)
        try:
            with error_context(path):
                self._rows = decode_header(self._header())
        except BaseException:
            self._file.close()
            raise
        infos = {
            row.name: TensorInfo(row.name, row.dtype, row.shape, row.end - row.start) for row in self._rows.values()
        }
        self._tensors = MappingProxyType(infos)

    @property
    def format(self) -> str:
        return "safetensors"

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._tensors

    def read(self, name: str) -> np.ndarray:
        info = self.info(name)
        return self._array(info, self.chunks(name), info.shape)

    def rows(self, name: str, first: int, count: int) -> np.ndarray:
        info = self.info(name)
        if not info.shape or not info.shape[0]:
            return super().rows(name, first, count)
        start, row = self._rows[name].start, info.nbytes // info.shape[0]
        pieces = self._pieces_between(name, start + first * row, start + (first + count) * row)
        return self._array(info, pieces, (count, *info.shape[1:]))

    def _array(self, info: TensorInfo, pieces: Iterator[bytes], shape: tuple[int, ...]) -> np.ndarray:
        import numpy as np

        if info.dtype == "opaque":
            raise UnsupportedError("its type is not one of TensorFlow", path=self.prefix, key=info.name)
        stored = BY_NAME[info.dtype].numpy
        if not hasattr(np, stored):
            import ml_dtypes

            dtype = np.dtype(getattr(ml_dtypes, stored))
        else:
            dtype = np.dtype(stored).newbyteorder("<")
        # A bytearray, for what is read from bytes cannot be written to.
        value: np.ndarray = np.frombuffer(bytearray().join(pieces), dtype)
        return value.reshape(shape)

    def chunks(self, name: str) -> Iterator[bytes]:
        self.info(name)
        row = self._rows[name]
        return self._pieces_between(name, row.start, row.end)

    def _pieces_between(self, name: str, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, CHUNK):
            size = min(CHUNK, end - at)
            if self._begin + at + size > self._file.size:
                where = self._file.size - self._begin
                message = f"cut off: the data ends at {where} of {self._rows[name].end}"
                raise CorruptError(message, path=self.prefix, key=name)
            yield self._file.read(self._begin + at, size)

    def outline(self) -> Iterator[Finding]:
        size = self._file.size - self._begin
        end = max((row.end for row in self._rows.values()), default=0)
        if end > size:
            fix = "copy or download the file again"
            yield Finding("corrupt", "damage", f"cut off: has {size} of {end} bytes of data", self.prefix, fix=fix)
        elif (wrong := gaps(self._rows, size)) is not None:
            yield Finding("corrupt", "damage", f"{wrong}: safetensors reads no such file", self.prefix)
        for row in self._rows.values():
            if row.unknown is not None:
                message = f"has a type that is not known, {row.unknown}: nothing tells how many bytes it has"
                yield Finding("unsupported", "error", message, self.prefix, row.name)

    def examine(self) -> Iterator[Progress]:
        yield Progress(finding=Finding("no-checksums", "note", NO_CHECKSUMS, self.prefix))
        yield from super().examine()

    def close(self) -> None:
        self._file.close()

    def _header(self) -> bytes:
        if self._file.size < 8:
            raise CorruptError(
                f"cut off: a safetensors file has 8 bytes for the size of its header, not {self._file.size}"
            )
        size = int.from_bytes(self._file.read(0, 8), "little")
        if size > MAX_HEADER_BYTES:
            raise UnsafeError(f"a header of {size} bytes is over the limit of {MAX_HEADER_BYTES}")
        if size > self._file.size - 8:
            hint = "copy or download the file again"
            raise CorruptError(f"cut off: has {self._file.size - 8} of {size} bytes of its header", hint=hint)
        self._begin = 8 + size
        return self._file.read(8, size)
