"""Each sentence of a diagnosis states what was measured: where it would be false, another one is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle

from ckpt_tools.analysis.diagnosis import Diagnosis
from ckpt_tools.analysis.verification import verify
from ckpt_tools.readers import Bundle

DATA = "data-00000-of-00001"
ROWS = {f"t{number}": np.arange(1, 301.0) + number for number in range(8)}


def make(directory: Path, **values: np.ndarray) -> tuple[str, Path]:
    prefix = build_bundle(directory / "m", values or ROWS)
    return prefix, Path(f"{prefix}.{DATA}")


def cause(prefix: str, *, quick: bool = False) -> Diagnosis:
    found = verify(prefix, quick=quick).diagnosis
    assert found is not None
    return found


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def offset(prefix: str, name: str) -> int:
    with Bundle(prefix) as bundle:
        return bundle.entries[name].offset


@pytest.mark.parametrize("tail", [1, 7, 100, 511])
def test_zeros_at_the_end_that_are_a_tensors_own_are_not_why_it_is_damaged(tmp_path: Path, tail: int) -> None:
    values = np.ones(600, np.uint8)
    values[-tail:] = 0
    prefix, data = make(tmp_path, a=np.arange(50.0) + 1, z=values)
    overwrite(data, offset(prefix, "z") + 3, b"\7")
    assert cause(prefix).id == "bit-rot"


@pytest.mark.parametrize("lost", [512, 5000, 19199])
def test_zeros_in_place_of_the_data_are_told(tmp_path: Path, lost: int) -> None:
    prefix, data = make(tmp_path)
    size = data.stat().st_size
    overwrite(data, size - lost, bytes(lost))
    found = cause(prefix)
    assert found.id == "zeros"
    kept = len(data.read_bytes().rstrip(b"\0"))
    assert f"only zeros from byte {kept} on" in found.sentence


def test_a_small_tensor_of_zeros_that_should_not_be_is_told(tmp_path: Path) -> None:
    prefix, data = make(tmp_path, a=np.arange(50.0) + 1, z=np.arange(8.0) + 1)
    overwrite(data, offset(prefix, "z"), bytes(64))
    assert cause(prefix).id == "zeros"


def test_one_damaged_tensor_says_that_the_others_are_whole_only_where_there_are_any(tmp_path: Path) -> None:
    prefix, data = make(tmp_path, a=np.arange(1, 50.0))
    overwrite(data, 5, b"\xff")
    found = cause(prefix)
    assert "one tensor of 1" in found.sentence
    assert "other" not in (found.fix or "")


def test_cut_off_says_that_what_comes_before_is_whole_only_when_it_was_read_and_is(tmp_path: Path) -> None:
    prefix, data = make(tmp_path)
    with data.open("r+b") as file:
        file.truncate(10_000)
    assert cause(prefix).sentence == f"m.{DATA} is cut off at byte 10000 of 19200: the tensors before that are whole"
    assert cause(prefix, quick=True).sentence == f"m.{DATA} is cut off at byte 10000 of 19200"
    overwrite(data, 5, b"\xff")
    assert "1 of the tensors in them are damaged too" in cause(prefix).sentence
    with data.open("r+b") as file:
        file.truncate(100)
    assert "whole" not in cause(prefix).sentence


def test_a_shorter_file_that_is_another_one_is_told_when_the_right_one_is_here(tmp_path: Path) -> None:
    prefix, data = make(tmp_path)
    data.rename(tmp_path / "x.data-00000-of-00001")
    data.write_bytes(b"short")
    assert cause(prefix).id == "wrong-shard"


@pytest.mark.parametrize(
    ("damaged", "id_"),
    [
        ("t0", "bit-rot"),
        ("t0 t3", "bit-rot"),
        ("t0 t1 t2 t3 t4", "mixed-saves"),
        ("t5 t6 t7", "from-offset"),
        ("t5 t7", "bit-rot"),
        ("t0 t1 t2", "bit-rot"),
    ],
)
def test_the_pattern_of_the_damage_decides(tmp_path: Path, damaged: str, id_: str) -> None:
    prefix, data = make(tmp_path)
    for name in damaged.split():
        overwrite(data, offset(prefix, name) + 9, b"\xff")
    found = cause(prefix)
    assert found.id == id_
    count = len(damaged.split())
    assert (
        f"{count} of 8 tensors" in found.sentence
        or "one tensor of 8" in found.sentence
        or f"all {count}" in found.sentence
    )


def test_of_a_tensor_in_parts_the_part_that_is_damaged_is_meant(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    prefix = str(tmp_path / "ckpt")
    parts = [np.arange(1, 101.0) + number for number in range(2)]
    slices = ["200 0,100", "200 100,100"]
    pieces = []
    for number, part in enumerate(parts):
        pieces.append(f"{prefix}_temp/part-{number}")
        tf.raw_ops.SaveV2(
            prefix=pieces[-1], tensor_names=["t"], shape_and_slices=[slices[number]], tensors=[tf.constant(part)]
        )
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=pieces, destination_prefix=prefix, delete_old_dirs=True)
    overwrite(Path(f"{prefix}.data-00001-of-00002"), 9, b"\xff")
    assert "ckpt.data-00001-of-00002" in cause(prefix).sentence


def test_an_empty_index_says_when_that_happens(tmp_path: Path) -> None:
    prefix, _ = make(tmp_path)
    Path(f"{prefix}.index").write_bytes(b"")
    assert verify(prefix).diagnosis is None or "as when" in cause(prefix).sentence


def test_what_is_whole_has_no_cause(tmp_path: Path) -> None:
    prefix, _ = make(tmp_path)
    assert verify(prefix).diagnosis is None
