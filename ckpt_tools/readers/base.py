"""What every reader offers, whatever the format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from ckpt_tools.findings import Finding
from ckpt_tools.format.graph import ObjectGraph

if TYPE_CHECKING:
    import numpy as np


Itself = TypeVar("Itself", bound="Checkpoint")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """``name`` is the key as stored, ``dtype`` TensorFlow's name, ``nbytes`` the size of the value in bytes.

    For strings, variants and resources that is the stored size; 0 where a format does not tell it without reading.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class StoredBest:
    """A best value that is no tensor: an attribute of an HDF5 file, or a member of an archive, called ``key``.

    ``meaning`` is the JSON that tells what it is (see `ckpt_tools.lineages.meaning`), None where nothing does.
    """

    value: float
    key: str
    meaning: str | None


class Progress(NamedTuple):
    """One step of `Checkpoint.examine`: so many more bytes read; a tensor done with; what is wrong with it."""

    nbytes: int = 0
    tensor: str | None = None
    finding: Finding | None = None


class Checkpoint(Protocol):
    """An open checkpoint; nothing of it is in memory but the list of its tensors."""

    @property
    def format(self) -> str:
        """Its format by the name that ``ckpt inspect --json`` uses, for example ``bundle-object``."""
        ...

    @property
    def prefix(self) -> str:
        """The path that identifies it: of a bundle the name without ``.index``."""
        ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """All tensors by name, sorted; the object graph itself is not among them."""
        ...

    @property
    def graph(self) -> ObjectGraph | None:
        """The object graph, or None for a format without one."""
        ...

    @property
    def best(self) -> StoredBest | None:
        """A best value that is stored beside the tensors, and not as one of them; None without one."""
        ...

    def read(self, name: str) -> np.ndarray:
        """The value, its checksum verified; strings as an object array of bytes.

        Raises NotFoundError for an unknown name, CorruptError for damage, UnsupportedError for a type that
        cannot be decoded.
        """
        ...

    def rows(self, name: str, first: int, count: int) -> np.ndarray:
        """``value[first : first + count]``, of which bundles, HDF5 and safetensors read no other rows.

        A checksum is one of the whole value: that of less is not verified. Raises what `read` raises.
        """
        ...

    def chunks(self, name: str) -> Iterator[bytes]:
        """The stored bytes in pieces, little-endian; the checksum is verified behind the last one."""
        ...

    def digest(self, name: str) -> str:
        """SHA-256 of the raw little-endian value; of strings: each length as 8 bytes, then the bytes."""
        ...

    def outline(self) -> Iterator[Finding]:
        """What can be found without reading values: data that is missing or cut off, a broken object graph."""
        ...

    def examine(self) -> Iterator[Progress]:
        """Read every stored byte once, in the order of the files, and check it against every checksum."""
        ...

    def examine_some(self, names: Iterable[str]) -> Iterator[Progress]:
        """The same for some tensors alone. What has checksums over whole files only is read, and not compared."""
        ...

    def verify(self) -> Iterator[Finding]:
        """One finding for each thing that is damaged or missing: `outline`, then `examine`."""
        ...

    def close(self) -> None: ...

    def __enter__(self: Itself) -> Itself: ...

    def __exit__(self, *exception: object) -> None: ...
