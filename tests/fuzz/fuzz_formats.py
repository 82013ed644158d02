"""Files made from good ones by chance, with their checksums repaired, so that the damage gets past them.

    make fuzz CASES=1000000

A case is a number: the same number always makes the same file. Cases run in processes of their own. One that ends in
anything but a value or a ``CkptError``, takes a second, takes ten times the memory of its files (small ones: 64 MiB)
or kills its process, at once or as it ends, is kept as a file under ``--keep`` (``found-KIND-NUMBER.*``), to become a
test.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import io
import multiprocessing
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

import h5py
import numpy as np
from checkpoints import block, header, pick
from formats_support import compress, slice_proto, table, v1_header, v1_value

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
# The memory of a case may be so many times its files, or this; no process gets more than the last, touched or not.
TIMES, SPARE, MEMORY = 10, 64 << 20, 4 << 30
# A process that stays at one case so long waits for something that never comes.
PATIENCE = 60.0
BATCH = 2000
# Files that live a millisecond need no disk.
SCRATCH = "/dev/shm"

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


# -------------------------------------------------------------------------------------------------- limits


def trouble(directory: Path, files: Files) -> str | None:
    """What is wrong with how a case ended, None when it did no harm."""
    # The system's count of the most memory ever used starts again here.
    with open("/proc/self/clear_refs", "w") as switch:
        switch.write("5")
    before, start = _memory(), time.process_time()
    try:
        exercise(directory, files)
    except Exception:
        return traceback.format_exc(limit=-4)
    seconds, taken = time.process_time() - start, _memory("VmHWM") - before
    if seconds > SECONDS:
        return f"took {seconds:.1f} s"
    if taken > max(TIMES * sum(map(len, files.values())), SPARE):
        return f"took {taken >> 20} MiB of memory"
    return None


def _memory(what: str = "VmRSS") -> int:
    """Bytes of memory of this process: now, or (``VmHWM``) the most so far."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(what))


# ----------------------------------------------------------------------------------------------- the long run


class Batch:
    """Some cases in a process of its own, which may die, hang, or crash as it ends."""

    def __init__(self, kind: str, numbers: range) -> None:
        self.kind = kind
        self.numbers = numbers
        # Not one that deletes itself: the process that is made here would do so as it ends, reports and all.
        self._directory = Path(tempfile.mkdtemp(dir=SCRATCH if os.path.isdir(SCRATCH) else None))
        self._at = multiprocessing.RawValue("q", numbers.start)
        self._moved = time.monotonic(), numbers.start
        self._code: int | None = None
        sys.stdout.flush()
        self._process = os.fork()
        if not self._process:
            self._work_and_end()

    def running(self) -> bool:
        if self._at.value != self._moved[1]:
            self._moved = time.monotonic(), self._at.value
        elif time.monotonic() - self._moved[0] > PATIENCE:
            os.kill(self._process, signal.SIGKILL)
        ended, status = os.waitpid(self._process, os.WNOHANG)
        if ended:
            self._code = os.waitstatus_to_exitcode(status)
        return not ended

    def result(self) -> tuple[list[tuple[int, str]], list[range]]:
        """Of what runs no more: the bad cases with what is wrong, and what is still to be run."""
        reports = [(int(path.name), path.read_text()) for path in self._reports.glob("*")]
        shutil.rmtree(self._directory)
        code, at, numbers = self._code, self._at.value, self.numbers
        if not code:
            return reports, []
        if at < numbers.stop:
            return [*reports, (at, f"the process died: {code}")], [range(at + 1, numbers.stop)]
        if len(numbers) == 1:
            return [*reports, (numbers.start, f"the process died as it ended: {code}")], []
        middle = len(numbers) // 2
        return reports, [numbers[:middle], numbers[middle:]]

    @property
    def _reports(self) -> Path:
        return self._directory / "reports"

    def _work_and_end(self) -> NoReturn:
        try:
            self._work()
            end()
        finally:
            os._exit(70)

    def _work(self) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # HDF5 tells every error there
        self._reports.mkdir()
        for number in self.numbers:
            self._at.value = number
            files = case(self.kind, number)
            # Code that never comes back is ended by the system.
            signal.setitimer(signal.ITIMER_PROF, 5 * SECONDS)
            wrong = trouble(self._directory, files)
            signal.setitimer(signal.ITIMER_PROF, 0)
            if wrong:
                (self._reports / str(number)).write_text(wrong)
        self._at.value = self.numbers.stop


def end() -> None:
    """End the process as a program does, which takes apart what HDF5 has left open."""
    ctypes.pythonapi.Py_Exit(0)


def hunt(batches: Iterable[tuple[str, range]], keep: Path, jobs: int = 1) -> Counter[str]:
    """Run batches of cases, ``jobs`` at a time; returns how many of each kind are bad."""
    waiting = deque(batches)
    running: list[Batch] = []
    bad: Counter[str] = Counter()
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(Batch(*waiting.popleft()))
        time.sleep(0.02)
        for batch in [batch for batch in running if not batch.running()]:
            running.remove(batch)
            reports, rest = batch.result()
            waiting.extendleft((batch.kind, numbers) for numbers in rest if numbers)
            for number, report in reports:
                bad[batch.kind] += 1
                print(f"{batch.kind} {number}: {report}", flush=True)
                _keep(batch.kind, number, keep)
    return bad


def _keep(kind: str, number: int, keep: Path) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    for name, data in case(kind, number).items():
        (keep / f"found-{kind}-{number}{name.removeprefix('m')}").write_bytes(data)


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", type=int, default=1_000_000, help="in all, divided among the kinds")
    parser.add_argument("--start", type=int, default=0, help="the first number")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"))
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    given = parser.parse_args(None if arguments is None else list(arguments))
    end = given.start + given.cases // len(given.kinds)
    bad: Counter[str] = Counter()
    for kind in given.kinds:
        start = time.monotonic()
        starts = range(given.start, end, BATCH)
        bad += hunt([(kind, range(first, min(first + BATCH, end))) for first in starts], given.keep, given.jobs)
        print(f"{kind}: {end - given.start} cases, {bad[kind]} bad, {time.monotonic() - start:.0f} s", flush=True)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
