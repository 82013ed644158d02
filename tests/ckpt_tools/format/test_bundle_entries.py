"""The messages of an index: header and entry."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.errors import CkptError, CorruptError, UnsupportedError
from ckpt_tools.format.bundle import MAX_RANK, MAX_SHARDS, Entry, Header
from ckpt_tools.format.dtypes import BY_NAME, BY_NUMBER
from ckpt_tools.format.wire import bytes_field, fixed32_field, varint_field

USUAL = bytes.fromhex("08011a020801")


def shape(*dims: int) -> bytes:
    return bytes_field(2, b"".join(bytes_field(2, varint_field(1, dim)) for dim in dims))


def test_the_usual_header() -> None:
    assert Header.decode(USUAL) == Header(1, USUAL)


@pytest.mark.parametrize("bad", [varint_field(3, 1), bytes_field(3, b"\x00\x01")], ids=["plain", "packed"])
def test_a_header_that_warns_readers_of_this_version_off(bad: bytes) -> None:
    with pytest.raises(UnsupportedError, match="version 1"):
        Header.decode(varint_field(1, 1) + bytes_field(3, varint_field(1, 1) + bad))


@pytest.mark.parametrize("versions", [varint_field(3, 2), bytes_field(3, b"\x00\x02"), varint_field(2, 1)])
def test_a_header_that_warns_others_off(versions: bytes) -> None:
    assert Header.decode(varint_field(1, 1) + bytes_field(3, versions)).num_shards == 1


def test_a_writer_of_an_impossible_version() -> None:
    with pytest.raises(CorruptError):
        Header.decode(varint_field(1, 1) + bytes_field(3, varint_field(1, -1)))


def test_another_number_of_shards_keeps_the_fields_that_nobody_knows() -> None:
    unknown = bytes_field(99, b"from the future")
    header = Header.decode(USUAL + unknown).with_shards(300)
    assert header == Header.decode(header.raw)
    assert header.num_shards == 300
    assert header.raw == varint_field(1, 300) + USUAL[2:] + unknown


def test_with_the_same_number_of_shards_nothing_changes() -> None:
    assert Header.decode(USUAL).with_shards(1).raw == USUAL


@pytest.mark.parametrize("number", [0, -1, MAX_SHARDS + 1, 2**40])
def test_impossible_numbers_of_shards(number: int) -> None:
    with pytest.raises(CorruptError, match="number of shards"):
        Header.decode(varint_field(1, number))


def test_a_big_endian_file_is_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="big-endian"):
        Header.decode(USUAL + varint_field(2, 1))


def test_a_file_of_the_future_is_unsupported_but_a_producer_of_the_future_is_not() -> None:
    assert Header.decode(varint_field(1, 1) + bytes_field(3, varint_field(1, 1000))).num_shards == 1
    with pytest.raises(UnsupportedError, match="version 1000"):
        Header.decode(varint_field(1, 1) + bytes_field(3, varint_field(2, 1000)))


SIZED = [dtype for dtype in BY_NUMBER.values() if dtype.size]


@given(
    st.sampled_from(SIZED),
    st.lists(st.integers(0, 5), max_size=5),
    st.integers(0, 99),
    st.integers(0, 2**62),
    st.integers(0, 2**32 - 1),
)
def test_entry_round_trip(dtype: object, dims: list[int], shard: int, offset: int, crc: int) -> None:
    entry = Entry(dtype, tuple(dims), shard, offset, 0, crc)  # type: ignore[arg-type]
    entry = entry.moved(shard=shard, offset=offset, size=entry.elements * entry.dtype.size, crc=crc)
    assert Entry.decode(entry.encode()) == entry
    assert Entry.decode(entry.encode()).encode() == entry.encode()


def test_unknown_fields_and_slices_survive() -> None:
    unknown = bytes_field(50, b"x") + varint_field(51, 7)
    data = varint_field(1, 1) + shape(2) + bytes_field(7, b"ab") + bytes_field(7, b"cd") + unknown
    entry = Entry.decode(data)
    assert entry.slices == (b"ab", b"cd")
    assert entry.encode() == data


def test_a_scalar_has_an_empty_shape_message_as_tensorflow_writes_it() -> None:
    assert Entry(BY_NAME["float32"], (), size=4, crc=1).encode().hex() == "08011200" + "2804" + "3501000000"


@pytest.mark.parametrize("number", [3, 4, 5])
def test_negative_shard_offset_or_size(number: int) -> None:
    with pytest.raises(CorruptError, match="negative"):
        Entry.decode(varint_field(1, 7) + shape() + varint_field(number, -1))


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ((-1,), "negative dimension"),
        ((2**62, 2), "impossible shape"),
        ((0, 2**62, 2), "impossible shape"),
        ((2**63 - 1, 2**63 - 1), "impossible shape"),
        ((1,) * (MAX_RANK + 1), "impossible shape"),
    ],
)
def test_impossible_shapes(dims: tuple[int, ...], message: str) -> None:
    with pytest.raises(CorruptError, match=message):
        Entry.decode(varint_field(1, 1) + shape(*dims))


def test_the_most_dimensions_that_tensorflow_has_are_fine() -> None:
    assert Entry.decode(varint_field(1, 1) + shape(*(1,) * MAX_RANK) + varint_field(5, 4)).elements == 1


def test_unknown_rank() -> None:
    with pytest.raises(CorruptError, match="unknown rank"):
        Entry.decode(varint_field(1, 1) + bytes_field(2, varint_field(3, 1)))


@pytest.mark.parametrize("size", [0, 7, 9])
def test_size_is_that_of_the_shape(size: int) -> None:
    with pytest.raises(CorruptError, match="do not hold float32"):
        Entry.decode(varint_field(1, 1) + shape(2) + varint_field(5, size))


@pytest.mark.parametrize("number", [0, -1, 101, 999, 2**32 + 1])
def test_impossible_types(number: int) -> None:
    with pytest.raises(CorruptError, match="data type"):
        Entry.decode(varint_field(1, number) + shape())


def test_a_type_of_the_future_is_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="newer"):
        Entry.decode(varint_field(1, 99) + shape())


@given(st.binary(max_size=40))
def test_any_bytes_are_an_entry_or_an_error_of_ours(data: bytes) -> None:
    for decode in (Entry.decode, Header.decode):
        with contextlib.suppress(CkptError):
            decode(data)


def test_the_checksum_field_is_left_out_when_zero() -> None:
    assert fixed32_field(6, 0) == b""
    assert Entry.decode(varint_field(1, 7) + shape()).crc == 0


@pytest.mark.parametrize("shape", [(), (3,), (200, 300), (1 << 40, 2)])
@pytest.mark.parametrize("place", [(0, 0), (1, 5), (300, 1 << 62)])
def test_the_short_way_reads_the_same(shape: tuple[int, ...], place: tuple[int, int]) -> None:
    size = 4 * math.prod(shape)
    whole = Entry(BY_NAME["float32"], shape, *place, size, 0xFFFFFFFF).encode()
    chance = random.Random(str((shape, place)))
    for number in range(2000):
        data = bytearray(whole)
        if number:
            data[chance.randrange(len(data))] = chance.choice([0, 1, 0x80, 0xFF, chance.randrange(256)])
        assert answer(Entry.decode, bytes(data)) == answer(Entry._decode_any, bytes(data))


def answer(question: Callable[[bytes], Entry], data: bytes) -> object:
    try:
        return question(data)
    except CkptError as error:
        return type(error)
