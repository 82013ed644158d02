"""An exhaustive search over the states of the commit protocol: any call killed or refused, and again, and again.

From a directory at rest a command is run with a fault at each of its calls; from every state that this leaves, the same
command is run again, with a fault at each of its calls; and so on, until no new state turns up. In each state the
checkpoint must be whole and the originals there, and the same command, undisturbed, must end as if nothing had
happened. Then the index is harmed in every state in which a change is under way.

That the search would find what it is there for is tried too: with each of the old rules put back it must fail.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faulty
import numpy as np
import pytest
from checkpoints import build_bundle, rewrite, stored_best
from faulty import HARMS, Fault, State
from old_rules import refused_is_absent, two_states_only

from ckpt_tools.errors import CkptError, CorruptError
from ckpt_tools.transactions import drop_backups, pending, recover, rollback, undo

PREFIX, JOURNAL = "x", ".ckpt-tools/pending.json"


def backfill(prefix: str) -> None:
    recover(prefix)
    if stored_best(prefix) != 0.5:
        rewrite(prefix, 0.5)


COMMANDS: dict[str, Callable[[str], object]] = {"backfill": backfill, "undo": undo, "drop backups": drop_backups}


@dataclass
class Search:
    """The states that one command reaches, in a directory that is built anew for each step."""

    folder: Path
    command: Callable[[str], object]
    monkeypatch: pytest.MonkeyPatch
    links: str | None = None

    def __post_init__(self) -> None:
        """Two changes stand, so that one too many could be taken back."""
        self.prefix = str(self.folder / PREFIX)
        self.folder.mkdir()
        (self.folder.parent / "other.index").write_bytes(
            Path(build_bundle(self.folder / "o", {"z": np.arange(7)}) + ".index").read_bytes()
        )
        for path in self.folder.iterdir():
            path.unlink()
        build_bundle(self.prefix, {"a": np.arange(3), "b": np.arange(50.0)})
        (self.folder / "x.data-00001-of-00003").write_bytes(b"of another save")
        for value in (0.25, 0.75):
            faulty.run(lambda value=value: rewrite(self.prefix, value), self.monkeypatch)  # type: ignore[misc]
        self.start = faulty.seen(self.folder)
        self.before = stored_best(self.prefix)
        done = self.run()
        assert done.finished, done.error
        self.calls = done.calls
        self.goal = faulty.seen(self.folder)
        self.after = stored_best(self.prefix)
        self.originals = faulty.held(self.start, ending=".data-") & faulty.held(self.goal, ending=".data-")

    def run(self, fault: Fault | None = None) -> faulty.Outcome:
        with faulty.unlocked(self.folder):
            return faulty.run(lambda: self.command(self.prefix), self.monkeypatch, fault, links=self.links)

    def faults(self, calls: tuple[str, ...], number: int) -> list[Fault]:
        """The faults at a call: one of the errors in turn, so that all have theirs; killed (before a call that only
        looks is before the next one that changes something), cut off, late."""
        kinds = [faulty.ERRORS[number % 8]]
        kinds += ["killed"] if calls[number] in faulty.CHANGING else []
        kinds += ["half"] if calls[number] == "write" else []
        kinds += ["late"] if calls[number] in faulty.LATE else []
        return [Fault(number, kind) for kind in kinds]

    def is_done(self, state: State) -> bool:
        """Whether nothing is left to do; a command run again would be a new one."""
        return faulty.files(state) == faulty.files(self.goal) and not any(name == JOURNAL for name, _, _ in state)

    def step(self, state: State, fault: Fault) -> State:
        faulty.build(state, self.folder)
        self.run(fault)
        return faulty.seen(self.folder)

    def check(self, state: State, how: object) -> None:
        """What must hold in every state."""
        faulty.build(state, self.folder)
        assert stored_best(self.prefix) in (self.before, self.after), how
        assert self.originals <= faulty.held(state, ending=".data-"), f"{how}: data is gone"
        if not self.is_done(state):
            again = self.run()
            assert again.finished, (how, again.error)
        assert faulty.files(faulty.seen(self.folder)) == faulty.files(self.goal), f"{how}: the same command again"
        assert not is_pending(self.folder), how

    def check_harmed(self, state: State, harm: Callable[[Path], None], how: object) -> None:
        """With its index harmed while a change is under way: no command deletes anything, and undo brings it back."""
        faulty.build(state, self.folder)
        harm(Path(f"{self.prefix}.index"))
        harmed = faulty.seen(self.folder)
        data = faulty.held(harmed, ending=".data-")
        for command in (recover, drop_backups):
            outcome = faulty.run(lambda command=command: command(self.prefix), self.monkeypatch)  # type: ignore[misc]
            assert data <= faulty.held(faulty.seen(self.folder), ending=".data-"), f"{how}: data is gone"
            if not is_pending(self.folder):
                return  # it had only been announced
            assert isinstance(outcome.error, CkptError), how
        assert faulty.seen(self.folder) == harmed, f"{how}: something was touched"
        undo(self.prefix)
        assert stored_best(self.prefix) in (self.before, self.after), how
        assert not is_pending(self.folder), how
        assert self.originals <= faulty.held(faulty.seen(self.folder), ending=".data-"), f"{how}: data is gone"


def is_pending(folder: Path) -> bool:
    return (folder / JOURNAL).exists()


def exhaust(search: Search, *, most: int = 10**9) -> int:
    """Search all states that faults upon faults reach; returns how many there are."""
    known = {search.start}
    open_states = [search.start]
    while open_states and len(known) < most:
        state = open_states.pop()
        faulty.build(state, search.folder)
        calls = search.run().calls
        for number in range(len(calls)):
            for fault in search.faults(calls, number):
                reached = search.step(state, fault)
                if reached not in known:
                    known.add(reached)
                    open_states += [] if search.is_done(reached) else [reached]
                    search.check(reached, (fault, len(known)))
                    if any(name == JOURNAL for name, _, _ in reached):
                        search.check_harmed(reached, HARMS[len(known) % len(HARMS)], (fault, len(known)))
    return len(known)


@pytest.mark.slow
@pytest.mark.parametrize("links", [None, "EPERM"])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_all_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[str], object], links: str | None
) -> None:
    assert exhaust(Search(tmp_path / "run", command, monkeypatch, links)) >= 10


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_three_faults_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[str], object]
) -> None:
    """Chosen by chance, the same each time."""
    chance = random.Random(command.__name__)
    search = Search(tmp_path / "run", command, monkeypatch)
    for _ in range(25):
        state, how = search.start, []
        while len(how) < 3 and not search.is_done(state):
            faulty.build(state, search.folder)
            calls = search.run().calls
            how.append(chance.choice(search.faults(calls, chance.randrange(len(calls)))))
            state = search.step(state, how[-1])
        search.check(state, how)
        if any(name == JOURNAL for name, _, _ in state):
            search.check_harmed(state, chance.choice(HARMS), how)


# ------------------------------------------------------------------------------------ would it find them?


def one_too_many(patch: pytest.MonkeyPatch) -> None:
    """The old undo: what the recovery took back does not count."""
    patch.setattr(rollback, "_taken_back", lambda *_, **__: [])


@pytest.mark.parametrize(
    ("fault", "command"), [(two_states_only, "backfill"), (refused_is_absent, "backfill"), (one_too_many, "undo")]
)
def test_the_search_finds_the_old_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[pytest.MonkeyPatch], None], command: str
) -> None:
    search = Search(tmp_path / "run", COMMANDS[command], monkeypatch)
    with monkeypatch.context() as patch:
        fault(patch)
        with pytest.raises((AssertionError, CorruptError, FileNotFoundError, CkptError)):
            exhaust(search, most=2000)


def test_what_is_under_way_can_be_asked(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "x", {"a": np.arange(3)})
    rewrite(prefix, 0.5)
    assert pending(str(tmp_path)) is None
