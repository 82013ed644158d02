"""A run is looked at when the system tells of a change, and all the time where it tells nothing."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckpt_tools.fs import notices
from ckpt_tools.guard import saves
from ckpt_tools.guard.keeper import Keeper
from ckpt_tools.guard.metric import MetricReader
from ckpt_tools.guard.saves import Watch
from ckpt_tools.guard.signals import Signals

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    if notices.notices_of(str(run)) is None:
        pytest.skip("this file system is one whose changes are not told")
    return run


@pytest.fixture
def keeper(run: Path) -> Iterator[Keeper]:
    keeper = Keeper(str(run), MetricReader("auc"))
    assert keeper.begin()
    keeper.look()
    yield keeper
    keeper.close()


def test_a_guard_at_rest_looks_seldom_and_at_once_when_something_changes(keeper: Keeper, run: Path) -> None:
    assert keeper.pause > 0.5
    (run / "train.log").write_text("auc: 0.5\n")
    assert select.select(keeper.notices, [], [], 0)[0]
    keeper.stirred()
    assert keeper.pause < 0.1
    assert keeper.notices == []  # what is still written must not wake it all the time
    keeper.look()
    assert keeper.best_seen == 0.5
    assert keeper.notices


def test_without_notices_it_looks_all_the_time(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saves, "notices_of", lambda _: None)
    keeper = Keeper(str(run), MetricReader("auc"))
    assert keeper.begin()
    keeper.look()
    assert keeper.notices == []
    assert keeper.pause < 0.2
    (run / "train.log").write_text("auc: 0.5\n")
    keeper.look()
    assert keeper.best_seen == 0.5
    keeper.close()


def test_a_run_that_is_removed_and_made_again_is_watched_again(keeper: Keeper, run: Path) -> None:
    shutil.rmtree(run)
    keeper.look()
    assert keeper.pause < 0.2  # nobody tells when it comes back
    (run / "below").mkdir(parents=True)
    keeper.look()
    keeper.look()
    assert keeper.pause > 0.5
    (run / "below" / "train.log").write_text("auc: 0.5\n")
    assert select.select(keeper.notices, [], [], 0)[0]


class _Silent:
    """A system that tells nothing."""

    def watch(self, _directory: str, _inode: int) -> bool:
        return False

    def watches(self, _directory: str) -> bool:
        return True

    def take(self) -> bool:
        return False

    def close(self) -> None:
        pass


def test_a_system_that_does_not_tell_of_a_change_is_not_relied_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saves, "notices_of", lambda _: _Silent())
    watch = Watch(str(run), str(run.parent / "run.pins"), listening=True)
    watch.look()
    for number in range(3):
        assert watch.is_told == (number < 2)
        (run / f"{number}.log").write_text("a line\n")
        watch.look()
    assert not watch.listening


def test_when_there_are_no_more_watches_it_looks_by_itself(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bool:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(notices.Notices, "watch", full)
    watch = Watch(str(run), str(run.parent / "run.pins"), listening=True)
    (run / "a.log").write_text("a line\n")
    watch.look()
    assert list(watch.logs.values()) == [7]
    assert not watch.is_told


def _bundle(run: Path, name: str, *, renamed: bool) -> None:
    for ending in ("data-00000-of-00001", "index"):
        draft = run / f"{name}_temp" / ending
        if renamed:
            draft.parent.mkdir(exist_ok=True)
            draft.write_bytes(os.urandom(10))
            os.replace(draft, run / f"{name}.{ending}")
        else:
            (run / f"{name}.{ending}").write_bytes(os.urandom(10))


def test_what_a_trainer_copies_beside_what_it_renames_into_place_is_not_linked(run: Path) -> None:
    watch = Watch(str(run), str(run.parent / "run.pins"))
    for _ in range(2):
        _bundle(run, "latest-1", renamed=True)
        _bundle(run, "best", renamed=False)
        watch.look()
    _bundle(run, "latest-22", renamed=True)
    linked = {save.path.rpartition("/")[2]: watch.comes_by_rename(save) for save, _ in watch.look()}
    assert linked == {"latest-1": True, "latest-22": True, "best": False}


def test_what_is_held_and_cannot_be_read_is_removed_too(run: Path) -> None:
    held = run.parent / "run.pins" / "held-000007"
    held.mkdir(parents=True)
    (held / "pin.json").write_bytes(b"")
    keeper = Keeper(str(run), MetricReader("auc"))
    assert keeper.begin()
    keeper.close()
    assert not held.exists()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGCHLD])
def test_a_signal_wakes_who_waits_and_the_end_of_a_child_tells_no_more(number: signal.Signals) -> None:
    # In a process with no other threads: one that does not block the signal would be given it.
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _wait_for(number)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def _wait_for(number: signal.Signals) -> None:
    numbers = {signal.SIGUSR1, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    sent = Signals(numbers)
    assert not select.select([sent], [], [], 0)[0]
    os.kill(os.getpid(), number)
    assert select.select([sent], [], [], 30)[0]
    assert [each.si_signo for each in sent.take()] == [number] * (number != signal.SIGCHLD)
    assert not select.select([sent], [], [], 0)[0]
    sent.close()
    os.kill(os.getpid(), number)
    assert signal.sigtimedwait(numbers, 30) is not None  # who waits next gets it
