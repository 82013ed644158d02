"""Checkpoints with odd names, shapes and values, exported: nothing leads out of a directory, and nothing is lost in
silence."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from checkpoints import build_bundle

from ckpt_tools.cli import run
from ckpt_tools.errors import UnsafeError
from ckpt_tools.format import checksum
from ckpt_tools.operations.exporting import export
from ckpt_tools.readers import open_checkpoint

ENDINGS = (".npz", ".safetensors", ".weights.h5")
NAMES = [
    "../../x",
    "a//b",
    "a/b",
    "/a",
    "a",
    ".",
    "..",
    "a/",
    "/",
    "c:/x",
    "a\\..\\b",
    "n" * 70_000,
    "%2E",
    "__metadata__",
]
NAMES += ["a\x01b", "[/red]", "<b>", "é/ü", "x:0", "x", "x/y", "a/./b", " ", "CON", "-o", "=1+1"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_name_gets_a_place_of_its_own(tmp_path: Path, ending: str) -> None:
    values = {name: np.array([number], np.float32) for number, name in enumerate(NAMES)}
    prefix = build_bundle(tmp_path / "m", values)
    out = tmp_path / f"m{ending}"
    done = export(prefix, str(out), names="stored")
    assert {row.keys[0] for row in done.written} == set(NAMES)
    assert len({row.name for row in done.written}) == len(NAMES)
    renamed = {finding.key for finding in done.findings if finding.id == "renamed"}
    if ending == ".npz":
        with zipfile.ZipFile(out) as archive:
            archive.extractall(tmp_path / "below" / "here") if all(len(n) < 200 for n in archive.namelist()) else None
            for name in archive.namelist():
                assert name.isprintable()
                assert "\\" not in name
                assert not name.startswith("/")
                assert ":" not in name.split("/")[0][:2]
                assert not {"", ".", ".."} & set(name.split("/"))
        with np.load(out) as arrays:
            found = {name: arrays[name] for name in arrays}
    else:
        with open_checkpoint(out) as checkpoint:
            found = {name: checkpoint.read(name) for name in checkpoint.tensors}
    for row in done.written:
        assert found[row.name].tolist() == values[row.keys[0]].tolist()
        assert row.name in (row.keys[0], f"{row.keys[0]}:0") or row.keys[0] in renamed
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"m.index", "m.data-00000-of-00001", out.name})


@pytest.mark.parametrize("ending", ENDINGS)
def test_shapes_that_no_other_program_can_hold(tmp_path: Path, ending: str) -> None:
    empty = {"size": 0, "crc": checksum.masked(b"")}
    change: dict[str, dict[str, Any]] = {
        "huge": {"shape": (0, 1 << 61), **empty},
        "huge2": {"shape": (1 << 40, 0, 1 << 20), **empty},
        "deep": {"shape": (1,) * 200},
        "empty": {"shape": (0, 3), **empty},
    }
    values = {name: np.ones(1, np.float32) for name in (*change, "good")}
    prefix = build_bundle(tmp_path / "m", values, change=change)
    assert run(["export", prefix, str(tmp_path / f"m{ending}"), "--json"]) == 0
    done = export(prefix, str(tmp_path / f"m{ending}"), force=True)
    left = {finding.key for finding in done.findings if finding.id == "not-exported"}
    assert {"huge", "huge2"} <= left
    assert left <= {"huge", "huge2", "deep"}
    assert {row.name for row in done.written} >= {"good", "empty"}


def test_strings_in_hdf5_end_at_a_zero_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = build_bundle(tmp_path / "m", {"odd": [b"a\0b"], "good": [b"text", b"\xff\xfe", b""]})
    assert run(["export", prefix, str(tmp_path / "m.weights.h5"), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in done["written"]] == ["good"]
    assert "'odd' is left out" in done["findings"][0]["message"]
    with open_checkpoint(tmp_path / "m.weights.h5") as checkpoint:
        assert checkpoint.read("good").tolist() == [b"text", b"\xff\xfe", b""]


def test_a_dataset_with_many_names_is_counted_for_each(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["d0"] = np.ones(100_000, np.float32)
        for number in range(1, 5000):
            file[f"d{number}"] = file["d0"]
    with pytest.raises(UnsafeError, match="stands for more than"):
        open_checkpoint(tmp_path / "links.h5")
    assert run(["export", str(tmp_path / "links.h5"), str(tmp_path / "m.npz")]) == UnsafeError.exit_code
    with h5py.File(tmp_path / "few.h5", "w") as file:
        file["a"] = file["b"] = np.ones(3)
        file["c"] = file["a"]
    with open_checkpoint(tmp_path / "few.h5") as checkpoint:
        assert list(checkpoint.tensors) == ["a", "b", "c"]


def test_strings_of_varying_length_in_chunks_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file.create_dataset("s", data=["a", "b"], dtype=h5py.string_dtype(), chunks=(1,))
        file["n"] = np.ones(2)
    for ending in ENDINGS:
        assert run(["export", str(tmp_path / "s.h5"), str(tmp_path / f"out{ending}"), "--names", "stored"]) in (0, 7)
    for command in (["inspect"], ["inspect", "--digest"], ["verify"]):
        assert run([*command, str(tmp_path / "s.h5")]) in (0, 1)
