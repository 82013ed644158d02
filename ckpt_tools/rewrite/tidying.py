"""Changing what lies beside the checkpoints of a directory: its ``checkpoint`` file, and what was left behind.

Nothing is deleted: what goes is moved to the backup, under its own name. Every step is whole by itself, so that a
run that is killed leaves less to do for the next one, and nothing half done.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ckpt_tools import ledger, storage
from ckpt_tools.errors import BusyError, NotFoundError
from ckpt_tools.format.state import FILE_NAME
from ckpt_tools.rewrite.files import comes_from, file_digest, put_back, taken

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
    sources: Mapping[str, storage.Fingerprint | None]
    name: str = FILE_NAME

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
    directory = tidying.directory
    state = os.path.join(directory, tidying.name)
    storage.require_writable(directory)
    storage.require_atomic_rename(directory)
    with storage.locked(directory):
        for path in tidying.sources:
            _require_unchanged(tidying, path)
        entry = {**ledger.new_entry(directory, tidying.reason, tidying.state or b""), **tidying.to_json()}
        backup = ledger.make_backup_directory(directory, entry)
        for name in tidying.aside:
            _require_unchanged(tidying, os.path.join(directory, name))
            storage.rename(os.path.join(directory, name), os.path.join(backup, name))
        if tidying.state is not None:
            if storage.is_there(state):
                storage.link_or_copy(state, os.path.join(backup, tidying.name))
                storage.sync_directory(backup)
            storage.write_atomic(state, tidying.state, last_look=lambda: _require_unchanged(tidying, state))
        storage.sync_directory(backup)
        storage.sync_directory(directory)
        ledger.append(directory, entry)
    return backup


def _require_unchanged(tidying: Tidying, path: str) -> None:
    """Raise BusyError when a file is not as it was: a trainer takes no lock, and what it wrote stays."""
    if (storage.fingerprint(path) if storage.is_there(path) else None) != tidying.sources[path]:
        raise BusyError("changed while it was looked at", path=path, hint="run the same command again")


def untidy(directory: str, entry: Mapping[str, Any]) -> None:
    """Take a change back, under the directory's lock. One that was killed goes on from where it was.

    Raises NotFoundError when what was there before is not kept any more, BusyError when somebody else wrote it since.
    """
    backup = ledger.backup_directory(directory, entry)
    if not storage.is_directory(backup):
        raise NotFoundError("the backup of this change was removed: it cannot be undone", path=backup)
    saved = {os.path.join(backup, name): os.path.join(directory, name) for name in entry["aside"]}
    for kept, path in saved.items():
        if (
            storage.is_there(kept)
            and storage.is_there(path)
            and (storage.is_directory(kept) or not comes_from(kept, path))
        ):
            raise taken(path)
        if not storage.is_there(kept) and not storage.is_there(path):
            raise NotFoundError("the backup lacks a file", path=kept)
    if entry["state"] is not None:
        _put_state_back(directory, backup, ledger.state_file(entry), entry["state"].encode())
    for kept, path in saved.items():
        if storage.is_directory(kept) or (storage.is_there(kept) and storage.is_there(path)):
            storage.rename(kept, path)
        elif storage.is_there(kept):
            put_back(kept, path)  # replaces nothing, as a rename could
    storage.sync_directory(directory)
    storage.sync_directory(backup)
    ledger.append(directory, ledger.undo_entry(entry))
    for name in (*entry["aside"], ledger.state_file(entry)):
        storage.remove(os.path.join(backup, name))
    for parent in (backup, os.path.dirname(backup)):
        storage.remove_directory(parent)


def _is_back(kept: str, state: str) -> bool:
    if storage.is_link(kept):
        return storage.is_link(state) and storage.read_link(kept) == storage.read_link(state)
    return storage.is_there(state) and file_digest(kept) == file_digest(state)


def _put_state_back(directory: str, backup: str, name: str, written: bytes) -> None:
    """Give a state file back what it held before, or remove it where there was none.

    A trainer takes no lock: what it has written since stays.
    """
    state, kept = os.path.join(directory, name), os.path.join(backup, name)
    temporary = storage.temporary_name(state)

    def require_ours(path: str) -> None:
        if not storage.is_there(path) or storage.read_file(path, limit=_MAX_STATE_BYTES) != written:
            raise BusyError(
                "was written again after this change: taking it back would lose that",
                path=state,
                hint=f"what it held before is in {kept}" if storage.is_there(kept) else None,
            )

    if not storage.is_there(kept):
        if storage.is_there(state):
            require_ours(state)
            storage.rename(state, temporary)
            try:
                require_ours(temporary)
            except BusyError:
                storage.rename(temporary, state)
                raise
            storage.remove(temporary)
    elif not _is_back(kept, state):
        require_ours(state)
        storage.link_or_copy(kept, temporary)
        try:
            require_ours(state)
            storage.rename(temporary, state)
        except BaseException:
            storage.remove(temporary)
            raise
