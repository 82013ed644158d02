"""Taking changes back, byte for byte, with the same protocol in reverse; and giving up that possibility."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from ckpt_tools import storage
from ckpt_tools.errors import BusyError, CorruptError, NotFoundError
from ckpt_tools.ledger import backup_directory, history, is_beside, state_file, undo_command
from ckpt_tools.readers.bundle import MAX_INDEX_BYTES
from ckpt_tools.rewrite.endings import remove_backup
from ckpt_tools.rewrite.files import comes_from, digest, digest_if_there, is_whole, put_back, taken, temporary_index
from ckpt_tools.rewrite.journal import Ended, announced, conclude, recover_directory
from ckpt_tools.rewrite.tidying import untidy


def undo(prefix: str, *, to: str | None = None, beside: bool = False) -> list[dict[str, Any]]:
    """Take back the last change of a checkpoint, or all back to and including the one with the id ``to``.

    ``beside``: changes of the files beside it count too, as a repair makes them; the prefix may then be ``DIRECTORY/``.
    Returns the ledger's entries that were undone, newest first.

    Raises:
        NotFoundError: nothing to undo, or no such id.
        BusyError: the checkpoint was written by something else since; its files win.
    """
    directory = os.path.dirname(prefix) or "."
    storage.require_writable(directory)
    storage.require_atomic_rename(directory)
    with storage.locked(directory):
        ended = _taken_back(recover_directory(directory, give_up=True), prefix)
        standing = history(prefix, beside=beside)
        ids = [entry["id"] for entry in standing]
        if ended and to in (None, ended[0]["id"]):
            return ended
        if not standing or (to is not None and to not in ids):
            what = f"no change {to} to undo" if to else "nothing to undo: no change of this checkpoint is recorded"
            known = f"known: {', '.join(ids)}" if ids else None if beside else _of_repairs(directory)
            raise NotFoundError(what, path=prefix, hint=known)
        count = len(ids) - ids.index(to) if to is not None else 1
        chosen = standing[::-1][:count]
        for entry in chosen:
            (untidy if is_beside(entry) else _undo_one)(directory, entry)
    return [*ended, *chosen]


def _taken_back(ended: Ended | None, prefix: str) -> list[dict[str, Any]]:
    """What the recovery took back already: an undo that had been interrupted, or a change that was not yet made.

    This is what was asked for, by the same command before or by this one; the change before it was not meant.
    """
    if ended is None or ended.stands or ended.entry["checkpoint"] != os.path.basename(prefix):
        return []
    return [ended.entry]


def drop_backups(prefix: str) -> list[str]:
    """Remove the originals that the standing changes of a checkpoint keep; they can then not be undone any more.

    Returns the ids whose backups were removed. Raises NotFoundError when there is none.
    """
    directory = os.path.dirname(prefix) or "."
    storage.require_writable(directory)
    storage.require_atomic_rename(directory)
    with storage.locked(directory):
        recover_directory(directory)
        chosen = [entry for entry in history(prefix) if entry["index_before"] and has_backup(prefix, entry)]
        if not chosen:
            raise NotFoundError("no backup of this checkpoint", path=prefix)
        if not is_whole(prefix):
            raise CorruptError(
                "is damaged: the originals may be all that is left of it, and stay",
                path=prefix,
                hint=undo_command(prefix),
            )
        for entry in chosen:
            remove_backup(directory, entry)
    return [entry["id"] for entry in chosen]


def has_backup(prefix: str, entry: Mapping[str, Any]) -> bool:
    """Whether a change can be taken back: its originals are still kept, or there were none."""
    backup = backup_directory(os.path.dirname(prefix) or ".", entry)
    if is_beside(entry):
        return storage.is_directory(backup)
    return entry["index_before"] is None or storage.is_there(os.path.join(backup, f"{entry['checkpoint']}.index"))


def _undo_one(directory: str, entry: dict[str, Any]) -> None:
    index = os.path.join(directory, f"{entry['checkpoint']}.index")
    _require_standing(directory, entry)
    backup = backup_directory(directory, entry)
    saved = os.path.join(backup, os.path.basename(index))
    existed = entry["index_before"] is not None
    content = storage.read_file(saved, limit=MAX_INDEX_BYTES) if storage.is_there(saved) else None
    if existed and content is None:
        raise NotFoundError("the backup of this change was removed: it cannot be undone", path=backup)
    if content is not None and digest(content) != entry["index_before"]:
        raise CorruptError("the backup of the index is damaged", path=saved)
    for name in entry["moved"]:
        if not storage.is_there(os.path.join(backup, name)):
            raise NotFoundError("the backup lacks a file", path=os.path.join(backup, name))
        if storage.is_there(os.path.join(directory, name)):
            raise taken(os.path.join(directory, name))
    undoing = {**entry, "undoing": True}
    with announced(directory, undoing, content) as change:
        for name in entry["moved"]:
            put_back(os.path.join(backup, name), os.path.join(directory, name))
        if existed:
            temporary = temporary_index(os.path.join(directory, entry["checkpoint"]))
            storage.link_or_copy(saved, temporary)
        storage.sync_directory(directory)
        # A trainer takes no lock: with files that it has written in the meantime the old index must not be joined.
        _require_standing(directory, entry)
        for name in entry["moved"]:
            if not comes_from(os.path.join(backup, name), os.path.join(directory, name)):
                raise taken(os.path.join(directory, name))
        change.committing = True
        if existed:
            storage.rename(temporary, index)
        else:
            storage.remove(index)
    conclude(directory, undoing)


def _of_repairs(directory: str) -> str | None:
    """How to take back the last repair of what lies beside the checkpoints, if there was one."""
    entries = history(os.path.join(directory, ""), beside=True)
    command = undo_command(directory)
    return f"the last repair of the files beside it is taken back with: {command}" if entries else None


def _require_standing(directory: str, entry: Mapping[str, Any]) -> None:
    """Raise BusyError unless the index is the one that the change made."""
    index = os.path.join(directory, f"{entry['checkpoint']}.index")
    if digest_if_there(index) != entry["index_after"]:
        raise BusyError(
            "the checkpoint was written again after this change: taking it back would lose that",
            path=index,
            hint=f"the originals are in {backup_directory(directory, entry)}",
        )


def written_names(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of the files that undoing these entries put back."""
    return [name for entry in entries for name in _names(entry)]


def _names(entry: Mapping[str, Any]) -> list[str]:
    if is_beside(entry):
        return [*entry["aside"], *([] if entry["state"] is None else [state_file(entry)])]
    return [*entry["moved"], f"{entry['checkpoint']}.index"]
