"""Which part of a tensor a piece of a partitioned variable is.

    TensorSliceProto  extent=1{start=1 length=2}    one for each dimension; without a length: the whole dimension

Source: tensorflow/core/framework/tensor_slice.proto, tensor_slice.cc.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ckpt_tools.errors import CorruptError, UnsafeError
from ckpt_tools.format.ordered import encode_slice_key
from ckpt_tools.format.wire import fields, require_once

WHOLE = -1
# TensorFlow's partitioners cut along one dimension; each further one doubles the corners of a part.
_MAX_CUT_DIMENSIONS = 8
# So many parts of an incomplete tensor are compared two by two.
_MAX_APART = 256


@dataclass(frozen=True)
class Slice:
    """``extents`` holds (start, length) for each dimension as stored, length `WHOLE` for all of it."""

    extents: tuple[tuple[int, int], ...]

    @staticmethod
    def decode(data: bytes) -> Slice:
        """Raises CorruptError for numbers that no part can have."""
        extents = []
        for field in fields(data):
            if field.number == 1:
                start, length = 0, WHOLE
                seen: set[int] = set()
                for part in fields(field.content()):
                    require_once(part, seen, (1, 2))
                    if part.number == 1:
                        start = part.integer()
                    elif part.number == 2:
                        length = part.integer()
                if start < 0 or length < WHOLE or (length == WHOLE and start):
                    raise CorruptError(f"impossible part: starts at {start}, length {length}", offset=field.start)
                extents.append((start, length))
        return Slice(tuple(extents))

    def key(self, name: str) -> bytes:
        """The key that this part of the tensor ``name`` is stored under."""
        return encode_slice_key(name, self.extents)

    def box(self, shape: tuple[int, ...]) -> Box:
        """The part in numbers. Raises CorruptError when it does not lie inside the tensor."""
        if len(self.extents) != len(shape):
            raise CorruptError(f"a part of rank {len(self.extents)} of a tensor of rank {len(shape)}")
        starts, lengths = [], []
        for (start, length), size in zip(self.extents, shape, strict=True):
            length = size if length == WHOLE else length
            if start + length > size:
                raise CorruptError(f"a part reaches to {start + length} in a dimension of {size}")
            starts.append(start)
            lengths.append(length)
        return Box(tuple(starts), tuple(lengths))


@dataclass(frozen=True)
class Box:
    """A part of a tensor: where it starts, and its shape."""

    start: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def overlaps(self, other: Box) -> bool:
        """Whether an element is in both."""
        mine, others = zip(self.start, self.shape, strict=True), zip(other.start, other.shape, strict=True)
        return all(max(a, b) < min(a + m, b + n) for (a, m), (b, n) in zip(mine, others, strict=True))

    @property
    def index(self) -> tuple[slice, ...]:
        """What numpy takes to select it."""
        return tuple(slice(start, start + length) for start, length in zip(self.start, self.shape, strict=True))


def require_cover(boxes: Iterable[Box], shape: tuple[int, ...]) -> None:
    """Raise CorruptError unless the parts make up the whole: no gap, no overlap.

    Boxes fill a box exactly when their volumes add up to its volume and every corner occurs an even number of
    times, but for those of the whole. (The parity of the corners says that each point is covered an odd
    number of times; the volume then leaves room for once only.) That takes time linear in the parts, whatever
    their order. Raises UnsafeError where parts are cut along so many dimensions that corners would be too many.
    """
    boxes = list(boxes)
    cut = [d for d, size in enumerate(shape) if any(box.shape[d] != size for box in boxes)]
    if len(cut) > _MAX_CUT_DIMENSIONS:
        raise UnsafeError(f"cut along {len(cut)} dimensions, the limit is {_MAX_CUT_DIMENSIONS}")
    odd: set[tuple[int, ...]] = set()
    for box in [*boxes, Box((0,) * len(shape), shape)]:
        odd ^= _corners(box, cut)
    if odd or sum(box.elements for box in boxes) != math.prod(shape):
        raise CorruptError(f"its {len(boxes)} parts leave a gap or overlap")


def require_apart(boxes: Sequence[Box], shape: tuple[int, ...]) -> int:
    """How many elements of the whole are in no part: 0 when the parts make it up, more for a piece of a sharded save.

    Raises CorruptError when two parts overlap, or when there are too many to tell.
    """
    absent = math.prod(shape) - sum(box.elements for box in boxes)
    if absent <= 0 or len(boxes) > _MAX_APART:
        require_cover(boxes, shape)
        return 0
    for one, other in itertools.combinations(boxes, 2):
        if one.overlaps(other):
            raise CorruptError(f"its {len(boxes)} parts overlap")
    return absent


def _corners(box: Box, dimensions: list[int]) -> set[tuple[int, ...]]:
    if not box.elements:
        return set()
    return set(itertools.product(*((box.start[d], box.start[d] + box.shape[d]) for d in dimensions)))
