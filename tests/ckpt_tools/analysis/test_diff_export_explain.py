"""``ckpt diff`` and ``ckpt export``."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from checkpoints import EXPERIMENTS, OF_EACH_LINEAGE, Sample, build_bundle, pick

from ckpt_tools.analysis.difference import diff
from ckpt_tools.cli import run
from ckpt_tools.errors import UsageError
from ckpt_tools.lineages.naming import by_canonical_name, neutral
from ckpt_tools.operations.exporting import export
from ckpt_tools.readers import open_checkpoint

# ------------------------------------------------------------------------------------------------ diff


@pytest.mark.parametrize("sample", EXPERIMENTS, ids=lambda sample: sample.id)
def test_a_checkpoint_is_equal_to_itself(sample: Sample) -> None:
    found = diff(sample.path, sample.path)
    assert found.equal
    assert found.same > 5


def test_lineages_meet_in_canonical_names() -> None:
    names = []
    for sample in OF_EACH_LINEAGE:
        with open_checkpoint(sample.full_prefix) as checkpoint:
            names.append({name for name in by_canonical_name(checkpoint) if name.startswith(("model/", "optimizer/m"))})
    assert names[0] == names[1] == names[2] == names[3]
    found = diff(pick("tf1.15").path, pick("tf2.21").path)
    changes = {change.name: change for change in found.changed}
    table = changes["model/item_embedding"]
    assert table.kind == "values"
    assert table.rows is not None
    assert table.rows.total == table.rows.moved == table.shape_a[0]
    assert table.rows.untrained_a is not None


def test_structure_and_values(tmp_path: Path) -> None:
    table = np.arange(600, dtype=np.float32).reshape(100, 6)
    moved = table.copy()
    moved[[3, 50]] += 0.5
    special = np.array([np.nan, 0.0, 1.0], np.float32)
    a = {"gone": np.float32(1), "t": table, "d": np.float32(1), "s": np.zeros(3), "x": special, "n": [b"a", b"b"]}
    b = {"new": np.float32(1), "t": moved, "d": np.float64(1), "s": np.zeros(4), "x": special * -1, "n": [b"a", b"c"]}
    found = diff(build_bundle(tmp_path / "a", a), build_bundle(tmp_path / "b", b))
    assert (found.only_a, found.only_b) == (("gone",), ("new",))
    changes = {change.name: change for change in found.changed}
    assert {name: change.kind for name, change in changes.items()} == {
        "t": "values",
        "d": "dtype",
        "s": "shape",
        "x": "values",
        "n": "values",
    }
    t, x = changes["t"], changes["x"]
    assert t.rows is not None
    assert (t.rows.total, t.rows.moved, t.elements, t.max_abs) == (100, 2, 12, 0.5)
    assert t.max_relative == pytest.approx(0.5 / 18.5)
    expected = float((table * moved).sum() / np.linalg.norm(table) / np.linalg.norm(moved))
    assert t.cosine == pytest.approx(expected, abs=1e-6)
    assert (x.nan_a, x.nan_b, x.max_abs, x.cosine) == (1, 1, 2.0, -1.0)
    assert changes["n"].elements == 1


def test_bits_count(tmp_path: Path) -> None:
    a = build_bundle(tmp_path / "a", {"v": np.array([0.0, np.nan], np.float32)})
    b = build_bundle(tmp_path / "b", {"v": np.array([-0.0, np.nan], np.float32)})
    assert diff(a, a).equal
    (change,) = diff(a, b).changed
    assert (change.elements, change.max_abs) == (1, 0.0)


def test_a_tensor_that_cannot_be_read(tmp_path: Path) -> None:
    a = build_bundle(tmp_path / "a", {"v": np.zeros(9), "w": np.ones(9)})
    b = build_bundle(tmp_path / "b", {"v": np.zeros(9), "w": np.ones(9)})
    Path(f"{b}.data-00000-of-00001").write_bytes(bytes(72))
    found = diff(a, b)
    assert not found.equal
    assert [finding.key for finding in found.findings] == ["w"]


def test_diff_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = build_bundle(tmp_path / "a", {"v": np.zeros(9)})
    b = build_bundle(tmp_path / "b", {"v": np.ones(9)})
    assert run(["diff", a, a]) == 0
    assert run(["diff", a, b]) == 1
    assert "9 of 9 elements differ" in capsys.readouterr().out
    assert run(["diff", a, b, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [change["name"] for change in document["changed"]] == ["v"]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a/b/.ATTRIBUTES/VARIABLE_VALUE", "a/b"),
        ("dense/kernel:0", "dense/kernel"),
        ("model_weights/dense/dense/kernel:0", "dense/kernel"),
        ("optimizer_weights/Adam/iter:0", "Adam/iter"),
        ("layers/dense/vars/0", "layers/dense/vars/0"),
    ],
)
def test_neutral_names(key: str, name: str) -> None:
    assert neutral(key) == name


# ---------------------------------------------------------------------------------------------- export


def parse_safetensors(data: bytes) -> dict[str, tuple[str, list[int], bytes]]:
    (size,) = struct.unpack_from("<Q", data)
    assert size % 8 == 0
    header = json.loads(data[8 : 8 + size])
    body = data[8 + size :]
    spans = sorted(row["data_offsets"] for row in header.values())
    assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
    assert not spans or spans[-1][1] == len(body)
    return {name: (row["dtype"], row["shape"], body[slice(*row["data_offsets"])]) for name, row in header.items()}


@pytest.mark.parametrize("sample", OF_EACH_LINEAGE, ids=lambda sample: sample.id)
@pytest.mark.parametrize("names", ["canonical", "stored"])
@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".weights.h5"])
def test_round_trips(tmp_path: Path, sample: Sample, names: Any, ending: str) -> None:
    out = str(tmp_path / f"m{ending}")
    done = export(sample.path, out, names=names)
    assert done.findings == ()
    with open_checkpoint(sample.full_prefix) as checkpoint:
        assert {key for row in done.written for key in row.keys} == set(checkpoint.tensors)
        values = {row.name: checkpoint.read(row.keys[0]) for row in done.written if len(row.keys) == 1}
    if ending == ".safetensors":
        found = parse_safetensors(Path(out).read_bytes())
        assert {name: (shape, raw) for name, (_, shape, raw) in found.items()} == {
            name: (list(value.shape), value.tobytes()) for name, value in values.items()
        }
    elif ending == ".npz":
        with np.load(out, allow_pickle=False) as found_arrays:
            assert {name: found_arrays[name].tobytes() for name in found_arrays} == {
                name: value.tobytes() for name, value in values.items()
            }
    else:
        assert diff(sample.path, out).changed == ()
        assert diff(sample.path, out).only_a == ()
    assert [path.name for path in tmp_path.iterdir()] == [f"m{ending}"]


def test_types_that_a_format_does_not_have(tmp_path: Path) -> None:
    values = {
        "b": np.array([1.5, -2], ml_dtypes.bfloat16),
        "f8": np.array([0.5, 448], ml_dtypes.float8_e4m3fn),
        "i4": np.array([-8, 7], ml_dtypes.int4),
        "s": [b"text", b""],
    }
    prefix = build_bundle(tmp_path / "m", values)
    safe = export(prefix, str(tmp_path / "m.safetensors"))
    assert [finding.key for finding in safe.findings] == ["i4", "s"]
    assert parse_safetensors((tmp_path / "m.safetensors").read_bytes())["b"][0] == "BF16"
    npz = export(prefix, str(tmp_path / "m.npz"))
    assert [finding.key for finding in npz.findings] == ["s"]
    with np.load(tmp_path / "m.npz") as arrays:
        assert {name: arrays[name].tolist() for name in arrays} == {"b": [1.5, -2], "f8": [0.5, 448], "i4": [-8, 7]}
    export(prefix, str(tmp_path / "m.weights.h5"))
    with open_checkpoint(tmp_path / "m.weights.h5") as checkpoint:
        assert checkpoint.tensors["b"].dtype == "bfloat16"
        assert checkpoint.read("b").tolist() == [1.5, -2]
        assert checkpoint.read("s").tolist() == [b"text", b""]


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", {"v": np.zeros(3)})
    out = tmp_path / "m.npz"
    out.write_bytes(b"mine")
    with pytest.raises(UsageError, match="already"):
        export(prefix, str(out))
    assert out.read_bytes() == b"mine"
    export(prefix, str(out), force=True)
    with np.load(out) as arrays:
        assert list(arrays) == ["v"]


def test_a_damaged_checkpoint_leaves_no_file(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", {"v": np.ones(3)})
    Path(f"{prefix}.data-00000-of-00001").write_bytes(bytes(24))
    for ending in (".npz", ".safetensors", ".weights.h5"):
        assert run(["export", prefix, str(tmp_path / f"out{ending}")]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.data-00000-of-00001", "m.index"]


@pytest.mark.parametrize("arguments", [["out.txt"], ["out.npz", "--names", "keras"], ["out.npz", "--names", "other"]])
def test_wrong_requests(tmp_path: Path, arguments: list[str]) -> None:
    prefix = build_bundle(tmp_path / "m", {"v": np.ones(3)})
    assert run(["export", prefix, *arguments]) == UsageError.exit_code


@pytest.mark.tensorflow
def test_keras_loads_what_was_exported(tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.item_embedding = keras.layers.Embedding(5, 3)
            self.gru = keras.layers.GRU(4)
            self.item_bias = self.add_weight(shape=(5,), name="item_bias", initializer="random_normal")

        def call(self, items: Any) -> Any:
            return self.gru(self.item_embedding(items))

    keras.utils.set_random_seed(1)
    model, other = Model(), Model()
    for each in (model, other):
        each(tf.constant([[1, 2]]))
    prefix = tf.train.Checkpoint(model=model).write(str(tmp_path / "ckpt"))
    assert run(["export", prefix, str(tmp_path / "m.weights.h5")]) == 0
    other.load_weights(tmp_path / "m.weights.h5")
    for left, right in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
