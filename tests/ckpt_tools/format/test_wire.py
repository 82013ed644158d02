"""Varints and messages: published vectors, and every way to be wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.errors import CorruptError
from ckpt_tools.format.wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    bytes_field,
    decode_varint,
    encode_varint,
    fields,
    fixed32_field,
    signed,
    text_field,
    varint_field,
)

# protobuf.dev/programming-guides/encoding and the tests of protobuf's CodedInputStream.
VECTORS = [
    (0, "00"),
    (1, "01"),
    (127, "7f"),
    (128, "8001"),
    (150, "9601"),
    (14882, "a274"),
    (2961488830, "bef792840b"),
    (7256456126, "bef792841b"),
    (41256202580718336, "80e6eb9cc3c9a449"),
    (11964378330978735131, "9ba8f9c2bbd68085a601"),
    (2**64 - 1, "ffffffffffffffffff01"),
]


@pytest.mark.parametrize(("value", "encoded"), VECTORS)
def test_published_vectors(value: int, encoded: str) -> None:
    data = bytes.fromhex(encoded)
    assert decode_varint(data, 0) == (value, len(data))
    assert encode_varint(value) == data


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_varint_round_trip_anywhere_in_the_data(value: int, before: bytes, after: bytes) -> None:
    encoded = encode_varint(value)
    assert decode_varint(before + encoded + after, len(before)) == (value, len(before) + len(encoded))


@given(st.integers(-(2**63), 2**63 - 1))
def test_signed_round_trip(value: int) -> None:
    assert signed(decode_varint(encode_varint(value), 0)[0]) == value


@pytest.mark.parametrize("encoded", [encoded for _, encoded in VECTORS])
def test_every_truncation_is_refused(encoded: str) -> None:
    data = bytes.fromhex(encoded)
    for length in range(len(data)):
        with pytest.raises(CorruptError, match="unterminated"):
            decode_varint(data[:length], 0)


def test_eleven_bytes_are_refused() -> None:
    with pytest.raises(CorruptError, match="unterminated"):
        decode_varint(b"\x80" * 10 + b"\x01", 0)


@pytest.mark.parametrize("last", [0x02, 0x7F])
def test_more_than_64_bits_are_refused(last: int) -> None:
    with pytest.raises(CorruptError, match="64 bits") as caught:
        decode_varint(b"__" + b"\xff" * 9 + bytes([last]), 2)
    assert caught.value.offset == 2


def test_a_message_of_every_wire_type() -> None:
    data = varint_field(1, 300) + bytes_field(2, b"ab") + fixed32_field(3, 0xDEADBEEF) + b"\x21" + bytes(range(8))
    found = list(fields(data))
    assert [(field.number, field.type, field.value) for field in found] == [
        (1, VARINT, 300),
        (2, BYTES, b"ab"),
        (3, FIXED32, 0xDEADBEEF),
        (4, FIXED64, int.from_bytes(bytes(range(8)), "little")),
    ]
    assert b"".join(data[field.start : field.end] for field in found) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x00\x01", "field number 0"),
        (encode_varint(1 << 32) + b"\x01", "field number"),
        (b"\x0b", "wire type 3"),
        (b"\x0c", "wire type 4"),
        (b"\x0e", "wire type 6"),
        (b"\x0f", "wire type 7"),
        (b"\x0a\x02a", "longer than its message"),
        (b"\x0a" + encode_varint(2**64 - 1) + b"a", "longer than its message"),
        (b"\x0d\x00\x00\x00", "longer than its message"),
        (b"\x09" + bytes(7), "longer than its message"),
        (b"\x08", "unterminated"),
        (b"\x80", "unterminated"),
    ],
)
def test_broken_messages(data: bytes, message: str) -> None:
    with pytest.raises(CorruptError, match=message):
        list(fields(data))


@given(st.binary(max_size=64))
def test_any_bytes_are_fields_or_an_error_of_ours(data: bytes) -> None:
    try:
        found = list(fields(data))
    except CorruptError:
        return
    assert b"".join(data[field.start : field.end] for field in found) == data


def test_fields_of_another_type_are_refused() -> None:
    (number,) = fields(varint_field(1, 5))
    (content,) = fields(bytes_field(1, b"\xff"))
    with pytest.raises(CorruptError, match="should be bytes"):
        number.content()
    with pytest.raises(CorruptError, match="should be a number"):
        content.integer()
    with pytest.raises(CorruptError, match="UTF-8"):
        content.text()


def test_zero_and_empty_fields_are_left_out_as_proto3_does() -> None:
    assert varint_field(1, 0) == fixed32_field(1, 0) == text_field(1, "") == b""
    assert bytes_field(1, b"") == b"\x0a\x00"


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), st.integers(1, 2**64 - 1) | st.binary())))
def test_message_round_trip(parts: list[tuple[int, int | bytes]]) -> None:
    data = b"".join(
        bytes_field(number, value) if isinstance(value, bytes) else varint_field(number, value)
        for number, value in parts
    )
    assert [(field.number, field.value) for field in fields(data)] == parts
