"""An interrupted change whose index is neither the one before nor the one after: nothing is deleted, all can come back.

The change is killed in this process, by an exception that nothing cleans up after, at each of its calls; then the index
is harmed as a killed overwrite, a copy that was cut off, or a disk would.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle, contents, rewrite, snapshot, stored_best
from faulty import HARMS

from ckpt_tools.analysis import stability
from ckpt_tools.analysis.verification import verify
from ckpt_tools.cli import run
from ckpt_tools.errors import BusyError, CkptError, CorruptError, StorageError
from ckpt_tools.fs import local
from ckpt_tools.operations.repairing import repair
from ckpt_tools.runs.ledger import history
from ckpt_tools.transactions import drop_backups, recover, undo

CALLS = ("link", "replace", "unlink", "fsync", "rmdir", "mkdir")


class Killed(BaseException):
    """Nothing is cleaned up after it, as after SIGKILL."""


def kill_at(monkeypatch: pytest.MonkeyPatch, point: int, command: Callable[[], object]) -> bool:
    """Run a command, killed before its N-th call that changes a directory; whether it had so many."""
    calls = 0

    def counted(name: str) -> Callable[..., object]:
        original = getattr(os, name)

        def call(*arguments: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls > point:
                raise Killed  # and whatever is tried afterwards
            return original(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, counted(name))
        try:
            command()
        except Killed:
            return True
    return False


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a writer that may finish: there is none."""
    monkeypatch.setattr(stability, "QUIET_SECONDS", 0.0)


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    (tmp_path / "run").mkdir()
    build_bundle(tmp_path / "other", {"z": np.arange(7)})
    return build_bundle(tmp_path / "run" / "x", {"a": np.arange(3), "b": np.arange(50.0)})


def data_in(folder: Path) -> set[str]:
    """The digests of all data files, wherever they are."""
    return {digest for name, digest in contents(folder).items() if ".data-" in name}


@pytest.mark.parametrize("every", [len(HARMS), pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("undoing", [False, True], ids=["backfill", "undo"])
def test_killed_anywhere_and_then_its_index_is_harmed(
    prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    undoing: bool,
    harm: Callable[[Path], None],
    every: int,
) -> None:
    folder = tmp_path / "run"
    start = local.read_file(f"{prefix}.index", limit=1 << 20)
    original = data_in(folder)
    pending = folder / ".ckpt-tools" / "pending.json"
    outcomes: Counter[str] = Counter()
    for point in range(HARMS.index(harm) % every, 100, every):
        if undoing:
            rewrite(prefix, 0.5)
        if not kill_at(monkeypatch, point, (lambda: undo(prefix)) if undoing else (lambda: rewrite(prefix, 0.5))):
            break
        if not pending.exists():
            outcomes["had not begun, or had ended"] += 1
            if history(prefix):
                undo(prefix)
        else:
            harm(Path(f"{prefix}.index"))
            before = snapshot(folder)
            code = run(["repair", str(folder)])
            said = capsys.readouterr().err
            assert original <= data_in(folder), (point, "data is gone")
            if pending.exists():
                assert code == 1, point
                for again in (lambda: repair(str(folder)), lambda: drop_backups(prefix), lambda: rewrite(prefix, 0.5)):
                    with pytest.raises(CkptError):
                        again()
                assert snapshot(folder) == before, (point, "something was touched")
                assert run(["undo", *shlex.split(said.split(": ckpt undo ")[1])]) == 0, point
                outcomes["taken back"] += 1
            else:
                outcomes["was only announced"] += 1
                Path(f"{prefix}.index").write_bytes(start)  # its loss is none of ours
        assert local.read_file(f"{prefix}.index", limit=1 << 20) == start, point
        assert stored_best(prefix) is None, point
        assert not pending.exists(), point
    assert outcomes["taken back"] > 1, outcomes


def committed(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that was killed just after its commit."""
    replace = os.replace

    def stop_after(source: str, target: str, **folders: int) -> None:
        replace(source, target, **folders)
        if target == f"{prefix}.index":
            patch.setattr(os, "fsync", killed)

    def killed(_: int) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop_after)
        with pytest.raises(Killed):
            rewrite(prefix, 0.5)


def test_what_a_trainer_saved_since_stays_and_the_rest_is_kept(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    committed(prefix, monkeypatch)
    build_bundle(folder / "new", {"a": np.arange(9)})
    for name in ("data-00000-of-00001", "index"):
        (folder / f"new.{name}").replace(f"{prefix}.{name}")
    before, held = snapshot(folder), data_in(folder)
    assert run(["backfill", prefix, "--value", "0.5"]) == 1
    assert "give the change up and keep what is there" in capsys.readouterr().err
    assert snapshot(folder) == before
    assert run(["undo", prefix]) == 0
    assert data_in(folder) == held, "nothing is deleted"
    assert verify(prefix).whole
    with_new = contents(folder)
    assert {name for name in with_new if not name.startswith(".ckpt-tools")} == {"x.index", "x.data-00000-of-00001"}
    rewrite(prefix, 0.25)
    undo(prefix)
    assert contents(folder)["x.index"] == with_new["x.index"]


@pytest.mark.parametrize("point", [3, 6])
def test_an_undo_that_was_overtaken_is_given_up(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], point: int
) -> None:
    """The way out that is advised works, as it is advised, and says what it did: nothing was taken back."""
    folder = tmp_path / "run"
    rewrite(prefix, 0.5)
    assert kill_at(monkeypatch, point, lambda: undo(prefix))
    build_bundle(folder / "new", {"a": np.arange(9)})
    for name in ("data-00000-of-00001", "index"):
        (folder / f"new.{name}").replace(f"{prefix}.{name}")
    held = data_in(folder)
    assert run(["repair", str(folder)]) == 1
    said, advised = capsys.readouterr().err.split(": ckpt undo ")
    assert "ends with code 6" in said
    assert run(["undo", *shlex.split(advised)]) == 6
    assert "the undo that was interrupted is given up" in capsys.readouterr().err
    assert held <= data_in(folder)
    assert verify(prefix).whole
    assert not (folder / ".ckpt-tools" / "pending.json").exists()
    with pytest.raises(BusyError, match="written again"):
        undo(prefix)


def test_the_undo_of_one_checkpoint_gives_up_no_change_of_another(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    second = build_bundle(tmp_path / "run" / "y", {"a": np.arange(5)})
    rewrite(second, 0.25)
    committed(prefix, monkeypatch)
    os.truncate(f"{prefix}.index", 0)
    before = snapshot(tmp_path / "run")
    assert run(["undo", second]) == 1
    assert f"ckpt undo {prefix}" in capsys.readouterr().err
    assert snapshot(tmp_path / "run") == before
    assert run(["undo", prefix]) == 0
    assert stored_best(prefix) is None
    assert run(["undo", second]) == 0
    assert stored_best(second) is None


def forged(folder: Path, how: str) -> None:
    journal = folder / ".ckpt-tools" / "pending.json"
    stored = json.loads(journal.read_text())
    entry = stored["entry"]
    if how == "sides exchanged":
        entry["index_before"], entry["index_after"] = entry["index_after"], entry["index_before"]
    elif how == "no names of the originals":
        entry["links"] = [{**link, "original": None} for link in entry["links"]]
    else:
        entry["index_before"] = None
    journal.write_text(json.dumps(stored))


@pytest.mark.parametrize("how", ["sides exchanged", "no names of the originals"])
def test_a_journal_that_does_not_fit_moves_nothing(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What the index that stands needs is never moved away, whatever the journal says."""
    folder = tmp_path / "run"
    assert kill_at(monkeypatch, 9, lambda: rewrite(prefix, 0.5))
    forged(folder, how)
    before = snapshot(folder)
    assert run(["repair", str(folder)]) == 1
    assert snapshot(folder) == before
    assert verify(prefix).whole


def test_no_index_is_removed_for_a_ledger_that_knows_of_none(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    committed(prefix, monkeypatch)
    forged(folder, "no index before")
    assert run(["repair", str(folder)]) == 0
    before = snapshot(folder)
    with pytest.raises(CorruptError, match="there was none before"):
        undo(prefix)
    assert snapshot(folder) == before


def test_an_undo_puts_back_nothing_that_rotted_unread(prefix: str, tmp_path: Path) -> None:
    """The value of the first change is needed by no index since the second, and is of one file with its backup."""
    for value in (0.25, 0.5):
        rewrite(prefix, value)
    rotted = tmp_path / "run" / "x.data-00001-of-00003"
    with rotted.open("r+b") as file:
        file.write(b"rot!")
    assert verify(prefix).whole
    before = snapshot(tmp_path / "run")
    with pytest.raises(CorruptError, match="backup of the data is damaged"):
        undo(prefix)
    assert snapshot(tmp_path / "run") == before


def test_an_overwrite_that_was_killed_between_its_data_and_its_index(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the commit the second names may be the last ones of the old data."""
    folder = tmp_path / "run"
    read_back = "ckpt_tools.transactions.commit._read_back"
    with monkeypatch.context() as patch:
        patch.setattr(read_back, lambda *_: (each for each in ()).throw(Killed()))
        patch.setattr("ckpt_tools.transactions.journal._cancel", lambda *_: None)
        with pytest.raises(Killed):
            rewrite(prefix, 0.5)
    build_bundle(tmp_path / "torn", {"a": np.arange(9)})
    (tmp_path / "torn.data-00000-of-00001").replace(f"{prefix}.data-00000-of-00001")
    before = snapshot(folder)
    with pytest.raises(CorruptError, match="not the file that was changed") as caught:
        repair(str(folder))
    assert f"move {prefix}.data-00000-of-00001 somewhere else" in (caught.value.hint or "")
    assert snapshot(folder) == before
    with pytest.raises(BusyError, match="put here"):
        undo(prefix)
    (folder / "x.data-00000-of-00001").rename(folder / "torn")
    undo(prefix)
    assert stored_best(prefix) is None


def test_a_look_that_is_refused_is_not_an_absence(prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever look at whichever file of a recovery is refused: it stops, and the next run ends the change."""
    folder = tmp_path / "run"
    point = refused = 0
    stat = os.stat
    while True:
        committed(prefix, monkeypatch)
        before, held = snapshot(folder), data_in(folder)
        looks = 0

        def refuse(*arguments: object, _at: int = point, **options: object) -> os.stat_result:
            nonlocal looks
            looks += 1
            if looks == _at + 1:
                error = (errno.ESTALE, errno.EIO, errno.EACCES)[_at % 3]
                raise OSError(error, os.strerror(error))
            return stat(*arguments, **options)

        with monkeypatch.context() as patch:
            for name in ("stat", "lstat"):
                patch.setattr(os, name, refuse)
            try:
                recover(prefix)
            except StorageError:
                refused += 1
                assert held == data_in(folder), point
                assert before.keys() & contents(folder).keys(), point
        assert stored_best(prefix) == 0.5, point
        if looks <= point:
            break
        point += 1
        undo(prefix)
        assert stored_best(prefix) is None, point
    assert refused > 5


def test_backups_stay_where_the_checkpoint_is_damaged(prefix: str) -> None:
    rewrite(prefix, 0.5)
    os.truncate(f"{prefix}.index", 0)
    with pytest.raises(CorruptError, match="all that is left"):
        drop_backups(prefix)


@pytest.mark.parametrize("times", [1, 2])
def test_an_undo_that_could_not_tidy_up_takes_nothing_more_back(
    prefix: str, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    for value in (0.25, 0.5):
        rewrite(prefix, value)
    unlink = os.unlink
    for _ in range(times):

        def refuse(path: str, **folder: int) -> None:
            if ".data-" in str(path):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            unlink(path, **folder)

        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", refuse)
            with pytest.raises(StorageError):
                undo(prefix)
        assert stored_best(prefix) == 0.25
        assert len(history(prefix)) == 1, "the ledger is right"
    (undone,) = undo(prefix)
    assert undone.evidence == {}
    assert stored_best(prefix) == 0.25
    undo(prefix)
    assert stored_best(prefix) is None
