"""What ``ckpt export`` writes for Keras, loaded by Keras 3: a model that was saved by any Keras gives its old output.

Where the checkpoint does not tell what Keras needs to know, the exit code is 1. Nothing is ever loaded into the wrong
variables without a word.
"""

from __future__ import annotations

import functools
import json
import tarfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from checkpoints import FIXTURES, build_bundle

from ckpt_tools.cli import run
from ckpt_tools.errors import MismatchError
from ckpt_tools.format.graph import ObjectGraph
from ckpt_tools.format.keras_classes import Made, class_like, class_named, snake_case
from ckpt_tools.format.wire import bytes_field, text_field, varint_field
from ckpt_tools.operations.export_names import harmless
from ckpt_tools.operations.export_writers import Content, write_h5
from ckpt_tools.operations.exporting import Export, export
from ckpt_tools.operations.keras_layout import KerasModel
from ckpt_tools.readers.base import TensorInfo
from ckpt_tools.readers.saved_model import classes_in

pytestmark = pytest.mark.tensorflow

KERAS_2 = ("tf2.10", "tf2.15")
# What a checkpoint does not tell, by the ending of the file that needs it: the class of a layer that was named by its
# program or is not one of Keras; which of some variables of one shape are trained; whether an attribute is a dict.
CLASSES = {"custom", "custom_block", "custom_frozen_first", "custom_named", "named", "subclassed_list", "trained"}
ORDERS = {"custom", "custom_frozen_first", "custom_named", "subclassed_weight"}
DOUBTFUL = {
    (".weights.h5", "ckpt"): CLASSES | ORDERS | {"nested_twice"},
    (".h5", "ckpt"): ORDERS | {"subclassed_dict"},
    (".weights.h5", "saved"): set(),
    # Keras 3 fails to load what is the model's own from such a file.
    (".h5", "saved"): {"subclassed_weight"},
}
# A checkpoint of Keras 3 knows one kind of model from the other; it does not hold what a layer keeps in a list or dict.
NESTED, LISTED = {"nested_twice"}, {"stacked_cells", "subclassed_dict", "subclassed_list"}
# Their class is not in the checkpoint, and their name is not that of their class, so that Keras finds nothing.
NOT_FOUND = {"custom_named", "subclassed_list"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models that Keras 2 saved."""
    directory = tmp_path_factory.mktemp("zoo")
    for producer in KERAS_2:
        with tarfile.open(FIXTURES / "keras" / f"{producer}.tar.xz") as archive:
            archive.extractall(directory / producer, filter="data")
    return directory


@functools.cache
def built(name: str) -> tuple[Any, list[Any], list[Any]]:
    """A model of the zoo, an input, and the weights that it began with; each is built once."""
    import keras_zoo

    model, given = keras_zoo.built(name)
    return model, given, model.get_weights()


def names() -> list[str]:
    import keras_zoo

    return list(keras_zoo.ZOO)


def check(done: Export, model: Any, given: Any, expected: Any, doubtful: bool, note: str) -> bool:
    """Whether Keras loads it; when nothing is doubtful it must, and the output be the old one."""
    import keras_zoo

    assert done.certain is not doubtful, (note, done.findings)
    try:
        model.load_weights(done.output)
    except ValueError:
        assert doubtful, note
        return False
    output = keras_zoo.answer(model, given)
    assert doubtful or np.allclose(output, expected, atol=2e-3 if "mixed" in note else 1e-5), note
    return bool(np.allclose(output, expected, atol=1e-5))


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("ending", [".weights.h5", ".h5"])
def test_a_model_of_keras_2_gives_its_old_output(saved: Path, tmp_path: Path, name: str, ending: str) -> None:
    model, given, start = built(name)
    for producer in KERAS_2:
        for kind in ("ckpt", "saved"):
            folder = saved / producer / name
            if not folder.exists():
                assert (producer, name) == ("tf2.10", "group_norm")
                continue
            expected = np.load(folder / "io.npz")["y"]
            model.set_weights(start)
            done = export(folder / kind, str(tmp_path / f"{producer}-{kind}{ending}"))
            doubtful = name in DOUBTFUL[ending, kind]
            loaded = check(done, model, given, expected, doubtful, f"{producer} {kind} {name}")
            if doubtful and ending == ".weights.h5":
                # The most probable is right but for these, and Keras says so of the first two.
                assert loaded is (name not in {*NOT_FOUND, "custom_frozen_first"})


@pytest.mark.parametrize("name", names())
def test_a_model_of_keras_3_gives_its_old_output(tmp_path: Path, name: str) -> None:
    import keras_zoo
    import tensorflow as tf

    model, given, _ = built(name)
    keras_zoo.fill(model)
    expected = keras_zoo.answer(model, given)
    prefix = tf.train.Checkpoint(model=model).write(str(tmp_path / "ckpt"))
    for ending in (".weights.h5", ".h5"):
        if name in LISTED:
            with pytest.raises(MismatchError, match="no weights of layers"):
                export(prefix, str(tmp_path / f"m{ending}"))
            continue
        done = export(prefix, str(tmp_path / f"m{ending}"))
        model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
        doubtful = name in DOUBTFUL[ending, "ckpt"] - NESTED
        check(done, model, given, expected, doubtful, name)


@pytest.mark.parametrize("name", ["plain", "stacked_cells"])
def test_a_file_of_keras_2_is_loaded_as_it_is(
    saved: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import keras_zoo

    path = saved / "tf2.10" / name / "model.h5"
    assert run(["export", str(path), str(tmp_path / "m.weights.h5")]) == 1
    assert f"model.load_weights('{path}')" in "".join(capsys.readouterr().err.split("\n")).replace("  ", "")
    assert not (tmp_path / "m.weights.h5").exists()
    model, given, _ = built(name)
    model.load_weights(path)
    assert np.allclose(keras_zoo.answer(model, given), np.load(path.with_name("io.npz"))["y"], atol=1e-5)


def test_what_is_not_certain_is_said(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = saved / "tf2.10" / "named" / "ckpt"
    assert run(["export", str(prefix), str(tmp_path / "m.weights.h5"), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["certain"] is False
    said = " ".join(finding["message"] for finding in document["findings"])
    assert "'hidden'" in said
    assert "'out'" in said
    assert document["findings"][-1]["fix"] == f"ckpt export {prefix} ckpt.h5"


def test_the_model_of_a_checkpoint_of_several(tmp_path: Path) -> None:
    import keras_zoo
    import tensorflow as tf

    one, given = keras_zoo.built("plain")
    two, _ = keras_zoo.built("plain")
    for model, value in ((one, 0.5), (two, 0.25)):
        model.set_weights([np.full_like(weight, value) for weight in model.get_weights()])
    prefix = tf.train.Checkpoint(generator=one, critic=two, step=tf.Variable(3)).save(str(tmp_path / "ckpt"))
    with pytest.raises(MismatchError, match="several models: critic, generator") as caught:
        export(prefix, str(tmp_path / "m.weights.h5"))
    assert caught.value.hint == "say which one: --model critic"
    assert export(prefix, str(tmp_path / "m.weights.h5"), model="critic").certain
    one.load_weights(tmp_path / "m.weights.h5")
    assert np.allclose(keras_zoo.answer(one, given), keras_zoo.answer(two, given))


def test_the_model_may_have_any_name_in_the_checkpoint(tmp_path: Path) -> None:
    import keras_zoo
    import tensorflow as tf

    model, given = keras_zoo.built("plain")
    keras_zoo.fill(model)
    expected = keras_zoo.answer(model, given)
    for number, children in enumerate(({"net": model}, {"net": model, "step": tf.Variable(1)})):
        prefix = tf.train.Checkpoint(**children).write(str(tmp_path / f"ckpt-{number}"))
        export(prefix, str(tmp_path / "m.weights.h5"), force=True)
        other, _ = keras_zoo.built("plain")
        other.load_weights(tmp_path / "m.weights.h5")
        assert np.allclose(keras_zoo.answer(other, given), expected)


def test_weights_that_only_the_optimizer_still_knows_are_missed(tmp_path: Path) -> None:
    # Keras 3 does not track what a layer keeps in a list; its optimizer does.
    import keras
    import tensorflow as tf

    model = keras.Sequential(
        [keras.layers.Input((5, 3)), keras.layers.Dense(4), keras.layers.RNN([keras.layers.GRUCell(2)] * 1)]
    )
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    prefix = tf.train.Checkpoint(model=model, optimizer=optimizer).write(str(tmp_path / "ckpt"))
    done = export(prefix, str(tmp_path / "m.weights.h5"))
    assert not done.certain
    assert any("holds no values" in finding.message or "of no layer" in finding.message for finding in done.findings)


def test_a_long_list_of_layers_is_written_as_keras_does(tmp_path: Path) -> None:
    from keras.src.legacy.saving.legacy_h5_format import load_attributes_from_hdf5_group

    layers = [(f"layer_{number}", ["kernel:0"]) for number in range(6000)]
    with (tmp_path / "m.h5").open("w+b") as file:
        write_h5(file, Content({}, {}, layers))
    with h5py.File(tmp_path / "m.h5") as found:
        assert load_attributes_from_hdf5_group(found, "layer_names") == [name for name, _ in layers]
        assert load_attributes_from_hdf5_group(found["layer_7"], "weight_names") == ["kernel:0"]


# -------------------------------------------------------------------------------------------- the parts


@pytest.mark.parametrize("frozen", [False, True])
def test_the_list_of_weights_of_a_saved_model_tells_their_order(frozen: bool) -> None:
    def node(**children: int) -> bytes:
        names = (bytes_field(1, varint_field(1, child) + text_field(2, name)) for name, child in children.items())
        return bytes_field(1, b"".join(names))

    def variable(name: str) -> bytes:
        value = text_field(1, "VARIABLE_VALUE") + text_field(2, f"mine/{name}") + text_field(3, name)
        return bytes_field(1, bytes_field(2, value))

    # What is not trained was created first; of a frozen layer nothing is.
    graph = node(mine=1) + node(seen=2, scale=3, variables=4, trainable_variables=5) + variable("seen")
    graph += variable("scale") + bytes_field(1, _child("0", 3) + _child("1", 2))
    graph += bytes_field(1, b"" if frozen else _child("0", 3))
    tensors = {name: TensorInfo(name, "float32", (4,), 16) for name in ("seen", "scale")}
    model = KerasModel(ObjectGraph(graph), tensors, {"mine": "Mine"}, "mine")
    assert model.by_class().groups == {"": ("scale", "seen")}
    assert not model.by_class().doubts


@pytest.mark.parametrize(
    ("with_slots", "order", "said"),
    [
        ((), ("seen", "scale"), "seen, scale have one shape, and the checkpoint holds no state of an optimizer"),
        (("scale",), ("scale", "seen"), "holds state of the optimizer for scale and none for seen"),
        (("seen",), ("seen", "scale"), None),
        (("seen", "scale"), ("seen", "scale"), None),
    ],
)
def test_a_slot_that_is_missing_is_said_to_be_missing(
    with_slots: tuple[str, ...], order: tuple[str, ...], said: str | None
) -> None:
    def variable(name: str) -> bytes:
        value = text_field(1, "VARIABLE_VALUE") + text_field(2, f"mine/{name}") + text_field(3, name)
        return bytes_field(1, bytes_field(2, value))

    numbers = {"seen": 3, "scale": 4}
    slots = (varint_field(1, numbers[name]) + text_field(2, "m") + varint_field(3, 5) for name in with_slots)
    graph = bytes_field(1, _child("mine", 1) + _child("optimizer", 2))
    graph += bytes_field(1, _child("seen", 3) + _child("scale", 4))
    graph += bytes_field(1, b"".join(bytes_field(3, slot) for slot in slots))
    graph += variable("seen") + variable("scale") + variable("slot")
    tensors = {name: TensorInfo(name, "float32", (4,), 16) for name in ("seen", "scale")}
    layout = KerasModel(ObjectGraph(graph), tensors, {"mine": "Mine"}, "mine").by_class()
    assert layout.groups == {"": order}
    doubts = " ".join(doubt.message for doubt in layout.doubts)
    assert said in doubts if said else not doubts


def _child(name: str, number: int) -> bytes:
    return bytes_field(1, varint_field(1, number) + text_field(2, name))


def test_the_classes_in_a_saved_model() -> None:
    def node(path: str, identifier: str, metadata: str) -> bytes:
        return bytes_field(
            1, varint_field(2, 1) + text_field(3, path) + text_field(4, identifier) + text_field(5, metadata)
        )

    data = (
        node("root", "_tf_keras_model", '{"class_name": "Mine"}')
        + node("root.a.b", "_tf_keras_layer", '{"class_name": "Package>Deep"}')
        + node("root.m", "_tf_keras_metric", '{"class_name": "Mean"}')
        + node("root.broken", "_tf_keras_layer", "{" * 100_000)
        + node("root.odd", "_tf_keras_layer", '{"class_name": 3}')
    )
    assert classes_in(data) == {"": "Mine", "a/b": "Deep"}


@pytest.mark.parametrize(
    ("name", "made", "expected"),
    [
        ("dense_12", Made({"kernel": (3, 4), "bias": (4,)}, frozenset()), "dense"),
        ("out", Made({"kernel": (3, 4), "bias": (4,)}, frozenset()), None),
        ("embedding", Made({"kernel": (3, 4), "bias": (4,)}, frozenset()), None),
        ("attention", Made({"w_query": (4, 4)}, frozenset()), None),
        ("gru_cell", Made({"kernel": (3, 12), "recurrent_kernel": (4, 12)}, frozenset()), "gru_cell"),
        ("lstm_cell", Made({"kernel": (3, 12), "recurrent_kernel": (4, 12)}, frozenset()), None),
    ],
)
def test_a_name_is_that_of_a_class_when_the_layer_is_made_so(name: str, made: Made, expected: str | None) -> None:
    assert class_named(name, made) == expected


def test_classes_are_called_as_keras_calls_them() -> None:
    from keras.src.utils.naming import to_snake_case

    for name in (
        "Dense",
        "SeparableConv2D",
        "Conv2DTranspose",
        "LSTM",
        "GRUCell",
        "PReLU",
        "MultiHeadAttention",
        "A1B2c",
    ):
        assert snake_case(name) == to_snake_case(name)
    assert class_like(Made({"kernel": (3, 4)}, frozenset())) == "dense"


def test_names_of_other_programs_are_harmless() -> None:
    odd = ["../../x", "/a", "a", "a//b", ".", "a/", "C:/x", "a\\..\\b", "a\0b", "n" * 70_000, "\ud800", ""]
    new = harmless(odd)
    assert len(set(new.values())) == len(odd)
    for name in new.values():
        assert all(part and part.strip(".") for part in name.split("/")), name
        assert not name.startswith("/")
        assert len(name.encode()) < 65_000
        assert "\\" not in name
    assert new["a"] == "a"


# ------------------------------------------------------------------------------------------- from Windows


@pytest.fixture
def of_windows(tmp_path: Path) -> Path:
    r"""A file as Keras 2.12 to 2.14 wrote it on Windows, ``\`` in the names of groups, beside the same of Linux."""
    values = {"layers/dense/vars/0": np.ones((3, 2), "f"), "layers/dense/vars/1": np.zeros(2, "f")}
    for name, sign in (("linux", "/"), ("windows", "\\")):
        with h5py.File(tmp_path / f"{name}.weights.h5", "w") as file:
            for key, value in values.items():
                group, leaf = key.rsplit("/vars/", 1)
                file.create_dataset(f"{group.replace('/', sign)}/vars/{leaf}", data=value)
    return tmp_path / "windows.weights.h5"


def test_names_of_windows_are_those_of_linux(of_windows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import keras

    linux, out = of_windows.with_name("linux.weights.h5"), of_windows.with_name("fixed.weights.h5")
    assert run(["diff", str(of_windows), str(linux)]) == 0
    assert "2 tensors, all the same" in capsys.readouterr().out
    message = "Layer 'dense' expected 2 variables, but received 0 variables during loading"
    assert run(["explain", message, str(of_windows), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fix"] == f"ckpt export {of_windows} fixed.weights.h5"
    assert "Windows" in found["checked"]
    assert run(["export", str(of_windows), str(out)]) == 0
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="expected 2 variables"):
        model.load_weights(of_windows)
    model.load_weights(out)
    assert np.array_equal(model.get_weights()[0], np.ones((3, 2)))


def test_in_other_files_it_is_a_letter(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", {"a\\b": np.ones(2, "f")})
    assert [row.name for row in export(prefix, str(tmp_path / "m.safetensors")).written] == ["a\\b"]
    assert [row.name for row in export(prefix, str(tmp_path / "m.npz")).written] == ["a%5Cb"]
