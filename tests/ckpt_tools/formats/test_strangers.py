"""Files that are no checkpoint: each is named, with what to pass instead."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from checkpoints import FIXTURES, build_bundle, pick

from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, UnsafeError
from ckpt_tools.readers import locate, open_checkpoint


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return out.getvalue()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return out.getvalue()


HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 131\n"
STRANGERS = {
    "Git LFS pointer": POINTER,
    "HTML page": b"\n<!DOCTYPE html><html><title>404</title>",
    "'checkpoint' file": b'model_checkpoint_path: "ckpt-1"\n',
    "gzip archive": gzip.compress(b"x"),
    "tar archive": tarred(),
    "zip archive": zipped("readme"),
    "PyTorch": zipped("archive/data.pkl", "archive/data/0"),
    ".npz": zipped("a.npy", "b.npy"),
    "NumPy array": b"\x93NUMPY\x01\x00",
    "safetensors": len(HEADER).to_bytes(8, "little") + HEADER + b"\0" * 4,
    "pickle": pickle.dumps({"a": 1}),
    "JSON file": b'{"model_type": "bert"}',
    "TensorFlow Lite": b"\x1c\0\0\0TFL3",
    "not a TensorFlow checkpoint": b"hello",
}


def test_a_pointer_is_named_wherever_a_checkpoint_should_be(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "model.keras").write_bytes(POINTER)
    (tmp_path / "saved" / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        (tmp_path / "saved" / name).write_bytes(POINTER)
    for directory in ("alone", "saved"):
        with pytest.raises(NotFoundError, match="Git LFS pointer") as caught:
            open_checkpoint(tmp_path / directory)
        assert "git lfs pull" in (caught.value.hint or "")
    (tmp_path / "folders" / "model.h5").mkdir(parents=True)
    with pytest.raises(NotFoundError, match="no checkpoint in this directory"):
        open_checkpoint(tmp_path / "folders")


@pytest.mark.parametrize("name", ["model.ckpt", "model.h5", "model.keras"])
@pytest.mark.parametrize("kind", STRANGERS)
def test_each_is_named(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / name).write_bytes(STRANGERS[kind])
    with pytest.raises(NotFoundError, match=kind) as caught:
        open_checkpoint(tmp_path / name)
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["Git LFS pointer", "HTML page", "gzip archive"])
def test_under_the_name_of_an_index(tmp_path: Path, kind: str) -> None:
    (tmp_path / "model.index").write_bytes(STRANGERS[kind])
    with pytest.raises(NotFoundError, match=kind):
        open_checkpoint(tmp_path / "model")


@pytest.mark.parametrize("name", ["model.ckpt", "model.h5", "model.keras", "model.index"])
@pytest.mark.parametrize("content", [b"", b"\0" * 5000])
def test_a_file_without_content_is_damaged(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptError):
        open_checkpoint(tmp_path / name)


def test_a_data_file_alone(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", {"v": np.zeros(3, np.float32)})
    data = f"{prefix}.data-00000-of-00001"
    assert locate(data) == prefix
    Path(f"{prefix}.index").unlink()
    with pytest.raises(NotFoundError, match="without its index") as caught:
        open_checkpoint(data)
    assert "m.index" in str(caught.value.hint)


def test_a_pointer_in_the_place_of_the_data(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", {"v": np.zeros(300, np.float32)})
    Path(f"{prefix}.data-00000-of-00001").write_bytes(POINTER)
    with open_checkpoint(prefix) as checkpoint:
        finding = next(iter(checkpoint.outline()))
    assert "Git LFS" in finding.message
    assert "git lfs pull" in str(finding.fix)


def test_a_graph_without_values(tmp_path: Path) -> None:
    meta = Path(f"{pick('tf1.15').full_prefix}.meta")
    assert locate(meta) == pick("tf1.15").full_prefix
    (tmp_path / "alone.meta").write_bytes(meta.read_bytes())
    with pytest.raises(NotFoundError, match="graph of TensorFlow"):
        open_checkpoint(tmp_path / "alone.meta")


def test_an_event_file() -> None:
    log = next((FIXTURES / "experiments").glob("*/runs/*/events.out.tfevents.*"))
    with pytest.raises(NotFoundError, match="event file"):
        open_checkpoint(log)


def test_a_saved_model_without_variables(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(NotFoundError, match="without variables"):
        open_checkpoint(tmp_path)


def test_a_directory_of_one_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(NotFoundError):
        locate(tmp_path)
    (tmp_path / "m.keras").write_bytes(zipped("model.weights.h5"))
    assert locate(tmp_path) == str(tmp_path / "m.keras")
    (tmp_path / "n.keras").write_bytes(zipped("model.weights.h5"))
    with pytest.raises(NotFoundError, match="2 checkpoints"):
        locate(tmp_path)


def test_names_with_signs_of_a_shell(tmp_path: Path) -> None:
    directory = tmp_path / "a[1]*? b\n"
    directory.mkdir()
    prefix = build_bundle(directory / "m[0]", {"v": np.zeros(3, np.float32)})
    assert locate(prefix) == locate(f"{prefix}.index") == locate(directory) == prefix


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    import os

    prefix = build_bundle(tmp_path / "m", {"v": np.zeros(3, np.float32)})
    path = Path(f"{prefix}.data-00000-of-00001")
    path.unlink()
    (os.mkfifo if kind == "fifo" else os.mkdir)(path)
    with open_checkpoint(prefix) as checkpoint, pytest.raises(UnsafeError):
        list(checkpoint.verify())
    os.mkfifo(tmp_path / "v1")
    with pytest.raises(CkptError):
        open_checkpoint(tmp_path / "v1")
