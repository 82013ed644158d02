"""How a change ends. Which index stands tells where: the one from before it, or the one after.

Either end can be reached again and again, from wherever a run was killed: a part that was done already is left as it
is. What is removed has been proved to be superfluous, just before: an index that is neither of the two proves nothing,
so that then everything stays (`take_back` is the way out, and only `undo` goes it).
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ckpt_tools import ledger, storage
from ckpt_tools.errors import CorruptError, NotFoundError
from ckpt_tools.ledger import STATE_DIRECTORY, backup_directory, history
from ckpt_tools.readers.bundle import MAX_INDEX_BYTES
from ckpt_tools.rewrite.files import (
    comes_from,
    digest,
    digest_if_there,
    is_whole,
    named_by,
    put_back,
    taken,
    temporary_index,
)

Entry = Mapping[str, Any]
# Where the journal has the bytes of the old index.
OLD_INDEX = "old_index"


def index_path(directory: str, entry: Entry) -> str:
    return os.path.join(directory, f"{entry['checkpoint']}.index")


def recorded(entry: Entry) -> dict[str, Any]:
    """What the ledger gets of the journal."""
    return {key: value for key, value in entry.items() if key not in ("undoing", OLD_INDEX)}


def end_after(directory: str, entry: Entry) -> None:
    """The new index stands: record the change, and move the originals to the backup (steps 7 and 8)."""
    storage.sync_directory(directory)
    if entry.get("undoing"):
        storage.remove(temporary_index(os.path.join(directory, entry["checkpoint"])))
    ledger.append(directory, recorded(entry))
    backup = backup_directory(directory, entry)
    for original, kept, second in _originals(directory, entry):
        if not storage.is_there(kept):
            _move_original(directory, second, original, kept)
        elif comes_from(kept, original) and named_by(directory, os.path.basename(original)) is None:
            storage.remove(original)  # an undo that was interrupted gave it this name back
    storage.sync_directory(backup)
    storage.sync_directory(directory)


def _move_original(directory: str, second: str | None, original: str, target: str) -> None:
    """Move a data file away that has a second name, unless it is not that file: a trainer that saves takes no lock.

    One without a second name is moved when no index needs it: the new one has left its tensors out.
    """
    if second is None:
        # The index in the backup names it, and gets it.
        index = named_by(directory, os.path.basename(original)) if storage.is_there(original) else original
        if index is None or os.path.dirname(index) == os.path.dirname(target):
            storage.rename(original, target)
    elif comes_from(second, original):
        storage.rename(original, target)
        if not comes_from(second, target):  # saved between the look and the rename
            storage.rename(target, original)


def end_before(directory: str, entry: Entry, *, known: bool = False) -> None:
    """The old index stands: remove what the change has added, then its backup.

    ``known``: this very process knows on which side of the commit it is. What stands may then be what a trainer, which
    takes no lock, saved a moment ago. Otherwise nothing must be `lacking`.
    """
    storage.sync_directory(directory)
    name = os.path.join(directory, entry["checkpoint"])
    if entry["id"] in {standing["id"] for standing in history(name)}:
        ledger.append(directory, ledger.undo_entry(entry))
    storage.remove(temporary_index(name))
    backup = backup_directory(directory, entry)
    for created in entry["created"]:
        path, displaced = os.path.join(directory, created), os.path.join(backup, created)
        index = named_by(directory, created)
        if index is not None and not known:
            raise CorruptError(f"is not removed: {index} names it", path=path)
        if index is None and created not in entry["displaced"]:
            storage.remove(path)
        elif index is None and storage.is_there(displaced):
            storage.rename(displaced, path)
    begun = known and not entry.get("undoing")  # nothing of the originals has been moved
    if begun or _is_back(directory, entry):
        remove_backup(directory, entry)


def _originals(directory: str, entry: Entry) -> Iterator[tuple[str, str, str | None]]:
    """Each original's path, its place in the backup, and its second name; None where the new index needs it not."""
    backup = backup_directory(directory, entry)
    links = entry["created"][: entry.get("links", len(entry["moved"]))]
    for name, second in itertools.zip_longest(entry["moved"], links[: len(entry["moved"])]):
        linked = None if second is None else os.path.join(directory, second)
        yield os.path.join(directory, name), os.path.join(backup, name), linked


def lacking(directory: str, entry: Entry) -> str | None:
    """What is wrong where the old index stands: an original is gone or another file, so that its other names may be
    the last ones. None when all that the old index names is there."""
    for original, kept, second in _originals(directory, entry):
        here = storage.is_there(original)
        other = kept if storage.is_there(kept) else second
        # A file of another save, which the change had not yet moved out of its way.
        displaced = second is not None and other == second and _in_the_way(directory, entry, os.path.basename(second))
        apart = other is None or not storage.is_there(other)
        if not here or not (displaced or apart or comes_from(original, other or original)):
            return f"{os.path.basename(original)} is {'not the file that was changed' if here else 'gone'}"
    return None


def _in_the_way(directory: str, entry: Entry, name: str) -> bool:
    return name in entry["displaced"] and not storage.is_there(os.path.join(backup_directory(directory, entry), name))


def _is_back(directory: str, entry: Entry) -> bool:
    """Whether every file of a backup is in the directory too."""
    if entry["index_before"] != digest_if_there(index_path(directory, entry)):
        return False
    return all(
        not storage.is_there(kept) or comes_from(kept, original) for original, kept, _ in _originals(directory, entry)
    )


def remove_backup(directory: str, entry: Entry) -> None:
    """Remove a backup: the files that it names and, when nothing else is in them, its directories."""
    backup = backup_directory(directory, entry)
    for name in (*entry["moved"], *entry["displaced"], f"{entry['checkpoint']}.index"):
        storage.remove(os.path.join(backup, name))
    for parent in (backup, os.path.dirname(backup), os.path.join(directory, STATE_DIRECTORY)):
        storage.remove_directory(parent)


# ---------------------------------------------------------------------------------- neither before nor after


def is_begun(directory: str, entry: Entry) -> bool:
    """Whether an interrupted change has done more than to announce itself."""
    if storage.is_there(backup_directory(directory, entry)):
        return True
    names = [name for name in entry["created"] if name not in entry["displaced"]]
    paths = [os.path.join(directory, name) for name in names]
    return any(map(storage.is_there, [*paths, temporary_index(os.path.join(directory, entry["checkpoint"]))]))


def stopped(directory: str, entry: Entry, why: str) -> CorruptError:
    """The error of a recovery that cannot know on which side of its commit a change is; it touches nothing."""
    prefix = os.path.join(directory, entry["checkpoint"])
    if is_whole(prefix):
        offer = f"to give the change up and keep what is there now: {ledger.undo_command(prefix)}"
    elif can_go_back(directory, entry):
        place = backup_directory(directory, entry)
        offer = f"to go back to what was before it, kept in {place}: {ledger.undo_command(prefix)}"
    else:
        offer = None
    what = "a change of this checkpoint was interrupted, and can be brought neither to its end nor back"
    return CorruptError(f"{what}: {why}; nothing was touched", path=prefix, hint=offer)


def can_go_back(directory: str, entry: Entry) -> bool:
    """Whether all of the checkpoint from before a change is there, in the directory or in the backup."""
    if entry["index_before"] is not None and _old_index(directory, entry) is None:
        return False
    return all(any(map(storage.is_there, filter(None, places))) for places in _originals(directory, entry))


def _old_index(directory: str, entry: Entry) -> bytes | None:
    """The old index, from the backup or the journal; None when it is in neither as it was."""
    saved = os.path.join(backup_directory(directory, entry), f"{entry['checkpoint']}.index")
    kept = [storage.read_file(saved, limit=MAX_INDEX_BYTES)] if storage.is_there(saved) else []
    with contextlib.suppress(ValueError, TypeError):
        kept.append(base64.b64decode(entry.get(OLD_INDEX, "")))
    return next((content for content in kept if digest(content) == entry["index_before"]), None)


def take_back(directory: str, entry: Entry) -> bool:
    """End an interrupted change whose index is neither of the two, as somebody asked for; nothing is deleted.

    A whole checkpoint that something else wrote stays, and what the change had added goes to the backup. Else the
    checkpoint from before it comes back, and the file in the place of its index goes to the backup. Returns whether
    it came back.

    Raises CorruptError or BusyError, and touches nothing, when it cannot come back.
    """
    backup, index = backup_directory(directory, entry), index_path(directory, entry)
    if is_whole(os.path.join(directory, entry["checkpoint"])):
        for original, kept, _ in _originals(directory, entry):
            if comes_from(kept, original) and named_by(directory, os.path.basename(original)) is None:
                storage.remove(original)
        if not entry.get("undoing"):
            for name in entry["created"]:
                path = os.path.join(directory, name)
                if storage.is_there(path) and named_by(directory, name) is None:
                    _set_aside(path, backup)
        storage.remove(temporary_index(os.path.join(directory, entry["checkpoint"])))
        storage.sync_directory(backup)
        storage.sync_directory(directory)
        return False
    if not can_go_back(directory, entry):
        raise CorruptError("what is kept from before the change is damaged or not complete", path=backup)
    missing = []
    for original, kept, second in _originals(directory, entry):
        holder = kept if storage.is_there(kept) else second
        if holder is None:
            continue  # it has no other name, and is there: `can_go_back`
        if not storage.is_there(original):
            missing.append((holder, original))
        elif storage.is_there(holder) and not comes_from(original, holder):
            raise taken(original)
    for holder, original in missing:
        put_back(holder, original)
    temporary = temporary_index(os.path.join(directory, entry["checkpoint"]))
    storage.remove(temporary)
    content = None if entry["index_before"] is None else _old_index(directory, entry)
    if content is not None:
        storage.create_file(temporary, content, like=index if storage.is_there(index) else None)
    if storage.is_there(index):
        _set_aside(index, backup)
    storage.sync_directory(backup)
    storage.sync_directory(directory)
    if content is not None:
        storage.rename(temporary, index)
    end_before(directory, entry)
    return True


def _set_aside(path: str, backup: str) -> None:
    """Move a file to a backup, under a name that is free there."""
    number = 1
    while storage.is_there(target := os.path.join(backup, f"{os.path.basename(path)}.found-{number}")):
        number += 1
    if not storage.is_directory(backup):
        raise NotFoundError("the backup of this change was removed", path=backup)
    storage.rename(path, target)
