"""``ckpt verify``: what is whole passes, what is damaged is named, and the cause is told from the pattern."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import EXPERIMENTS, OF_EACH_LINEAGE, Sample, build_bundle, pick

from ckpt_tools.analysis.verification import verify
from ckpt_tools.cli import run
from ckpt_tools.errors import NotFoundError
from ckpt_tools.readers import Bundle


def training(seed: int) -> dict[str, np.ndarray]:
    """What one save of a run holds: six tensors that change, one that does not."""
    values = np.random.default_rng(seed)
    changing = {f"w{n}": values.standard_normal((40, 5), np.float32) for n in range(6)}
    return {**changing, "constant": np.arange(20, dtype=np.int64)}


def data_of(prefix: str) -> Path:
    return Path(f"{prefix}.data-00000-of-00001")


@pytest.mark.parametrize("sample", EXPERIMENTS, ids=lambda sample: sample.id)
@pytest.mark.parametrize("quick", [False, True])
def test_the_fixtures_are_whole(sample: Sample, quick: bool) -> None:
    found = verify(sample.path, quick=quick)
    assert found.whole
    assert found.findings == ()
    assert found.diagnosis is None
    assert found.tensors_checked == found.tensors > 0
    size = sum(os.path.getsize(path) for path in Bundle(sample.full_prefix).shard_paths)
    assert found.bytes_checked == (0 if quick else size)


def test_one_flipped_bit(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", training(1))
    data = bytearray(data_of(prefix).read_bytes())
    data[1000] ^= 4
    data_of(prefix).write_bytes(data)
    found = verify(prefix)
    assert found.damaged == ["w1"]
    assert found.tensors_checked == found.tensors
    assert found.diagnosis is not None
    assert found.diagnosis.id == "bit-rot"
    assert verify(prefix, quick=True).whole


@pytest.mark.parametrize("quick", [False, True])
def test_cut_off_at_every_byte(tmp_path: Path, quick: bool) -> None:
    prefix = build_bundle(tmp_path / "m", {"a": np.arange(9), "b": [b"text", b""], "c": np.float32(1)})
    data = data_of(prefix).read_bytes()
    for size in range(len(data)):
        data_of(prefix).write_bytes(data[:size])
        found = verify(prefix, quick=quick)
        assert not found.whole
        assert found.diagnosis is not None
        assert found.diagnosis.id == "cut-off"
        assert "'c'" in found.findings[0].message


def test_zeros_of_a_download_that_stopped(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", training(1))
    data = data_of(prefix).read_bytes()
    data_of(prefix).write_bytes(data[:2000] + bytes(len(data) - 2000))
    found = verify(prefix)
    assert found.diagnosis is not None
    assert found.diagnosis.id == "zeros"
    assert "byte 2000" in found.diagnosis.sentence
    assert "constant" not in found.damaged


def test_an_index_and_data_of_two_saves(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", training(1))
    (tmp_path / "other").mkdir()
    other = build_bundle(tmp_path / "other/n", training(2))
    shutil.copy(data_of(other), data_of(prefix))
    found = verify(prefix)
    assert found.damaged == [f"w{n}" for n in range(6)]
    assert found.diagnosis is not None
    assert found.diagnosis.id == "mixed-saves"


def test_everything_from_an_offset_on(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", training(1))
    data = bytearray(data_of(prefix).read_bytes())
    data[2100:] = np.random.default_rng(3).bytes(len(data) - 2100)
    data_of(prefix).write_bytes(data)
    diagnosis = verify(prefix).diagnosis
    assert diagnosis is not None
    assert diagnosis.id == "from-offset"


def test_a_file_of_another_save_in_the_same_directory(tmp_path: Path) -> None:
    one, two = (build_bundle(tmp_path / f"ckpt-{n}", training(n)) for n in (1, 2))
    os.rename(data_of(one), tmp_path / "aside")
    os.rename(data_of(two), data_of(one))
    os.rename(tmp_path / "aside", data_of(two))
    found = verify(one)
    assert found.diagnosis is not None
    assert found.diagnosis.id == "wrong-shard"
    assert "ckpt-2.data" in found.diagnosis.sentence


def test_a_missing_file(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", training(1))
    data_of(prefix).unlink()
    for quick in (True, False):
        found = verify(prefix, quick=quick)
        assert found.diagnosis is not None
        assert found.diagnosis.id == "missing-shard"
        assert os.path.basename(data_of(prefix)) in found.diagnosis.sentence


def test_an_empty_index_beside_a_whole_checkpoint(tmp_path: Path) -> None:
    one, two = (build_bundle(tmp_path / f"ckpt-{n}", training(n)) for n in (1, 2))
    Path(f"{two}.index").write_bytes(b"")
    found = verify(two)
    assert not found.whole
    assert found.format is None
    assert found.diagnosis is not None
    assert found.diagnosis.id == "torn-overwrite"
    assert one in str(found.diagnosis.fix)


def test_bytes_behind_the_last_tensor_are_harmless(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", training(1))
    with open(data_of(prefix), "ab") as file:
        file.write(b"more")
    found = verify(prefix)
    assert found.whole
    assert [finding.id for finding in found.findings] == ["trailing-bytes"]
    assert "4 bytes" in found.findings[0].message


@pytest.mark.parametrize("sample", OF_EACH_LINEAGE, ids=lambda sample: sample.id)
def test_flips_of_the_data_name_their_tensor(copy: Callable[..., Path], sample: Sample) -> None:
    prefix = sample.prefix_in(copy(sample))
    with Bundle(prefix) as bundle:
        entries = dict(bundle.entries)
    data = data_of(prefix).read_bytes()
    for offset in range(0, len(data), 4099):
        data_of(prefix).write_bytes(data[:offset] + bytes([data[offset] ^ 1 << offset % 8]) + data[offset + 1 :])
        (hit,) = (name for name, e in entries.items() if e.offset <= offset < e.offset + e.size)
        assert verify(prefix).damaged == [hit]


def test_memory_and_progress(tmp_path: Path) -> None:
    import tracemalloc

    prefix = build_bundle(tmp_path / "m", {"v": np.zeros(30_000_000, np.uint8)})
    seen: list[tuple[int, int]] = []
    tracemalloc.start()
    found = verify(prefix, progress=lambda done, total: seen.append((done, total)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.whole
    assert peak < 8_000_000
    assert len(seen) > 10
    assert seen[-1] == (30_000_000, 30_000_000)


class TestCommand:
    def test_whole(self, capsys: pytest.CaptureFixture[str]) -> None:
        sample = pick("tf2.21")
        assert run(["verify", str(sample.path)]) == 0
        assert "whole" in capsys.readouterr().out
        assert run(["verify", str(sample.path), "--quiet"]) == 0
        assert capsys.readouterr().out == ""

    def test_damaged(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        prefix = build_bundle(tmp_path / "m", training(1))
        data_of(prefix).write_bytes(data_of(prefix).read_bytes()[:-1])
        assert run(["verify", prefix, "--quiet"]) == 1
        assert "cut off" in capsys.readouterr().out
        assert run(["verify", prefix, "--json"]) == 1
        document = json.loads(capsys.readouterr().out)
        assert document["command"] == "verify"
        assert document["whole"] is False
        assert document["diagnosis"]["id"] == "cut-off"
        assert {finding["severity"] for finding in document["findings"]} == {"damage"}

    def test_nothing_there(self, tmp_path: Path) -> None:
        assert run(["verify", str(tmp_path / "gone")]) == NotFoundError.exit_code
