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
from ckpt_tools.errors import BusyError
from ckpt_tools.format.state import FILE_NAME


@dataclass(frozen=True)
class Tidying:
    """``aside`` are the names to be moved away; ``state`` is what the ``checkpoint`` file shall hold, None to leave it.

    ``sources`` are the files that this was decided from, as they were then; None for one that was not there.
    """

    directory: str
    reason: str
    aside: tuple[str, ...]
    state: bytes | None
    sources: Mapping[str, storage.Fingerprint | None]

    def to_json(self) -> dict[str, Any]:
        return {
            "directory": self.directory,
            "reason": self.reason,
            "aside": list(self.aside),
            "state": None if self.state is None else self.state.decode(),
        }


def apply_tidying(tidying: Tidying) -> str:
    """Make the change; returns the directory where what was there before is kept.

    Raises BusyError when something changed since it was decided or somebody works in the directory, StorageError.
    """
    directory = tidying.directory
    state = os.path.join(directory, FILE_NAME)
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
            if os.path.lexists(state):
                storage.link_or_copy(state, os.path.join(backup, FILE_NAME))
                storage.sync_directory(backup)
            storage.write_atomic(state, tidying.state, last_look=lambda: _require_unchanged(tidying, state))
        storage.sync_directory(backup)
        storage.sync_directory(directory)
        ledger.append(directory, entry)
    return backup


def _require_unchanged(tidying: Tidying, path: str) -> None:
    """Raise BusyError when a file is not as it was: a trainer takes no lock, and what it wrote stays."""
    if (storage.fingerprint(path) if os.path.lexists(path) else None) != tidying.sources[path]:
        raise BusyError("changed while it was looked at", path=path, hint="run the same command again")
