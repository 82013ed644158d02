"""The journal: what is under way in a directory, so that what was killed can be brought to an end.

    DIRECTORY/.ckpt-tools/pending.json   there only while a change is under way, or was interrupted

It holds the entry that the ledger gets at the end, and two things more: whether that is being taken back (``undoing``),
and the bytes of the old index (``old_index``). Those are in the backup too, but as another name of the same file, and
TensorFlow overwrites an index in place.

Which index stands tells on which side of its commit a change is. One that is neither of the two stops everything: see
`ckpt_tools.rewrite.endings`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ckpt_tools import ledger, storage
from ckpt_tools.errors import CkptError, CorruptError
from ckpt_tools.ledger import PENDING, STATE_DIRECTORY
from ckpt_tools.rewrite.endings import (
    OLD_INDEX,
    end_after,
    end_before,
    index_path,
    is_begun,
    lacking,
    recorded,
    stopped,
    take_back,
)
from ckpt_tools.rewrite.files import digest_if_there

_MAX_JOURNAL_BYTES = 1 << 27


@dataclass(frozen=True)
class Ended:
    """A change, or an undo of one, that was interrupted and has now been brought to an end.

    ``stands`` is whether the change is there now, or another has followed it; ``undoing`` whether it was being taken
    back.
    """

    entry: dict[str, Any]
    undoing: bool
    stands: bool


def recover(prefix: str) -> Ended | None:
    """Bring a change that was interrupted to an end, forward or back; None when there was none.

    Raises BusyError while somebody works in this directory, StorageError when it cannot be written, CorruptError when
    nobody can know which end it has: then nothing is touched.
    """
    directory = os.path.dirname(prefix) or "."
    if not storage.is_there(_pending_path(directory)):
        return None
    storage.require_writable(directory)
    with storage.locked(directory):
        return recover_directory(directory)


@dataclass
class Announced:
    """A change that the journal tells of. ``committing`` is set just before the rename that commits it."""

    committing: bool = False


@contextlib.contextmanager
def announced(directory: str, entry: Mapping[str, Any], old_index: bytes | None) -> Iterator[Announced]:
    """Announce a change before its first step, and make it up to its commit; on an error take the steps back."""
    change = Announced()
    try:
        storage.make_directory(os.path.join(directory, STATE_DIRECTORY))
        storage.write_atomic(_pending_path(directory), json.dumps({**entry, **_packed(old_index)}).encode())
        yield change
    except BaseException as error:
        # Also for KeyboardInterrupt. What cannot be cleaned up now is left to the next run's recovery.
        with contextlib.suppress(CkptError):
            if not change.committing:
                _cancel(directory, entry)
            elif isinstance(error, CkptError):
                ended = recover_directory(directory)
                if ended is not None and ended.stands is not ended.undoing:
                    return  # the system refused the rename, but had made it
        raise


def _packed(old_index: bytes | None) -> dict[str, str]:
    """The old index for the journal; one of very many tensors is left out, whose backup must do."""
    if old_index is None or len(old_index) > _MAX_JOURNAL_BYTES // 2:
        return {}
    return {OLD_INDEX: base64.b64encode(old_index).decode()}


def _cancel(directory: str, entry: Mapping[str, Any]) -> None:
    """Take back what this process has begun and knows not to be committed."""
    if entry.get("undoing"):
        end_after(directory, entry)
    else:
        end_before(directory, entry, known=True)
    _close(directory)


def conclude(directory: str, entry: Mapping[str, Any]) -> None:
    """The rest of a change after its commit. What fails now must not let one think that it was not made."""
    try:
        if entry.get("undoing"):
            end_before(directory, entry, known=True)
        else:
            end_after(directory, entry)
        _close(directory)
    except CkptError as error:
        error.message = f"done, but {error.message}"
        error.hint = "the change is made and the checkpoint whole: run the same command again to finish the rest"
        raise


def pending(directory: str) -> dict[str, Any] | None:
    """The entry of the change that is under way, or was interrupted; None without one.

    Raises CorruptError or UnsafeError for a journal that is none of ours.
    """
    path = _pending_path(directory)
    ledger.require_own(directory)
    if not storage.is_there(path):
        return None
    try:
        stored = json.loads(storage.read_file(path, limit=_MAX_JOURNAL_BYTES))
        return ledger.checked(stored, path, of_checkpoint=True)
    except (ValueError, RecursionError) as error:
        raise CorruptError("the journal is not JSON", path=path) from error


def recover_directory(directory: str, *, give_up: bool = False) -> Ended | None:
    """Bring an interrupted change to an end: forward after its commit point, else back; None when there is none.

    ``give_up``: where nobody can know which end it has, go back to what was before it.
    """
    _sweep(directory)
    entry = pending(directory)
    if entry is None:
        return None
    undoing = bool(entry.get("undoing"))
    current = digest_if_there(index_path(directory, entry))
    stands = current == entry["index_after"]
    if stands:
        end_after(directory, entry)
    else:
        why = None if current is not None else "its index is gone"
        if current == entry["index_before"]:
            why = lacking(directory, entry)
        elif current is not None:
            why = "its index is neither the one from before it nor the one after"
        if why is None:
            end_before(directory, entry)
        elif is_begun(directory, entry):
            if not give_up:
                raise stopped(directory, entry, why)
            stands = not take_back(directory, entry) and undoing
    _close(directory)
    entry = recorded(entry)
    return Ended(entry, undoing, stands)


def _close(directory: str) -> None:
    path = _pending_path(directory)
    storage.remove(path)
    storage.remove_directory(os.path.dirname(path))


def _sweep(directory: str) -> None:
    """Remove journals that were killed before they had their name: nothing had been done yet."""
    state = os.path.join(directory, STATE_DIRECTORY)
    if storage.is_directory(state):
        for name in storage.list_directory(state):
            if name.startswith(f"{PENDING}.tmp-"):
                storage.remove(os.path.join(state, name))
        storage.remove_directory(state)


def _pending_path(directory: str) -> str:
    return os.path.join(directory, STATE_DIRECTORY, PENDING)
