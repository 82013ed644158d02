"""A file of Keras that does not hold what it says itself is damaged; what Keras writes is whole."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.analysis.verification import verify
from ckpt_tools.cli import run
from ckpt_tools.readers.base import TensorInfo
from ckpt_tools.readers.hdf5 import Listed
from ckpt_tools.readers.keras_contents import problems

WHOLE = [
    "plain",
    "embedding_gru",
    "conv_2d",
    "conv_transpose",
    "lstm",
    "simple_rnn",
    "nested",
    "nested_twice",
    "shared",
]
WHOLE += [
    "bidirectional",
    "multi_head",
    "batch_norm",
    "separable",
    "subclassed",
    "custom",
    "mixed_precision",
    "no_bias",
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with an optimizer's state, in every format of Keras 3."""
    import keras

    directory = tmp_path_factory.mktemp("saved")
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((4,)), layers.Dense(3), layers.Reshape((1, 3)), layers.GRU(2), layers.Dense(2)]
    )
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    for name in ("m.h5", "m.keras"):
        model.save(directory / name)
    model.save_weights(directory / "m.weights.h5")
    return directory


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", WHOLE)
def test_what_keras_writes_is_whole(tmp_path: Path, name: str) -> None:
    import keras_zoo

    model, _ = keras_zoo.built(name)
    files = [tmp_path / "m.keras", tmp_path / "m.weights.h5"]
    model.save(files[0])
    model.save_weights(files[1])
    if not name.startswith(("subclassed", "custom")):
        files.append(tmp_path / "m.h5")
        model.save(files[2])
    for path in files:
        assert [finding for finding in verify(path).findings if finding.severity == "damage"] == []


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["m.h5", "m.keras"])
def test_whatever_is_lost_is_missed(saved: Path, tmp_path: Path, name: str) -> None:
    lost = []
    with h5py.File(weights_of(saved / name, tmp_path)) as file:
        file.visititems(lambda path, item: lost.append(path) if isinstance(item, h5py.Dataset) else None)
    layers = [path for path in lost if "optimizer" not in path]
    assert len(layers) == 7
    for path in lost if name == "m.h5" else layers:
        damaged = changed(saved / name, tmp_path, path)
        found = verify(damaged)
        assert not found.whole, path
        assert any(finding.severity == "damage" for finding in inspect(str(damaged)).findings)


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["m.h5", "m.keras"])
def test_another_shape_is_noticed(saved: Path, tmp_path: Path, name: str) -> None:
    with h5py.File(weights_of(saved / name, tmp_path)) as file:
        kernels: list[str] = []
        file.visititems(
            lambda path, item: (
                kernels.append(path)
                if isinstance(item, h5py.Dataset) and item.ndim == 2 and "optimizer" not in path
                else None
            )
        )
    assert len(kernels) == 5
    for path in kernels:
        for value in (np.ones((3, 17), "f"), np.ones((4, 3), "i4"), np.ones(3, "f")):
            assert not verify(changed(saved / name, tmp_path, path, value)).whole, (path, value.shape)


@pytest.mark.tensorflow
def test_weights_beside_a_configuration(saved: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(saved / "m.keras") as archive:
        archive.extractall(tmp_path)
    assert verify(tmp_path / "model.weights.h5").whole
    with h5py.File(tmp_path / "model.weights.h5", "a") as file:
        del file["layers/dense_1"]
    (finding,) = (f for f in verify(tmp_path / "model.weights.h5").findings if f.severity == "damage")
    assert "(Dense) has 2 weights, and 0 are there" in finding.message


def weights_of(path: Path, directory: Path) -> Path:
    """The HDF5 file: that in an archive is taken out of it."""
    if path.suffix != ".keras":
        return path
    with zipfile.ZipFile(path) as archive:
        return Path(archive.extract("model.weights.h5", directory))


def changed(source: Path, directory: Path, path: str, value: Any = None) -> Path:
    """A copy whose dataset is lost, or is another."""
    weights = directory / "weights.h5"
    weights.write_bytes(weights_of(source, directory).read_bytes())
    with h5py.File(weights, "a") as file:
        del file[path]
        if value is not None:
            file[path] = value
    if source.suffix != ".keras":
        return weights
    out = directory / "changed.keras"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out, "w") as new:
        new.writestr("config.json", old.read("config.json"))
        new.write(weights, "model.weights.h5")
    return out


def test_a_save_that_was_interrupted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["layer_names"] = [b"dense", b"gone"]
        layer = file.create_group("dense")
        layer.attrs["weight_names"] = [b"dense/kernel:0", b"dense/bias:0"]
        layer["dense/kernel:0"] = np.ones((2, 3), "f")
        file.create_group("optimizer_weights").attrs["weight_names"] = [b"adam/m:0"]
        file.create_dataset("top_level_model_weights/never:0", (5,), "f")
        file["top_level_model_weights"].attrs["weight_names"] = [b"never:0"]
    assert run(["verify", str(tmp_path / "m.h5"), "--json"]) == 1
    messages = [finding["message"] for finding in json.loads(capsys.readouterr().out)["findings"]]
    told = " | ".join(messages)
    assert "lists 2 layers, 1 of them is not there: gone" in told
    assert "lists 3 weights, 1 of them is not there: dense/dense/bias:0" in told
    assert "lists 1 weights of the optimizer, 1 of them is not there: optimizer_weights/adam/m:0" in told
    assert "1 weights were never written, so that they are zeros: top_level_model_weights/never:0" in told


@pytest.mark.parametrize(
    ("base", "layers", "said"),
    [
        ("", [], "lists 0 layers, and holds 2 layers with 3 weights that it does not list: a, b/c"),
        ("model_weights", [], "lists 0 layers, and holds 2 layers with 3 weights that it does not list"),
        ("", [b"a"], "lists 1 layer, and holds 1 layer with 1 weight that it does not list: b/c"),
        ("", None, "has no list of its layers, and holds 2 layers with 3 weights that it does not list"),
        ("model_weights", None, "has no list of its layers, and holds 2 layers with 3 weights that it does not list"),
        ("", [b"a", b"b/c"], None),
        ("model_weights", [b"b/c", b"a", b"input"], None),
    ],
)
def test_a_list_of_layers_that_lacks_some(tmp_path: Path, base: str, layers: list[bytes] | None, said: str) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        top = file.require_group(base) if base else file
        if layers is not None:
            top.attrs["layer_names"] = layers or np.array([], "S1")
        for layer, names in {"a": [b"a/kernel:0", b"a/bias:0"], "b/c": [b"kernel:0"], "input": []}.items():
            group = top.create_group(layer)
            group.attrs["weight_names"] = names or np.array([], "S1")
            for name in names:
                group[name.decode()] = np.ones(2, "f")
        top.create_group("top_level_model_weights").attrs["weight_names"] = [b"w:0"]
        top["top_level_model_weights/w:0"] = np.ones(2, "f")
    found = verify(tmp_path / "m.h5")
    assert found.whole == (said is None)
    assert said is None or said in found.findings[0].message


@pytest.mark.parametrize("which", ["layers", "weights", "optimizer"])
def test_a_name_for_two_is_room_for_one(tmp_path: Path, which: str) -> None:
    # Keras lists all names before it writes the values, and ends with an error at the second of one name.
    twice = [b"k:0", b"k:0"]
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["layer_names"] = [b"a", b"a"] if which == "layers" else [b"a"]
        file.create_group("a").attrs["weight_names"] = twice if which == "weights" else [b"k:0"]
        file["a/k:0"] = np.ones(2, "f")
        file.create_group("optimizer_weights").attrs["weight_names"] = twice if which == "optimizer" else [b"k:0"]
        file["optimizer_weights/k:0"] = np.ones(2, "f")
    found = verify(tmp_path / "m.h5")
    assert not found.whole
    assert "one name for several of them" in found.findings[0].message


def test_weights_without_any_list_of_layers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["layer_names"] = np.array([], "S1")
        file["dense/kernel:0"] = np.ones(2, "f")
    assert "lists no layers, and holds 1 weight: dense/kernel:0" in verify(tmp_path / "m.h5").findings[0].message
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.attrs["layer_names"] = np.array([], "S1")
        file.create_group("top_level_model_weights").attrs["weight_names"] = [b"w:0"]
        file["top_level_model_weights/w:0"] = np.ones(2, "f")
    assert verify(tmp_path / "empty.h5").whole


def test_other_files_are_not_measured_by_the_lists_of_keras(tmp_path: Path) -> None:
    # In the shards of transformers the layers are datasets; a file of another program has no lists.
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        file["bert/kernel:0"] = np.ones(3, "f")
        file.attrs["layer_names"] = [b"bert/kernel:0"]
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("never", (5,), "f")
        file["vars/7"] = 1
    assert verify(tmp_path / "tf_model.h5").whole
    assert verify(tmp_path / "other.h5", quick=True).findings != ()


def infos(**shapes: tuple[int, ...]) -> dict[str, TensorInfo]:
    return {name.replace("__", "/"): TensorInfo(name, "float32", shape, 4) for name, shape in shapes.items()}


def test_a_list_in_pieces_and_odd_paths() -> None:
    lists = [
        Listed("", "layer_names", ("a/", "/b")),
        Listed("a", "weight_names", ("//k",)),
        Listed("b", "weight_names", ()),
    ]
    assert list(problems(infos(a__k=(1,)), lists, (), None)) == []


@pytest.mark.parametrize(
    "config",
    [
        "[" * 100_000,
        "{}",
        "[]",
        "null",
        '{"config": {"layers": [3, {"class_name": "Dense"}, {"class_name": 1, "config": {}}]}}',
    ],
)
def test_odd_configurations_raise_nothing(config: str) -> None:
    list(problems(infos(layers__dense__vars__0=(2, 3)), [], (), config))


def test_a_variable_between_others_is_missed() -> None:
    (problem,) = problems(infos(layers__dense__vars__0=(1,), layers__dense__vars__2=(1,)), [], (), None)
    assert problem == "variable 1 of layers/dense/vars is not there, and variable 2 is"
