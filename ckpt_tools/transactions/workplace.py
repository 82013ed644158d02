"""The directory that a change works in: under its lock, with what is kept for it held open.

The files of the checkpoints lie in the directory that the user named, and are worked on by their paths. What is kept in
``.ckpt-tools`` is reached through directories that are held open, so that no link in there, nor one that somebody puts
there meanwhile, leads out of it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator

from ckpt_tools.format.filenames import STATE_DIRECTORY
from ckpt_tools.fs import durable, local
from ckpt_tools.fs.local import Folder
from ckpt_tools.redaction import redacted
from ckpt_tools.runs import ledger
from ckpt_tools.runs.ledger import BACKUP, LEDGER, Entry, Head


class Workplace:
    """A directory under its lock; made by `working_in`."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._folder = Folder(directory)
        self._state = ledger.open_state(self._folder)
        self._held: dict[str, Folder] = {}

    def path(self, name: str) -> str:
        """The path of a file beside the checkpoints."""
        return os.path.join(self.directory, name)

    # -------------------------------------------------------------------------------- the ledger

    @property
    def state(self) -> Folder | None:
        """What is kept for the directory; None when nothing is."""
        return self._state

    def make_state(self) -> Folder:
        if self._state is None:
            self._state = self._folder.make(STATE_DIRECTORY)
        return self._state

    def entries(self) -> list[Entry]:
        return [] if self._state is None else ledger.entries_in(self._state)

    def record(self, entry: Entry) -> None:
        """Add an entry to the ledger, unless it is there already; durable, with the file's name, when this returns."""
        if entry.id in {known.id for known in self.entries()}:
            return
        state = self.make_state()
        durable.append_line(state / LEDGER, json.dumps(redacted(entry.to_json())))
        durable.sync_directory(state)

    def new_head(self, action: str, after: bytes) -> Head:
        """The head of a new entry, with an id that nothing here has."""
        return ledger.head({entry.id for entry in self.entries()} | set(self.backup_names()), action, after)

    # -------------------------------------------------------------------------------- the originals

    def backup_names(self) -> list[str]:
        with self._backups() as backups:
            return [] if backups is None else backups.names()

    def backup_path(self, entry: Entry) -> str:
        """Where the originals of a change are kept; for messages."""
        return ledger.backup_path(self.directory, entry)

    def backup(self, entry: Entry) -> Folder | None:
        """The originals of a change; None when there are none. Raises UnsafeError for anything but a directory."""
        if entry.id not in self._held:
            with self._backups() as backups:
                found = None if backups is None else backups.inside(entry.id)
            if found is None:
                return None
            self._held[entry.id] = found
        return self._held[entry.id]

    def make_backup(self, entry: Entry) -> Folder:
        """Create the directory for the originals of a change, durably."""
        state = self.make_state()
        with state.make(BACKUP) as backups:
            self._held[entry.id] = backups.make(entry.id)
            durable.sync_directory(backups)
        durable.sync_directory(state)
        durable.sync_directory(self.directory)
        return self._held[entry.id]

    def each_backup(self) -> Iterator[Folder]:
        """The originals of every change, held open one after the other."""
        with self._backups() as backups:
            for name in [] if backups is None else backups.names():
                found = None if backups is None else backups.inside(name)
                if found is not None:
                    with found:
                        yield found

    def require_endable(self, entry: Entry) -> None:
        """Raise StorageError when a change could not be recorded, or what is kept of it not be removed, behind its
        commit: then it is not begun."""
        if self._state is None:
            return
        durable.require_appendable(self._state / LEDGER)
        durable.require_changeable(self._state)
        with self._backups() as backups:
            if backups is None:
                return
            durable.require_changeable(backups)
            backup = self.backup(entry)
            if backup is not None:
                durable.require_removable(backups / entry.id)
                durable.require_changeable(backup)
                for name in backup.names():
                    durable.require_removable(backup / name)

    def is_kept(self, entry: Entry, name: str) -> bool:
        """Whether the backup of a change holds a file of that name."""
        backup = self.backup(entry)
        return backup is not None and local.is_there(backup / name)

    def remove_if_empty(self, entry: Entry | None = None) -> None:
        """Remove the backup of a change, and the directories around it, as far as nothing is in them any more."""
        if self._state is None:
            return
        with self._backups() as backups:
            if backups is not None:
                if entry is not None:
                    if (held := self._held.pop(entry.id, None)) is not None:
                        held.close()
                    durable.remove_directory(backups / entry.id)
                if not backups.names():  # where it may not be changed, that it is not empty is no error
                    durable.remove_directory(self._state / BACKUP)
        if not self._state.names():
            durable.remove_directory(self._folder / STATE_DIRECTORY)
            self._state.close()
            self._state = None

    @contextlib.contextmanager
    def _backups(self) -> Iterator[Folder | None]:
        backups = None if self._state is None else self._state.inside(BACKUP)
        try:
            yield backups
        finally:
            if backups is not None:
                backups.close()

    def close(self) -> None:
        for folder in (*self._held.values(), self._folder, *([] if self._state is None else [self._state])):
            folder.close()


@contextlib.contextmanager
def working_in(directory: str) -> Iterator[Workplace]:
    """Work in a directory under its lock.

    Raises BusyError while somebody else does, StorageError where nothing can be written, UnsupportedError where a
    rename is none, UnsafeError when what is kept for it is not in it.
    """
    durable.require_writable(directory)
    durable.require_atomic_rename(directory)
    with durable.locked(directory):
        place = Workplace(directory)
        try:
            yield place
        finally:
            place.close()
