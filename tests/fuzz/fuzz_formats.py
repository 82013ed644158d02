"""Files made from good ones by chance, with their checksums repaired, so that the damage gets past them.

    make fuzz CASES=1000000

A case must end in a value or a ``CkptError``, within a second and ten times the memory of its files; see
`fuzz_runner`.
"""

from __future__ import annotations

import functools
import io
import random
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from checkpoints import block, header, pick
from formats_support import compress, slice_proto, table, v1_header, v1_value
from fuzz_runner import Suite, main

from ckpt_tools.errors import CkptError
from ckpt_tools.format import checksum
from ckpt_tools.format.bundle import HEADER_KEY, Entry
from ckpt_tools.format.dtypes import BY_NAME
from ckpt_tools.format.ordered import encode_slice_key
from ckpt_tools.format.strings import encode_strings
from ckpt_tools.format.table import Handle, read_table
from ckpt_tools.format.wire import bytes_field, encode_varint, varint_field
from ckpt_tools.readers import open_checkpoint

Files = dict[str, bytes]
SECONDS = 1.0

# Numbers at the edges of what parsers believe.
_EDGES = [0, 1, 127, 128, 255, 256, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 1 << 33, 1 << 40, 1 << 62, (1 << 63) - 1]
_EDGES += [1 << 63, (1 << 64) - 1, (1 << 64) - 5]


# --------------------------------------------------------------------------------------------- good files


@functools.cache
def good_bundle() -> tuple[dict[bytes, bytes], bytes]:
    """The entries of an index, with strings, a variant and a partitioned variable, and the data."""
    data = bytearray()
    entries = {HEADER_KEY: header()}

    def add(key: bytes, dtype: str, shape: tuple[int, ...], raw: bytes, crc: int | None = None) -> None:
        crc = checksum.masked(raw) if crc is None else crc
        entries[key] = Entry(BY_NAME[dtype], shape, 0, len(data), len(raw), crc).encode()
        data.extend(raw)

    add(b"f", "float32", (3, 4), np.arange(12, dtype=np.float32).tobytes())
    add(b"i", "int64", (), bytes(8))
    strings, crc = encode_strings([b"one", b"", b"three" * 9])
    add(b"s", "string", (3,), strings, crc)
    message = bytes_field(1, b"iterator")
    running = checksum.extend(checksum.extend(0, len(message).to_bytes(8, "little")), message)
    stored = struct.pack("<I", checksum.mask(running))
    raw = encode_varint(len(message)) + message + stored
    add(b"v", "variant", (1,), raw, checksum.mask(checksum.extend(running, stored)))
    for start in (0, 2):
        add(encode_slice_key("p", [(start, 2), (0, -1)]), "int32", (2, 5), bytes(40))
    parts = tuple(slice_proto((start, 2), None) for start in (0, 2))
    entries[b"p"] = Entry(BY_NAME["int32"], (4, 5), slices=parts).encode()
    child = varint_field(1, 1) + bytes_field(2, b"f")
    attribute = bytes_field(1, b"VARIABLE_VALUE") + bytes_field(2, b"f") + bytes_field(3, b"f")
    graph = bytes_field(1, bytes_field(1, child)) + bytes_field(1, bytes_field(2, attribute))
    strings, crc = encode_strings([graph])
    add(b"_CHECKPOINTABLE_OBJECT_GRAPH", "string", (), strings, crc)
    return entries, bytes(data)


@functools.cache
def real_bundle() -> tuple[dict[bytes, bytes], bytes]:
    prefix = pick("tf2.10").full_prefix
    index = read_table(Path(f"{prefix}.index").read_bytes())
    return index, Path(f"{prefix}.data-00000-of-00001").read_bytes()


@functools.cache
def good_v1() -> dict[bytes, bytes]:
    whole, parts = slice_proto(None), [slice_proto((0, 1)), slice_proto((1, 2))]
    floats = bytes_field(5, struct.pack("<3f", 1, 2, 3))
    entries = {
        b"": v1_header(("f", 1, [3], [whole]), ("n", 9, [3], parts), ("t", 7, [2], [whole])),
        encode_slice_key("f", [(0, -1)]): v1_value("f", whole, floats),
        encode_slice_key("t", [(0, -1)]): v1_value("t", whole, bytes_field(8, b"a") + bytes_field(8, b"bc")),
    }
    for part, extent, numbers in zip(parts, ((0, 1), (1, 2)), ([-1], [5, 1 << 40]), strict=True):
        packed = bytes_field(10, b"".join(map(encode_varint, numbers)))
        entries[encode_slice_key("n", [extent])] = v1_value("n", part, packed)
    return entries


@functools.cache
def good_h5(number: int) -> bytes:
    """A few files: plain, packed, with strings and attributes, of the newest version of the format."""
    out = io.BytesIO()
    with h5py.File(out, "w", libver="latest" if number == 3 else None) as file:
        group = file.create_group("layers/dense/vars")
        group["0"] = np.arange(20, dtype=np.float32).reshape(4, 5)
        group["1"] = np.zeros(5)
        if number == 1:
            file.create_dataset("packed", data=np.arange(999), chunks=(100,), compression="gzip", shuffle=True)
            file.create_dataset("checked", data=np.arange(999), chunks=(100,), fletcher32=True)
        if number == 2:
            file["text"] = ["a", "bc"]
            file.attrs["layer_names"] = [b"dense"]
    return out.getvalue()


# ------------------------------------------------------------------------------------------------- damage


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One to four small changes: bits, bytes, numbers at the edges, pieces cut out, doubled or moved."""
    out = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        place = chance.randrange(len(out) + 1)
        end = min(len(out), place + chance.choice([1, 2, 4, 8, 16]))
        kind = chance.randrange(8)
        if kind <= 2 and place < len(out):
            out[place] ^= 1 << chance.randrange(8)
        elif kind == 3 and place < len(out):
            out[place] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        elif kind == 4:
            out[place:end] = encode_varint(chance.choice(_EDGES))
        elif kind == 5:
            width = chance.choice([2, 4, 8])
            out[place : place + width] = (chance.choice(_EDGES) & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        elif kind == 6:
            del out[place:end]
        else:
            out[place:place] = out[chance.randrange(len(out) + 1) :][: chance.choice([1, 8, 40])]
    return bytes(out)


def mutate_entries(entries: dict[bytes, bytes], chance: random.Random) -> dict[bytes, bytes]:
    """The same with one entry's value, sometimes its key, changed, lost or doubled."""
    out = dict(entries)
    key = chance.choice(sorted(out))
    kind = chance.randrange(8)
    if kind == 0:
        out[mutate(key, chance)] = out.pop(key)
    elif kind == 1:
        out[mutate(key, chance)] = out[key]
    elif kind == 2:
        del out[key]
    else:
        out[key] = mutate(out[key], chance)
    return out or {b"": b""}


def repaired(data: bytes, chance: random.Random) -> bytes:
    """A table with one block's content changed and its checksum repaired; sometimes the footer instead."""
    start = len(data) - 48
    meta, offset = Handle.decode(data[start:])
    index, _ = Handle.decode(data[start:], offset)
    if chance.randrange(4) == 0:
        handles = b"".join(
            encode_varint(chance.choice([*_EDGES, n])) for n in (meta.offset, meta.size, index.offset, index.size)
        )
        return data[:start] + handles[:40].ljust(40, b"\0") + data[-8:]
    hit = chance.choice([Handle(0, meta.offset - 5), meta, index])
    content = mutate(data[hit.offset : hit.offset + hit.size], chance)[: hit.size].ljust(hit.size, b"\0")
    kind = chance.choice([0, 0, 0, 1, 2])
    if kind == 1:
        content = mutate(compress(content), chance)[: hit.size].ljust(hit.size, b"\0")
    return data[: hit.offset] + block(content, kind) + data[hit.end :]


def _index(chance: random.Random, entries: dict[bytes, bytes]) -> bytes:
    per_block = chance.choice([1, 3, 1000])
    if chance.randrange(3) == 0:
        return repaired(table(entries, per_block=1000), chance)
    return table(mutate_entries(entries, chance), snappy=chance.randrange(4) == 0, per_block=per_block)


def bundle_case(chance: random.Random) -> Files:
    entries, data = good_bundle() if chance.randrange(3) else real_bundle()
    if chance.randrange(8) == 0:
        return {"m.index": table(entries), "m.data-00000-of-00001": mutate(data, chance)}
    return {"m.index": _index(chance, entries), "m.data-00000-of-00001": data}


def v1_case(chance: random.Random) -> Files:
    return {"m": _index(chance, good_v1())}


def h5_case(chance: random.Random) -> Files:
    return {"m.h5": mutate(good_h5(chance.randrange(4)), chance)}


def zip_case(chance: random.Random) -> Files:
    out = io.BytesIO()
    packed = chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    inside = mutate(good_h5(0), chance) if chance.randrange(2) else good_h5(0)
    with zipfile.ZipFile(out, "w", packed) as archive:
        archive.writestr("config.json", b"{}")
        archive.writestr("model.weights.h5", inside)
    data = out.getvalue()
    return {"m.keras": data if inside != good_h5(0) else mutate(data, chance)}


def any_case(chance: random.Random) -> Files:
    """Bytes behind any of the signatures."""
    start = chance.choice([b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"{", b"\0\0\x10\x0a", b"\x80\x04", b"", b"<html"])
    tail = chance.choice([b"", struct.pack("<Q", 0xDB4775248B80FB57)])
    return {"m": start + chance.randbytes(chance.randrange(200)) + tail}


KINDS: dict[str, Callable[[random.Random], Files]] = {
    "bundle": bundle_case,
    "v1": v1_case,
    "h5": h5_case,
    "zip": zip_case,
    "any": any_case,
}


def case(kind: str, number: int) -> Files:
    """The files of a case."""
    return KINDS[kind](random.Random(f"{kind}-{number}"))


def exercise(directory: Path, files: Files) -> None:
    """Everything that one can ask of a checkpoint; a ``CkptError`` is an answer, anything else is raised."""
    for name, data in files.items():
        (directory / name).write_bytes(data)
    name = next(iter(files))
    try:
        with open_checkpoint(directory / name.removesuffix(".index")) as checkpoint:
            findings = [*checkpoint.outline(), *checkpoint.verify()]
            assert all(finding.message for finding in findings)
            for info in checkpoint.tensors.values():
                for question in (checkpoint.read, checkpoint.digest):
                    try:
                        question(info.name)
                    except CkptError:
                        continue
    except CkptError:
        return


SUITE = Suite(tuple(KINDS), case, exercise, dict, SECONDS)

if __name__ == "__main__":
    sys.exit(main(SUITE, (__doc__ or "").split("\n")[0]))
