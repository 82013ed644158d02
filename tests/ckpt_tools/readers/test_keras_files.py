"""Keras files, written by Keras and h5py and read back by both."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest

from ckpt_tools.errors import CorruptError, NotFoundError, UnsafeError, UnsupportedError
from ckpt_tools.readers import open_checkpoint


def datasets(file: h5py.File) -> dict[str, np.ndarray]:
    found = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    file.visititems(visit)
    return found


def assert_reads(path: Path, format: str, expected: dict[str, np.ndarray]) -> None:
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.format == format
        assert checkpoint.prefix == str(path)
        assert set(checkpoint.tensors) == set(expected)
        assert list(checkpoint.tensors) == sorted(expected)
        for name, value in expected.items():
            info = checkpoint.tensors[name]
            assert (info.dtype, info.shape, info.nbytes) == (value.dtype.name, value.shape, value.nbytes)
            assert checkpoint.read(name).tobytes() == value.tobytes()
            assert b"".join(checkpoint.chunks(name)) == value.tobytes()
        assert list(checkpoint.verify()) == []


@pytest.fixture
def model() -> object:
    import keras

    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(4), keras.layers.Dense(3)])


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("name", "format"), [("m.weights.h5", "keras-weights-h5"), ("m.h5", "keras-h5"), ("m.keras", "keras-zip")]
)
def test_what_keras_writes(tmp_path: Path, model: object, name: str, format: str) -> None:
    path = tmp_path / name
    (model.save_weights if "weights" in name else model.save)(path)  # type: ignore[attr-defined]
    if format == "keras-zip":
        with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member, h5py.File(member) as file:
            expected = datasets(file)
    else:
        with h5py.File(path) as file:
            expected = datasets(file)
    assert sum(value.size for value in expected.values()) >= 39
    assert_reads(path, format, expected)


@pytest.mark.tensorflow
def test_sharded_weights(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.layers.Input((300,)), *(keras.layers.Dense(300) for _ in range(4))])
    path = tmp_path / "m.weights.json"
    model.save_weights(path, max_shard_size=0.0006)
    shards = sorted(tmp_path.glob("m_*.weights.h5"))
    assert len(shards) > 1
    expected = {}
    for shard in shards:
        with h5py.File(shard) as file:
            expected |= datasets(file)
    assert_reads(path, "keras-weights-h5", expected)
    with open_checkpoint(tmp_path / "m.weights.h5") as checkpoint:
        assert checkpoint.prefix == str(path)
    shards[1].unlink()
    with open_checkpoint(path) as checkpoint:
        assert 0 < len(checkpoint.tensors) < len(expected)
        assert [finding.path for finding in checkpoint.verify()] == [str(shards[1])]
    for shard in (shards[0], *shards[2:]):
        shard.unlink()
    with pytest.raises(NotFoundError):
        open_checkpoint(path)


def test_all_types(tmp_path: Path) -> None:
    path = tmp_path / "types.h5"
    numbers = ["float16", "float32", "float64", "complex64", "complex128", "bool"]
    numbers += [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
    expected = {name: np.array([[1, 0], [1, 1]], name) for name in numbers}
    with h5py.File(path, "w") as file:
        for name, value in expected.items():
            file[f"group/{name}"] = value
            file.create_dataset(f"packed/{name}", data=value, compression="gzip", shuffle=True, fletcher32=True)
            file.create_dataset(f"lzf/{name}", data=value, compression="lzf")
            file[f"big/{name}"] = value.astype(value.dtype.newbyteorder(">"))
        file["scalar"] = np.float32(7)
        file["empty"] = np.zeros((0, 4), np.int8)
    groups = {
        f"{group}/{name}": value for group in ("group", "packed", "lzf", "big") for name, value in expected.items()
    }
    assert_reads(
        path, "keras-weights-h5", {**groups, "scalar": np.array(7, np.float32), "empty": np.zeros((0, 4), np.int8)}
    )


def test_bfloat16_as_keras_stores_it(tmp_path: Path) -> None:
    value = np.array([1.5, -2], ml_dtypes.bfloat16)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("v", data=value).attrs["dtype"] = "bfloat16"
        file.create_dataset("unknown", data=value)
    with open_checkpoint(tmp_path / "b.h5") as checkpoint:
        assert checkpoint.tensors["v"].dtype == "bfloat16"
        assert checkpoint.read("v").tolist() == value.tolist()
        assert checkpoint.tensors["unknown"].dtype == "opaque"
        with pytest.raises(UnsupportedError):
            checkpoint.read("unknown")
        assert len(checkpoint.digest("unknown")) == 64


def test_strings(tmp_path: Path) -> None:
    import hashlib

    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["varying"] = ["a", "bé", ""]
        file["fixed"] = np.array([[b"a", b"bb"]])
    with open_checkpoint(tmp_path / "s.h5") as checkpoint:
        assert checkpoint.read("varying").tolist() == [b"a", "bé".encode(), b""]
        assert checkpoint.read("fixed").tolist() == [[b"a", b"bb"]]
        raw = b"".join(len(e).to_bytes(8, "little") + e for e in (b"a", b"bb"))
        assert checkpoint.digest("fixed") == hashlib.sha256(raw).hexdigest()


def test_a_block_in_front_of_the_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "u.h5", "w", userblock_size=512) as file:
        file["v"] = np.arange(4)
    assert_reads(tmp_path / "u.h5", "keras-weights-h5", {"v": np.arange(4)})


def test_many_rows_in_pieces(tmp_path: Path) -> None:
    value = np.arange(3_000_000, dtype=np.int32).reshape(-1, 3)
    with h5py.File(tmp_path / "big.h5", "w") as file:
        file["v"] = value
        file.create_dataset("w", data=value, chunks=(1000, 2))
    assert_reads(tmp_path / "big.h5", "keras-weights-h5", {"v": value, "w": value})


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"weight_map": {"/a": "../other.h5"}}, UnsafeError),
        ({"weight_map": {"/a": "/etc/passwd"}}, UnsafeError),
        ({"weight_map": {"/a": ["m_00000.weights.h5", "..\\x"]}}, UnsafeError),
        ({"weight_map": {"/a": ".."}}, UnsafeError),
        ({"weight_map": {"/a": 5}}, CorruptError),
        ({"weight_map": {"/a": ""}}, CorruptError),
        ({"weight_map": {}}, CorruptError),
        ({"weight_map": []}, CorruptError),
        ({"other": 1}, CorruptError),
        ({"weight_map": {"/a": "gone.weights.h5"}}, NotFoundError),
    ],
)
def test_maps_of_shards_that_lead_elsewhere(tmp_path: Path, document: object, error: type[Exception]) -> None:
    (tmp_path / "m.weights.json").write_text(json.dumps(document))
    with pytest.raises(error):
        open_checkpoint(tmp_path / "m.weights.json")


def test_json_nested_without_end(tmp_path: Path) -> None:
    (tmp_path / "m.weights.json").write_text('{"weight_map":' + "[" * 200_000)
    with pytest.raises(CorruptError):
        open_checkpoint(tmp_path / "m.weights.json")


def test_truncation_at_every_byte(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["v"] = np.arange(10)
    data = (tmp_path / "v.h5").read_bytes()
    for size in range(0, len(data), 13):
        path = tmp_path / "cut.h5"
        path.write_bytes(data[:size])
        with pytest.raises((CorruptError, NotFoundError)):
            open_checkpoint(path)
