"""From what is typed to a prefix."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle

from ckpt_tools.errors import CorruptError, NotFoundError, UnsafeError
from ckpt_tools.format.state import encode_state
from ckpt_tools.readers import locate, open_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ckpt-1", "ckpt-2"):
        build_bundle(tmp_path / name, {"a": np.zeros(1)})
    return tmp_path


def state(folder: Path, latest: str) -> None:
    (folder / "checkpoint").write_bytes(encode_state(latest, [latest]))


@pytest.mark.parametrize("suffix", ["", ".index", ".data-00000-of-00001"])
def test_a_prefix_and_its_files(folder: Path, suffix: str) -> None:
    assert locate(f"{folder}/ckpt-1{suffix}") == f"{folder}/ckpt-1"


def test_the_state_file_decides_and_a_directory_means_its_newest(folder: Path) -> None:
    state(folder, "ckpt-1")
    assert locate(folder) == locate(folder / "checkpoint") == f"{folder}/ckpt-1"


def test_a_single_checkpoint_needs_no_state_file(folder: Path) -> None:
    with pytest.raises(NotFoundError, match="2 checkpoints to choose from"):
        locate(folder)
    (folder / "ckpt-2.index").unlink()
    assert locate(folder) == f"{folder}/ckpt-1"


def test_a_settings_file_beside_a_single_file_is_no_choice(tmp_path: Path) -> None:
    (tmp_path / "tf_model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    assert locate(tmp_path) == f"{tmp_path}/tf_model.h5"
    with pytest.raises(NotFoundError, match="names no weights"):
        locate(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("whole", "shards"),
    [
        ("m.weights.json", ["m_00000.weights.h5", "m_00001.weights.h5"]),
        ("tf_model.h5.index.json", ["tf_model-00001-of-00002.h5", "tf_model-00002-of-00002.h5"]),
    ],
)
def test_weights_in_several_files_are_meant_by_their_map(tmp_path: Path, whole: str, shards: list[str]) -> None:
    for name in shards:
        (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / whole).write_text(json.dumps({"weight_map": dict(enumerate(shards))}))
    assert locate(tmp_path) == f"{tmp_path}/{whole}"


def test_an_absolute_path_of_another_machine_means_the_file_here(folder: Path) -> None:
    state(folder, "/mnt/somebody/run/ckpt-2")
    assert locate(folder) == f"{folder}/ckpt-2"


@pytest.mark.parametrize("stored", ["../elsewhere/ckpt-1", "..", "a/../../b"])
def test_a_place_outside_is_never_read(folder: Path, stored: str) -> None:
    state(folder, stored)
    with pytest.raises(UnsafeError, match="outside"):
        locate(folder)


def test_a_stale_state_file_says_what_is_there(folder: Path) -> None:
    state(folder, "ckpt-9")
    with pytest.raises(NotFoundError) as caught:
        locate(folder)
    assert "ckpt-1" in (caught.value.hint or "")


@pytest.mark.parametrize("content", [b"", b"model_check", b"\xff\xff"])
def test_a_damaged_state_file_is_not_no_checkpoint(folder: Path, content: bytes) -> None:
    (folder / "checkpoint").write_bytes(content)
    with pytest.raises(CorruptError) as caught:
        locate(folder)
    assert caught.value.path == str(folder / "checkpoint")
    assert "ckpt-1" in (caught.value.hint or "")


def test_a_huge_state_file_is_not_read(folder: Path) -> None:
    with (folder / "checkpoint").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(UnsafeError, match="limit"):
        locate(folder)


@pytest.mark.parametrize("path", ["nowhere", "nowhere/ckpt", "ckpt-7", "ckpt-1.data-00003-of-00004"])
def test_what_is_not_there(folder: Path, path: str) -> None:
    with pytest.raises(NotFoundError):
        locate(folder / path)


def test_a_file_of_another_kind(folder: Path) -> None:
    (folder / "notes.txt").write_text("no checkpoint")
    with pytest.raises(NotFoundError):
        open_checkpoint(folder / "notes.txt")


@pytest.mark.parametrize("name", ["a[1]", "a*b?", "100%", "two words", "new\nline", "é", os.fsdecode(b"\xff"), "-n"])
def test_names_are_names_not_patterns(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    prefix = build_bundle(tmp_path / name / "ckpt", {"a": np.zeros(1)})
    assert locate(tmp_path / name) == prefix
    with open_checkpoint(prefix) as checkpoint:
        assert checkpoint.read("a") == 0


def test_relative_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    state(folder, "ckpt-1")
    assert os.path.abspath(locate(".")) == os.path.abspath(locate("ckpt-1")) == f"{folder}/ckpt-1"


def test_an_index_that_is_a_directory_is_told_and_the_path_is_no_advice_for_itself(tmp_path: Path) -> None:
    (tmp_path / "ckpt-1.index").mkdir()
    (tmp_path / "ckpt-1.data-00000-of-00001").touch()
    with pytest.raises(NotFoundError, match="is a directory") as refused:
        locate(tmp_path / "ckpt-1")
    assert refused.value.hint == f"ckpt audit {tmp_path}"
