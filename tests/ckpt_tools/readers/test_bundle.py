"""What the bundle reader refuses, with checkpoints made by hand whose checksums are all right."""

from __future__ import annotations

import gc
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import build_bundle, header
from growing import entry, write_bundle

from ckpt_tools.cli import run
from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, UnsafeError
from ckpt_tools.format import checksum
from ckpt_tools.format.bundle import HEADER_KEY
from ckpt_tools.format.strings import encode_strings
from ckpt_tools.fs.local import RandomAccessFile
from ckpt_tools.readers import open_checkpoint

VALUES = {"a": np.arange(4, dtype=np.float32), "b": np.array(7, np.int64), "s": [b"x", b""]}


def refused(prefix: str, message: str, kind: type[CkptError] = CorruptError) -> CkptError:
    with pytest.raises(kind, match=message) as caught:
        open_checkpoint(prefix)
    assert caught.value.path == f"{prefix}.index"
    return caught.value


def test_a_bundle_made_by_hand_reads(tmp_path: Path) -> None:
    with open_checkpoint(build_bundle(tmp_path / "x", VALUES)) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("a"), VALUES["a"])
        assert checkpoint.read("b") == 7
        assert list(checkpoint.read("s")) == [b"x", b""]
        assert checkpoint.format == "bundle-name"
        assert checkpoint.graph is None
        assert list(checkpoint.verify()) == []


def test_no_header(tmp_path: Path) -> None:
    refused(build_bundle(tmp_path / "x", {}, extra={HEADER_KEY: b""}), "number of shards")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shard": 1}, "shard 1 of 1"),
        ({"offset": 8}, "overlap"),
        ({"offset": -1}, "negative"),
        ({"size": -8}, "negative"),
        ({"size": 4}, "do not hold"),
        ({"shape": (2,)}, "do not hold"),
    ],
)
def test_entries_that_cannot_be(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    prefix = build_bundle(tmp_path / "x", {**VALUES, "c": np.zeros(3)}, change={"b": fields})
    assert refused(prefix, message).key in ("b", "c")


@pytest.mark.parametrize("key", [b"\xff", b"a\xfe"])
def test_names_that_are_not_utf8(tmp_path: Path, key: bytes) -> None:
    refused(build_bundle(tmp_path / "x", VALUES, extra={key: header()}), "UTF-8")


def test_a_zero_byte_in_a_name(tmp_path: Path) -> None:
    refused(build_bundle(tmp_path / "x", VALUES, extra={b"a\0b": header()}), "zero byte")


@pytest.mark.parametrize(("element", "offset"), [(2**62, 0), (4, 2**62)])
def test_extents_far_beyond_the_file_are_found_before_memory_is_taken(
    tmp_path: Path, element: int, offset: int
) -> None:
    change = {"z": {"shape": (element,), "size": element, "offset": 2**20 + offset}}
    prefix = build_bundle(tmp_path / "x", {**VALUES, "z": np.zeros(1, np.uint8)}, change=change)
    with open_checkpoint(prefix) as checkpoint:
        with pytest.raises(CorruptError, match="cut off"):
            checkpoint.read("z")
        assert "z" in [finding.key for finding in checkpoint.verify()]


@pytest.mark.parametrize("count", [2**33, 2**40])
def test_more_strings_than_bytes(tmp_path: Path, count: int) -> None:
    with open_checkpoint(build_bundle(tmp_path / "x", VALUES, change={"s": {"shape": (count,)}})) as checkpoint:
        (finding,) = checkpoint.verify()
    assert finding.key == "s"


def test_the_size_of_a_string_tensor_is_exact(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "x", {"s": [b"abc"], "z": [b"def"]}, change={"s": {"size": 5}})
    with open_checkpoint(prefix) as checkpoint:
        assert [finding.key for finding in checkpoint.verify()] == ["s"]


def test_no_such_tensor(tmp_path: Path) -> None:
    with open_checkpoint(build_bundle(tmp_path / "x", VALUES)) as checkpoint:
        for question in (checkpoint.read, checkpoint.digest, lambda name: list(checkpoint.chunks(name))):
            with pytest.raises(NotFoundError, match="no such tensor"):
                question("nowhere")


def test_a_fifo_or_a_directory_in_place_of_a_file(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "x", VALUES)
    data = Path(f"{prefix}.data-00000-of-00001")
    data.unlink()
    os.mkfifo(data)
    with open_checkpoint(prefix) as checkpoint, pytest.raises(UnsafeError, match="found a device, a pipe or a socket"):
        checkpoint.read("a")
    data.unlink()
    data.mkdir()
    with open_checkpoint(prefix) as checkpoint, pytest.raises(NotFoundError, match="data file is missing"):
        checkpoint.read("a")
    index = Path(f"{prefix}.index")
    index.unlink()
    os.mkfifo(index)
    with pytest.raises(UnsafeError):
        open_checkpoint(prefix)


@pytest.mark.filterwarnings("error")
def test_a_refused_file_is_closed_once(tmp_path: Path) -> None:
    # Closed a second time by the garbage collector, the number may be that of another file by then.
    for _ in range(3):
        with pytest.raises(UnsafeError):
            RandomAccessFile(tmp_path)
    gc.collect()


def test_a_reader_that_failed_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "x", VALUES)
    Path(f"{prefix}.index").write_bytes(b"nonsense")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(CorruptError):
            open_checkpoint(prefix)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("shape", [(0, 1 << 61), (1 << 40, 0, 1 << 20), (1,) * 65, (1,) * 254], ids=str)
@pytest.mark.parametrize("dtype", [1, 7])
def test_shapes_that_numpy_does_not_have_end_no_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: tuple[int, ...], dtype: int
) -> None:
    raw, crc = encode_strings([b"x"] * math.prod(shape))
    if dtype == 1:
        raw = bytes(4 * math.prod(shape))
        crc = checksum.masked(raw)
    prefix = write_bundle(tmp_path, {b"a": entry(shape, dtype=dtype, size=len(raw), crc=crc)}, data=raw)
    out = str(tmp_path / "out.npz")
    asked = (["inspect", prefix, "--stats", "--digest"], ["verify", prefix], ["diff", prefix, prefix])
    for words in (*asked, ["export", prefix, out], ["repair", prefix, "--dry-run"]):
        assert run([*words, "--json"]) in (0, 1, 7), words
        assert json.loads(capsys.readouterr().out)
