"""The journal: what is under way in a directory, so that what was killed can be brought to an end.

    DIRECTORY/.ckpt-tools/pending.json   there only while a change is under way, or was killed

It holds the entry that the ledger gets at the end; which index stands tells on which side of its commit a change is.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ckpt_tools import ledger, storage
from ckpt_tools.errors import CkptError, CorruptError
from ckpt_tools.ledger import PENDING, STATE_DIRECTORY
from ckpt_tools.readers.bundle import index_name
from ckpt_tools.rewrite.endings import finish, finish_undo, roll_back, roll_back_undo
from ckpt_tools.rewrite.files import file_digest


def recover(prefix: str) -> None:
    """Bring a change that was killed half-way to an end, forward or back; does nothing when there is none.

    Raises BusyError while somebody works in this directory, StorageError when it cannot be written.
    """
    directory = os.path.dirname(prefix) or "."
    if os.path.lexists(os.path.join(directory, STATE_DIRECTORY, PENDING)):
        storage.require_writable(directory)
        with storage.locked(directory):
            recover_directory(directory)


@contextlib.contextmanager
def announced(directory: str, entry: Mapping[str, Any]) -> Iterator[None]:
    """Announce a change before its first step; on an error take the uncommitted steps back."""
    try:
        storage.make_directory(os.path.join(directory, STATE_DIRECTORY))
        storage.write_atomic(_pending_path(directory), json.dumps(entry).encode())
        yield
    except BaseException:
        # Also for KeyboardInterrupt. What cannot be cleaned up now is left to the next run's recovery.
        with contextlib.suppress(CkptError):
            recover_directory(directory)
        raise
    storage.remove(_pending_path(directory))


def recover_directory(directory: str) -> None:
    """Bring a change that was killed half-way to an end: forward after its commit point, else back."""
    path = _pending_path(directory)
    ledger.require_own(directory)
    _sweep(directory)
    if not os.path.lexists(path):
        return
    try:
        stored = json.loads(storage.read_file(path, limit=ledger.MAX_LEDGER_BYTES))
        entry = ledger.checked(stored, path, of_checkpoint=True)
    except ValueError as error:
        raise CorruptError("the journal is not JSON", path=path) from error
    index = index_name(os.path.join(directory, entry["checkpoint"]))
    current = file_digest(index) if os.path.lexists(index) else None
    undoing = bool(entry.get("undoing"))
    if current == entry["index_before" if undoing else "index_after"]:
        (finish_undo if undoing else finish)(directory, entry)
    else:
        (roll_back_undo if undoing else roll_back)(directory, entry)
    storage.remove(path)
    storage.remove_directory(os.path.dirname(path))


def _sweep(directory: str) -> None:
    """Remove journals that were killed before they had their name: nothing had been done yet."""
    state = os.path.join(directory, STATE_DIRECTORY)
    if os.path.isdir(state):
        for name in storage.list_directory(state):
            if name.startswith(f"{PENDING}.tmp-"):
                storage.remove(os.path.join(state, name))
        storage.remove_directory(state)


@contextlib.contextmanager
def after_commit() -> Iterator[None]:
    """What fails now fails after the change was made: the message must not let one think that it was not."""
    try:
        yield
    except CkptError as error:
        error.hint = "the change is made and the checkpoint whole: run the same command again to finish the rest"
        raise


def _pending_path(directory: str) -> str:
    return os.path.join(directory, STATE_DIRECTORY, PENDING)
