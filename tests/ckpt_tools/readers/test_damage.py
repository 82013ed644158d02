"""Nothing that happens to a file goes unnoticed: every truncation, every flipped bit of an index, and of data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import Sample, pick

from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.errors import CkptError
from ckpt_tools.readers import open_checkpoint

SAMPLES = [pick("tf1.15", "ComiRec-DR"), pick("tf2.10", "ComiRec-DR"), pick("tf2.21", "ComiRec-DR")]
each = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.id)


@pytest.fixture
def bundle(sample: Sample, tmp_path: Path) -> str:
    """A copy of the checkpoint alone."""
    for path in Path(sample.full_prefix).parent.glob(f"{Path(sample.full_prefix).name}.*"):
        shutil.copy(path, tmp_path / f"ckpt.{path.name.removeprefix(Path(sample.full_prefix).name + '.')}")
    return str(tmp_path / "ckpt")


def noticed(prefix: str) -> bool:
    """An error when it is opened, or a finding of a full verification."""
    try:
        with open_checkpoint(prefix) as checkpoint:
            return any(finding.severity == "damage" for finding in checkpoint.verify())
    except CkptError as error:
        return error.exit_code in (1, 7) and error.path is not None


def data_file(prefix: str) -> Path:
    return Path(f"{prefix}.data-00000-of-00001")


@each
def test_the_checkpoint_is_whole(bundle: str) -> None:
    assert not noticed(bundle)


@each
def test_every_truncation_of_the_index(bundle: str) -> None:
    path = Path(f"{bundle}.index")
    whole = path.read_bytes()
    missed = []
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if not noticed(bundle):
            missed.append(length)
    assert missed == []


@each
def test_every_flipped_bit_of_the_index(bundle: str) -> None:
    path = Path(f"{bundle}.index")
    whole = path.read_bytes()
    missed = []
    with path.open("r+b", buffering=0) as file:
        for bit in range(8 * len(whole)):
            file.seek(bit // 8)
            file.write(bytes([whole[bit // 8] ^ 1 << bit % 8]))
            if not noticed(bundle):
                missed.append(bit)
            file.seek(bit // 8)
            file.write(whole[bit // 8 : bit // 8 + 1])
    assert missed == []
    assert not noticed(bundle)


@each
@pytest.mark.parametrize("change", [lambda data: data + b"\0", lambda data: b"\0" + data, lambda data: data * 2])
def test_bytes_before_or_behind_the_index(bundle: str, change: Callable[[bytes], bytes]) -> None:
    path = Path(f"{bundle}.index")
    path.write_bytes(change(path.read_bytes()))
    assert noticed(bundle)


@each
def test_inspection_sees_every_cut_of_the_data(bundle: str) -> None:
    with open_checkpoint(bundle) as checkpoint:
        ends = {entry.offset + entry.size for entry in checkpoint.entries.values()}
    path = data_file(bundle)
    whole = path.read_bytes()
    lengths = {end + delta for end in ends for delta in (-1, 0, 1)} | set(range(0, len(whole), 4999)) | {1, 4}
    for length in sorted(length for length in lengths if 0 <= length < len(whole)):
        path.write_bytes(whole[:length])
        found = inspect(bundle)
        cut = [finding for finding in found.findings if "cut off" in finding.message]
        assert cut, length
        assert cut[0].severity == "damage"
        assert cut[0].path == str(path)
        assert len(found.tensors) > 5, "what is listed does not depend on the data"
        assert noticed(bundle), length


@each
def test_flipped_bits_of_the_data_name_their_tensor(bundle: str) -> None:
    with open_checkpoint(bundle) as checkpoint:
        entries = dict(checkpoint.entries)
    path = data_file(bundle)
    whole = path.read_bytes()
    for name, entry in entries.items():
        for place in {0, entry.size // 2, entry.size - 1}:
            for bit in (0, 7):
                broken = bytearray(whole)
                broken[entry.offset + place] ^= 1 << bit
                path.write_bytes(bytes(broken))
                with open_checkpoint(bundle) as checkpoint:
                    (finding,) = checkpoint.verify()
                assert (finding.key, finding.severity, finding.path) == (name, "damage", str(path))


@each
def test_a_flipped_bit_is_never_a_silently_different_tensor(bundle: str) -> None:
    with open_checkpoint(bundle) as checkpoint:
        expected = {name: checkpoint.digest(name) for name in checkpoint.tensors}
        name, entry = max(checkpoint.entries.items(), key=lambda item: item[1].size)
    path = data_file(bundle)
    broken = bytearray(path.read_bytes())
    broken[entry.offset] ^= 1
    path.write_bytes(bytes(broken))
    with open_checkpoint(bundle) as checkpoint:
        for other in expected:
            if other == name:
                for question in (checkpoint.digest, checkpoint.read):
                    with pytest.raises(CkptError, match="checksum"):
                        question(other)
            else:
                assert checkpoint.digest(other) == expected[other]


@each
def test_bytes_behind_the_data_harm_nothing(bundle: str) -> None:
    with data_file(bundle).open("ab") as file:
        file.write(b"trailing")
    assert not noticed(bundle)


@each
def test_data_of_another_step_under_the_same_index(bundle: str, sample: Sample) -> None:
    other = bytearray(data_file(bundle).read_bytes())
    other[::1000] = bytes(byte ^ 0x55 for byte in other[::1000])
    data_file(bundle).write_bytes(bytes(other))
    assert noticed(bundle), sample.id


@each
def test_a_missing_data_file(bundle: str) -> None:
    expected = [tensor.name for tensor in inspect(bundle).tensors]
    data_file(bundle).unlink()
    found = inspect(bundle, digest=True)
    assert [tensor.name for tensor in found.tensors] == expected
    assert {tensor.sha256 for tensor in found.tensors} == {None}
    assert any(finding.id == "not-found" and finding.severity == "damage" for finding in found.findings)
    assert noticed(bundle)
