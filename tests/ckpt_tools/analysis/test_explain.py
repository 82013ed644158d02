"""``ckpt explain``: the cause of a message, what the checkpoint says about it, and the command that helps."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from checkpoints import build_bundle, pick
from real_messages import REAL

from ckpt_tools.analysis.explanation import explain
from ckpt_tools.analysis.messages import KNOWN
from ckpt_tools.analysis.messages.nearest import find_nearest
from ckpt_tools.cli import run
from ckpt_tools.errors import NotFoundError

MESSAGES = {
    "wrong-file": "DataLossError: Unable to open table file model.ckpt.data-00000-of-00001: Data loss: not an sstable "
    "(bad magic number): perhaps your file is in a different file format",
    "index-cut-off": "Data loss: file is too short to be an sstable [Op:RestoreV2]",
    "checksum": "TensorBundle at m shard 0 (40 bytes): Checksum does not match: stored 123 vs. calculated on the "
    "restored bytes 456",
    "key-missing": "NotFoundError: Key dense/kernel not found in checkpoint [[node save/RestoreV2]]",
    "object-graph-missing": "Key _CHECKPOINTABLE_OBJECT_GRAPH not found in checkpoint",
    "missing-data": "m.data-00000-of-00001; No such file or directory",
    "no-match": "Unsuccessful TensorSliceReader constructor: Failed to find any matching files for /old/m",
    "altered-graph": "Restoring from checkpoint failed. This is most likely due to a mismatch between the current "
    "graph and the graph from the checkpoint.",
    "not-hdf5": "OSError: Unable to synchronously open file (file signature not found)",
    "hdf5-cut-off": "OSError: Unable to open file (truncated file: eof = 96, sblock->base_addr = 0, stored_eof = 2048)",
    "hdf5-damaged": "KeyError: 'Unable to synchronously open object (bad object header version number)'",
    "hdf5-locked": "BlockingIOError: Unable to create file (unable to lock file, errno = 11)",
    "data-cut-off": "OutOfRangeError: Read less bytes than requested",
    "legacy-optimizer": "You are trying to restore a checkpoint from a legacy Keras optimizer into a v2.11+ Optimizer",
    "optimizer-skipped": "UserWarning: Skipping variable loading for optimizer 'adam', because it has 10 variables",
    "not-all-used": "A checkpoint was restored but not all checkpointed values were used. Unresolved object in "
    "checkpoint: (root).best_metric",
    "best-forgotten": "Epoch 11: val_loss improved from inf to 0.31",
    "keras3-format": "ValueError: File format not supported: filepath=m. Keras 3 only supports V3 `.keras` files",
    "shape": "Assign requires shapes of both tensors to match. lhs shape= [5] rhs shape= [6]",
    "layers": "You are trying to load a weight file containing 2 layers into a model with 3 layers.",
    "type": "Expected to restore a tensor of type float, got a tensor of type double instead",
    "pickle": "UnpicklingError: invalid load key, 'v'.",
    "no-space": "ResourceExhaustedError: m_temp/part-0.data; No space left on device",
    "never-restored": "Attempting to use uninitialized value dense/kernel",
    "data-loss": "DataLossError: something else",
}


# From the format strings of TensorFlow, Keras and h5py.
OTHERS = {
    "best-direction": "ModelCheckpoint mode best is unknown, fallback to auto mode.",
    "best-never-better": "Epoch 3: val_accuracy did not improve from -inf",
    "early-stopping": "Epoch 12: early stopping\nRestoring model weights from the end of the best epoch: 9.",
    "best-never-saved": "UserWarning: Learning rate reduction is conditioned on metric `val_loss` which is not "
    "available. Available metrics are: loss,learning_rate.",
    "no-variables": "ValueError: No variables to save",
    "not-trackable": "ValueError: `Checkpoint` was expecting model to be a trackable object (an object derived from "
    "`Trackable`), got <function f>",
    "snappy": "It's likely that your checkpoint file has been compressed with SNAPPY.",
    "name-based": 'The specified checkpoint "m" does not appear to be object-based (saved with TF2) since it is '
    'missing the key "_CHECKPOINTABLE_OBJECT_GRAPH".',
    "binary-as-text": "UnicodeDecodeError: 'utf-8' codec can't decode byte 0x89 in position 0: invalid start byte",
    "h5py-missing": "ImportError: `load_weights` requires h5py package when loading weights from HDF5.",
    "hdf5-read-only": "ValueError: Unable to create group (no write intent on file)",
    "mismatch-skipped": "UserWarning: Skipping loading weights for layer #3 (named dense) due to mismatch in number of "
    "weights",
    "header-too-large": "RuntimeError: Unable to create attribute (object header message is too large)",
    "hdf5-write-failed": "OSError: Can't write data (file write failed: time = Mon, filename = 'a.h5', errno = 5)",
    "by-name": "NotImplementedError: Weights may only be loaded based on topology into Models when loading "
    "TensorFlow-formatted weights (got by_name=True to load_weights).",
    "newer-version": "ValueError: Forward compatibility load error: Unable to load checkpoint saved in future "
    "version of "
    "TensorFlow.",
    "refused": "ValueError: Not allowed: H5 dataset 'w' declares 4.0 GB but only 12 kB are stored on disk; refusing to "
    "load a potential decompression/shape bomb.",
}


def test_every_cause_has_a_message() -> None:
    assert {*MESSAGES, *OTHERS, *(real.id for real in REAL)} == {known.id for known in KNOWN}
    for id, message in OTHERS.items():
        assert explain(message).id == id


@pytest.mark.parametrize("id", MESSAGES)
def test_messages(id: str, tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", {"v": np.ones(3)})
    found = explain(MESSAGES[id])
    assert found.id == id
    assert found.checked is None
    assert found.fix.startswith("ckpt ")
    assert explain(MESSAGES[id], prefix).id == id
    # Wherever it is broken by a terminal.
    assert explain(MESSAGES[id].replace(" ", "\n  "), tmp_path / "gone").id == id


def test_the_checkpoint_is_looked_at(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", {"dense_1/kernel": np.ones(3)})
    assert "is whole" in str(explain(MESSAGES["checksum"], prefix).checked)
    missing = explain(MESSAGES["key-missing"], prefix)
    assert "holds no dense/kernel" in str(missing.checked)
    assert "dense_1/kernel" in str(missing.checked)
    data = Path(f"{prefix}.data-00000-of-00001")
    data.write_bytes(bytes(24))
    assert "zeros" in str(explain(MESSAGES["checksum"], prefix).checked)
    assert prefix in explain(MESSAGES["wrong-file"], data).fix
    data.unlink()
    assert "not here" in str(explain(MESSAGES["altered-graph"], prefix).checked)


def test_explain_command(capsys: pytest.CaptureFixture[str]) -> None:
    sample = pick("tf2.10")
    assert run(["explain", "Key best_metric not found in checkpoint", str(sample.path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["id"] == "key-missing"
    assert document["fix"].startswith("ckpt backfill")
    assert document["cause"]
    assert run(["explain", "it does not work"]) == NotFoundError.exit_code


# ------------------------------------------------------------------------- the known fix, unless the file proves one

KEEPS = {
    "You are trying to restore a checkpoint from a legacy Keras optimizer into a v2.11+ Optimizer": "ckpt migrate",
    "ValueError: File format not supported: filepath=m. Keras 3 only supports V3 `.keras` files": "ckpt export",
    "UserWarning: Skipping variable loading for optimizer 'adam', because it has 10 variables": "ckpt resume-check",
    "Unresolved object in checkpoint: (root).best_metric": "ckpt resume-check",
    "Epoch 11: val_loss improved from inf to 0.31": "ckpt backfill",
    "Can save best model only with val_loss available, skipping": "ckpt resume-check",
    "Expected to restore a tensor of type half, got a tensor of type float instead: tensor_name = v": "ckpt inspect",
}
ABOUT_NAMES = {
    "no-match",
    "wrong-file",
    "not-hdf5",
    "directory-given",
    "path-none",
    "state-file",
    "keras-file-missing",
    "hdf5-missing",
}


@pytest.mark.parametrize("message", KEEPS)
def test_a_path_does_not_replace_the_known_fix(message: str) -> None:
    sample = pick("tf2.10")
    without, given = explain(message), explain(message, sample.path)
    assert without.fix.startswith(KEEPS[message])
    assert given.fix == without.fix.replace("PATH", shlex.quote(str(sample.path)))
    assert "pass exactly" not in str(given.checked)


def test_only_messages_about_names_are_answered_with_a_name(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", {"v": np.ones(3, np.float32)})
    texts = [*MESSAGES.values(), *OTHERS.values(), *(real.text for real in REAL)]
    found = [explain(text, prefix) for text in texts]
    assert {each.id for each in found if "pass exactly" in str(each.checked)} == ABOUT_NAMES


def test_what_is_for_known_trainers_is_not_advised_for_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = build_bundle(tmp_path / "m", {"v": np.ones(3, np.float32)})
    for message in KEEPS:
        fix = explain(message, prefix).fix
        assert not fix.startswith(("ckpt backfill", "ckpt migrate", "ckpt resume-check"))
        if "export" not in fix:
            assert run(shlex.split(fix)[1:]) == 0
    capsys.readouterr()


def test_the_name_in_the_message_is_looked_for(tmp_path: Path) -> None:
    for number in (1, 2):
        build_bundle(tmp_path / f"m.ckpt-{number}", {"v": np.ones(3, np.float32)})
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/gone/m.ckpt-2"\n')
    said = "Unsuccessful TensorSliceReader constructor: Failed to find any matching files for"
    windows = ("C:\\\\Users\\\\me\\\\m.ckpt-1", r"C:\Users\me\m.ckpt-1")
    for old in ("/gone/m.ckpt-1", *windows, "gs://b/m.ckpt-1", "m.ckpt-1"):
        found = explain(f"{said} {old} [[Node: save/RestoreV2]]", tmp_path)
        assert found.fix == f"ckpt inspect {tmp_path / 'm.ckpt-1'}"
        assert f"m.ckpt-1 is in {tmp_path}" in str(found.checked)
    gone = explain(f"{said} /gone/m.ckpt-7", tmp_path)
    assert f"there is no m.ckpt-7 in {tmp_path}" in str(gone.checked)
    assert gone.fix == f"ckpt inspect {tmp_path / 'm.ckpt-2'}"


# ------------------------------------------------------------------------------------------------ the nearest name

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
NEAREST = [
    ("dense/kernel", ["dense/kernel:0", "dense/bias:0", "dense_1/kernel:0"], 0, "':0'"),
    (
        "rnn/basic_lstm_cell/kernel",
        ["rnn/basic_lstm_cell/weights", "rnn/basic_lstm_cell/biases"],
        0,
        "weights and kernel",
    ),
    ("rnn/basic_lstm_cell/bias", ["rnn/basic_lstm_cell/weights", "rnn/basic_lstm_cell/biases"], 1, "biases and bias"),
    ("RNN/BasicLSTMCell/Linear/Matrix", ["rnn/basic_lstm_cell/kernel", "rnn/basic_lstm_cell/bias"], 0, "recurrent"),
    ("Conv/weights", ["InceptionV3/Conv/weights", "InceptionV3/Conv/BatchNorm/beta"], 0, "scope"),
    ("scope/dense/kernel", ["dense/kernel", "dense/bias"], 0, "scope"),
    ("dense/kernel" + VALUE, ["model/dense/kernel" + VALUE], 0, "scope"),
    ("item/kernel", ["model/item/kernel" + VALUE, "model/item/bias" + VALUE], 0, "ATTRIBUTES"),
    ("dense_1/kernel", ["dense/kernel", "dense/bias"], 0, "numbered"),
    ("dense/kernel:0", ["model_weights/dense/dense/kernel:0", "model_weights/dense/dense/bias:0"], 0, "groups"),
    ("dense/kernel", ["layers/dense/vars/0", "layers/dense/vars/1"], 0, "vars/0"),
    ("dense/bias", ["layers/dense/vars/0", "layers/dense/vars/1"], 1, "vars/0"),
    ("lstm/recurrent_kernel", ["layers/lstm/vars/0", "layers/lstm/vars/1", "layers/lstm/vars/2"], 1, "vars/0"),
    ("bn/beta/ExponentialMovingAverage", ["bn/beta", "bn/gamma"], 0, "average"),
    ("bn/beta", ["bn/beta/ExponentialMovingAverage", "bn/gamma/ExponentialMovingAverage"], 0, "average"),
    ("model/proj/kernel", ["model/proj/_kernel" + VALUE, "model/proj/bias" + VALUE], 0, "another name"),
    ("item_embeding", ["item_embedding", "user_embedding", "bias"], 0, None),
]


@pytest.mark.parametrize(("wanted", "stored", "right", "reason"), NEAREST)
def test_the_nearest_name_is_found_by_the_rules_that_names_are_broken_by(
    wanted: str, stored: list[str], right: int, reason: str | None
) -> None:
    found = find_nearest(wanted, ["zzz/unrelated", *stored, "global_step"])
    assert found.names[0] == stored[right]
    assert bool(found.reasons) == (reason is not None)
    assert reason is None or any(reason in said for said in found.reasons)


def test_nothing_is_near_a_name_of_another_kind() -> None:
    assert find_nearest("encoder/kernel", ["encoder/bias", "x"]).names == ()
    assert find_nearest("kernel", [f"{layer}/kernel" for layer in "abcd"]).names == ()
    assert find_nearest("", ["a"]).names == ()
    assert find_nearest("a", []).names == ()


def test_the_stored_name_is_shown(tmp_path: Path) -> None:
    values = {"dense/kernel:0": np.ones((2, 3), np.float32), "dense/bias:0": np.ones(3, np.float32)}
    prefix = build_bundle(tmp_path / "m", values)
    said = str(explain("Key dense/kernel not found in checkpoint", prefix).checked)
    assert "holds no dense/kernel among its 2 tensors; the nearest is dense/kernel:0 (" in said
    held = str(explain("Key dense/bias:0 not found in checkpoint", prefix).checked)
    assert "does hold dense/bias:0" in held
    slot = str(explain("Key dense/kernel:0/Adam_1 not found in checkpoint", prefix).checked)
    assert "but dense/kernel:0: it was saved without" in slot


def test_a_name_is_searched_quickly_among_many() -> None:
    import time

    begin = time.perf_counter()
    find_nearest("model/layer_7/kernel", [f"net/layer_{n}/other_{n}/w" for n in range(20_000)])
    assert time.perf_counter() - begin < 15


# -------------------------------------------------------------------------------------- what else the file tells


def h5(path: Path, **datasets: Any) -> str:
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name.replace("__", "/")] = value
    return str(path)


def test_shapes_are_looked_up(tmp_path: Path) -> None:
    values = {"out/kernel": np.ones((4, 6), np.float32), "b": np.ones(6, np.float32)}
    prefix = build_bundle(tmp_path / "m", values)
    assign = "Assign requires shapes of both tensors to match. lhs shape= [4,5] rhs shape= [4,6]"
    said = str(explain(assign, prefix).checked)
    assert "shape [4, 5]: no tensor" in said
    assert "shape [4, 6]: out/kernel" in said
    named = (
        "Received incompatible tensor with shape (4, 6) when attempting to restore variable with shape (4, 5) and name "
        "out/kernel."
    )
    assert "out/kernel is stored with shape [4, 6]" in str(explain(named, prefix).checked)
    assert "largest" in str(explain("axes don't match array", prefix).checked)


def test_types_are_looked_up(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", {"conv1/weights": np.ones(4, np.float16), "b": np.ones(6, np.float32)})
    named = "tensor_name = conv1/weights; expected dtype float does not equal original dtype half"
    assert "stores conv1/weights as float16" in str(explain(named, prefix).checked)
    assert "1 of float16" in str(explain("dtype mismatch", prefix).checked)


def test_objects_of_an_hdf5_file_are_looked_up(tmp_path: Path) -> None:
    def said(message: str, path: str) -> str:
        return str(explain(message, path).checked)

    path = h5(tmp_path / "w.h5", dense_1__dense_1__kernel=np.ones((2, 3)), dense_1__dense_1__bias=np.ones(3))
    assert "has no model_weights; at its top are dense_1" in said("object 'model_weights' doesn't exist", path)
    assert "the nearest is dense_1" in said("Unable to open object (object 'dense' doesn't exist)", path)
    assert "weights only" in said("ValueError: No model config found in the file.", path)
    whole = h5(tmp_path / "m.h5", model_weights__dense__dense__kernel=np.ones((2, 3)))
    assert "a whole model" in said("Cannot create group in read-only mode.", whole)
    assert "1 name of a layer: dense" in said("weight file containing 3 layers into a model with 1", whole)
    assert "every checksum" not in said("'str' object has no attribute 'decode'", path)


def test_objects_of_a_program_are_looked_up() -> None:
    sample = pick("tf2.10")
    found = explain("Value in checkpoint could not be found in the restored object: (root).optimizer.iter", sample.path)
    assert "stores it as optimizer/iter/.ATTRIBUTES/VARIABLE_VALUE" in str(found.checked)
    absent = explain("Unresolved object in checkpoint: (root).best_metric", sample.path)
    assert "stores nothing by the path best_metric" in str(absent.checked)


def test_what_is_no_checkpoint_is_said(tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 131\n")
    found = explain("OSError: Unable to open file (file signature not found)", tmp_path / "m.h5")
    assert "Git LFS pointer" in str(found.checked)
    assert found.findings


def test_a_log_is_read_from_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("step 1\nOSError: Unable to open file (file signature not found)\n"))
    assert run(["explain", "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "not-hdf5"
