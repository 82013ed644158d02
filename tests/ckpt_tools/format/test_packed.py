"""Packed text becomes what was packed; what is damaged, or more than is allowed, becomes nothing."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from collections.abc import Callable

import pytest

from ckpt_tools.errors import CorruptError, UnsafeError
from ckpt_tools.format.packed import unpacked

TEXT = b"epoch 1: val_auc 0.71\n" * 20_000
PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.fixture(params=PACK)
def pack(request: pytest.FixtureRequest) -> Callable[[bytes], bytes]:
    return PACK[request.param]


def test_what_was_packed_comes_out_of_all_members(pack: Callable[[bytes], bytes]) -> None:
    assert unpacked(pack(TEXT), len(TEXT)) == TEXT
    assert unpacked(pack(TEXT) + pack(b"") + pack(b"the end"), len(TEXT) + 7) == TEXT + b"the end"
    assert unpacked(pack(TEXT) + bytes(100), len(TEXT)) == TEXT


@pytest.mark.parametrize("text", [b"", b"plain text\n", b"BZ", b"\x1f"])
def test_what_is_not_packed_stays_as_it_is(text: bytes) -> None:
    assert unpacked(text, 0) == text


def test_a_bomb_is_not_unpacked(pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(bytes(20_000_000))
    assert len(bomb) < 30_000
    with pytest.raises(UnsafeError, match="limit of 1000000"):
        unpacked(bomb, 1_000_000)
    with pytest.raises(UnsafeError, match="limit"):
        unpacked(pack(TEXT) + pack(TEXT), 2 * len(TEXT) - 1)


def test_a_million_empty_members_are_refused() -> None:
    with pytest.raises(UnsafeError, match="pieces"):
        unpacked(gzip.compress(b"") * 20_000, 1 << 20)


@pytest.mark.parametrize("place", [10, 30, -20, -8, -1])
def test_what_was_cut_off_is_damaged(pack: Callable[[bytes], bytes], place: int) -> None:
    with pytest.raises(CorruptError):
        unpacked(pack(TEXT)[:place], len(TEXT))


def test_what_was_changed_is_damaged(pack: Callable[[bytes], bytes]) -> None:
    data = bytearray(pack(TEXT))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(CorruptError):
        unpacked(bytes(data), len(TEXT))


def test_xz_gets_no_more_memory_than_its_highest_preset_needs() -> None:
    """A header that asks for a dictionary of 1 GiB: its size is one byte, with a checksum of the header behind."""
    data = bytearray(lzma.compress(b"text"))
    size = 4 * (data[12] + 1)
    header = data[12 : 12 + size]
    header[4] = 36  # 2 ** (36 // 2 + 12)
    header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
    data[12 : 12 + size] = header
    with pytest.raises(CorruptError, match="xz"):
        unpacked(bytes(data), 1 << 20)
