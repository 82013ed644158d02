"""Text that a log rotation has packed: gzip, bzip2 and xz, told by the first bytes. Pure.

A packed file says nothing reliable of how large it becomes, so that no more than is allowed is ever unpacked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ckpt_tools.errors import CorruptError, UnsafeError

ENDINGS = (".gz", ".bz2", ".xz")
# What xz may take for its dictionary: its highest preset asks for 65 MiB.
_MOST_MEMORY = 80 << 20


_PIECE = 1 << 16
# A log that is packed line by line would be slow and is none; each empty member takes 20 bytes.
_MOST_MEMBERS = 10_000

# What unpacks one member, and what it raises: each library has its own, and most logs need none of them.
_Opened = tuple[Any, tuple[type[Exception], ...]]


def _gzip() -> _Opened:
    import zlib

    return zlib.decompressobj(31), (zlib.error,)


def _bzip2() -> _Opened:
    import bz2

    return bz2.BZ2Decompressor(), (OSError, ValueError)


def _xz() -> _Opened:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, _MOST_MEMORY), (lzma.LZMAError,)


_KINDS: tuple[tuple[bytes, str, Callable[[], _Opened]], ...] = (
    (b"\x1f\x8b", "gzip", _gzip),
    (b"BZh", "bzip2", _bzip2),
    (b"\xfd7zXZ\0", "xz", _xz),
)


def unpacked(data: bytes, limit: int) -> bytes:
    """The bytes of a packed file, of all its members; those of any other as they are.

    Raises UnsafeError when they are more than ``limit`` (a file of 1 MB may hold 1 GB of zeros), CorruptError when the
    file was cut off or is damaged.
    """
    if not any(data.startswith(magic) for magic, *_ in _KINDS):
        return data
    parts: list[bytes] = []
    place, left, members = 0, limit, 0
    while (kind := next((kind for kind in _KINDS if data.startswith(kind[0], place)), None)) is not None:
        members += 1
        if members > _MOST_MEMBERS:
            raise UnsafeError(f"more than {_MOST_MEMBERS} packed pieces")
        _, name, start = kind
        member, errors = start()
        while not member.eof:
            piece = data[place : place + _PIECE]
            if not piece:
                raise CorruptError(f"the {name} data is cut off", offset=place)
            try:
                part = member.decompress(piece, left + 1)
            except errors as error:
                raise CorruptError(f"not {name} as it should be: {error}", offset=place) from error
            place += len(piece)
            left -= len(part)
            if left < 0:
                raise UnsafeError(f"unpacked it has more than the limit of {limit} bytes")
            parts.append(part)
        place -= len(member.unused_data)
    return b"".join(parts)
