"""``tensor[2:5]`` of an opened checkpoint: what numpy gives, and no more bytes read than those rows have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from checkpoints import build_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

import ckpt_tools as ct
from ckpt_tools.errors import CorruptError
from ckpt_tools.fs import local

ROWS, COLUMNS = 5000, 32
TABLE = np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS)
ROW_BYTES = COLUMNS * 4
TELLING = [
    (np.s_[:2], 2),
    (np.s_[-1], 1),
    (np.s_[7, 3], 1),
    (np.s_[4000:4002, ::5], 2),
    (np.s_[10:0:-2], 9),
    (np.s_[[4999, 0, 0, -2]], 3),
    (np.s_[np.array([[3, 900]]), 1:3], 2),
    (np.s_[5:5], 0),
]


def _bundle(directory: Path) -> Path:
    return build_bundle(directory / "ckpt", {"table": TABLE, "other": np.ones(3)})


def _hdf5(directory: Path) -> Path:
    with h5py.File(directory / "m.weights.h5", "w") as file:
        file["table"] = TABLE
    return directory / "m.weights.h5"


def _turned(directory: Path) -> Path:
    with h5py.File(directory / "m.weights.h5", "w") as file:
        file["table"] = TABLE.astype(">f4")
    return directory / "m.weights.h5"


def _packed(directory: Path) -> Path:
    with h5py.File(directory / "m.weights.h5", "w") as file:
        file.create_dataset("table", data=TABLE, compression="gzip", chunks=(500, COLUMNS))
    return directory / "m.weights.h5"


def _safetensors(directory: Path) -> Path:
    ct.export(_bundle(directory), directory / "m.safetensors")
    return directory / "m.safetensors"


@pytest.fixture
def read_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all reads of files."""
    sizes: list[int] = []
    read = local.RandomAccessFile.read

    def counted(file: local.RandomAccessFile, offset: int, size: int) -> bytes:
        sizes.append(size)
        return read(file, offset, size)

    monkeypatch.setattr(local.RandomAccessFile, "read", counted)
    return sizes


@pytest.mark.parametrize("make", [_bundle, _hdf5, _turned, _safetensors])
def test_only_the_rows_asked_for_are_read(tmp_path: Path, make: Any, read_bytes: list[int]) -> None:
    with ct.open(make(tmp_path)) as checkpoint:
        for index, rows in TELLING:
            read_bytes.clear()
            found = checkpoint["table"][index]
            assert np.array_equal(found, TABLE[index]), index
            assert sum(read_bytes) == rows * ROW_BYTES, index


def test_of_packed_values_only_the_chunks_are_read(tmp_path: Path, read_bytes: list[int]) -> None:
    path = _packed(tmp_path)
    with ct.open(path) as checkpoint:
        checkpoint["table"][0]  # the library reads the index of the chunks once
        read_bytes.clear()
        assert np.array_equal(checkpoint["table"][4600:4603], TABLE[4600:4603])
        assert sum(read_bytes) < path.stat().st_size / 2


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(index=st_np.basic_indices((4, 3, 2), allow_newaxis=True) | st.lists(st.integers(-4, 3)) | st.just([True] * 4))
def test_an_index_means_what_it_means_to_numpy(index: Any, small: Path) -> None:
    with ct.open(small) as checkpoint:
        for name, tensor in checkpoint.items():
            value = tensor.read()
            whole = (index,) if not isinstance(index, tuple) else index
            if value.ndim == 1 and len([part for part in whole if part not in (None, ...)]) > 1:
                continue
            assert np.array_equal(tensor[index], value[index]), name
            assert np.shape(tensor[index]) == np.shape(value[index])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    value = np.arange(24).reshape(4, 3, 2)
    return build_bundle(
        tmp_path_factory.mktemp("small") / "ckpt",
        {
            "int64": value,
            "bfloat16": value.astype(ml_dtypes.bfloat16),
            "string": [b"a", b"", b"\0", b"dd"],
        },
    )


def test_the_values_may_be_changed(tmp_path: Path) -> None:
    with ct.open(_bundle(tmp_path)) as checkpoint:
        rows = checkpoint["table"][:2]
        rows[:] = 0
        assert checkpoint["table"][0, 1] == 1


def test_what_is_not_there_is_an_index_error(tmp_path: Path) -> None:
    with ct.open(build_bundle(tmp_path / "ckpt", {"a": np.ones(3), "scalar": np.float32(2)})) as checkpoint:
        for index in (3, -4, [0, 3], [-4]):
            with pytest.raises(IndexError):
                checkpoint["a"][index]
        assert checkpoint["scalar"][()] == 2
        with pytest.raises(IndexError):
            checkpoint["scalar"][0]


def test_a_whole_slice_is_verified_and_a_part_cannot_be(tmp_path: Path) -> None:
    prefix = _bundle(tmp_path)
    data = next(tmp_path.glob("*.data*"))
    content = bytearray(data.read_bytes())
    content[-5] ^= 1  # "table" comes last
    data.write_bytes(content)
    with ct.open(prefix) as checkpoint:
        assert np.array_equal(checkpoint["table"][:2], TABLE[:2])
        with pytest.raises(CorruptError):
            checkpoint["table"][:]


def test_cut_off_data_is_one_error(tmp_path: Path) -> None:
    prefix = _bundle(tmp_path)
    data = next(tmp_path.glob("*.data*"))
    data.write_bytes(data.read_bytes()[:-1000])
    with ct.open(prefix) as checkpoint, pytest.raises(CorruptError):
        checkpoint["table"][-1]
