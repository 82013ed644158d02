"""Changing what lies beside the checkpoints of a directory: its ``checkpoint`` file, and what was left behind.

Nothing is deleted: what goes is moved to the backup, under its own name. Every step is whole by itself, so that a
run that is killed leaves less to do for the next one, and nothing half done.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ckpt_tools.errors import BusyError, CkptError, NotFoundError
from ckpt_tools.format.filenames import STATE_FILE
from ckpt_tools.fs import durable, local
from ckpt_tools.fs.local import Folder
from ckpt_tools.runs.ledger import TidyEntry, UndoEntry, verify_command
from ckpt_tools.transactions import journal
from ckpt_tools.transactions.files import is_same, put_back, taken
from ckpt_tools.transactions.journal import PendingTidying, done_but, recover_in, remove_tidied
from ckpt_tools.transactions.workplace import Workplace, working_in

_MAX_STATE_BYTES = 1 << 26


@dataclass(frozen=True)
class Tidying:
    """``aside`` are the names to be moved away; ``state`` is what the state file ``name`` shall hold, None to leave it.

    ``sources`` are the files that this was decided from, as they were then; None for one that was not there.
    """

    directory: str
    reason: str
    aside: tuple[str, ...]
    state: bytes | None
    sources: Mapping[str, local.Fingerprint | None]
    name: str = STATE_FILE

    def to_json(self) -> dict[str, Any]:
        return {
            "directory": self.directory,
            "reason": self.reason,
            "aside": list(self.aside),
            "state": None if self.state is None else self.state.decode(),
            "state_file": self.name,
        }


def apply_tidying(tidying: Tidying) -> str:
    """Make the change; returns the directory where what was there before is kept.

    Raises BusyError when something changed since it was decided or somebody works in the directory, StorageError.
    """
    with working_in(tidying.directory) as place:
        recover_in(place)
        for path in tidying.sources:
            _require_unchanged(tidying, path)
        entry = TidyEntry(
            **place.new_head(tidying.reason, tidying.state or b""),
            aside=tidying.aside,
            state=None if tidying.state is None else tidying.state.decode(),
            state_file=tidying.name,
            directory=tidying.directory,
        )
        for name in entry.restored:
            durable.require_removable(place.path(name))
        place.require_endable(entry)
        try:
            journal.write(place, PendingTidying(entry, undoing=False))
            _make(tidying, place, entry)
        except BaseException:
            with contextlib.suppress(CkptError):
                recover_in(place)  # records what was done
            raise
        with done_but():
            durable.sync_directory(place.directory)
            place.record(entry)
            journal.close(place)
        return place.backup_path(entry)


def _make(tidying: Tidying, place: Workplace, entry: TidyEntry) -> None:
    state = place.path(tidying.name)
    backup = place.make_backup(entry)
    for name in tidying.aside:
        _require_unchanged(tidying, place.path(name))
        durable.rename(place.path(name), backup / name)
    if tidying.state is not None:
        if local.is_there(state):
            durable.link_or_copy(state, backup / tidying.name)
            durable.sync_directory(backup)
        durable.write_atomic(state, tidying.state, last_look=lambda: _require_unchanged(tidying, state))
    durable.sync_directory(backup)


def _require_unchanged(tidying: Tidying, path: str) -> None:
    """Raise BusyError when a file is not as it was: a trainer takes no lock, and what it wrote stays."""
    if (local.fingerprint(path) if local.is_there(path) else None) != tidying.sources[path]:
        raise BusyError("changed while it was looked at", path=path, hint="run the same command again")


def untidy(place: Workplace, entry: TidyEntry) -> None:
    """Take a change back. One that was interrupted goes on from where it was.

    Raises NotFoundError when what was there before is not kept any more, BusyError when somebody else wrote it since.
    """
    backup = place.backup(entry)
    if backup is None:
        message = "the backup of this change was removed: it cannot be undone"
        raise NotFoundError(message, path=place.backup_path(entry), hint=verify_command(place.directory))
    for name in entry.aside:
        kept, path = backup / name, place.path(name)
        if local.is_there(kept) and local.is_there(path):
            if local.is_directory(kept) or not is_same(kept, path):
                raise taken(path)
        elif not local.is_there(kept) and not local.is_there(path):
            raise NotFoundError("the backup lacks a file", path=kept, hint=verify_command(place.directory))
    place.require_endable(entry)
    try:
        journal.write(place, PendingTidying(entry, undoing=True))
        _put_all_back(place, backup, entry)
    except BaseException:
        with contextlib.suppress(CkptError):
            recover_in(place)
        raise
    with done_but():
        place.record(UndoEntry.of(entry))
        remove_tidied(place, entry)
        journal.close(place)


def _put_all_back(place: Workplace, backup: Folder, entry: TidyEntry) -> None:
    if entry.state is not None:
        _put_state_back(place, backup, entry.state_file, entry.state.encode())
    for name in entry.aside:
        kept, path = backup / name, place.path(name)
        if local.is_directory(kept) or (local.is_there(kept) and local.is_there(path)):
            durable.rename(kept, path)
        elif local.is_there(kept):
            put_back(kept, path)  # replaces nothing, as a rename could
    durable.sync_directory(place.directory)
    durable.sync_directory(backup)


def _put_state_back(place: Workplace, backup: Folder, name: str, written: bytes) -> None:
    """Give a state file back what it held before, or remove it where there was none.

    A trainer takes no lock: what it has written since stays.
    """
    state, kept = place.path(name), backup / name
    temporary = durable.temporary_name(state)
    existed = local.is_there(kept)

    def require_ours(path: str) -> None:
        if not local.is_there(path) or local.read_file(path, limit=_MAX_STATE_BYTES) != written:
            raise BusyError(
                "was written again after this change: taking it back would lose that",
                path=state,
                hint=f"what it held before is in {os.fspath(kept)}"
                if existed
                else f"remove it: rm {shlex.quote(state)}",
            )

    if not existed:
        if local.is_there(state):
            require_ours(state)
            durable.rename(state, temporary)
            try:
                require_ours(temporary)
            except BusyError:
                durable.rename(temporary, state)
                raise
            durable.remove(temporary)
    elif not is_same(kept, state):
        require_ours(state)
        durable.link_or_copy(kept, temporary)
        try:
            require_ours(state)
            durable.rename(temporary, state)
        except BaseException:
            durable.remove(temporary)
            raise
