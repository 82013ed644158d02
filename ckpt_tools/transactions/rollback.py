"""Taking changes back, byte for byte, with the same protocol in reverse; and giving up that possibility."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable

from ckpt_tools.errors import BusyError, CorruptError, NotFoundError
from ckpt_tools.format.filenames import unfinished_name
from ckpt_tools.fs import durable, local
from ckpt_tools.fs.local import Folder
from ckpt_tools.runs import ledger
from ckpt_tools.runs.ledger import ChangeEntry, RewriteEntry, TidyEntry, undo_command
from ckpt_tools.transactions.completion import Pending, remove_backup, verify_kept
from ckpt_tools.transactions.files import digest_if_there, is_same, is_whole, put_back, taken
from ckpt_tools.transactions.journal import Ended, announced, conclude, recover_in
from ckpt_tools.transactions.tidying import untidy
from ckpt_tools.transactions.workplace import Workplace, working_in


def undo(prefix: str, *, to: str | None = None, beside: bool = False) -> list[ChangeEntry]:
    """Take back the last change of a checkpoint, or all back to and including the one with the id ``to``.

    ``beside``: changes of the files beside it count too, as a repair makes them; the prefix may then be ``DIRECTORY/``.
    Returns the ledger's entries that were undone, newest first. An undo that was interrupted is brought to its end, and
    is then what was asked for: nothing more is taken back.

    Raises:
        NotFoundError: nothing to undo, or no such id.
        BusyError: the checkpoint was written by something else since; its files win, and an undo that was interrupted
            is given up.
        CorruptError: a change of another checkpoint was interrupted, and nobody can know which end it has.
    """
    with working_in(local.directory_of(prefix)) as place:
        recovered = recover_in(place, given_up=os.path.basename(prefix))
        if recovered is not None and recovered.given_up and recovered.undoing:
            raise _overtaken(place, recovered.entry, "the undo that was interrupted is given up, and that stays")
        ended = _taken_back(recovered, prefix, beside=beside)
        changes = ledger.standing(place.entries())
        standing = ledger.of_checkpoint(changes, prefix, beside=beside)
        ids = [entry.id for entry in standing]
        if ended and to in (None, ended[0].id):
            return ended
        if not standing or (to is not None and to not in ids):
            what = f"no change {to} to undo" if to else "nothing to undo: no change of this checkpoint is recorded"
            known = f"known: {', '.join(ids)}" if ids else None if beside else _of_repairs(place, changes)
            raise NotFoundError(what, path=prefix, hint=known or f"ckpt why {shlex.quote(prefix)}")
        count = len(ids) - ids.index(to) if to is not None else 1
        chosen = standing[::-1][:count]
        for entry in chosen:
            if isinstance(entry, TidyEntry):
                untidy(place, entry)
            else:
                _undo_one(place, entry)
    return [*ended, *chosen]


def _taken_back(ended: Ended | None, prefix: str, *, beside: bool) -> list[ChangeEntry]:
    """What the recovery took back already: an undo that had been interrupted, or a change that was not yet made.

    This is what was asked for, by the same command before or by this one; the change before it was not meant.
    """
    if ended is None or ended.stands:
        return []
    if isinstance(ended.entry, TidyEntry):
        return [ended.entry] if beside and ended.undoing else []
    return [ended.entry] if ended.entry.checkpoint == os.path.basename(prefix) else []


def drop_backups(prefix: str) -> list[str]:
    """Remove the originals that the standing changes of a checkpoint keep; they can then not be undone any more.

    Returns the ids whose backups were removed. Raises NotFoundError when there is none, CorruptError when the
    checkpoint is damaged.
    """
    with working_in(local.directory_of(prefix)) as place:
        recover_in(place)
        standing = ledger.of_checkpoint(ledger.standing(place.entries()), prefix, beside=False)
        chosen = [entry for entry in standing if isinstance(entry, RewriteEntry) and place.backup(entry) is not None]
        if not any(entry.index_before for entry in chosen):
            raise NotFoundError("no backup of this checkpoint", path=prefix, hint=f"{undo_command(prefix)} --list")
        if not is_whole(prefix):
            message = "is damaged: the originals may be all that is left of it, and stay"
            raise CorruptError(message, path=prefix, hint=undo_command(prefix))
        for entry in chosen:
            remove_backup(place, entry)
    return [entry.id for entry in chosen]


def has_backup(prefix: str, entry: ChangeEntry) -> bool:
    """Whether a change can be taken back: its originals are still kept, or there were none."""
    directory = local.directory_of(prefix)
    if isinstance(entry, RewriteEntry) and entry.index_before is None:
        return True
    with Folder(directory) as folder:
        state = ledger.open_state(folder)
        if state is None:
            return False
        with state:
            backups = state.inside(ledger.BACKUP)
            if backups is None:
                return False
            with backups:
                kept = backups.inside(entry.id)
                if kept is None:
                    return False
                with kept:
                    return isinstance(entry, TidyEntry) or local.is_there(kept / entry.index)


def _undo_one(place: Workplace, entry: RewriteEntry) -> None:
    index = place.path(entry.index)
    _require_standing(place, entry)
    content = verify_kept(place, entry)
    backup = place.backup(entry)
    for name in (entry.index, *entry.created):
        if local.is_there(place.path(name)):
            durable.require_removable(place.path(name))
    place.require_endable(entry)
    pending = Pending(entry, undoing=True, old_index=content)
    with announced(place, pending) as change:
        if backup is not None:
            for name in entry.moved:
                put_back(backup / name, place.path(name))
            if entry.index_before is not None:
                durable.link_or_copy(backup / entry.index, unfinished_name(index))
        durable.sync_directory(place.directory)
        # A trainer takes no lock: with files that it has written in the meantime the old index must not be joined.
        _require_standing(place, entry)
        for name in entry.moved:
            if backup is None or not is_same(backup / name, place.path(name)):
                raise taken(place.path(name))
        change.committing = True
        if entry.index_before is not None:
            durable.rename(unfinished_name(index), index)
        else:
            durable.remove(index)
    conclude(place, pending)


def _of_repairs(place: Workplace, changes: Iterable[ChangeEntry]) -> str | None:
    """How to take back the last repair of what lies beside the checkpoints, if there was one."""
    if not any(isinstance(entry, TidyEntry) for entry in changes):
        return None
    return f"the last repair of the files beside it is taken back with: {undo_command(place.directory)}"


def _require_standing(place: Workplace, entry: RewriteEntry) -> None:
    """Raise BusyError unless the index is the one that the change made."""
    if digest_if_there(place.path(entry.index)) != entry.index_after:
        gone = not local.is_there(place.path(entry.index))
        lost = "there is nothing to take it back in" if gone else "taking it back would lose that"
        raise _overtaken(place, entry, lost)


def _overtaken(place: Workplace, entry: ChangeEntry, what: str) -> BusyError:
    kept = place.backup_path(entry)
    path = place.path(entry.index) if isinstance(entry, RewriteEntry) else place.directory
    message = f"the checkpoint was written again after this change: {what}"
    if not local.is_there(path):
        message = f"the checkpoint was removed after this change: {what}"
    return BusyError(message, path=path, hint=f"the originals are in {kept}")


def written_names(entries: Iterable[ChangeEntry]) -> list[str]:
    """The names of the files that undoing these entries put back."""
    return [name for entry in entries for name in entry.restored]
