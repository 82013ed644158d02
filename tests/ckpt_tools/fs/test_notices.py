"""Changes in directories are told where the system tells all of them, and nowhere else."""

from __future__ import annotations

import os
import select
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ckpt_tools.fs import durable, notices
from ckpt_tools.fs.notices import Notices

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Notices]:
    found = notices.notices_of(str(tmp_path))
    if found is None:
        pytest.skip("this file system is one whose changes are not told")
    found.watch(str(tmp_path), tmp_path.stat().st_ino)
    yield found
    found.close()


def _write(place: Path) -> None:
    (place / "file").write_bytes(b"1")


def _rename(place: Path) -> None:
    os.replace(place / "there", place / "file")


def _append(place: Path) -> None:
    with (place / "there").open("ab") as file:
        file.write(b"1")


def _remove(place: Path) -> None:
    (place / "there").unlink()


def _make(place: Path) -> None:
    (place / "below").mkdir()


@pytest.mark.parametrize("change", [_write, _rename, _append, _remove, _make])
def test_each_change_is_told_once(told: Notices, tmp_path: Path, change: Callable[[Path], None]) -> None:
    (tmp_path / "there").write_bytes(b"0")
    told.take()
    assert not told.take()
    change(tmp_path)
    assert select.select([told], [], [], 0)[0]
    assert told.take()
    assert not told.take()


def test_looking_is_no_change(told: Notices, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"0")
    told.take()
    (tmp_path / "there").read_bytes()
    os.link(tmp_path / "there", tmp_path.parent / f"{tmp_path.name}-linked")
    os.listdir(tmp_path)
    assert not told.take()


def test_a_directory_that_is_gone_is_not_watched_any_more_and_one_in_its_place_is_another(
    told: Notices, tmp_path: Path
) -> None:
    below = tmp_path / "below"
    below.mkdir()
    assert told.watch(str(below), below.stat().st_ino)
    assert not told.watch(str(below), below.stat().st_ino)
    below.rename(tmp_path / "away")
    below.mkdir()
    assert told.watch(str(below), below.stat().st_ino)
    shutil.rmtree(below)
    told.take()
    assert not told.watches(str(below))
    assert told.watches(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        told.watch(str(below), 1)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs", "lustre"])
def test_where_others_write_too_nobody_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server {tmp_path} {kind} rw 0 0\n")
    monkeypatch.setattr(durable, "_MOUNTS", str(mounts))
    assert notices.notices_of(str(tmp_path)) is None
