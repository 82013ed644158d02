"""Parts of tensors: their keys, their places, and that they make up the whole."""

from __future__ import annotations

import itertools
import random
import time

import pytest
from formats_support import slice_proto
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.errors import CkptError, CorruptError, UnsafeError
from ckpt_tools.format.ordered import encode_number, encode_signed, encode_slice_key, encode_string
from ckpt_tools.format.slices import WHOLE, Box, Slice, require_cover

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


def test_the_key_that_tensorflow_writes() -> None:
    key = encode_slice_key("scope/v", [(0, WHOLE), (0, WHOLE)])
    assert key.hex() == "0073636f70652f7600010102807f807f"


@pytest.mark.parametrize(
    ("value", "code"),
    [(0, "80"), (63, "bf"), (64, "c040"), (-1, "7f"), (-64, "40"), (-65, "3fbf"), (8191, "dfff"), (8192, "e02000")],
)
def test_signed_numbers(value: int, code: str) -> None:
    assert encode_signed(value).hex() == code


@given(st.lists(INT64, min_size=2, max_size=2))
def test_signed_numbers_sort_as_they_should(values: list[int]) -> None:
    low, high = sorted(values)
    assert (encode_signed(low) < encode_signed(high)) == (low < high)
    assert len(encode_signed(low)) <= 10


@given(st.tuples(st.binary(max_size=6), st.binary(max_size=6)))
def test_strings_sort_as_they_should(pair: tuple[bytes, bytes]) -> None:
    low, high = sorted(pair)
    assert (encode_string(low) < encode_string(high)) == (low < high)


@given(st.lists(st.integers(0, 1 << 64), min_size=2, max_size=2))
def test_numbers_sort_as_they_should(values: list[int]) -> None:
    low, high = sorted(values)
    assert (encode_number(low) < encode_number(high)) == (low < high)


def test_decode() -> None:
    assert Slice.decode(slice_proto((2, 3), None)) == Slice(((2, 3), (0, WHOLE)))
    assert Slice.decode(slice_proto((0, 0))) == Slice(((0, 0),))
    assert Slice(((2, 3), (0, WHOLE))).box((5, 7)) == Box((2, 0), (3, 7))


@pytest.mark.parametrize("extent", [(-1, 2), (0, -2), (1 << 62, -5)])
def test_impossible_extents(extent: tuple[int, int]) -> None:
    with pytest.raises(CorruptError):
        Slice.decode(slice_proto(extent))


@pytest.mark.parametrize("extents", [((0, 6),), ((4, 2),), ((1 << 62, 1),), ((0, 2), (0, WHOLE)), ()])
def test_parts_outside_the_tensor(extents: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(CorruptError):
        Slice(extents).box((5,))


def grid(shape: tuple[int, ...], cuts: list[list[int]]) -> list[Box]:
    sides = [list(itertools.pairwise([0, *sorted(cut), size])) for cut, size in zip(cuts, shape, strict=True)]
    return [Box(tuple(a for a, _ in box), tuple(b - a for a, b in box)) for box in itertools.product(*sides)]


SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=3).flatmap(
    lambda shape: st.tuples(
        st.just(tuple(shape)), st.tuples(*(st.sets(st.integers(1, max(1, n - 1)), max_size=2) for n in shape))
    )
)


@given(SHAPES, st.randoms(use_true_random=False))
def test_cover(drawn: tuple[tuple[int, ...], tuple[set[int], ...]], shuffler: random.Random) -> None:
    shape, cuts = drawn
    boxes = grid(shape, [[c for c in cut if c < n] for cut, n in zip(cuts, shape, strict=True)])
    shuffler.shuffle(boxes)
    require_cover(boxes, shape)
    for wrong in (boxes[1:], [*boxes, boxes[0]]):
        with pytest.raises(CorruptError):
            require_cover(wrong, shape)


BOX = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 4), st.integers(0, 4)).map(
    lambda t: Box((t[0], t[1]), (min(t[2], 4 - t[0]), min(t[3], 4 - t[1])))
)


@given(st.lists(BOX, max_size=6))
def test_cover_agrees_with_counting(boxes: list[Box]) -> None:
    counts = dict.fromkeys(itertools.product(range(4), range(4)), 0)
    for box in boxes:
        for point in itertools.product(*(range(s, s + n) for s, n in zip(box.start, box.shape, strict=True))):
            counts[point] += 1
    try:
        require_cover(boxes, (4, 4))
        whole = True
    except CkptError:
        whole = False
    assert whole == (set(counts.values()) == {1})


def test_empty_and_scalar_tensors() -> None:
    require_cover([Box((), ())], ())
    require_cover([Box((0,), (0,))], (0,))
    with pytest.raises(CorruptError):
        require_cover([], ())


def test_many_parts_take_linear_time() -> None:
    boxes = [Box((i, 0), (1, 1)) for i in range(100_000)]
    start = time.perf_counter()
    require_cover(boxes, (100_000, 1))
    assert time.perf_counter() - start < 5


def test_parts_cut_in_every_dimension_are_refused() -> None:
    with pytest.raises(UnsafeError):
        require_cover([Box((0,) * 200, (1,) * 200)], (2,) * 200)
