"""``.keras`` files: a zip archive with the weights as HDF5 inside.

    metadata.json  config.json  model.weights.h5          or, sharded,
    metadata.json  config.json  model.weights.json  model_00000.weights.h5 ...

A backfill adds best_metric.json, the value of its best and what that means, which Keras passes over.

Nothing is extracted: a stored member is read in place, a compressed one is unpacked in memory, within limits. The
configuration is never followed, for Keras would run what it names: its layers are counted and their sizes compared.
"""

from __future__ import annotations

import math
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from ckpt_tools.errors import CorruptError, NotFoundError, UnsafeError, UnsupportedError
from ckpt_tools.format import json_text
from ckpt_tools.format.overlay import Overlay, Patch
from ckpt_tools.format.stored_best import BEST_METRIC_MEMBER
from ckpt_tools.fs import paths
from ckpt_tools.readers.archives import WEIGHT_MAP, WEIGHTS
from ckpt_tools.readers.base import Progress, StoredBest
from ckpt_tools.readers.common import CHUNK, damage, error_context
from ckpt_tools.readers.hdf5 import MAX_EXPANSION, MAX_EXPANSION_FREE
from ckpt_tools.readers.keras_contents import MAX_CONFIG_BYTES
from ckpt_tools.readers.keras_h5 import CONFIG, MAX_MAP_BYTES, Hdf5Checkpoint, Source, shards_in
from ckpt_tools.readers.window import Bytes, Memory, Stream, Window

MAX_MEMBERS = 10_000
_MAX_BEST_BYTES = 1 << 16

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_LOCAL_MAGIC = b"PK\x03\x04"
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Member:
    """A file in the archive: where its bytes lie, how they are packed, and their CRC-32 once unpacked."""

    name: str
    start: int
    packed: int
    size: int
    deflated: bool
    crc: int


class Archive:
    """A zip archive whose members are known to lie inside it, side by side, under harmless names."""

    def __init__(self, path: str, file: paths.File | None = None) -> None:
        self.path = path
        self.file = file or paths.open_file(path)
        with error_context(path):
            self.members = self._members()

    def open(self, name: str) -> Bytes:
        """The unpacked bytes of a member. Raises NotFoundError when there is none, and what `unpacked` raises."""
        member = self.members.get(name)
        if member is None:
            raise NotFoundError(f"the archive has no {name}", path=self.path)
        if not member.deflated:
            return Window(self.file, member.start, member.size)
        with error_context(self.path):
            return Memory(b"".join(self.unpacked(member)), self.path)

    def unpacked(self, member: Member) -> Iterator[bytes]:
        """The bytes of a member in pieces; behind the last one, size and checksum are compared.

        Raises CorruptError where they differ, UnsafeError for one that unpacks to far more than it is.
        """
        limit = MAX_EXPANSION * member.packed + MAX_EXPANSION_FREE
        if member.deflated and member.size > limit:
            raise UnsafeError(f"{member.name} unpacks from {member.packed} to {member.size} bytes", path=self.path)
        inflate = zlib.decompressobj(-zlib.MAX_WBITS) if member.deflated else None
        size = crc = 0
        for offset in range(0, member.packed, CHUNK):
            piece = self.file.read(member.start + offset, min(CHUNK, member.packed - offset))
            if inflate is not None:
                try:
                    piece = inflate.decompress(piece, member.size - size + 1)
                except zlib.error as error:
                    raise CorruptError(f"{member.name}: {error}", path=self.path, offset=member.start) from error
            size += len(piece)
            crc = zlib.crc32(piece, crc)
            yield piece
            if size > member.size:
                break
        if size != member.size or crc != member.crc:
            raise CorruptError(f"checksum of {member.name} does not match", path=self.path, offset=member.start)

    def close(self) -> None:
        self.file.close()

    def _members(self) -> dict[str, Member]:
        try:
            with zipfile.ZipFile(Stream(self.file)) as archive:
                listed = archive.infolist()
        except (zipfile.BadZipFile, ValueError, OSError, EOFError, struct.error, NotImplementedError) as error:
            raise CorruptError(f"damaged zip archive: {error}", hint="copy or download the file again") from error
        if len(listed) > MAX_MEMBERS:
            raise UnsafeError(f"{len(listed)} members are over the limit of {MAX_MEMBERS}")
        members: dict[str, Member] = {}
        end = 0
        for info in sorted(listed, key=lambda info: info.header_offset):
            _require_harmless(info)
            if info.filename in members:
                raise UnsafeError(f"two members are called {info.filename!r}")
            start = self._start(info)
            if info.header_offset < end or start + info.compress_size > self.file.size:
                raise UnsafeError(f"{info.filename!r} overlaps another member or the end of the file")
            end = start + info.compress_size
            deflated = info.compress_type == zipfile.ZIP_DEFLATED
            if not deflated and info.file_size != info.compress_size:
                raise CorruptError(f"{info.filename!r} is stored in {info.compress_size} bytes of {info.file_size}")
            members[info.filename] = Member(
                info.filename, start, info.compress_size, info.file_size, deflated, info.CRC
            )
        return members

    def _start(self, info: zipfile.ZipInfo) -> int:
        """Where the bytes begin: behind the member's own header, which must agree with the directory."""
        header = self.file.read(info.header_offset, _LOCAL_HEADER.size)
        magic, _, flags, method, *_, name_size, extra_size = _LOCAL_HEADER.unpack(header)
        start = info.header_offset + _LOCAL_HEADER.size
        name = self.file.read(start, name_size)
        if magic != _LOCAL_MAGIC or method != info.compress_type or flags & _ENCRYPTED:
            raise CorruptError(f"the header of {info.filename!r} does not match the archive's directory")
        if name.decode("utf-8" if flags & 0x800 else "cp437", "replace") != info.orig_filename:
            raise UnsafeError(f"{info.filename!r} is called {name!r} in its own header")
        data: int = start + name_size + extra_size
        return data


class KerasZip(Hdf5Checkpoint):
    """The weights in a ``.keras`` file; ``file`` is that file where it is open."""

    def __init__(self, path: str, file: paths.File | None = None) -> None:
        self._archive = Archive(path, file)
        try:
            names = [WEIGHTS]
            if WEIGHTS not in self._archive.members and WEIGHT_MAP in self._archive.members:
                with error_context(path):
                    names = shards_in(self._map())
            sources = {name: self._opener(name) for name in names}
            super().__init__(path, "keras-zip", sources, self._archive.file.fingerprint)
        except BaseException:
            self._archive.close()
            raise

    @property
    def best(self) -> StoredBest | None:
        """What the member `BEST_METRIC_MEMBER` says; None without one, or where it says no finite value."""
        member = self._archive.members.get(BEST_METRIC_MEMBER)
        if member is None or member.size > _MAX_BEST_BYTES:
            return None
        source = self._archive.open(BEST_METRIC_MEMBER)
        text = source.read(0, source.size).decode("utf-8", "replace")
        try:
            value = float(json_text.parse(text)["value"])
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            return None
        return StoredBest(value, BEST_METRIC_MEMBER, text) if math.isfinite(value) else None

    def with_member(self, name: str, content: bytes) -> Patch:
        """What becomes of the archive when it gets another member, or another content of one; nothing is written.

        All other members stay where they are, byte for byte. Raises CorruptError for an archive that cannot be changed.
        """
        source = self._archive.file
        overlay = Overlay(source.read, source.size)
        try:
            with zipfile.ZipFile(overlay, "a") as archive:
                if (before := archive.NameToInfo.pop(name, None)) is not None:
                    archive.filelist.remove(before)
                archive.writestr(zipfile.ZipInfo(name), content)
        except (zipfile.BadZipFile, ValueError, OSError, EOFError, struct.error, NotImplementedError) as error:
            raise CorruptError(f"damaged zip archive: {error}", path=self.prefix) from error
        return overlay.patch()

    def examine(self) -> Iterator[Progress]:
        for member in self._archive.members.values():
            try:
                for piece in self._archive.unpacked(member):
                    yield Progress(len(piece))
            except CorruptError as error:
                yield Progress(finding=damage(error))
        # The archive's checksums cover the values: reading them again finds what the checksums do not say.
        for step in super().examine():
            if step.finding is None or step.finding.id != "no-checksums":
                yield Progress(0, step.tensor, step.finding)

    def close(self) -> None:
        super().close()
        self._archive.close()

    def _config(self) -> str | None:
        if CONFIG not in self._archive.members:
            return None
        source = self._archive.open(CONFIG)
        if source.size > MAX_CONFIG_BYTES:
            raise UnsafeError(
                f"{CONFIG} of {source.size} bytes is over the limit of {MAX_CONFIG_BYTES}", path=self.prefix
            )
        return source.read(0, source.size).decode("utf-8", "replace")

    def _opener(self, name: str) -> Source:
        return lambda _: self._archive.open(name)

    def _map(self) -> bytes:
        source = self._archive.open(WEIGHT_MAP)
        if source.size > MAX_MAP_BYTES:
            raise UnsafeError(f"{WEIGHT_MAP} of {source.size} bytes is over the limit of {MAX_MAP_BYTES}")
        return source.read(0, source.size)


def _require_harmless(info: zipfile.ZipInfo) -> None:
    name = info.filename
    if info.orig_filename != name or "\\" in name or name.startswith("/") or ".." in name.split("/") or ":" in name:
        raise UnsafeError(f"a member is called {info.orig_filename!r}")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise UnsafeError(f"{name!r} is a symbolic link")
    if info.flag_bits & _ENCRYPTED:
        raise UnsafeError(f"{name!r} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsupportedError(f"{name!r} is packed by method {info.compress_type}")
