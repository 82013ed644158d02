"""What the readers of all formats have in common."""

from __future__ import annotations

import contextlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, UnsupportedError
from ckpt_tools.findings import Finding, Severity
from ckpt_tools.format.graph import ObjectGraph
from ckpt_tools.readers.base import Progress, StoredBest, TensorInfo

if TYPE_CHECKING:
    import numpy as np

# Small enough to stay in the processor's cache between reading and the checksum.
CHUNK = 1 << 20

Itself = TypeVar("Itself", bound="Reader")


@contextlib.contextmanager
def error_context(path: str, key: str | None = None) -> Iterator[None]:
    """Tell an error of the pure formats in which file it happened."""
    try:
        yield
    except CkptError as error:
        error.path = error.path or path
        error.key = error.key or key
        raise


def damage(error: CkptError) -> Finding:
    """An error as a finding; what is only not supported is not damaged."""
    severity: Severity = "note" if isinstance(error, UnsupportedError) else "damage"
    return Finding(error.id, severity, error.message, error.path, error.key, error.offset, error.hint)


def shaped(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Values that are as many as a shape has elements, in that shape.

    Raises UnsupportedError for a shape that TensorFlow has and numpy has not: of more than 64 dimensions (32 before
    numpy 2), or without elements and with dimensions whose product is over 2^63.
    """
    try:
        return values.reshape(shape)
    except ValueError as error:
        what = f"{len(shape)} dimensions" if len(shape) > 8 else f"shape {list(shape)}"
        raise UnsupportedError(f"numpy has no arrays of {what}") from error


class Reader(ABC):
    """The part of `Checkpoint` that follows from the rest of it."""

    prefix: str

    @property
    @abstractmethod
    def format(self) -> str: ...

    @property
    @abstractmethod
    def tensors(self) -> Mapping[str, TensorInfo]: ...

    @property
    def graph(self) -> ObjectGraph | None:
        return None

    @property
    def best(self) -> StoredBest | None:
        return None

    @abstractmethod
    def read(self, name: str) -> np.ndarray: ...

    def rows(self, name: str, first: int, count: int) -> np.ndarray:
        return self.read(name)[first : first + count]

    @abstractmethod
    def chunks(self, name: str) -> Iterator[bytes]: ...

    @abstractmethod
    def outline(self) -> Iterator[Finding]: ...

    @abstractmethod
    def close(self) -> None: ...

    def info(self, name: str) -> TensorInfo:
        """Type, shape and size of a tensor. Raises NotFoundError for an unknown name."""
        info = self.tensors.get(name)
        if info is None:
            raise NotFoundError("no such tensor", path=self.prefix, key=name)
        return info

    def digest(self, name: str) -> str:
        """As `Checkpoint.digest`. Raises UnsupportedError for variants and resources, and what `read` raises."""
        import hashlib  # it loads a library of cryptography, which only digests need

        dtype = self.info(name).dtype
        digest = hashlib.sha256()
        if dtype == "string":
            for element in self.read(name).flat:
                digest.update(len(element).to_bytes(8, "little") + element)
        elif dtype in ("variant", "resource"):
            raise UnsupportedError(f"values of type {dtype} have no digest", path=self.prefix, key=name)
        else:
            for chunk in self.chunks(name):
                digest.update(chunk)
        return digest.hexdigest()

    def examine(self) -> Iterator[Progress]:
        for name in self.tensors:
            yield from self._examined(name, self._pieces(name))

    def examine_some(self, names: Iterable[str]) -> Iterator[Progress]:
        for name in names:
            yield from self._examined(name, self._pieces(name))

    def verify(self) -> Iterator[Finding]:
        found: set[Finding] = set()
        steps = (step.finding for step in self.examine() if step.finding is not None)
        for finding in itertools.chain(self.outline(), steps):
            if finding.severity == "damage" and finding not in found:
                found.add(finding)
                yield finding

    def _pieces(self, name: str) -> Iterator[int]:
        """Read one tensor: the number of bytes of each piece, as it goes."""
        if self.info(name).dtype == "string":
            self.read(name)
            yield self.info(name).nbytes
        else:
            yield from map(len, self.chunks(name))

    def _examined(self, name: str, pieces: Iterable[int]) -> Iterator[Progress]:
        """The steps of reading one tensor, its damage among them; what the system refuses is raised."""
        try:
            for nbytes in pieces:
                yield Progress(nbytes)
        except (CorruptError, NotFoundError, UnsupportedError) as error:
            yield Progress(tensor=name, finding=damage(error))
        else:
            yield Progress(tensor=name)

    def __enter__(self: Itself) -> Itself:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
