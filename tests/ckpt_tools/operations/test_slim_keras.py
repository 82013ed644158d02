"""`ckpt slim --in-place` of Keras files: the optimizer is gone, all else is as before, whatever happens meanwhile."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import faulty
import h5py
import pytest
from gzipped import WEIGHTS, make

from ckpt_tools.cli import run
from ckpt_tools.errors import BusyError, UnsupportedError, UsageError
from ckpt_tools.operations.backfilling import Options, backfill
from ckpt_tools.operations.slimming import slim
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.transactions import drop_backups, pending, undo

NAMES = ("model.h5", "model.weights.h5", "model.keras")


@pytest.fixture(params=NAMES)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make(tmp_path / "run" / request.param)


def require_slim(path: Path) -> None:
    with open_checkpoint(path) as checkpoint:
        assert set(checkpoint.tensors) == {*WEIGHTS, "layers/dropout"}
        assert [finding for finding in checkpoint.verify() if finding.severity != "note"] == []
        for name, value in WEIGHTS.items():
            assert checkpoint.read(name).tobytes() == value.tobytes()


def test_the_optimizer_is_gone_and_comes_back(file: Path) -> None:
    backfill(str(file), Options(value=0.75, metric="val_auc", mode="max"))
    before, size = file.read_bytes(), file.stat().st_size
    done = slim(str(file), None, in_place=True)
    assert len(done.dropped) == 5
    assert (done.output, done.dropped_bytes) == (None, 4 * (1 + 6 + 300 + 6 + 300))
    assert done.backup is not None
    require_slim(file)
    assert file.stat().st_size < size
    with open_checkpoint(file) as checkpoint:
        assert checkpoint.best is not None
        assert checkpoint.best.value == 0.75
    if file.suffix == ".keras":
        with zipfile.ZipFile(file) as archive:
            assert archive.read("assets/words.txt") == b"a\nb\n"
            assert archive.testzip() is None
            (file.parent / "weights").write_bytes(archive.read("model.weights.h5"))
    with h5py.File(file.parent / "weights" if file.suffix == ".keras" else file) as weights:
        assert weights.attrs["theirs"] == weights["layers/empty"].attrs["theirs"] == "kept"
        assert weights["layers/dense/vars/1"].attrs["of"] == "layers/dense/vars/1"
        assert weights["layers/dense/vars/1"].compression == "gzip"
        assert "optimizer" not in weights
    undo(str(file))
    assert file.read_bytes() == before
    slim(str(file), None, in_place=True)
    drop_backups(str(file))
    require_slim(file)
    with pytest.raises(UsageError, match="nothing to leave out"):
        slim(str(file), None, in_place=True)


def test_nothing_is_written_unasked_and_only_what_bears_a_name_of_keras(file: Path, tmp_path: Path) -> None:
    before = faulty.seen(tmp_path)
    found = slim(str(file), None, in_place=True, dry_run=True)
    assert (found.written, found.backup) == (False, None)
    assert found.plan is not None
    assert found.plan.to_json()["target"] == str(file)
    assert faulty.seen(tmp_path) == before
    other = file.with_name("weights.bin")
    file.rename(other)
    with pytest.raises(UnsupportedError, match="name ends in"):
        slim(str(other), None, in_place=True)


def test_what_is_saved_meanwhile_stays(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ckpt_tools.operations import weight_files

    copy = weight_files._copy

    def saved(*arguments: object) -> None:
        copy(*arguments)  # type: ignore[arg-type]
        file.write_bytes(b"what the trainer wrote")

    monkeypatch.setattr(weight_files, "_copy", saved)
    with pytest.raises(BusyError):
        slim(str(file), None, in_place=True)
    assert file.read_bytes() == b"what the trainer wrote"


def test_the_command_says_how_to_take_it_back(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = file.read_bytes()
    assert run(["slim", str(file), "--in-place"]) == 0
    said = capsys.readouterr().out
    assert f"ckpt undo {file} takes this back" in said
    assert run(["why", str(file)]) == 0
    assert "slim by ckpt-tools" in capsys.readouterr().out
    assert run(["undo", str(file)]) == 0
    assert file.read_bytes() == before


@pytest.mark.parametrize("every", [30, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
def test_killed_or_refused_at_each_call(name: str, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is the old or the slim one, byte for byte, and the same command again ends it."""
    folder = tmp_path / "run"
    path = make(folder / name)
    old, start = path.read_bytes(), faulty.seen(folder)

    def command() -> object:
        return slim(str(path), None, in_place=True)

    calls = faulty.run(command, monkeypatch).calls
    new = path.read_bytes()
    require_slim(path)
    assert sum(call in faulty.CHANGING for call in calls) > 20
    ended: set[bool] = set()
    for fault, where in faulty.faults(calls, every):
        faulty.build(start, folder)
        done = faulty.run(command, monkeypatch, fault)
        assert path.read_bytes() in (old, new), where
        ended.add(path.read_bytes() == new)
        if not done.finished:
            faulty.run(command, monkeypatch)  # where it was done, it is tidied up now, and refused
        assert path.read_bytes() == new, where
        assert pending(str(folder)) is None, where
        left = [name for name in os.listdir(folder) if name not in (path.name, ".ckpt-tools")]
        assert not left, where
    assert ended == {True, False}
