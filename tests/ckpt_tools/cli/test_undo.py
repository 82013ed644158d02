"""``ckpt undo`` of a directory: what a repair did to the files beside the checkpoints comes back too."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import build_bundle, contents

from ckpt_tools.operations.repairing import repair

TORN = b'model_checkpoint_path: "ckpt-'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A whole checkpoint, a torn state file, and what a killed save left."""
    build_bundle(tmp_path / "ckpt-2", {"a": np.arange(30)})
    (tmp_path / "checkpoint").write_bytes(TORN)
    left = tmp_path / "ckpt-3.index.tempstate123"
    left.write_bytes(b"unfinished")
    os.utime(left, (10**6, 10**6))
    return tmp_path


def test_a_directory_means_the_files_beside_it_too(directory: Path, ckpt: Callable[..., Any]) -> None:
    before = contents(directory)
    repair(str(directory))
    listed = ckpt("undo", directory, "--list", "--json").json
    actions = [(row["action"], row["backup"]) for row in listed["changes"]]
    assert actions == [("rewrite-state", True), ("set-aside", True)]
    answer = ckpt("undo", directory / "checkpoint", "--to", listed["changes"][0]["id"], "--json").json
    assert answer["restored"] == ["ckpt-3.index.tempstate123", "checkpoint"]
    assert {name: row for name, row in contents(directory).items() if ".ckpt-tools" not in name} == before


def test_a_prefix_means_its_own_changes(directory: Path, ckpt: Callable[..., Any]) -> None:
    repair(str(directory))
    done = ckpt("undo", directory / "ckpt-2")
    assert done.code == 3
    assert "ckpt undo" in done.err
    assert (directory / "checkpoint").read_bytes() != TORN


def test_what_was_set_aside_without_any_whole_checkpoint_comes_back(tmp_path: Path, ckpt: Callable[..., Any]) -> None:
    hostile = 'model_checkpoint_path: "../victim/keep"\n'
    (tmp_path / "checkpoint").write_text(hostile)
    repair(str(tmp_path))
    assert not (tmp_path / "checkpoint").exists()
    assert ckpt("undo", tmp_path).code == 0
    assert (tmp_path / "checkpoint").read_text() == hostile
    assert ckpt("undo", tmp_path).code != 0
