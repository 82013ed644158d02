"""CRC32C as LevelDB and TensorFlow store it: rotated and shifted, so that a checksum of checksums is not weak.

Source: tensorflow/core/lib/hash/crc32c.h (``Mask``, ``kMaskDelta``).
"""

from __future__ import annotations

import google_crc32c

_DELTA = 0xA282EAD8


def extend(crc: int, data: bytes) -> int:
    """The CRC32C of what ``crc`` covers followed by ``data``."""
    value: int = google_crc32c.extend(crc, data)
    return value


def mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + _DELTA) & 0xFFFFFFFF


def masked(data: bytes) -> int:
    """The masked CRC32C of ``data``, as stored beside it."""
    return mask(extend(0, data))
