"""safetensors files: what ``ckpt export`` writes is read back, and every length is checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from checkpoints import build_bundle
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.analysis.difference import diff
from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.analysis.verification import verify
from ckpt_tools.cli import run
from ckpt_tools.errors import CorruptError, NotFoundError, UnsafeError
from ckpt_tools.format.safetensors import decode_header
from ckpt_tools.operations.exporting import export
from ckpt_tools.readers import open_checkpoint

VALUES = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([1.5, -2], ml_dtypes.bfloat16),
    "c": np.array(7, np.int64),
    "d": np.array([True, False]),
    "e": np.array([0.5, 448], ml_dtypes.float8_e4m3fn),
    "f": np.zeros((0, 4), np.float16),
    "__metadata__": np.ones(2, np.uint8),
}


def write(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def row(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.fixture
def exported(tmp_path: Path) -> tuple[str, Path]:
    prefix = build_bundle(tmp_path / "m", VALUES)
    out = tmp_path / "m.safetensors"
    export(prefix, str(out))
    return prefix, out


def test_what_is_exported_is_read(exported: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    prefix, out = exported
    with open_checkpoint(out) as checkpoint:
        assert checkpoint.format == "safetensors"
        assert checkpoint.graph is None
        for name, value in VALUES.items():
            name = "__metadata__:0" if name == "__metadata__" else name
            info = checkpoint.tensors[name]
            assert (info.dtype, info.shape, info.nbytes) == (value.dtype.name, value.shape, value.nbytes)
            read = checkpoint.read(name)
            assert (read.tobytes(), read.dtype.name, read.shape) == (value.tobytes(), value.dtype.name, value.shape)
            assert b"".join(checkpoint.chunks(name)) == value.tobytes()
        checkpoint.read("a")[0] = 9  # an array of one's own
    assert verify(out).whole
    assert inspect(str(out), digest=True).totals == {"tensors": 7, "bytes": 24 + 4 + 8 + 2 + 2 + 0 + 2}
    found = diff(prefix, out)
    assert found.changed == ()
    assert found.only_a == ()
    for ending in (".npz", ".safetensors", ".weights.h5"):
        assert run(["export", str(out), str(out.with_name(f"again{ending}"))]) == 0
    again = out.with_name("again.safetensors").read_bytes()
    assert again == out.read_bytes()
    assert run(["inspect", str(out)]) == 0
    assert "safetensors file" in capsys.readouterr().out


def test_cut_off_at_every_byte(exported: tuple[str, Path], tmp_path: Path) -> None:
    data = exported[1].read_bytes()
    for size in range(1, len(data)):
        path = tmp_path / "cut.safetensors"
        path.write_bytes(data[:size])
        try:
            whole = verify(path).whole
        except NotFoundError:  # too short to be told from other files
            whole = False
        assert not whole, size


@pytest.mark.parametrize(
    "header",
    [
        {"a": row(offsets=[0, 7])},
        {"a": row(offsets=[8, 0])},
        {"a": row(offsets=[-8, 0])},
        {"a": row(offsets=[0, 8, 9])},
        {"a": row(offsets=[0.0, 8.0])},
        {"a": row(shape=[2.0])},
        {"a": row(shape=[True, 2])},
        {"a": row(shape=[-2])},
        {"a": row(shape=[1 << 40, 1 << 40])},
        {"a": row(shape=[1] * 255)},
        {"a": row(shape="2")},
        {"a": row(dtype=3)},  # type: ignore[arg-type]
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": 3},
        {"__metadata__": 3},
        {"__metadata__": {"a": 1}},
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}',
        b'{"a":{"dtype":' + b"[" * 100_000,
    ],
)
def test_headers_that_break_a_rule(header: object) -> None:
    with pytest.raises(CorruptError):
        decode_header(header if isinstance(header, bytes) else json.dumps(header).encode())


@pytest.mark.parametrize(
    ("header", "size", "said"),
    [
        ({"a": row(), "b": row(offsets=[12, 20])}, 20, "leaves 4 bytes to no tensor"),
        ({"a": row(), "b": row(offsets=[4, 12])}, 12, "overlaps"),
        ({"a": row()}, 9, "1 bytes behind the last tensor"),
        ({"a": row()}, 7, "cut off: has 7 of 8 bytes"),
    ],
)
def test_places_that_do_not_fill_the_data(tmp_path: Path, header: object, size: int, said: str) -> None:
    path = write(tmp_path / "m.safetensors", header, bytes(size))
    found = verify(path, quick=True)
    assert not found.whole
    assert said in found.findings[0].message
    assert not verify(path).whole


def test_types_that_tensorflow_does_not_have_are_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", {"a": row("F4", [16]), "b": row(offsets=[8, 16])}, bytes(16))
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.tensors["a"].dtype == "opaque"
        assert checkpoint.tensors["a"].nbytes == 8
    assert verify(path).whole
    assert run(["export", str(path), str(tmp_path / "m.npz")]) == 0


def test_a_header_over_the_limit(tmp_path: Path) -> None:
    from ckpt_tools.readers.safetensors import Safetensors

    (tmp_path / "m.safetensors").write_bytes((1 << 40).to_bytes(8, "little") + b'{"a": {"dtype"')
    with pytest.raises(UnsafeError):
        Safetensors(str(tmp_path / "m.safetensors"))


@given(st.binary(max_size=80))
def test_any_header_is_read_or_refused(data: bytes) -> None:
    for header in (data, b"{" + data, b'{"a":' + data + b"}"):
        try:
            decode_header(header)
        except CorruptError:
            continue
