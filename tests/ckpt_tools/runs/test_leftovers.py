"""What a killed save leaves is the same to every command: to ``audit``, to ``inspect`` and to ``repair``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle

from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.analysis.run_audit import audit
from ckpt_tools.cli import run
from ckpt_tools.operations.repairing import repair

OLD = 10**6
PART = "part-00000-of-00001.data-00000-of-00001"

LEFT = [
    "recall.png.tmp-0a1b2c3d",  # this project's, of any file
    "checkpoint.tmp-0a1b2c3d",
    "ckpt-1.meta.tmp0a1b2c3d4e5f60718293a4b5c6d7e8f9",  # TensorFlow's, of a graph
    "checkpoint.tmp0a1b2c3d4e5f6071",
    "ckpt-2.index.tempstate17795479757",
    "ckpt-2.data-00000-of-00001.tempstate7",
    "ckpt-1.index.ckpt-tools",  # of a rewrite
    "ckpt-1.data-00001-of-00002.ckpt-tools",
    "ckpt-1.index.ckpt-tools.ckpt-tools",  # copied into place where there are no links
    "ckpt-2_temp/",
    f"ckpt-2_temp/{PART}",
    f"ckpt-2_temp_0123456789abcdef0123456789abcdef/{PART}",
    "unfinished_temp/ckpt-2.index",
    "unfinished_temp/model.ckpt-3.data-00000-of-00001",
    "unfinished_temp/best-3.weights.h5",
]
SOMEBODYS = [
    "my_temp/thesis.tex",
    "my_temp/ckpt-3.index",  # a checkpoint in a directory of that name is somebody's
    "unfinished_temp/thesis.tex",
    "checkpoint.tmp",
    "notes.tmp-final",
    "recall.png.tmp0a1b2c3d",
    "model.tempstate",
]


def told(directory: Path) -> dict[str, set[str]]:
    """What each of the three says is left over, by the names in the directory."""

    def names(paths: list[str]) -> set[str]:
        return {os.path.relpath(path, directory).split(os.sep)[0] for path in paths}

    found = audit(str(directory))
    orphans = [*found.orphans, *(path for row in found.rows for path in row.orphans)]
    notes = [finding.path or "" for finding in inspect(str(directory)).findings if finding.id == "left-over"]
    plan = repair(str(directory), dry_run=True, now=2e9)
    moved = [path for action in plan.actions for path in getattr(action.change, "sources", {})]
    return {
        "audit": names([os.path.join(directory, path) for path in orphans]),
        "inspect": names(notes),
        "repair": names(moved),
    }


def to_all(names: set[str]) -> dict[str, set[str]]:
    return dict.fromkeys(("audit", "inspect", "repair"), names)


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """A line of checkpoints that is whole, and has been for long."""
    build_bundle(tmp_path / "ckpt-1", {"a": np.zeros(3)})
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-1"\nall_model_checkpoint_paths: "ckpt-1"\n')
    return tmp_path


def put(directory: Path, name: str) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith("/"):
        path.mkdir()
    else:
        path.write_bytes(b"half")
    for each in (*directory.rglob("*"), directory):
        os.utime(each, (OLD, OLD))


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_over_is_left_over_to_all(line: Path, name: str) -> None:
    put(line, name)
    assert told(line) == to_all({name.split("/")[0]})


@pytest.mark.parametrize("name", SOMEBODYS)
def test_what_is_somebodys_is_left_over_to_none(line: Path, name: str) -> None:
    put(line, name)
    assert told(line) == to_all(set())


def test_a_link_is_left_over_to_none(line: Path) -> None:
    (line / "checkpoint.tmp0a1b2c3d4e5f6071").symlink_to(line / "ckpt-1.index")
    (line / "ckpt-2_temp").symlink_to(line)
    assert told(line) == to_all(set())


@pytest.mark.parametrize("others", [(), ("recall.png.tmp-0a1b2c3d",)])
def test_an_unfinished_keras_file_is_gone_after_one_repair(
    tmp_path: Path, others: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Ending what was interrupted removes it, as nothing had been done yet: then there is nothing to move."""
    build_bundle(tmp_path / "ckpt-1", {"a": np.ones(3, np.float32)})
    for name in ("m.keras.ckpt-tools", "m.weights.h5.ckpt-tools.ckpt-tools", *others):
        (tmp_path / name).write_bytes(b"unfinished")
    for path in (*tmp_path.iterdir(), tmp_path):
        os.utime(path, (OLD, OLD))
    assert run(["repair", str(tmp_path)]) == 0
    assert "m." not in capsys.readouterr().out, "it is not kept"
    assert sorted(path.name for path in tmp_path.glob("m.*")) == []
    assert run(["repair", str(tmp_path)]) == 0
