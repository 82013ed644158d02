"""Orbax checkpoints: what Orbax itself reads from them is what is read here; of what is damaged it is said."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import FIXTURES
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.analysis.difference import diff
from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.analysis.verification import verify
from ckpt_tools.cli import run
from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, UnsafeError, UnsupportedError
from ckpt_tools.format import orbax
from ckpt_tools.operations.slimming import slim
from ckpt_tools.readers import open_checkpoint

pytest.importorskip("tensorstore")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `orbax_zoo.py` made; only to be read."""
    place = tmp_path_factory.mktemp("orbax")
    with tarfile.open(FIXTURES / "orbax" / "orbax-0.12.tar.xz") as archive:
        archive.extractall(place, filter="data")
    return place


@pytest.fixture
def copy(zoo: Path, tmp_path: Path) -> Path:
    shutil.copytree(zoo, tmp_path / "zoo")
    return tmp_path / "zoo"


def is_whole(path: Path) -> bool:
    try:
        return verify(str(path)).whole
    except CkptError:
        return False


def test_every_value_is_what_orbax_reads(zoo: Path) -> None:
    expected: dict[str, dict[str, list[Any]]] = json.loads((zoo / "expected.json").read_text())
    assert len(expected) == 10
    for path, tensors in expected.items():
        with open_checkpoint(zoo / path) as checkpoint:
            assert checkpoint.format == "orbax"
            found = {
                name: [info.dtype, list(info.shape), checkpoint.digest(name)]
                for name, info in checkpoint.tensors.items()
                if info.dtype != "string"
            }
            assert found == tensors, path
            for name, (dtype, shape, digest) in tensors.items():
                value = checkpoint.read(name)
                assert (value.dtype.name, list(value.shape)) == (dtype, shape)
                assert hashlib.sha256(value.tobytes()).hexdigest() == digest
                assert checkpoint.tensors[name].nbytes == value.nbytes


def test_a_run_is_its_newest_step_and_its_best_is_told(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = inspect(str(zoo / "manager"))
    assert found.prefix == str(zoo / "manager" / "3")
    assert [(step.step, dict(step.metrics)) for step in found.steps] == [
        (1, {"auc": 0.5}),
        (2, {"auc": 0.75}),
        (3, {"auc": 0.625}),
    ]
    assert (found.best_metric.status, found.best_metric.value) == ("present", 0.75)
    assert (found.best_metric.meaning or "").endswith(f"at step 2: {zoo / 'manager' / '2'}")
    assert run(["inspect", str(zoo / "manager" / "1" / "default")]) == 0
    said = capsys.readouterr().out
    assert "Orbax checkpoint" in said
    assert "1 (auc 0.5), 2 (auc 0.75), 3 (auc 0.625)" in said
    with open_checkpoint(zoo / "manager" / "2") as checkpoint:
        assert checkpoint.read("default/name").item() == b"step 2"
        assert checkpoint.digest("default/name") == hashlib.sha256((6).to_bytes(8, "little") + b"step 2").hexdigest()


def test_the_best_of_keras_is_the_validation_loss_that_fit_returned(zoo: Path) -> None:
    history = json.loads((zoo / "keras" / "history.json").read_text())
    found = inspect(str(zoo / "keras"), digest=True)
    assert found.prefix == str(zoo / "keras" / "2")
    assert [step.metrics["loss"] for step in found.steps] == pytest.approx(history["val_loss"], rel=1e-6)
    assert [step.metrics["mean_absolute_error"] for step in found.steps] == pytest.approx(history["val_mae"], rel=1e-6)
    best = int(np.argmin(history["val_loss"]))
    assert found.best_metric.value == pytest.approx(min(history["val_loss"]), rel=1e-6)
    assert f"at step {best}:" in (found.best_metric.meaning or "")
    assert found.best_metric.others[0].value == pytest.approx(min(history["val_mae"]), rel=1e-6)
    groups = {tensor.name: tensor.group for tensor in found.tensors}
    assert groups["pytree/trainable_variables/sequential/one/kernel"] == "model"
    assert groups["pytree/non_trainable_variables/sequential/batch_normalization/moving_mean"] == "model"
    assert {group for name, group in groups.items() if "/optimizer_variables/" in name} == {"optimizer"}
    assert found.step == 3


def test_what_was_not_committed_is_no_step(copy: Path) -> None:
    (left,) = (copy / "killed").iterdir()
    assert ".orbax-checkpoint-tmp" in left.name
    for path in (copy / "killed", left):
        with pytest.raises(NotFoundError):
            inspect(str(path))
    (copy / "manager" / "3").rename(copy / "manager" / "3.orbax-checkpoint-tmp-7")
    assert inspect(str(copy / "manager")).prefix == str(copy / "manager" / "2")


def test_rows_are_those_of_the_whole(zoo: Path) -> None:
    with open_checkpoint(zoo / "chunked") as checkpoint:
        whole = checkpoint.read("table")
        assert whole.shape == (40, 8)
        for first, count in ((0, 40), (7, 5), (13, 1), (39, 9), (0, 0)):
            part = checkpoint.rows("table", first, count)
            assert part.tobytes() == whole[first : first + count].tobytes()
        assert b"".join(checkpoint.chunks("table")) == whole.tobytes()


def test_layouts_of_the_same_tree_do_not_differ(zoo: Path, tmp_path: Path) -> None:
    for other in ("zarr3", "standard"):
        found = diff(str(zoo / "zarr2"), str(zoo / other))
        assert (found.only_a, found.only_b, found.changed) == ((), (), ())
    assert diff(str(zoo / "keras" / "0"), str(zoo / "keras" / "1")).changed
    assert run(["export", str(zoo / "standard"), str(tmp_path / "out.npz")]) == 0
    with np.load(tmp_path / "out.npz") as exported:
        assert exported["params/Dense_0/kernel"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_verify_says_what_it_can_check(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("keras", "manager", "standard", "zarr2", "zarr3", "chunked"):
        assert run(["verify", str(zoo / name)]) == 0
        said = capsys.readouterr()
        assert "whole" in said.out
        assert "checksums of its lists" in said.out + said.err


@pytest.mark.parametrize("name", ["chunked", "standard", "zarr2", "zarr3"])
def test_what_is_lost_or_cut_off_is_damage(name: str, copy: Path) -> None:
    """Of each file that holds values or lists them: none, half of it, none of its bytes."""
    folder = copy / name
    aside = ("_sharding", "_CHECKPOINT_METADATA", "commit_success.txt", "process_0", "__lock")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in aside]
    # Behind a merge the lists of each process are not needed any more.
    used = [path for path in files if path.parent.name != "ocdbt.process_0"]
    assert len(used) > 3
    unharmed = []
    for path in used:
        content = path.read_bytes()
        for harmed in (None, content[: len(content) // 2], b""):
            path.unlink() if harmed is None else path.write_bytes(harmed)
            if is_whole(folder) and not (harmed is None and path.name == "_METADATA"):
                unharmed.append(path)
            path.write_bytes(content)
    values = {path for path in unharmed if path.parent.name != "d" or path.parent.parent.name != "ocdbt.process_0"}
    assert not values, values
    assert is_whole(folder)


@pytest.mark.parametrize("name", ["chunked", "standard"])
def test_a_changed_list_is_damage(name: str, copy: Path) -> None:
    for path in [copy / name / "manifest.ocdbt", *(copy / name / "d").iterdir()]:
        content = path.read_bytes()
        for at in range(0, len(content), 7):
            path.write_bytes(content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :])
            assert not is_whole(copy / name), (path, at)
        path.write_bytes(content)


def test_a_leaf_of_the_tree_that_is_not_stored(copy: Path) -> None:
    shutil.rmtree(copy / "zarr2" / "step")
    found = verify(str(copy / "zarr2"))
    assert [(finding.key, finding.severity) for finding in found.findings if finding.severity != "note"] == [
        ("step", "damage")
    ]
    (copy / "zarr3" / "rate" / "c").unlink()
    found = verify(str(copy / "zarr3"))
    assert [finding.key for finding in found.findings if finding.severity == "damage"] == ["rate"]


def test_what_unpacks_to_more_than_it_could_hold_is_refused(copy: Path) -> None:
    path = copy / "zarr2" / "params.Dense_0.kernel" / ".zarray"
    described = json.loads(path.read_text())
    path.write_text(json.dumps({**described, "shape": [1 << 31, 3], "chunks": [1 << 31, 3]}))
    with open_checkpoint(copy / "zarr2") as checkpoint:
        assert checkpoint.tensors["params/Dense_0/kernel"].shape == (1 << 31, 3)
        with pytest.raises(UnsafeError, match="unpacks from"):
            checkpoint.read("params/Dense_0/kernel")
    path.write_text(json.dumps({**described, "shape": [1 << 60, 1 << 60], "chunks": [1, 1]}))
    with pytest.raises(CorruptError, match="larger than anything"):
        open_checkpoint(copy / "zarr2")


def test_what_is_no_file_is_not_opened(copy: Path) -> None:
    os.mkfifo(copy / "standard" / "d" / "waits")
    with pytest.raises(UnsafeError, match="neither a file nor a directory"):
        open_checkpoint(copy / "standard")


def test_without_tensorstore_the_command_that_installs_it_is_shown(
    zoo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    assert run(["inspect", str(zoo / "keras")]) == 7
    assert "pip install 'ckpt-tools[orbax]'" in capsys.readouterr().err


def test_it_is_read_only_and_files_of_it_are_named(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnsupportedError):
        slim(str(zoo / "keras"), str(tmp_path / "out"))
    assert run(["backfill", str(zoo / "keras"), "--value", "0.5", "--metric", "auc"]) == 7
    assert run(["inspect", str(zoo / "standard" / "manifest.ocdbt")]) == 3
    assert "pass its directory" in capsys.readouterr().err


_NAMES = ["tree_metadata", "shape", "chunks", "zarr_format", "dtype", "key_metadata", "metrics", "a"]
_VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=4),
    max_leaves=9,
)


@given(st.binary(max_size=60) | _VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_json_is_read_or_refused(data: bytes) -> None:
    for decode in (orbax.decode_tree, orbax.decode_array, orbax.decode_strings, orbax.decode_metrics):
        try:
            decode(data)
        except CorruptError:
            continue
