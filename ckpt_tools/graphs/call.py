"""What an operation is called with beside its inputs: its attributes, and the limits that it has to keep."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ckpt_tools.errors import CorruptError, UnsafeError, UnsupportedError
from ckpt_tools.format.dtypes import BY_NAME, to_numpy
from ckpt_tools.format.graph_def import Node, TypeName

# An operation: from a `Call` and the values of its inputs to its value, or a tuple of all that it gives.
Op = Callable[..., Any]

_MOST_DIMENSIONS = 32


@dataclass(frozen=True)
class Limits:
    """Bytes of one array, bytes of all that are held at a time, nodes that are run (those of loops each time), and
    seconds."""

    value_bytes: int = 1 << 30
    held_bytes: int = 4 << 30
    steps: int = 5_000_000
    seconds: float = 3600.0


class Budget:
    """What is used up of the limits in one run."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._held = 0
        self._kept: set[int] = set()
        self._steps = 0
        self._end = time.monotonic() + limits.seconds

    def step(self) -> None:
        """One node more is run. Raises UnsafeError when these were too many, or it took too long."""
        self._steps += 1
        if self._steps > self.limits.steps:
            raise UnsafeError(f"the graph runs more than {self.limits.steps} operations: a loop that does not end?")
        if time.monotonic() > self._end:
            raise UnsafeError(
                f"the graph did not come to an end within {self.limits.seconds:g} seconds",
                hint="allow more with --timeout SECONDS",
            )

    def room(self, shape: Sequence[int], dtype: np.dtype) -> None:
        """Raises UnsafeError when an array of this shape would be over a limit. Asked before it is made."""
        if len(shape) > _MOST_DIMENSIONS or any(size < 0 for size in shape):
            raise ValueError(f"impossible shape {list(shape)}")
        self.room_for(math.prod(shape) * dtype.itemsize, f"an array {list(shape)} of {dtype}")

    def room_for(self, nbytes: int, what: str) -> None:
        """The same for a number of bytes."""
        if nbytes > self.limits.value_bytes:
            raise _too_large(what, nbytes, self.limits.value_bytes)
        if nbytes + self._held > self.limits.held_bytes:
            raise _too_large(f"{what} beside what is held", nbytes + self._held, self.limits.held_bytes)

    def keep(self, array: np.ndarray) -> None:
        """An array is kept, as long as anything holds it; a view keeps all that it is a view of.

        Raises UnsafeError when all that is kept is too much.
        """
        while isinstance(array.base, np.ndarray):
            array = array.base
        if id(array) in self._kept:
            return
        self.room_for(array.nbytes, "a value")
        self._held += array.nbytes
        self._kept.add(id(array))
        weakref.finalize(array, self._gone, id(array), array.nbytes).atexit = False

    def _gone(self, number: int, nbytes: int) -> None:
        self._held -= nbytes
        self._kept.discard(number)


def _too_large(what: str, nbytes: int, limit: int) -> UnsafeError:
    return UnsafeError(
        f"{what} takes {nbytes} bytes, over the limit of {limit}",
        hint="feed fewer rows at a time: batch under [graph] of ckpt.toml",
    )


@dataclass(frozen=True)
class Call:
    """One call of an operation."""

    node: Node
    budget: Budget
    draws: np.random.Generator | None = None

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute; ``default`` where it is not there. Raises CorruptError for one of another type."""
        value = self.node.attributes.get(name)
        if value is None:
            return default
        if not isinstance(value, type(default)):
            raise CorruptError(f"attribute {name!r} is no {type(default).__name__}")
        return value

    def text(self, name: str, default: str) -> str:
        return str(self.attribute(name, default.encode()).decode("utf-8", "replace"))

    def integers(self, name: str, default: Sequence[int] = ()) -> list[int]:
        values = self.attribute(name, list(default))
        if not all(isinstance(value, int) for value in values):
            raise CorruptError(f"attribute {name!r} is no list of numbers")
        return [int(value) for value in values]

    def dtype(self, name: str, default: str) -> np.dtype:
        return numpy_type(self.attribute(name, TypeName(default)))

    def room(self, shape: Sequence[int], dtype: np.dtype) -> None:
        """Raises UnsafeError when an array would be over a limit. Asked before it is made."""
        self.budget.room(shape, dtype)


def numpy_type(found: object) -> np.dtype:
    """The numpy type of a data type, in the byte order of this machine.

    Raises UnsupportedError where there is none, CorruptError for what is no data type.
    """
    if not isinstance(found, TypeName):
        raise CorruptError("a data type is none")
    known = BY_NAME.get(found.name)
    if known is None or not known.numpy:
        raise UnsupportedError(f"values of type {found.name} are not computed with")
    native: np.dtype = to_numpy(known).newbyteorder("=")
    return native
