"""CRC32C and its masked form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.format import checksum

# RFC 3720, appendix B.4.
VECTORS = [
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (b"123456789", 0xE3069283),
]


@pytest.mark.parametrize(("data", "crc"), VECTORS)
def test_published_vectors(data: bytes, crc: int) -> None:
    assert checksum.extend(0, data) == crc


@given(st.binary(), st.binary())
def test_extending_is_the_checksum_of_both(first: bytes, second: bytes) -> None:
    assert checksum.extend(checksum.extend(0, first), second) == checksum.extend(0, first + second)


@given(st.integers(0, 2**32 - 1))
def test_mask_can_be_taken_off_again(crc: int) -> None:
    rotated = (checksum.mask(crc) - 0xA282EAD8) & 0xFFFFFFFF
    assert (rotated >> 17 | rotated << 15) & 0xFFFFFFFF == crc
