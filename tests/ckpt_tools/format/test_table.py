"""The sorted string table: TensorFlow's own bytes, round trips, and one test for each strict rule."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from checkpoints import FIXTURES, block, header
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.errors import CorruptError
from ckpt_tools.format.table import BLOCK_SIZE, FOOTER_SIZE, MAGIC, Handle, read_table, write_table
from ckpt_tools.format.wire import encode_varint

INDEXES = sorted(FIXTURES.rglob("*.index"))
EMPTY = struct.pack("<II", 0, 1)


def entry(key: bytes, value: bytes, *, shared: int = 0) -> bytes:
    """One entry of a block; ``key`` without the shared part."""
    return b"".join(map(encode_varint, (shared, len(key), len(value)))) + key + value


def content(*entries: bytes, restarts: tuple[int, ...] = (0,)) -> bytes:
    return b"".join(entries) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(
    *contents: bytes,
    separators: tuple[bytes, ...] | None = None,
    meta: bytes = EMPTY,
    kind: int = 0,
    gap: bytes = b"",
    padding: bytes = b"",
    handles: tuple[bytes, ...] | None = None,
) -> bytes:
    """A table made of blocks by hand, whose checksums are right whatever else is wrong with it."""
    out = bytearray()
    stored = []
    for part in contents:
        stored.append(Handle(len(out), len(part)).encode())
        out += block(part, kind) + gap
    meta_handle = Handle(len(out), len(meta)).encode()
    out += block(meta)
    separators = separators or tuple(bytes([0x7A + number]) for number in range(len(contents)))
    index = content(
        *(entry(key, value) for key, value in zip(separators, handles or stored, strict=True)),
        restarts=_positions([entry(k, v) for k, v in zip(separators, handles or stored, strict=True)]),
    )
    index_handle = Handle(len(out), len(index)).encode()
    out += block(index)
    footer = (meta_handle + index_handle + padding).ljust(FOOTER_SIZE - 8, b"\0")
    return bytes(out) + footer + struct.pack("<Q", MAGIC)


def _positions(entries: list[bytes]) -> tuple[int, ...]:
    starts, offset = [], 0
    for part in entries:
        starts.append(offset)
        offset += len(part)
    return tuple(starts) or (0,)


def refused(data: bytes, message: str) -> CorruptError:
    with pytest.raises(CorruptError, match=message) as caught:
        read_table(data)
    return caught.value


# ---------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("path", INDEXES, ids=[f"{p.parts[-5]}-{p.stem}-{n}" for n, p in enumerate(INDEXES)])
def test_an_index_of_tensorflow_is_written_back_unchanged(path: Path) -> None:
    data = path.read_bytes()
    assert write_table(read_table(data)) == data


@given(st.dictionaries(st.binary(max_size=24), st.binary(max_size=24), max_size=60))
def test_round_trip(entries: dict[bytes, bytes]) -> None:
    data = write_table(entries)
    assert list(read_table(data).items()) == sorted(entries.items())
    assert write_table(read_table(data)) == data


@given(
    st.dictionaries(
        st.binary(max_size=4), st.sampled_from([0, 1, 1000, BLOCK_SIZE // 3, BLOCK_SIZE, 2 * BLOCK_SIZE]), max_size=8
    )
)
def test_round_trip_over_several_blocks(sizes: dict[bytes, int]) -> None:
    entries = {key: b"v" * size for key, size in sizes.items()}
    assert read_table(write_table(entries)) == entries


@given(st.lists(st.sampled_from([b"a", b"\xff", b"\xfe", b"\x00"]), min_size=1, max_size=3).map(b"".join))
def test_separators_of_keys_at_the_end_of_the_alphabet(key: bytes) -> None:
    entries = {key: b"v" * BLOCK_SIZE, key + b"\0": b"v" * BLOCK_SIZE, key + b"\xff": b"v"}
    assert read_table(write_table(entries)) == entries


def test_the_hand_made_table_of_these_tests_is_right() -> None:
    data = table(content(entry(b"", header()), entry(b"a", b"1")), content(entry(b"z5", b"2")))
    assert read_table(data) == {b"": header(), b"a": b"1", b"z5": b"2"}


# ---------------------------------------------------------------------------------------- strict rules


@pytest.mark.parametrize("length", range(FOOTER_SIZE))
def test_shorter_than_a_footer(length: int) -> None:
    refused(bytes(length), "too few")


def test_magic_number() -> None:
    error = refused(write_table({b"a": b"1"})[:-1] + b"\0", "magic")
    assert error.offset is not None


def test_footer_padding_is_zero() -> None:
    refused(table(content(entry(b"a", b"1")), padding=b"\0\1"), "padding")


@pytest.mark.parametrize("value", [2**63 - 1, 2**64 - 5, 2**35])
@pytest.mark.parametrize("which", ["meta offset", "meta size", "index offset", "index size"])
def test_footer_handles_stay_inside_the_file(value: int, which: str) -> None:
    data = write_table({b"a": b"1"})
    numbers = {"meta offset": 0, "meta size": 8, "index offset": 0, "index size": 8, which: value}
    footer = b"".join(encode_varint(number) for number in numbers.values()).ljust(FOOTER_SIZE - 8, b"\0")
    refused(data[:-FOOTER_SIZE] + footer + data[-8:], "outside the file|cut off")


@pytest.mark.parametrize("value", [2**63 - 1, 2**64 - 5, 2**35])
def test_block_handles_stay_inside_the_file(value: int) -> None:
    refused(table(content(entry(b"a", b"1")), handles=(Handle(0, value).encode(),)), "outside the file")
    refused(table(content(entry(b"a", b"1")), handles=(Handle(value, 1).encode(),)), "expected at 0")


def test_checksum_of_a_data_block() -> None:
    data = bytearray(write_table({b"a": b"1"}))
    data[3] ^= 1
    refused(bytes(data), "checksum")


def test_checksum_of_the_metaindex() -> None:
    good = table(content(entry(b"a", b"1")))
    position = len(block(content(entry(b"a", b"1"))))
    refused(good[:position] + b"\1" + good[position + 1 :], "checksum")


def test_the_metaindex_is_empty() -> None:
    refused(table(content(entry(b"a", b"1")), meta=content(entry(b"filter", b""))), "metaindex is not empty")


def test_a_compressed_block() -> None:
    plain = content(entry(b"a", b"1"))
    # One literal of the whole block: the simplest stream of snappy.
    stream = encode_varint(len(plain)) + bytes([len(plain) - 1 << 2]) + plain
    assert read_table(table(stream, kind=1)) == {b"a": b"1"}
    for broken in (stream[:-1], b""):
        with pytest.raises(CorruptError):
            read_table(table(broken, kind=1))


@pytest.mark.parametrize("kind", [2, 255])
def test_unknown_block_type(kind: int) -> None:
    refused(table(content(entry(b"a", b"1")), kind=kind), f"block type {kind}")


def test_blocks_fill_the_file() -> None:
    refused(table(content(entry(b"a", b"1")), gap=b"\0"), "do not fill")
    refused(table(content(entry(b"a", b"1")), content(entry(b"z5", b"1")), gap=b"\0"), "expected at")


def test_bytes_before_or_behind() -> None:
    data = write_table({b"a": b"1"})
    for broken in (data + b"\0", data + data, b"\0" + data, data[1:]):
        with pytest.raises(CorruptError):
            read_table(broken)


def test_blocks_do_not_overlap_and_keep_their_order() -> None:
    first, second = content(entry(b"a", b"1")), content(entry(b"b", b"2"))
    one, two = Handle(0, len(first)), Handle(len(first) + 5, len(second))
    refused(table(first, second, handles=(one.encode(), one.encode())), "expected at")
    refused(table(first, second, handles=(two.encode(), one.encode())), "expected at")


@pytest.mark.parametrize("keys", [(b"a", b"a"), (b"b", b"a"), (b"", b""), (b"ab", b"a")])
def test_keys_ascend_inside_a_block(keys: tuple[bytes, bytes]) -> None:
    refused(table(content(*(entry(key, b"") for key in keys))), "does not come after")


@pytest.mark.parametrize("keys", [(b"a", b"a"), (b"b", b"a")])
def test_keys_ascend_over_blocks(keys: tuple[bytes, bytes]) -> None:
    refused(table(*(content(entry(key, b"")) for key in keys)), "does not come after|separator")


def test_a_key_beyond_the_separator_of_its_block() -> None:
    refused(table(content(entry(b"b", b"")), separators=(b"a",)), "separator")


def test_a_key_that_the_separator_of_the_block_before_hides() -> None:
    # TensorFlow would look for "b" in the first block, and say that there is no such key.
    refused(table(content(entry(b"a", b"")), content(entry(b"b", b"")), separators=(b"c", b"d")), "does not come after")


@pytest.mark.parametrize(
    "broken",
    [
        entry(b"b", b"", shared=2),  # more than the key before has
        b"\x00" + encode_varint(2**32 - 1) + b"\x02" + b"b",  # wraps around in 32 bits
        b"\x00\x01" + encode_varint(2**40) + b"b",
        encode_varint(2**63) + b"\x00\x00",
        b"\x00\x05\x00b",
    ],
)
def test_entries_stay_inside_their_block(broken: bytes) -> None:
    refused(table(content(entry(b"a", b"1"), broken)), "outside its block")


def test_an_entry_that_ends_in_the_middle_of_a_number() -> None:
    refused(table(content(entry(b"a", b"1"), b"\x80" * 11)), "varint")
    refused(table(content(entry(b"a", b"1"), b"\x80")), "outside its block")


@pytest.mark.parametrize("data", [b"", b"\0\0\0", struct.pack("<I", 0), struct.pack("<II", 0, 2), b"\xff" * 4])
def test_the_number_of_restart_points(data: bytes) -> None:
    refused(table(data), "restart")


@pytest.mark.parametrize("restarts", [(1,), (4,), (0, 0), (0, 4, 4), (4, 0), (0, 3), (0, 2**32 - 1), (0, 8)])
def test_restart_points_are_at_entries_without_shared_part(restarts: tuple[int, ...]) -> None:
    # Entries at 0 and 4 share nothing; the one at 8 does.
    entries = (entry(b"a", b""), entry(b"b", b""), entry(b"c", b"", shared=1))
    assert read_table(table(content(*entries, restarts=(0, 4)))) == {b"a": b"", b"b": b"", b"bc": b""}
    refused(table(content(*entries, restarts=restarts)), "restart")


@given(st.binary(max_size=200))
def test_any_content_with_right_checksums_is_a_table_or_an_error_of_ours(data: bytes) -> None:
    try:
        found = read_table(table(data))
    except CorruptError:
        return
    assert list(found) == sorted(found)


@given(st.binary(max_size=100))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptError):
        read_table(data)
