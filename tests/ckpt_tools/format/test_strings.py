"""String tensors: round trip, and every rule of the reader."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.errors import CorruptError
from ckpt_tools.format import checksum
from ckpt_tools.format.strings import decode_strings, encode_strings
from ckpt_tools.format.wire import encode_varint


@given(st.lists(st.binary()))
def test_round_trip(elements: list[bytes]) -> None:
    raw, crc = encode_strings(elements)
    assert decode_strings(raw, len(elements)) == (elements, crc)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=4))
def test_every_truncation_is_refused(elements: list[bytes]) -> None:
    raw, _ = encode_strings(elements)
    for length in range(len(raw)):
        with pytest.raises(CorruptError):
            decode_strings(raw[:length], len(elements))


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=4), st.data())
def test_every_flipped_bit_changes_the_checksum_or_is_refused(elements: list[bytes], data: st.DataObject) -> None:
    raw, crc = encode_strings(elements)
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    broken = bytearray(raw)
    broken[bit // 8] ^= 1 << bit % 8
    try:
        _, found = decode_strings(bytes(broken), len(elements))
    except CorruptError:
        return
    assert found != crc


def test_bytes_behind_the_last_element_are_refused() -> None:
    raw, _ = encode_strings([b"abc"])
    with pytest.raises(CorruptError, match="add up"):
        decode_strings(raw + b"x", 1)


@pytest.mark.parametrize("length", [2**33, 2**40, 2**62, 2**64 - 1])
def test_a_huge_length_with_a_right_checksum_is_refused_at_once(length: int) -> None:
    crc = checksum.masked(struct.pack("<Q", length))
    raw = encode_varint(length) + struct.pack("<I", crc) + b"abc"
    with pytest.raises(CorruptError, match="add up"):
        decode_strings(raw, 1)


def test_more_elements_than_bytes_are_refused_before_counting() -> None:
    with pytest.raises(CorruptError, match="cannot fit"):
        decode_strings(b"\0" * 10, 2**40)


def test_a_wrong_checksum_of_the_lengths_is_refused() -> None:
    raw, _ = encode_strings([b"abc", b"de"])
    swapped = raw[1::-1] + raw[2:]
    with pytest.raises(CorruptError, match="lengths does not match"):
        decode_strings(swapped, 2)
