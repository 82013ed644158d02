"""What TensorFlow writes in formats other than a plain bundle, read back by both."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
from formats_support import table

from ckpt_tools.errors import CorruptError, UnsupportedError
from ckpt_tools.format.table import read_table
from ckpt_tools.readers import Bundle, open_checkpoint

pytestmark = pytest.mark.tensorflow

VALUES = {
    "scalar": np.float32(-0.0),
    "empty": np.zeros((0, 3), np.float32),
    "matrix": np.arange(12, dtype=np.float32).reshape(3, 4),
    "nan": np.array([np.nan, np.inf, -np.inf, 5e-324], np.float64),
    "half": np.array([1.5, -2.25, np.inf], np.float16),
    "i8": np.array([-128, 127], np.int8),
    "i16": np.array([-32768, 32767], np.int16),
    "i32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "i64": np.array([-(2**63), 2**63 - 1, 0, -1], np.int64),
    "u8": np.array([0, 255], np.uint8),
    "flag": np.array([True, False]),
    "c64": np.array([1 + 2j], np.complex64),
    "c128": np.array([1 - 2j, complex(np.nan, 1)], np.complex128),
}


def test_partitioned_variables(tmp_path: Path) -> None:
    import oracle

    whole = np.arange(60, dtype=np.float32).reshape(10, 6)
    names = np.array([b"a", b"", b"\xff\x00"], object)
    # Rows; a grid; a name with bytes that need an escape; strings; a part that is the whole.
    tensors = [whole[:4], whole[4:], *(whole[r : r + 5, c : c + 3] for r in (0, 5) for c in (0, 3)), whole, names]
    keys = ["rows"] * 2 + ["grid"] * 4 + ["one"] + ["strings"]
    parts = ["10 6 0,4:-", "10 6 4,6:-", *(f"10 6 {r},5:{c},3" for r in (0, 5) for c in (0, 3)), "10 6 -:-", "3 0,3"]
    import tensorflow as tf

    prefix = str(tmp_path / "parts")
    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=keys, shape_and_slices=parts, tensors=[tf.constant(t) for t in tensors]
    )
    oracle.assert_agrees(prefix)
    with open_checkpoint(prefix) as checkpoint:
        assert isinstance(checkpoint, Bundle)
        assert list(checkpoint.tensors) == ["grid", "one", "rows", "strings"]
        assert len(checkpoint.parts["grid"]) == 4
        np.testing.assert_array_equal(checkpoint.read("grid"), whole)
        for name in ("rows", "grid", "one"):
            for first in range(10):
                for count in range(10 - first):
                    rows = checkpoint.rows(name, first, count)
                    np.testing.assert_array_equal(rows, whole[first : first + count])
        assert checkpoint.tensors["rows"].nbytes == whole.nbytes


def test_strings_of_version_1_have_the_size_of_their_bytes(tmp_path: Path) -> None:
    import tensorflow as tf

    path = str(tmp_path / "v1")
    names = np.array([b"a", b"", b"\xff\x00"], object)
    tf.raw_ops.Save(filename=path, tensor_names=["names"], data=[tf.constant(names)])
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.tensors["names"].nbytes == 3
        assert checkpoint.read("names").tolist() == names.tolist()


def test_partitioned_variables_in_several_shards(tmp_path: Path) -> None:
    import oracle
    import tensorflow as tf

    whole = np.arange(40, dtype=np.int64).reshape(8, 5)
    shards = []
    for number, rows in enumerate((slice(0, 3), slice(3, 8))):
        part = str(tmp_path / f"temp/part-{number}")
        spec = f"8 5 {rows.start},{rows.stop - rows.start}:-"
        tf.raw_ops.SaveV2(prefix=part, tensor_names=["v"], shape_and_slices=[spec], tensors=[whole[rows]])
        shards.append(part)
    prefix = str(tmp_path / "v")
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=shards, destination_prefix=prefix)
    oracle.assert_agrees(prefix)
    # One shard lost: the tensor is listed, reading it says which file is missing.
    os.remove(f"{prefix}.data-00001-of-00002")
    with open_checkpoint(prefix) as checkpoint:
        assert checkpoint.tensors["v"].shape == (8, 5)
        assert {finding.id for finding in checkpoint.verify()} == {"not-found"}


def test_a_part_that_is_missing_or_a_stranger(tmp_path: Path) -> None:
    import tensorflow as tf

    prefix = str(tmp_path / "v")
    whole = np.arange(6, dtype=np.float32)
    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=["v", "v"], shape_and_slices=["6 0,2", "6 2,4"], tensors=[whole[:2], whole[2:]]
    )
    entries = read_table(Path(f"{prefix}.index").read_bytes())
    parts = [key for key in entries if key.startswith(b"\0")]
    assert len(parts) == 2
    for changed, message in (
        ({k: v for k, v in entries.items() if k != parts[0]}, "not in the index"),
        ({**entries, parts[0].replace(b"v", b"w"): entries[parts[0]]}, "belongs to no tensor"),
    ):
        Path(f"{prefix}.index").write_bytes(table(changed))
        with pytest.raises(CorruptError, match=message):
            open_checkpoint(prefix)


def test_tensorflow_reads_the_same_from_a_compressed_index(tmp_path: Path) -> None:
    import oracle

    prefix = oracle.save(tmp_path / "plain", dict(VALUES))
    index = Path(f"{prefix}.index")
    index.write_bytes(table(read_table(index.read_bytes()), snappy=True))
    oracle.assert_agrees(prefix)


def test_variants_are_checked_but_not_decoded(tmp_path: Path) -> None:
    import tensorflow as tf

    dataset = iter(tf.data.Dataset.range(10).shuffle(5))
    next(dataset)
    prefix = tf.train.Checkpoint(iterator=dataset).write(str(tmp_path / "iterator"))
    with open_checkpoint(prefix) as checkpoint:
        (name,) = (name for name, info in checkpoint.tensors.items() if info.dtype == "variant")
        assert list(checkpoint.verify()) == []
        with pytest.raises(UnsupportedError):
            checkpoint.digest(name)
        assert sum(map(len, checkpoint.chunks(name))) == checkpoint.tensors[name].nbytes
        assert isinstance(checkpoint, Bundle)
        entry = checkpoint.entries[name]
    path = Path(f"{prefix}.data-00000-of-00001")
    data = path.read_bytes()
    for offset in range(entry.offset, entry.offset + entry.size, 7):
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :])
        with open_checkpoint(prefix) as checkpoint:
            assert {finding.key for finding in checkpoint.verify()} == {name}


def save_v1(directory: Path, sharded: bool, partitioned: bool) -> tuple[str, dict[str, np.ndarray]]:
    """Save with TensorFlow's old saver; two devices make two shards."""
    import tensorflow as tf

    v1 = tf.compat.v1
    values = {**VALUES, "text": np.array([[b"a", b""], [b"\xff\x00", b"x" * 300]], object)}
    variables = {}
    with tf.Graph().as_default(), v1.Session(config=v1.ConfigProto(device_count={"CPU": 2})) as session:
        for number, (name, value) in enumerate(values.items()):
            with tf.device(f"/cpu:{number % 2 if sharded else 0}"):
                variables[name] = v1.Variable(tf.constant(value), name=name, use_resource=False)
        if partitioned:
            cut = v1.fixed_size_partitioner(3)
            start = v1.random_uniform_initializer(seed=1)
            with tf.device("/cpu:0"):
                variables["table"] = v1.get_variable("table", (10, 7), initializer=start, partitioner=cut)
        saver = v1.train.Saver(variables, write_version=v1.train.SaverDef.V1, sharded=sharded)
        session.run(v1.global_variables_initializer())
        if partitioned:
            values["table"] = session.run(tf.convert_to_tensor(variables["table"]))
        path = saver.save(session, str(directory / "model.ckpt"), write_meta_graph=False)
    return path, values


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("partitioned", [False, True])
def test_version_1(tmp_path: Path, sharded: bool, partitioned: bool) -> None:
    import oracle
    import tensorflow as tf

    path, values = save_v1(tmp_path, sharded, partitioned)
    forms = [path, str(tmp_path), str(tmp_path / "model.ckpt")]
    if sharded:
        assert path.endswith("model.ckpt-?????-of-00002")
        forms += [str(tmp_path / "model.ckpt-00001-of-00002"), str(tmp_path / "model.ckpt-?????-of-?????")]
    reader = tf.train.load_checkpoint(path)
    for form in forms:
        with open_checkpoint(form) as checkpoint:
            assert checkpoint.format == "v1"
            assert checkpoint.prefix == path
            assert set(checkpoint.tensors) == set(values)
            for name, value in values.items():
                info = checkpoint.tensors[name]
                assert (info.dtype, info.shape) == (reader.get_variable_to_dtype_map()[name].name, np.shape(value))
                assert checkpoint.digest(name) == oracle.digest(np.asarray(value)), name
                # TensorFlow's own reader of version 1 gives back fewer types than its writer takes.
                with contextlib.suppress(tf.errors.UnimplementedError):
                    assert checkpoint.digest(name) == oracle.digest(np.asarray(reader.get_tensor(name))), name
            assert list(checkpoint.verify()) == []


@pytest.mark.parametrize("saved", ["keras", "module"])
def test_saved_models(tmp_path: Path, saved: str) -> None:
    import oracle
    import tensorflow as tf

    directory = str(tmp_path / "model")
    if saved == "module":
        module = tf.Module()
        module.v = tf.Variable([1.0, 2.0])
        table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
        table.insert(tf.constant(["a", "b"]), tf.constant([1, 2], tf.int64))
        module.table = table
        tf.saved_model.save(module, directory)
    else:
        import keras

        keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)]).export(directory, verbose=False)
    for form in (directory, f"{directory}/", f"{directory}/saved_model.pb"):
        with open_checkpoint(form) as checkpoint:
            assert checkpoint.format == "saved-model"
            assert checkpoint.prefix == os.path.join(directory, "variables/variables")
            assert checkpoint.graph is not None
    oracle.assert_agrees(os.path.join(directory, "variables/variables"))
