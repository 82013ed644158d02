"""Undo brings back the same files: the same bytes, times and, where links are, the same inodes."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import Sample, build_bundle, contents, rewrite, snapshot, stored_best

from ckpt_tools.errors import BusyError, CorruptError, NotFoundError, StorageError, UnsafeError
from ckpt_tools.runs.ledger import history, read_ledger
from ckpt_tools.transactions import undo

LEDGER = ".ckpt-tools/ledger.jsonl"


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    (tmp_path / "checkpoints").mkdir()
    return build_bundle(tmp_path / "checkpoints" / "x", {"a": np.arange(3), "b": np.arange(1000.0)})


def folder(prefix: str) -> Path:
    return Path(prefix).parent


def files(prefix: str) -> dict[str, tuple[int, int, int, str]]:
    """Everything but the ledger, which remembers the undo too."""
    return {name: row for name, row in snapshot(folder(prefix)).items() if name != LEDGER}


def test_every_fixture_comes_back_exactly(sample: Sample, copy: Callable[..., Path]) -> None:
    experiment = copy(sample)
    before = snapshot(experiment)
    prefix = sample.prefix_in(experiment)
    rewrite(prefix, 0.25)
    (undone,) = undo(prefix)
    ledger = os.path.relpath(folder(prefix) / LEDGER, experiment)
    assert {name: row for name, row in snapshot(experiment).items() if name != ledger} == before
    assert read_ledger(str(folder(prefix)))[-1].undoes == undone.id
    assert os.listdir(folder(prefix) / ".ckpt-tools") == ["ledger.jsonl"]


def test_one_by_one_and_all_at_once(prefix: str) -> None:
    states = [files(prefix)]
    ids = []
    for value in (0.1, 0.2, 0.3):
        ids.append(rewrite(prefix, value).id)
        states.append(files(prefix))
    assert [entry.id for entry in history(prefix)] == ids
    undo(prefix)
    assert files(prefix) == states[2]
    assert [entry.id for entry in undo(prefix, to=ids[0])] == ids[1::-1]
    assert files(prefix) == states[0]
    assert history(prefix) == []


def test_back_and_forth_within_a_second(prefix: str) -> None:
    before = files(prefix)
    for _ in range(3):
        rewrite(prefix, 0.5)
        undo(prefix)
        assert files(prefix) == before
    with pytest.raises(NotFoundError, match="nothing to undo"):
        undo(prefix)


def test_nothing_to_undo(prefix: str) -> None:
    names = os.listdir(folder(prefix))
    with pytest.raises(NotFoundError, match="nothing to undo"):
        undo(prefix)
    assert os.listdir(folder(prefix)) == names


def test_an_unknown_id_names_the_known_ones(prefix: str) -> None:
    known = rewrite(prefix, 0.5).id
    with pytest.raises(NotFoundError, match="no change nonsense") as caught:
        undo(prefix, to="nonsense")
    assert known in (caught.value.hint or "")
    assert stored_best(prefix) == 0.5


def test_the_changes_of_another_checkpoint_are_its_own(prefix: str) -> None:
    other = build_bundle(folder(prefix) / "y", {"a": np.arange(3)})
    before = files(prefix)
    rewrite(prefix, 0.5)
    rewrite(other, 0.25)
    undo(prefix)
    assert stored_best(other) == 0.25
    undo(other)
    assert files(prefix) == before


def test_a_displaced_file_comes_back(prefix: str) -> None:
    for number in (0, 1):
        (folder(prefix) / f"x.data-0000{number}-of-00002").write_bytes(b"of another save %d" % number)
    before = files(prefix)
    rewrite(prefix, 0.5)
    undo(prefix)
    assert files(prefix) == before


def test_without_hard_links_the_bytes_and_times_come_back(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    before = {name: row[1:] for name, row in files(prefix).items()}
    monkeypatch.setattr(os, "link", refuse)
    rewrite(prefix, 0.5)
    undo(prefix)
    assert {name: row[1:] for name, row in files(prefix).items()} == before


def test_a_checkpoint_that_was_written_since_wins(prefix: str) -> None:
    rewrite(prefix, 0.5)
    build_bundle(prefix, {"a": np.arange(5)})
    before = files(prefix)
    with pytest.raises(BusyError, match="written again") as caught:
        undo(prefix)
    assert "originals are in" in (caught.value.hint or "")
    assert files(prefix) == before


def test_a_checkpoint_that_its_trainer_has_removed_since_was_not_written_again(prefix: str) -> None:
    rewrite(prefix, 0.5)
    for path in folder(prefix).glob("x.*"):
        path.unlink()
    before = files(prefix)
    with pytest.raises(BusyError, match="was removed after this change: there is nothing") as caught:
        undo(prefix)
    assert "originals are in" in (caught.value.hint or "")
    assert files(prefix) == before


def test_a_file_in_the_place_of_an_original_is_never_lost(prefix: str) -> None:
    rewrite(prefix, 0.5)
    foreign = folder(prefix) / "x.data-00000-of-00001"
    foreign.write_bytes(b"put here since")
    before = files(prefix)
    with pytest.raises(BusyError, match="put here"):
        undo(prefix)
    assert files(prefix) == before
    foreign.rename(folder(prefix) / "elsewhere")
    undo(prefix)
    assert stored_best(prefix) is None


def test_what_a_trainer_wrote_after_a_killed_undo_is_never_lost(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(prefix, 0.5)
    with monkeypatch.context() as patch:
        # As if it had been killed before the commit: nothing is cleaned up.
        patch.setattr(os, "replace", killed_at_the_commit)
        patch.setattr("ckpt_tools.transactions.journal.recover_in", lambda _: None)
        with pytest.raises(Killed):
            undo(prefix)
    assert (folder(prefix) / ".ckpt-tools" / "pending.json").exists()
    # A trainer replaces files, it does not write into them.
    build_bundle(folder(prefix) / "new", {"a": np.arange(7)})
    for suffix in ("data-00000-of-00001", "index"):
        (folder(prefix) / f"new.{suffix}").replace(f"{prefix}.{suffix}")
    written = contents(folder(prefix))
    with pytest.raises(BusyError):
        undo(prefix)
    for suffix in ("data-00000-of-00001", "index"):
        assert contents(folder(prefix))[f"x.{suffix}"] == written[f"x.{suffix}"]


class Killed(BaseException):
    pass


def killed_at_the_commit(source: str, target: str, **folders: int) -> None:
    if os.fspath(target).endswith(".index"):
        raise Killed
    os.rename(source, target, **folders)


@pytest.mark.parametrize("damage", ["index", "data"])
def test_a_damaged_backup_is_not_put_back(prefix: str, damage: str) -> None:
    backup = Path(rewrite(prefix, 0.5).backup)
    if damage == "index":
        saved = backup / "x.index"
        content = saved.read_bytes()
        saved.unlink()
        saved.write_bytes(content[:-1])
        expected: type[Exception] = CorruptError
    else:
        (backup / "x.data-00000-of-00001").unlink()
        expected = NotFoundError
    before = files(prefix)
    with pytest.raises(expected, match="backup"):
        undo(prefix)
    assert files(prefix) == before


@pytest.mark.parametrize("call", ["link", "replace", "fsync", "mkdir", "write"])
def test_whatever_the_system_refuses_before_the_commit_the_checkpoint_is_untouched(
    prefix: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    original_files = files(prefix)
    rewrite(prefix, 0.5)
    before = files(prefix)
    original = getattr(os, call)
    for reached in range(100):
        calls = 0

        def fail(*arguments: object, _fail_at: int = reached, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls == _fail_at + 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return original(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            try:
                undo(prefix)
                break
            except StorageError as error:
                if error.message.startswith("done, but"):
                    patch.undo()
                    undo(prefix)  # the same command again
                    break
        assert files(prefix) == before, reached
    assert files(prefix) == original_files


def test_a_ledger_that_names_paths_is_unsafe(prefix: str) -> None:
    rewrite(prefix, 0.5)
    ledger = folder(prefix) / LEDGER
    victim = folder(prefix).parent / "victim"
    victim.write_bytes(b"precious")
    for hostile in ("../victim", "..", "", "a/b"):
        text = ledger.read_text().replace('"x.data-00001-of-00002"', f'"{hostile}"')
        with_hostile = folder(prefix) / "copy.jsonl"
        with_hostile.write_text(text)
        saved = ledger.read_bytes()
        ledger.write_text(text)
        with pytest.raises(UnsafeError, match="plain file name"):
            undo(prefix)
        ledger.write_bytes(saved)
    assert victim.read_bytes() == b"precious"


def test_a_torn_last_line_of_the_ledger_is_not_an_entry(prefix: str) -> None:
    before = files(prefix)
    rewrite(prefix, 0.5)
    with (folder(prefix) / LEDGER).open("a") as file:
        file.write('{"id": "torn')
    undo(prefix)
    assert files(prefix) == before
    rewrite(prefix, 0.25)
    undo(prefix)
    assert files(prefix) == before
    assert len(read_ledger(str(folder(prefix)))) == 4


def test_a_damaged_line_inside_the_ledger_is_said(prefix: str) -> None:
    rewrite(prefix, 0.5)
    ledger = folder(prefix) / LEDGER
    ledger.write_text("nonsense\n" + ledger.read_text())
    with pytest.raises(CorruptError, match="line 1"):
        undo(prefix)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"id": "x"}'])
def test_a_damaged_journal_is_said(prefix: str, content: bytes) -> None:
    rewrite(prefix, 0.5)
    pending = folder(prefix) / ".ckpt-tools" / "pending.json"
    pending.write_bytes(content)
    with pytest.raises(CorruptError):
        undo(prefix)
    assert stored_best(prefix) == 0.5


def test_a_clone_by_hard_links_has_a_ledger_of_its_own(prefix: str) -> None:
    rewrite(prefix, 0.5)
    clone = folder(prefix).parent / "clone"
    subprocess.run(["cp", "-al", folder(prefix), clone], check=True)
    before = contents(folder(prefix))
    undo(str(clone / "x"))
    rewrite(str(clone / "x"), 0.25)
    assert contents(folder(prefix)) == before
    undo(prefix)
    assert stored_best(str(clone / "x")) == 0.25
