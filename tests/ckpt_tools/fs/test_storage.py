"""Files: exact reads, durable writes, and what the operating system may refuse."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.errors import BusyError, CorruptError, DurabilityWarning, NotFoundError, StorageError, UnsafeError
from ckpt_tools.fs import durable, local, paths


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_reading_gives_exactly_what_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    with local.RandomAccessFile(tmp_path / "f") as file:
        assert file.size == 10
        assert file.read(3, 4) == b"3456"
        assert file.read(10, 0) == b""
        for offset, size in ((8, 3), (11, 0), (-1, 2), (0, -1), (2**63, 1)):
            with pytest.raises(CorruptError, match="cut off") as caught:
                file.read(offset, size)
            assert (caught.value.path, caught.value.offset) == (str(tmp_path / "f"), offset)


def test_a_file_that_shrinks_while_it_is_read_is_busy(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    with local.RandomAccessFile(tmp_path / "f") as file:
        os.truncate(tmp_path / "f", 4)
        with pytest.raises(BusyError):
            file.read(2, 6)


def test_short_reads_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(bytes(range(100)))
    original = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, offset: original(descriptor, min(size, 7), offset))
    assert local.read_file(tmp_path / "f", limit=100) == bytes(range(100))


def test_an_error_of_the_disk_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"x")

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(StorageError, match="read 1 bytes at 0"):
        local.read_file(tmp_path / "f", limit=10)


def test_a_limit(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"123")
    assert local.read_file(tmp_path / "f", limit=3) == b"123"
    with pytest.raises(UnsafeError, match="limit of 2"):
        local.read_file(tmp_path / "f", limit=2)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for question in (local.fingerprint, local.list_directory, durable.sync_file, local.RandomAccessFile):
        with pytest.raises(NotFoundError) as caught:
            question(tmp_path / "nowhere")
        assert caught.value.path == str(tmp_path / "nowhere")


def test_a_symbolic_link_that_points_to_itself(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StorageError):
        local.read_file(tmp_path / "loop", limit=10)


def test_creating_never_overwrites_and_leaves_nothing_on_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable.create_file(tmp_path / "f", b"first")
    with pytest.raises(StorageError):
        durable.create_file(tmp_path / "f", b"second")
    assert (tmp_path / "f").read_bytes() == b"first"

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for call in ("write", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            with pytest.raises(StorageError) as caught:
                durable.create_file(tmp_path / "g", b"data")
        assert "space" in (caught.value.hint or "")
        assert names(tmp_path) == ["f"]


def test_the_mode_of_a_file_like_another(tmp_path: Path) -> None:
    (tmp_path / "like").touch()
    (tmp_path / "like").chmod(0o640)
    durable.create_file(tmp_path / "f", b"", like=tmp_path / "like")
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_an_atomic_write_replaces_or_leaves_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    durable.write_atomic(tmp_path / "f", b"old")
    durable.write_atomic(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StorageError):
        durable.write_atomic(tmp_path / "f", b"newer")
    assert (tmp_path / "f").read_bytes() == b"new"
    assert names(tmp_path) == ["f"]


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])), max_size=5), st.binary(max_size=9000)
)
def test_appending_takes_a_torn_last_line_away(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], torn: bytes
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    for line in lines:
        durable.append_line(path, line)
    whole = path.read_bytes() if lines else b""
    path.write_bytes(whole + torn.replace(b"\n", b""))
    durable.append_line(path, "next")
    assert path.read_bytes() == whole + b"next\n"


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_a_copy_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    (tmp_path / "f").write_bytes(b"data")
    os.utime(tmp_path / "f", ns=(1, 10**18 + 7))
    assert durable.link_or_copy(tmp_path / "f", tmp_path / "linked") == "link"

    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", refuse)
    assert durable.link_or_copy(tmp_path / "f", tmp_path / "copied") == "copy"
    assert (tmp_path / "copied").read_bytes() == b"data"
    assert (tmp_path / "copied").stat().st_mtime_ns == 10**18 + 7
    assert (tmp_path / "copied").stat().st_ino != (tmp_path / "f").stat().st_ino


def test_another_error_of_a_link_is_not_answered_with_a_copy(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"data")
    (tmp_path / "g").write_bytes(b"other")
    with pytest.raises(StorageError):
        durable.link_or_copy(tmp_path / "f", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == b"other"


def test_a_lock_excludes_and_ends(tmp_path: Path) -> None:
    with durable.locked(tmp_path), pytest.raises(BusyError, match="another program"), durable.locked(tmp_path):
        pass
    with durable.locked(tmp_path):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOTSUP])
def test_a_directory_that_cannot_be_synced_is_tolerated_but_an_error_of_the_disk_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def answer(number: int) -> None:
        def fsync(_: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fsync)

    answer(error)
    with pytest.warns(DurabilityWarning, match="power loss"):
        durable.sync_directory(tmp_path)
    answer(errno.EIO)
    with pytest.raises(StorageError):
        durable.sync_directory(tmp_path)


def test_removing_what_is_gone_or_not_empty(tmp_path: Path) -> None:
    durable.remove(tmp_path / "nowhere")
    durable.remove_directory(tmp_path / "nowhere")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").touch()
    durable.remove_directory(tmp_path / "d")
    assert (tmp_path / "d" / "f").exists()


def test_a_file_whose_close_is_interrupted_is_not_closed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"x")
    file = local.RandomAccessFile(tmp_path / "f")
    closed = []
    close = os.close

    def interrupted(descriptor: int) -> None:
        closed.append(descriptor)
        close(descriptor)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        file.close()
    file.close()
    del file
    assert len(closed) == 1


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_file_can_have_is_not_there_for_any_question(name: str) -> None:
    assert not local.is_there(name)
    assert not paths.is_file(name)
    assert list(paths.files_below(name)) == []
    assert paths.real(name).endswith(name)
    for ask in (local.fingerprint, local.list_directory, local.free_bytes, local.read_link, paths.open_file):
        with pytest.raises(NotFoundError, match="no file can have this name"):
            ask(name)
