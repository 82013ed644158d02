"""Parts of a checkpoint under other names are found by what they hold, and the command that is shown mends it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle, contents

from ckpt_tools.analysis.verification import verify
from ckpt_tools.cli import run
from ckpt_tools.errors import NotFoundError
from ckpt_tools.format import checksum
from ckpt_tools.format.bundle import HEADER_KEY, Entry
from ckpt_tools.format.dtypes import BY_NAME
from ckpt_tools.format.table import write_table
from ckpt_tools.format.wire import bytes_field, varint_field
from ckpt_tools.readers import locate

DATA = "m.data-00000-of-00001"


def sharded(directory: Path, *values: np.ndarray) -> str:
    """A bundle with one tensor in each shard."""
    count = len(values)
    table = {HEADER_KEY: varint_field(1, count) + bytes_field(3, varint_field(1, 1))}
    for shard, value in enumerate(values):
        raw = value.tobytes()
        table[f"t{shard}".encode()] = Entry(
            BY_NAME[value.dtype.name], value.shape, shard, 0, len(raw), checksum.masked(raw)
        ).encode()
        (directory / f"m.data-{shard:05d}-of-{count:05d}").write_bytes(raw)
    (directory / "m.index").write_bytes(write_table(table))
    return str(directory / "m")


def follow(command: str) -> None:
    """Do what a hint says."""
    for step in command.split(" && "):
        words = shlex.split(step)
        if words[0] == "ckpt":
            assert run([*words[1:], "-q"]) == 0
        else:
            subprocess.run(words, check=True)


@pytest.mark.parametrize(
    "name",
    [
        *(f"{DATA}{ending}" for ending in (" (1)", ".txt", ".download", ".crdownload")),
        *("m.data", "m (1).data-00000-of-00001", "m.data-00000-of-00002", "m.data-00001-of-00001", "weights"),
    ],
)
@pytest.mark.parametrize("values", [np.arange(60.0), np.float32([3])], ids=["large", "four bytes"])
def test_a_data_file_under_another_name(tmp_path: Path, name: str, values: np.ndarray) -> None:
    prefix = build_bundle(tmp_path / "m", {"w": values})
    build_bundle(tmp_path / "other", {"w": values + 1})
    (tmp_path / DATA).rename(tmp_path / name)
    found = verify(prefix)
    assert found.diagnosis is not None
    assert found.diagnosis.id == "renamed-data"
    assert f"the bytes of {DATA} are in {name!r}" in found.diagnosis.sentence
    assert {finding.fix for finding in found.findings if finding.key is None} == {found.diagnosis.fix}
    assert found.diagnosis.fix is not None
    follow(found.diagnosis.fix)
    assert verify(prefix).whole
    assert verify(str(tmp_path / "other")).whole


def test_several_data_files_under_other_names(tmp_path: Path) -> None:
    prefix = sharded(tmp_path, np.arange(30.0), np.arange(40.0), np.arange(50.0))
    for shard in (0, 2):
        path = tmp_path / f"m.data-0000{shard}-of-00003"
        path.rename(f"{path} (1)")
    fix = verify(prefix).findings[0].fix
    assert fix is not None
    follow(fix)
    assert verify(prefix).whole


def test_what_is_not_all_there_is_missing(tmp_path: Path) -> None:
    prefix = sharded(tmp_path, np.arange(30.0), np.arange(40.0))
    (tmp_path / "m.data-00000-of-00002").rename(tmp_path / "kept")
    (tmp_path / "m.data-00001-of-00002").unlink()
    found = verify(prefix).diagnosis
    assert found is not None
    assert found.id == "missing-shard"


def test_the_data_of_another_checkpoint_stay_where_they_are(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", {"w": np.arange(60.0)})
    for part in ("index", "data-00000-of-00001"):
        shutil.copy(f"{prefix}.{part}", tmp_path / f"copy.{part}")
    (tmp_path / DATA).unlink()
    fix = verify(prefix).findings[0].fix
    assert fix is not None
    follow(fix)
    assert verify(prefix).whole
    assert verify(str(tmp_path / "copy")).whole


def test_a_file_of_the_same_size_with_other_bytes_is_not_the_one(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "m", {"w": np.arange(60.0)})
    (tmp_path / DATA).unlink()
    (tmp_path / f"{DATA} (1)").write_bytes(np.arange(60.0)[::-1].tobytes())
    found = verify(prefix).diagnosis
    assert found is not None
    assert found.id == "missing-shard"


def renamed_alone(directory: Path) -> str:
    (directory / "m.index").rename(directory / "best.index")
    return str(directory / "best")


def called(name: str) -> Callable[[Path], str]:
    def rename(directory: Path) -> str:
        (directory / "m.index").rename(directory / name)
        return str(directory)

    return rename


NAMES = ("m.index (1)", "m.index.txt", "m.index.bak", "m.INDEX", "m_index", "m.meta", "index", "weights")


@pytest.mark.parametrize("rename", [renamed_alone, *map(called, NAMES)])
def test_an_index_under_another_name_leads_to_the_repair_that_mends_it(
    tmp_path: Path, rename: Callable[[Path], str]
) -> None:
    build_bundle(tmp_path / "m", {"w": np.arange(60.0)})
    before = contents(tmp_path)["m.index"]
    path = rename(tmp_path)
    try:
        fix = verify(path).findings[0].fix
    except NotFoundError as error:
        fix = error.hint
        with pytest.raises(NotFoundError, match="under another name"):
            locate(tmp_path / DATA)
        with pytest.raises(NotFoundError, match="under another name"):
            locate(tmp_path / "m")
    assert fix == f"ckpt repair {tmp_path}"
    follow(fix)
    assert verify(str(tmp_path / "m")).whole
    assert contents(tmp_path)["m.index"] == before


def test_a_copy_of_an_index_is_never_moved_over_it(tmp_path: Path) -> None:
    build_bundle(tmp_path / "m", {"w": np.arange(60.0)})
    shutil.copy(tmp_path / "m.index", tmp_path / "m.index (1)")
    with pytest.raises(NotFoundError) as refused:
        locate(tmp_path / "other")
    assert not (refused.value.hint or "").startswith("mv")


def test_an_index_that_was_renamed_with_its_data_gone_gets_its_name_back(tmp_path: Path) -> None:
    build_bundle(tmp_path / "m", {"w": np.arange(60.0)})
    (tmp_path / "m.index").rename(tmp_path / "m.index.txt")
    (tmp_path / DATA).unlink()
    with pytest.raises(NotFoundError) as refused:
        locate(tmp_path)
    assert refused.value.hint is not None
    follow(refused.value.hint)
    assert locate(tmp_path) == f"{tmp_path}/m"
