"""`ckpt slim` and `ckpt average`: what stays is bit-equal, and TensorFlow and Keras restore it without a warning."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from checkpoints import build_bundle, contents, pick
from objects import build_objects

from ckpt_tools.errors import MismatchError, UsageError
from ckpt_tools.operations.averaging import average
from ckpt_tools.operations.slimming import slim
from ckpt_tools.readers import Bundle, open_checkpoint
from ckpt_tools.transactions import drop_backups, undo

# Saved with TensorFlow, which takes seconds to import.
tensorflow = pytest.mark.tensorflow


def values_of(path: str | Path) -> dict[str, np.ndarray]:
    with open_checkpoint(str(path)) as checkpoint:
        assert [finding for finding in checkpoint.verify() if finding.severity != "note"] == []
        return {key: checkpoint.read(key) for key in checkpoint.tensors}


def tf1_like(prefix: Path, seed: int = 0, **more: Any) -> str:
    random = np.random.default_rng(seed)
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in {"w": (4, 3), "b": (3,)}.items()}
    slots = {f"{name}/{slot}": np.ones_like(w) for name, w in weights.items() for slot in ("Adam", "Adam_1")}
    averages = {f"{name}/ExponentialMovingAverage": w / 2 for name, w in weights.items()}
    state = {"global_step": np.int64(100 + seed), "beta1_power": np.float32(0.5), "best_acc": np.float32(0.75)}
    return build_bundle(prefix, {**weights, **slots, **averages, **state, **more})


# ------------------------------------------------------------------------------------------------- slim


def test_what_is_kept_is_bit_equal_and_the_rest_is_gone_with_its_bytes(tmp_path: Path) -> None:
    old = tf1_like(tmp_path / "model.ckpt-100", vocabulary=[b"a", b"", b"ccc"])
    done = slim(old, str(tmp_path / "slim" / "model.ckpt"))
    before, after = values_of(old), values_of(tmp_path / "slim" / "model.ckpt")
    assert set(after) == {key for key in before if "/Adam" not in key and key != "beta1_power"}
    assert all(after[key].tobytes() == before[key].tobytes() for key in after if key != "vocabulary")
    assert after["vocabulary"].tolist() == [b"a", b"", b"ccc"]
    assert set(done.dropped) == set(before) - set(after)
    data = [os.path.getsize(path) for path in (tmp_path / "slim").glob("*.data-*")]
    assert sum(data) == done.kept_bytes
    assert (tmp_path / "slim" / "checkpoint").exists()
    assert any("Adam of 2 variables" in sentence for sentence in done.lacks)


@pytest.mark.parametrize("root", ["tf1.15", "tf2.10", "tf2.15", "tf2.21"])
def test_old_experiments_lose_their_moments_and_nothing_else(root: str, tmp_path: Path) -> None:
    sample = pick(root)
    done = slim(str(sample.path), str(tmp_path / "new" / "ckpt"))
    before, after = values_of(sample.full_prefix), values_of(tmp_path / "new" / "ckpt")
    assert set(after) == set(done.kept)
    assert all(before[key].tobytes() == after[key].tobytes() for key in after)
    assert not any("optimizer" in key and "_trainable_variables" not in key for key in after)
    with Bundle(str(tmp_path / "new" / "ckpt")) as bundle:
        if bundle.graph is not None:
            assert set(bundle.graph.full_names) == set(after)
            assert bundle.graph.child("optimizer") is None or root == "tf2.21"


def test_a_shard_without_optimizer_state_is_linked(tmp_path: Path) -> None:
    import oracle

    prefix = oracle.save_shards(
        tmp_path / "sharded", [{"w": np.ones((50, 3), "f")}, {"w/Adam": np.ones((50, 3), "f"), "b": np.ones(3, "f")}]
    )
    slim(prefix, str(tmp_path / "slim"))
    shards = sorted(tmp_path.glob("slim.data-*"))
    assert [path.stat().st_nlink for path in shards] == [2, 1]
    assert [path.stat().st_size for path in shards] == [600, 12]
    assert set(oracle.read_all(str(tmp_path / "slim"))) == {"w", "b"}


test_a_shard_without_optimizer_state_is_linked = tensorflow(test_a_shard_without_optimizer_state_is_linked)


@pytest.mark.parametrize("objects", [False, True])
def test_in_place_keeps_the_originals_until_they_are_given_up(objects: bool, tmp_path: Path) -> None:
    if objects:
        old = build_objects(
            tmp_path / "ckpt-1",
            {"model/w": ("w", np.ones((4, 3))), "optimizer/iter": ("Adam/iter", np.int64(7))},
            {("model/w", "m"): np.ones((4, 3))},
        )
    else:
        old = tf1_like(tmp_path / "ckpt-1")
    before = contents(tmp_path)
    bytes_before = sum(path.stat().st_size for path in tmp_path.glob("*.data-*"))
    done = slim(old, None, in_place=True)
    assert done.backup is not None
    assert set(values_of(old)) == set(done.kept)
    left = sum(path.stat().st_size for path in tmp_path.glob("*.data-*"))
    assert left < bytes_before - done.dropped_bytes / 2
    undo(old)
    assert contents(tmp_path) == before or set(contents(tmp_path)) - set(before) <= {".ckpt-tools/ledger.jsonl"}
    slim(old, None, in_place=True)
    drop_backups(old)
    assert set(values_of(old)) == set(done.kept)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.data-*")) == left
    with pytest.raises(UsageError, match="nothing to leave out"):
        slim(old, None, in_place=True)


@pytest.mark.parametrize("shape", [(), (2,)])
def test_an_attribute_keeps_bytes_that_its_declared_characters_do_not_have(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    """Declared ASCII, and UTF-8 or no text at all in the file: h5py reads both, and would write neither."""
    path = tmp_path / "m.weights.h5"
    ascii_text = h5py.string_dtype("ascii")
    words = np.full(shape, "é\udcff".encode("utf-8", "surrogateescape"), object)
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.ones(3, np.float32)
        file["optimizer/vars/0"] = np.int64(7)
        file["layers"].attrs.create("note", words, shape=shape, dtype=ascii_text)
    slim(str(path), None, in_place=True)
    with h5py.File(path) as file:
        assert "optimizer/vars/0" not in file
        note = file["layers"].attrs["note"]
        assert np.all(np.asarray(note, object) == "é\udcff")
        assert h5py.check_string_dtype(file["layers"].attrs.get_id("note").dtype).encoding == "ascii"


def test_nothing_is_written_unasked(tmp_path: Path) -> None:
    old = tf1_like(tmp_path / "model")
    before = contents(tmp_path)
    assert not slim(old, str(tmp_path / "new"), dry_run=True).written
    assert contents(tmp_path) == before
    for out, in_place in ((None, False), (str(tmp_path / "new"), True), (old, False)):
        with pytest.raises(UsageError):
            slim(old, out, in_place=in_place)
    assert contents(tmp_path) == before


def test_damage_in_what_is_copied_stops_it(tmp_path: Path) -> None:
    from ckpt_tools.errors import CorruptError

    old = tf1_like(tmp_path / "model")
    data = tmp_path / "model.data-00000-of-00001"
    with Bundle(old) as bundle:
        offset = bundle.entries["w"].offset
    raw = bytearray(data.read_bytes())
    raw[offset] ^= 1
    data.write_bytes(raw)
    with pytest.raises(CorruptError):
        slim(old, str(tmp_path / "new" / "model"))
    assert not (tmp_path / "new" / "model.index").exists()


@tensorflow
def test_tensorflow_restores_the_model_without_expecting_a_part(tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    def made() -> Any:
        keras.utils.set_random_seed(3)
        layers = [
            keras.Input((6,)),
            keras.layers.Dense(5),
            keras.layers.Dropout(0.1),
            keras.layers.BatchNormalization(),
        ]
        return keras.Sequential([*layers, keras.layers.Dense(2)])

    model = made()
    model.compile("adam", "mse")
    model.fit(np.ones((8, 6)), np.ones((8, 2)), verbose=0)
    old = tf.train.Checkpoint(model=model, optimizer=model.optimizer, epoch=tf.Variable(4)).save(str(tmp_path / "ckpt"))
    slim(old, str(tmp_path / "slim" / "ckpt"))
    fresh, epoch = made(), tf.Variable(0)
    status = tf.train.Checkpoint(model=fresh, epoch=epoch).restore(str(tmp_path / "slim" / "ckpt"))
    status.assert_existing_objects_matched()
    status.assert_consumed()
    assert epoch.numpy() == 4
    for one, other in zip(model.weights, fresh.weights, strict=True):
        assert np.array_equal(one.numpy(), other.numpy())


@tensorflow
def test_a_tf1_saver_restores_the_model_and_goes_on_saving(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        w = v1.get_variable("w", [3, 2], use_resource=True)
        step = v1.train.get_or_create_global_step()
        train = v1.train.AdamOptimizer().minimize(tf.reduce_sum(w**2), global_step=step)
        session.run(v1.global_variables_initializer())
        session.run(train)
        expected = session.run(w)
        old = v1.train.Saver().save(session, str(tmp_path / "run" / "model.ckpt"), global_step=1)
    slim(old, None, in_place=True)
    with tf.Graph().as_default(), v1.Session() as session:
        w = v1.get_variable("w", [3, 2], use_resource=True)
        step = v1.train.get_or_create_global_step()
        saver = v1.train.Saver([w, step], max_to_keep=1)
        saver.restore(session, v1.train.latest_checkpoint(str(tmp_path / "run")))
        assert np.array_equal(session.run(w), expected)
        assert session.run(step) == 1
        saver.save(session, str(tmp_path / "run" / "model.ckpt"), global_step=2)
    assert set(values_of(tmp_path / "run" / "model.ckpt-2")) == {"w", "global_step"}


@tensorflow
@pytest.mark.parametrize("ending", [".keras", ".h5", ".weights.h5"])
def test_keras_loads_what_was_slimmed_and_averaged(ending: str, tmp_path: Path) -> None:
    import keras

    paths, models = [], []
    for seed in range(2):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(5, name="one"), keras.layers.Dense(2, name="two")]
        )
        model.compile("adam", keras.losses.MeanSquaredError())
        model.fit(np.ones((8, 6)), np.ones((8, 2)), verbose=0)
        paths.append(str(tmp_path / f"model{seed}{ending}"))
        (model.save_weights if ending == ".weights.h5" else model.save)(paths[-1])
        models.append(model)

    def loaded(path: str) -> Any:
        if ending != ".weights.h5":
            return keras.models.load_model(path)
        model = keras.models.clone_model(models[0])
        model.load_weights(path)
        return model

    thin, mean = str(tmp_path / f"slim{ending}"), str(tmp_path / f"mean{ending}")
    done = slim(paths[0], thin)
    assert any("optimizer" in key for key in done.dropped)
    assert os.path.getsize(thin) < os.path.getsize(paths[0])
    for one, other in zip(models[0].weights, loaded(thin).weights, strict=True):
        assert np.array_equal(one.numpy(), other.numpy())
    found = average(paths, mean)
    assert len(found.averaged) == 4
    for one, two, other in zip(models[0].weights, models[1].weights, loaded(mean).weights, strict=True):
        expected = ((one.numpy().astype(np.float64) + two.numpy()) / 2).astype(np.float32)
        assert np.array_equal(expected, other.numpy())
    if ending == ".keras":
        assert zipfile.ZipFile(thin).read("config.json") == zipfile.ZipFile(paths[0]).read("config.json")
    with pytest.raises(UsageError):
        slim(paths[0], thin)
    before = Path(paths[0]).read_bytes()
    slim(paths[0], None, in_place=True)
    for one, other in zip(models[0].weights, loaded(paths[0]).weights, strict=True):
        assert np.array_equal(one.numpy(), other.numpy())
    undo(paths[0])
    assert Path(paths[0]).read_bytes() == before


# ---------------------------------------------------------------------------------------------- average


def test_the_mean_is_of_float64_in_the_stored_type(tmp_path: Path) -> None:
    import ml_dtypes

    for dtype in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16, np.complex64):
        random = np.random.default_rng(1)
        arrays = [random.normal(size=(5, 3)).astype(dtype) for _ in range(3)]
        folder = tmp_path / np.dtype(dtype).name
        folder.mkdir()
        paths = [build_bundle(folder / str(n), {"w": array}) for n, array in enumerate(arrays)]
        average(paths, str(folder / "mean"))
        wide = np.complex128 if dtype is np.complex64 else np.float64
        expected = (sum(array.astype(wide) for array in arrays) / 3).astype(dtype)
        assert values_of(folder / "mean")["w"].tobytes() == expected.tobytes()


def test_moments_steps_and_bests_are_left_out_and_said(tmp_path: Path) -> None:
    paths = [tf1_like(tmp_path / f"ckpt-{seed}", seed, vocabulary=[b"x"]) for seed in range(3)]
    before = contents(tmp_path)
    done = average(paths, str(tmp_path / "out" / "ckpt"))
    assert {key: row for key, row in contents(tmp_path).items() if not key.startswith("out")} == before
    assert set(values_of(tmp_path / "out" / "ckpt")) == {*done.averaged, *done.kept}
    assert set(done.averaged) == {name + more for name in "wb" for more in ("", "/ExponentialMovingAverage")}
    assert done.kept == ("vocabulary",)
    assert {"global_step", "best_acc", "beta1_power", "w/Adam"} <= set(done.dropped)


def test_what_is_no_checkpoint_of_the_same_model_is_refused(tmp_path: Path) -> None:
    first = build_bundle(tmp_path / "a", {"w": np.ones((3, 2)), "words": [b"a"], "ids": np.arange(4)})
    others: dict[str, dict[str, Any]] = {
        "lacks": {"words": [b"a"], "ids": np.arange(4)},
        "shape": {"w": np.ones((2, 2)), "words": [b"a"], "ids": np.arange(4)},
        "dtype": {"w": np.ones((3, 2), "f"), "words": [b"a"], "ids": np.arange(4)},
        "words": {"w": np.ones((3, 2)), "words": [b"b"], "ids": np.arange(4)},
        "ids": {"w": np.ones((3, 2)), "words": [b"a"], "ids": np.arange(4) + 1},
    }
    for name, tensors in others.items():
        with pytest.raises(MismatchError) as caught:
            average([first, build_bundle(tmp_path / name, tensors)], str(tmp_path / "out" / "mean"))
        assert caught.value.path == str(tmp_path / name)
    for paths in ([first], [first, first]):
        with pytest.raises(UsageError):
            average(paths, str(tmp_path / "out" / "mean"))
    assert not (tmp_path / "out").exists()


def test_a_tensor_without_elements_has_no_mean_to_take(tmp_path: Path) -> None:
    """Of a shape that is as large as an array of its type may be: float64 has no such array."""
    shape = (0, 1 << 61)
    paths = [build_bundle(tmp_path / name, {"kernel": np.zeros(shape, np.float16), "b": np.ones(2)}) for name in "ab"]
    average(paths, str(tmp_path / "mean"))
    with Bundle(str(tmp_path / "mean")) as bundle:
        assert bundle.tensors["kernel"].shape == shape


def test_a_mean_that_is_not_finite_is_told(tmp_path: Path) -> None:
    paths = [build_bundle(tmp_path / str(n), {"w": np.float32([1, n and np.nan])}) for n in range(2)]
    (finding,) = average(paths, str(tmp_path / "mean")).findings
    assert (finding.id, finding.key) == ("not-finite", "w")


@tensorflow
def test_tensorflow_restores_an_average_of_checkpoints_with_optimizers(tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    paths, weights = [], []
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile("adam", "mse")
        model.fit(np.ones((8, 4)), np.ones((8, 3)), verbose=0)
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, step=tf.Variable(seed))
        paths.append(checkpoint.save(str(tmp_path / f"run{seed}" / "ckpt")))
        weights.append([weight.numpy() for weight in model.weights])
    average(paths, str(tmp_path / "mean" / "ckpt"))
    fresh = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    status = tf.train.Checkpoint(model=fresh).restore(tf.train.latest_checkpoint(str(tmp_path / "mean")))
    status.assert_existing_objects_matched()
    status.assert_consumed()
    for number, weight in enumerate(fresh.weights):
        expected = (sum(run[number].astype(np.float64) for run in weights) / 3).astype(np.float32)
        assert np.array_equal(weight.numpy(), expected)


def test_the_commands_say_what_they_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from ckpt_tools.cli import run

    paths = [tf1_like(tmp_path / f"ckpt-{seed}", seed) for seed in range(2)]
    assert run(["slim", paths[0], str(tmp_path / "slim" / "ckpt")]) == 0
    assert "5 tensors dropped" in capsys.readouterr().out
    assert run(["slim", paths[0], "--in-place", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["written"], len(document["dropped"])) == (True, 5)
    assert run(["undo", paths[0], "--json"]) == 0
    capsys.readouterr()
    assert run(["average", *paths, str(tmp_path / "mean" / "ckpt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["averaged"] == sorted(
        f"{name}{more}" for name in "wb" for more in ("", "/ExponentialMovingAverage")
    )
    assert run(["average", paths[0], str(tmp_path / "one")]) == 2


def test_killed_before_it_could_be_named_it_is_made_by_the_same_command(tmp_path: Path) -> None:
    old, out = tf1_like(tmp_path / "model"), tmp_path / "out" / "m"
    slim(old, str(out))
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / "checkpoint").rename(tmp_path / "out" / "checkpoint.tmp-0123abcd")
    os.truncate(tmp_path / "out" / "checkpoint.tmp-0123abcd", 5)
    slim(old, str(out))
    assert contents(tmp_path / "out") == whole
    with pytest.raises(UsageError, match="already"):
        slim(old, str(out))
    # Another checkpoint that nothing names is not taken for one that was begun.
    (tmp_path / "out" / "checkpoint").unlink()
    another = tf1_like(tmp_path / "another")
    before = contents(tmp_path / "out")
    with pytest.raises(UsageError, match="already"):
        average([old, another], str(out))
    assert contents(tmp_path / "out") == before
