"""What every reader offers, whatever the format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from ckpt_tools.findings import Finding
from ckpt_tools.graph import ObjectGraph

if TYPE_CHECKING:
    import numpy as np


Itself = TypeVar("Itself", bound="Checkpoint")


@dataclass(frozen=True)
class TensorInfo:
    """``name`` is the key as stored, ``dtype`` TensorFlow's name, ``nbytes`` the stored size in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


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

    def read(self, name: str) -> np.ndarray:
        """The value, its checksum verified; strings as an object array of bytes.

        Raises NotFoundError for an unknown name, CorruptError for damage, UnsupportedError for a type that
        cannot be decoded.
        """
        ...

    def chunks(self, name: str) -> Iterator[bytes]:
        """The stored bytes in pieces, little-endian; the checksum is verified behind the last one."""
        ...

    def digest(self, name: str) -> str:
        """SHA-256 of the raw little-endian value; of strings: each length as 8 bytes, then the bytes."""
        ...

    def verify(self) -> Iterator[Finding]:
        """One finding for each thing that is damaged or missing; every byte of the data is read."""
        ...

    def close(self) -> None: ...

    def __enter__(self: Itself) -> Itself: ...

    def __exit__(self, *exception: object) -> None: ...
