"""The journal: what is under way in a directory, so that what was killed can be brought to an end.

    DIRECTORY/.ckpt-tools/pending.json   there only while a change is under way, or was interrupted

It holds the entry that the ledger gets at the end, whether that is being taken back (``undoing``), and the bytes of the
old index. Which index stands tells on which side of its commit a change is; one that is neither of the two stops
everything: see `ckpt_tools.transactions.completion`. What is tidied beside the checkpoints has no commit: what of it
was done is recorded.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, StorageError
from ckpt_tools.format import json_text
from ckpt_tools.format.filenames import PENDING, is_unfinished_keras, temporary_of
from ckpt_tools.fs import durable, local
from ckpt_tools.fs.local import Folder
from ckpt_tools.runs import ledger
from ckpt_tools.runs.ledger import ChangeEntry, RewriteEntry, TidyEntry, UndoEntry
from ckpt_tools.transactions.completion import (
    Pending,
    end_after,
    end_before,
    give_up,
    is_begun,
    is_gone,
    side,
    stopped,
    take_back,
)
from ckpt_tools.transactions.files import is_same
from ckpt_tools.transactions.workplace import Workplace, working_in

_MAX_JOURNAL_BYTES = 1 << 27


@dataclass(frozen=True)
class Ended:
    """A change, or an undo of one, that was interrupted and has now been brought to an end.

    ``stands`` is whether the change is there now, or another has followed it; ``undoing`` whether it was being taken
    back; ``given_up`` whether that end is neither: something else has saved a whole checkpoint since, which stays.
    """

    entry: ChangeEntry
    undoing: bool
    stands: bool
    given_up: bool = False


@dataclass(frozen=True)
class PendingTidying:
    """A change of the files beside the checkpoints that is under way; ``undoing``: it is being taken back."""

    entry: TidyEntry
    undoing: bool


def recover(prefix: str) -> Ended | None:
    """Bring a change that was interrupted to an end, forward or back; None when there was none.

    Raises BusyError while somebody works in this directory, StorageError when it cannot be written, CorruptError when
    nobody can know which end it has, UnsafeError for a journal that is none of ours: then nothing is touched.
    """
    directory = local.directory_of(prefix)
    if pending(directory) is None:
        return None
    with working_in(directory) as place:
        return recover_in(place)


def sweep(directory: str) -> None:
    """Remove what changes of Keras files left that were killed before their journal. Raises what `recover` raises."""
    there = local.is_directory(directory, follow=True)
    if there and any(map(is_unfinished_keras, local.list_directory(directory))):
        with working_in(directory) as place:
            recover_in(place)


def pending(directory: str) -> Pending | PendingTidying | None:
    """What is under way in a directory, or was interrupted; None without a journal.

    Raises CorruptError or UnsafeError for a journal that is none of ours.
    """
    if not local.is_directory(directory, follow=True):
        return None
    with Folder(directory) as folder:
        state = ledger.open_state(folder)
        if state is None:
            return None
        with state:
            return _read(state)


def recover_in(place: Workplace, *, given_up: str | None = None) -> Ended | None:
    """Bring an interrupted change to an end: forward after its commit point, else back; None when there is none.

    ``given_up``: the checkpoint whose change goes back to what was before it where nobody can know which end it has; of
    any other one that raises CorruptError.
    """
    _sweep(place)
    found = None if place.state is None else _read(place.state)
    if found is None:
        return None
    if isinstance(found, PendingTidying):
        ended: Ended | None = _recover_tidying(place, found)
    else:
        ended = _recover_rewrite(place, found, wanted=found.entry.checkpoint == given_up)
    close(place)
    return ended


def _recover_rewrite(place: Workplace, found: Pending, *, wanted: bool) -> Ended | None:
    stands, why = side(place, found.entry)
    if stands == "after":
        end_after(place, found.entry)
    elif stands == "before":
        end_before(place, found)
    elif is_gone(place, found.entry):
        give_up(place, found)  # there is nothing to end or to take back, and the others here must not wait for it
        return None
    elif is_begun(place, found.entry):
        if not wanted:
            raise stopped(place, found, why)
        came_back = take_back(place, found)
        return Ended(found.entry, found.undoing, stands=found.undoing and not came_back, given_up=not came_back)
    return Ended(found.entry, found.undoing, stands=stands == "after")


def _recover_tidying(place: Workplace, found: PendingTidying) -> Ended:
    """Each step of a tidying is whole by itself: record what was done, and leave the rest to the next run."""
    entry, backup = found.entry, place.backup(found.entry)
    if found.undoing:
        undone = entry.id in {known.undoes for known in place.entries() if isinstance(known, UndoEntry)}
        if undone:
            remove_tidied(place, entry)
        return Ended(entry, True, stands=not undone)
    aside = () if backup is None else tuple(name for name in entry.aside if local.is_there(backup / name))
    state = place.path(entry.state_file)
    if backup is not None and entry.state is not None and local.is_there(backup / entry.state_file):
        written = not is_same(backup / entry.state_file, state)
    else:
        written = entry.state is not None and local.is_file(state) and _holds(state, entry.state.encode())
    done = replace(entry, aside=aside, state=entry.state if written else None)
    if aside or written:
        durable.sync_directory(place.directory)
        place.record(done)
    elif backup is not None:
        durable.remove(backup / entry.state_file)
        place.remove_if_empty(entry)
    return Ended(done, False, stands=bool(aside or written))


def _holds(path: str, content: bytes) -> bool:
    with local.RandomAccessFile(path) as file:
        return file.size == len(content) and file.read(0, file.size) == content


def remove_tidied(place: Workplace, entry: TidyEntry) -> None:
    """Remove what was kept of a tidying that was taken back, as far as it is in the directory again."""
    backup = place.backup(entry)
    if backup is not None:
        back = [name for name in entry.aside if local.is_there(place.path(name))]
        for name in (*back, entry.state_file):
            if not local.is_directory(backup / name):
                durable.remove(backup / name)
        place.remove_if_empty(entry)


# ------------------------------------------------------------------------------------------ while it is under way


@dataclass
class Announced:
    """A change that the journal tells of. ``committing`` is set just before the step that commits it."""

    committing: bool = False


@contextlib.contextmanager
def announced(place: Workplace, pending: Pending) -> Iterator[Announced]:
    """Announce a change before its first step, and make it up to its commit; on an error take the steps back."""
    change = Announced()
    try:
        write(place, pending)
        yield change
    except BaseException as error:
        # Also for KeyboardInterrupt. What cannot be cleaned up now is left to the next run's recovery.
        with contextlib.suppress(CkptError):
            if not change.committing:
                _cancel(place, pending)
            elif isinstance(error, CkptError):
                ended = recover_in(place)
                if ended is not None and ended.stands is not ended.undoing:
                    return  # the system refused the rename, but had made it
        raise


def _cancel(place: Workplace, pending: Pending) -> None:
    """Take back what this process has begun and knows not to be committed."""
    if pending.undoing:
        end_after(place, pending.entry)
    else:
        end_before(place, pending, known=True)
    close(place)


def conclude(place: Workplace, pending: Pending) -> None:
    """The rest of a change after its commit."""
    with done_but():
        if pending.undoing:
            end_before(place, pending, known=True)
        else:
            end_after(place, pending.entry)
        close(place)


@contextlib.contextmanager
def done_but() -> Iterator[None]:
    """What fails now, fails after the change was made: the message must not let one think that it was not."""
    try:
        yield
    except CkptError as error:
        error.message = f"done, but {error.message}"
        error.hint = "the change is made and the checkpoint whole: run the same command again to finish the rest"
        raise


def write(place: Workplace, pending: Pending | PendingTidying) -> None:
    """Write the journal, durably."""
    document: dict[str, Any] = {"undoing": pending.undoing, "entry": pending.entry.to_json()}
    old_index = pending.old_index if isinstance(pending, Pending) else None
    if old_index is not None and len(old_index) <= _MAX_JOURNAL_BYTES // 2:  # a larger one must do with the backup
        document["old_index"] = base64.b64encode(old_index).decode()
    durable.write_atomic(place.make_state() / PENDING, json.dumps(document).encode())


def close(place: Workplace) -> None:
    """Remove the journal: nothing is under way any more.

    When this raises, the journal is still there: the same command again ends the change, and begins no other one. So
    what cannot be tidied behind it is no error.
    """
    if place.state is None:
        return
    journal = place.state / PENDING
    try:
        durable.remove(journal)
    except StorageError:
        if local.is_there(journal):
            raise
    with contextlib.suppress(CkptError):
        place.remove_if_empty()


def _read(state: Folder) -> Pending | PendingTidying | None:
    path = state / PENDING
    # Not asked first: whoever looks without the lock would else fail when the change ends in between.
    try:
        stored = json_text.parse(local.read_file(path, limit=_MAX_JOURNAL_BYTES))
    except NotFoundError:
        return None
    except ValueError as error:
        raise CorruptError("the journal is not JSON", path=path, hint=ledger.put_aside(path)) from error
    if not isinstance(stored, dict):
        raise CorruptError("the journal is not an object", path=path, hint=ledger.put_aside(path))
    entry = ledger.decode(stored.get("entry", stored), os.fspath(path))  # version 1 had the entry alone
    undoing = stored.get("undoing") is True
    if isinstance(entry, TidyEntry):
        return PendingTidying(entry, undoing)
    if not isinstance(entry, RewriteEntry):
        raise CorruptError("the journal tells of no change", path=path, hint=ledger.put_aside(path))
    return Pending(entry, undoing, _bytes(stored.get("old_index")))


def _bytes(stored: Any) -> bytes | None:
    try:
        return base64.b64decode(stored, validate=True) if isinstance(stored, str) else None
    except binascii.Error:
        return None


def _sweep(place: Workplace) -> None:
    """Remove journals that were killed before they had their name, and Keras files that were before their journal:
    nothing had been done yet."""
    journal = None
    if place.state is not None:
        for name in place.state.names():
            if temporary_of(name) == PENDING:
                durable.remove(place.state / name)
        journal = local.look(place.state / PENDING)
        place.remove_if_empty()
    if journal is None:
        for name in filter(is_unfinished_keras, local.list_directory(place.directory)):
            durable.remove(place.path(name))
