"""Checkpoints of many files: of whichever format, no more than some are open at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from checkpoints import header
from formats_support import slice_proto, table, v1_header, v1_value

from ckpt_tools.errors import BusyError
from ckpt_tools.format import checksum
from ckpt_tools.format.bundle import HEADER_KEY, Entry
from ckpt_tools.format.dtypes import BY_NAME
from ckpt_tools.format.ordered import encode_slice_key
from ckpt_tools.format.v1 import HEADER_KEY as V1_HEADER_KEY
from ckpt_tools.format.wire import bytes_field
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.readers.open_files import LIMIT, OpenFiles

SHARDS = 3 * LIMIT


def raw(number: int) -> bytes:
    return np.full(4, number, np.float32).tobytes()


def bundle(directory: Path) -> Path:
    entries = {HEADER_KEY: header(SHARDS)}
    for shard in range(SHARDS):
        (directory / f"m.data-{shard:05d}-of-{SHARDS:05d}").write_bytes(raw(shard))
        crc = checksum.masked(raw(shard))
        entries[b"%05d" % shard] = Entry(BY_NAME["float32"], (4,), shard, 0, 16, crc).encode()
    (directory / "m.index").write_bytes(table(entries))
    return directory / "m"


def version_1(directory: Path) -> Path:
    for shard in range(SHARDS):
        name, part = f"{shard:05d}", slice_proto(None)
        value = v1_value(name, part, bytes_field(5, raw(shard)))
        entries = {V1_HEADER_KEY: v1_header((name, 1, [4], [part])), encode_slice_key(name, [(0, -1)]): value}
        (directory / f"m-{shard:05d}-of-{SHARDS:05d}").write_bytes(table(entries))
    return directory / "m"


def keras(directory: Path) -> Path:
    names = [f"m_{shard:05d}.weights.h5" for shard in range(SHARDS)]
    for shard, name in enumerate(names):
        with h5py.File(directory / name, "w") as file:
            file[f"{shard:05d}"] = np.frombuffer(raw(shard), np.float32)
    places = {f"/{shard:05d}": name for shard, name in enumerate(names)}
    (directory / "m.weights.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return directory / "m.weights.json"


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.mark.parametrize("make", [bundle, version_1, keras])
def test_few_are_open_at_a_time(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    with open_checkpoint(path) as checkpoint:
        checkpoint.read(min(checkpoint.tensors))  # the process that reads HDF5 is started once, and stays
    before = descriptors()
    with open_checkpoint(path) as checkpoint:
        assert len(checkpoint.tensors) == SHARDS
        for number, name in enumerate(checkpoint.tensors):
            assert checkpoint.read(name).tobytes() == raw(number)
            assert descriptors() <= before + LIMIT
        assert all(finding.severity == "note" for finding in checkpoint.verify())
        assert checkpoint.read(min(checkpoint.tensors)).tobytes() == raw(0)
        assert descriptors() <= before + LIMIT
    assert descriptors() == before


def test_what_was_replaced_while_it_was_put_aside(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 10)
    files = OpenFiles(limit=2)
    first, second, third = (files.open(tmp_path / name) for name in "abc")
    assert (first.read(0, 2), second.read(0, 2), third.read(8, 2)) == (b"aa", b"bb", b"cc")
    (tmp_path / "a").write_bytes(b"another one")
    with pytest.raises(BusyError, match="replaced"):
        first.read(0, 2)
    assert (second.read(0, 2), third.read(0, 2)) == (b"bb", b"cc")


def test_all_are_closed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    before = descriptors()
    files = OpenFiles()
    opened = [files.open(tmp_path / "a"), files.open(tmp_path / "a")]
    assert opened[0].read(0, 1) == b"a"
    files.close()
    assert descriptors() == before
