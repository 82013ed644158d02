"""The decompressor against hand-made streams, a small compressor, and streams made to harm."""

from __future__ import annotations

import time

import pytest
from formats_support import compress, table
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.errors import CkptError, CorruptError
from ckpt_tools.format.snappy import decompress
from ckpt_tools.format.table import read_table
from ckpt_tools.format.wire import encode_varint


@pytest.mark.parametrize(
    ("stream", "plain"),
    [
        (b"\x00", b""),
        (b"\x01\x00a", b"a"),
        (b"\x03\x08abc", b"abc"),
        # length 60: the last that fits into the tag; 61: one byte behind it
        (b"\x3c" + bytes([59 << 2]) + b"x" * 60, b"x" * 60),
        (b"\x3d" + bytes([60 << 2, 60]) + b"x" * 61, b"x" * 61),
        (encode_varint(300) + bytes([61 << 2]) + (299).to_bytes(2, "little") + b"y" * 300, b"y" * 300),
        (encode_varint(300) + bytes([62 << 2]) + (299).to_bytes(3, "little") + b"y" * 300, b"y" * 300),
        (encode_varint(300) + bytes([63 << 2]) + (299).to_bytes(4, "little") + b"y" * 300, b"y" * 300),
        # copies of all three kinds; distance 1 repeats the last byte
        (b"\x05\x00a\x01\x01", b"aaaaa"),
        (b"\x06\x04ab" + b"\x0e\x02\x00", b"ababab"),
        (b"\x06\x04ab" + b"\x0f\x02\x00\x00\x00", b"ababab"),
        # 11 bits of distance: 256 + 1 in a one-byte copy
        (
            encode_varint(265)
            + bytes([61 << 2])
            + (256).to_bytes(2, "little")
            + bytes(range(256))
            + b"z"
            + b"\x31\x01",
            bytes(range(256)) + b"z" + bytes(range(8)),
        ),
    ],
)
def test_streams(stream: bytes, plain: bytes) -> None:
    assert decompress(stream) == plain


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"\0" * 500, b"abcdefgh" * 30]))))
def test_what_a_compressor_wrote(pieces: list[bytes]) -> None:
    plain = b"".join(pieces)
    assert decompress(compress(plain)) == plain


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\x01",
        b"\x02\x00a",  # ends too early
        b"\x01\x04ab",  # goes on too long
        b"\x05\x08ab",  # a literal longer than the stream
        b"\x04\xf0",  # its length is missing
        b"\x04\xfc\xff\xff\xff\xff",  # a length of 4 GiB
        b"\x04\x01\x01",  # a copy with nothing in front of it
        b"\x05\x00a\x01\x00",  # distance 0
        b"\x05\x00a\x01\x02",  # reaches in front of the block
        b"\x05\x00a\x01",  # the distance is missing
        b"\x05\x00a\x02\x01",
        b"\x05\x00a\x03\x01\x00\x00",
        encode_varint(1 << 40) + b"\x00a",  # promises a terabyte
        encode_varint((1 << 64) - 1) + b"\x00a",
        b"\xff" * 11,
    ],
)
def test_broken_streams(stream: bytes) -> None:
    with pytest.raises(CorruptError):
        decompress(stream)


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_value_or_our_error(stream: bytes) -> None:
    try:
        plain = decompress(stream)
    except CkptError:
        return
    assert len(plain) <= 22 * len(stream)


def test_a_bomb_takes_no_time() -> None:
    start = time.perf_counter()
    with pytest.raises(CorruptError):
        decompress(encode_varint(20_000_000) + b"\x00a" + b"\xfe\x01\x00" * 1_000_000)
    assert time.perf_counter() - start < 5


@given(st.dictionaries(st.binary(max_size=12), st.binary(max_size=60), min_size=1, max_size=20))
def test_a_compressed_table_holds_the_same(entries: dict[bytes, bytes]) -> None:
    assert read_table(table(entries, snappy=True)) == read_table(table(entries)) == entries


def test_damage_in_a_compressed_block_has_its_place() -> None:
    data = bytearray(table({b"a": b"value" * 9, b"b": b"value" * 9}, snappy=True))
    data[3] ^= 1
    with pytest.raises(CorruptError, match="checksum of a block") as caught:
        read_table(bytes(data))
    assert caught.value.offset == 0
