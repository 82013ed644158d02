"""How a change of a checkpoint ends. Which index stands tells where: the one from before it, or the one after.

Either end can be reached again and again, from wherever a run was interrupted: a part that was done already is left as
it is. What is removed has been proved to be superfluous, just before: an index that is neither of the two proves
nothing, so that then everything stays (`take_back` is the way out, and only `undo` goes it).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ckpt_tools.errors import CorruptError, NotFoundError
from ckpt_tools.format.filenames import unfinished_name
from ckpt_tools.fs import durable, local
from ckpt_tools.fs.local import PathLike
from ckpt_tools.readers.bundle import MAX_INDEX_BYTES
from ckpt_tools.runs import ledger
from ckpt_tools.runs.ledger import RewriteEntry, UndoEntry
from ckpt_tools.transactions.files import (
    digest,
    digest_if_there,
    file_digest,
    is_same,
    is_whole,
    is_whole_beside,
    named_by,
    put_back,
    taken,
)
from ckpt_tools.transactions.workplace import Workplace

Side = Literal["before", "after"]


@dataclass(frozen=True)
class Pending:
    """A change of a checkpoint that is under way, or was interrupted; ``undoing``: it was being taken back.

    ``old_index`` are the bytes of the index from before it. They are in the backup too, but under another name of the
    same file, and TensorFlow overwrites an index in place. None where there was none, or a very large one, and of a
    Keras file, which may be as large as a disk.
    """

    entry: RewriteEntry
    undoing: bool
    old_index: bytes | None


@dataclass(frozen=True)
class _Original:
    """A data file of the old index: its own name, its place in the backup, and its name in the new index, if any."""

    own: str
    kept: PathLike | None
    second: str | None

    @property
    def name(self) -> str:
        return os.path.basename(self.own)

    def is_kept(self) -> bool:
        return self.kept is not None and local.is_there(self.kept)


def _originals(place: Workplace, entry: RewriteEntry) -> Iterator[_Original]:
    backup = place.backup(entry)
    for link in entry.links if entry.moves else ():
        assert link.original is not None
        kept = None if backup is None else backup / link.original
        yield _Original(place.path(link.original), kept, place.path(link.name))
    for name in entry.retired if entry.moves else ():
        yield _Original(place.path(name), None if backup is None else backup / name, None)


def side(place: Workplace, entry: RewriteEntry) -> tuple[Side | None, str]:
    """On which side of its commit a change stands, or None, and why that cannot be said."""
    current = digest_if_there(place.path(entry.index))
    if current == entry.index_after:
        needed = [original.name for original in _originals(place, entry) if _stands_on(place, entry, original.name)]
        return (None, f"its index needs {needed[0]}, which was to go") if needed else ("after", "")
    if current == entry.index_before:
        why = _lacking(place, entry)
        return (None, why) if why else ("before", "")
    return (
        None,
        "its index is gone" if current is None else "its index is neither the one from before it nor the one after",
    )


def _stands_on(place: Workplace, entry: RewriteEntry, name: str) -> bool:
    """Whether the index that stands needs a data file: a change never moves such a one away, a forged journal may."""
    return named_by(place, name) == place.path(entry.index)


def _lacking(place: Workplace, entry: RewriteEntry) -> str:
    """What is wrong where the old index stands: a data file of it is gone or another one, so that the other names of
    it may be the last ones. Empty when all is there."""
    for original in _originals(place, entry):
        other = _other_name(place, entry, original)
        if not local.is_there(original.own):
            return f"{original.name} is gone"
        if other is not None and not is_same(original.own, other):
            return f"{original.name} is not the file that was changed"
    return ""


def _other_name(place: Workplace, entry: RewriteEntry, original: _Original) -> PathLike | None:
    """Another name of a data file of the old index, in the backup or the new index; None when it has none."""
    if original.kept is not None and original.is_kept():
        return original.kept
    if original.second is None:
        return None
    second = os.path.basename(original.second)
    # What another save has there: the change had not yet moved it out of its way, or has put it back.
    in_the_way = second in entry.displaced and not place.is_kept(entry, second)
    return None if in_the_way or not local.is_there(original.second) else original.second


def end_after(place: Workplace, entry: RewriteEntry) -> None:
    """The new index stands: record the change, and move the originals to the backup (steps 7 and 8).

    Raises NotFoundError where the backup of a change that has to be ended is gone.
    """
    durable.sync_directory(place.directory)
    _remove_unfinished(place, entry)
    place.record(entry)
    if entry.moves:
        backup = place.backup(entry)
        if backup is None:
            hint = ledger.verify_command(place.path(entry.checkpoint))
            raise NotFoundError("the backup of this change was removed", path=place.backup_path(entry), hint=hint)
        for original in _originals(place, entry):
            if not original.is_kept():
                _move_away(place, original, backup / entry.index)
            elif is_same(original.own, backup / original.name) and named_by(place, original.name) is None:
                durable.remove(original.own)  # an undo that was interrupted gave it this name back
        durable.sync_directory(backup)
        durable.sync_directory(place.directory)


def _move_away(place: Workplace, original: _Original, old_index: PathLike) -> None:
    """Move a data file to the backup that has a second name, unless it is not that file: a trainer takes no lock.

    One without a second name is moved when no index needs it but the old one, which is in the backup.
    """
    assert original.kept is not None
    if original.second is None:
        if local.is_there(original.own) and named_by(place, original.name) in (None, os.fspath(old_index)):
            durable.rename(original.own, original.kept)
    elif is_same(original.second, original.own):
        durable.rename(original.own, original.kept)
        if not is_same(original.second, original.kept):  # saved between the look and the rename
            durable.rename(original.kept, original.own)


def end_before(place: Workplace, pending: Pending, *, known: bool = False) -> None:
    """The old index stands: remove what the change has added, then its backup.

    ``known``: this very process knows on which side of the commit it is. What stands may then be what a trainer, which
    takes no lock, saved a moment ago.
    """
    entry = pending.entry
    durable.sync_directory(place.directory)
    if entry.id in {change.id for change in ledger.standing(place.entries())}:
        place.record(UndoEntry.of(entry))
    _remove_unfinished(place, entry)
    backup = place.backup(entry)
    for name, ours in _created(place, entry, known=known and not pending.undoing):
        if name in entry.displaced:
            if ours and backup is not None and local.is_there(backup / name) and named_by(place, name) is None:
                durable.rename(backup / name, place.path(name))
        elif ours and named_by(place, name) is None:
            durable.remove(place.path(name))
    nothing_moved = known and not pending.undoing
    if nothing_moved or _is_back(place, entry):
        remove_backup(place, entry)


def _created(place: Workplace, entry: RewriteEntry, *, known: bool) -> Iterator[tuple[str, bool]]:
    """The names that a change gave, and whether what has each is of the change, or nothing: not a trainer's file, and
    not the last name of its data. ``known``: of a change that is under way, whatever became of the original."""
    backup = place.backup(entry)
    for link in entry.links:
        path = place.path(link.name)
        if known or link.original is None or not local.is_there(path):
            yield link.name, True
            continue
        holders: list[PathLike] = [place.path(link.original), *([] if backup is None else [backup / link.original])]
        yield link.name, any(is_same(path, holder) for holder in holders)
    for added in entry.added:
        found = digest_if_there(place.path(added.name))
        yield added.name, added.sha256 is None or found in (None, added.sha256)


def _is_back(place: Workplace, entry: RewriteEntry) -> bool:
    """Whether every file of a backup is in the directory too."""
    if entry.index_before != digest_if_there(place.path(entry.index)):
        return False
    return all(
        not original.is_kept() or (original.kept is not None and is_same(original.kept, original.own))
        for original in _originals(place, entry)
    )


def _remove_unfinished(place: Workplace, entry: RewriteEntry) -> None:
    """Remove what was not yet whole, or not yet committed: only this program gives such names."""
    for name in (entry.index, *entry.created, *entry.moved):
        unfinished = place.path(unfinished_name(name))
        if local.is_there(unfinished):
            durable.remove(unfinished)


def remove_backup(place: Workplace, entry: RewriteEntry) -> None:
    """Remove a backup: the files that it may hold and, when nothing else is in them, its directories.

    What has the place of the old index and is neither that nor what stands is none of ours, and stays.
    """
    backup = place.backup(entry)
    if backup is not None:
        for name in entry.kept:
            ours = name != entry.index or is_same(backup / name, place.path(name))
            ours = ours or digest_if_there(backup / name) in (None, entry.index_before)
            if ours:
                durable.remove(backup / name)
        for name in entry.kept:
            durable.remove(durable.unfinished_name(backup / name))
    place.remove_if_empty(entry)


# ---------------------------------------------------------------------------------- neither before nor after


def is_begun(place: Workplace, entry: RewriteEntry) -> bool:
    """Whether an interrupted change has done more than to announce itself."""
    if place.backup(entry) is not None:
        return True
    names = [entry.index, *entry.created]
    given = [name for name in entry.created if name not in entry.displaced]
    return any(local.is_there(place.path(name)) for name in (*given, *map(unfinished_name, names)))


def is_gone(place: Workplace, entry: RewriteEntry) -> bool:
    """Whether nothing of a checkpoint is left, under any name: its trainer has removed it, as it does with old ones."""
    originals = list(_originals(place, entry))
    names = [place.path(entry.index), *(name for each in originals for name in (each.own, each.second) if name)]
    return bool(originals) and not any(map(local.is_there, names)) and not any(each.is_kept() for each in originals)


def stopped(place: Workplace, pending: Pending, why: str) -> CorruptError:
    """The error of a recovery that cannot know on which side of its commit a change is; it touches nothing."""
    prefix = place.path(pending.entry.checkpoint)
    if is_whole(prefix):
        given_up = "undo up (it ends with code 6)" if pending.undoing else "change up"
        offer = f"to give the {given_up} and keep what is there now: {ledger.undo_command(prefix)}"
    elif _can_go_back(place, pending):
        kept = place.backup_path(pending.entry)
        first = [original.own for original in _in_the_way(place, pending.entry)]
        move = f"move {', '.join(map(shlex.quote, first))} somewhere else; then, " if first else ""
        offer = f"{move}to go back to what was before it, kept in {kept}: {ledger.undo_command(prefix)}"
    else:
        offer = ledger.verify_command(prefix)
    what = "a change of this checkpoint was interrupted, and can be brought neither to its end nor back"
    return CorruptError(f"{what}: {why}; nothing was touched", path=prefix, hint=offer)


def _can_go_back(place: Workplace, pending: Pending) -> bool:
    """Whether all of the checkpoint from before a change is there, in the directory or in the backup."""
    if pending.entry.index_before is not None and not _has_old_index(place, pending):
        return False
    return all(
        local.is_there(original.own) or _other_name(place, pending.entry, original) is not None
        for original in _originals(place, pending.entry)
    )


def _in_the_way(place: Workplace, entry: RewriteEntry) -> Iterator[_Original]:
    """The originals whose own names something else has taken since."""
    for original in _originals(place, entry):
        other = _other_name(place, entry, original)
        if other is not None and local.is_there(original.own) and not is_same(original.own, other):
            yield original


def _has_old_index(place: Workplace, pending: Pending) -> bool:
    entry = pending.entry
    if not entry.single_file:
        return _old_index(place, pending) is not None
    backup = place.backup(entry)
    return backup is not None and digest_if_there(backup / entry.index) == entry.index_before


def _old_index(place: Workplace, pending: Pending) -> bytes | None:
    """The old index, from the backup or the journal; None when it is in neither as it was."""
    backup, entry = place.backup(pending.entry), pending.entry
    kept = [] if pending.old_index is None else [pending.old_index]
    if backup is not None and local.is_there(backup / entry.index):
        kept.append(local.read_file(backup / entry.index, limit=MAX_INDEX_BYTES))
    return next((content for content in kept if digest(content) == entry.index_before), None)


def take_back(place: Workplace, pending: Pending) -> bool:
    """End an interrupted change whose index is neither of the two, as somebody asked for; nothing is deleted.

    A whole checkpoint that something else wrote stays, and what the change had added goes to the backup. Else the
    checkpoint from before it comes back, and the file in the place of its index goes to the backup. Returns whether
    it came back.

    Raises CorruptError or BusyError, and touches nothing, when it cannot come back.
    """
    if is_whole(place.path(pending.entry.checkpoint)):
        give_up(place, pending)
        return False
    entry = pending.entry
    if not _can_go_back(place, pending):
        message = "what is kept from before the change is damaged or not complete"
        raise CorruptError(
            message, path=place.backup_path(entry), hint=ledger.verify_command(place.path(entry.checkpoint))
        )
    for original in _in_the_way(place, entry):
        raise taken(original.own)
    missing: list[tuple[PathLike, str]] = []
    for original in _originals(place, entry):
        other = _other_name(place, entry, original)
        if other is not None and not local.is_there(original.own):
            missing.append((other, original.own))
    _remove_unfinished(place, entry)
    for holder, own in missing:
        put_back(holder, own)
    index = place.path(entry.index)
    there = local.is_there(index)
    if entry.index_before is not None:
        _make_old_index(place, pending, like=index if there else None)
    if there:
        _set_aside(place, entry, entry.index)
    durable.sync_directory(place.directory)
    if entry.index_before is not None:
        durable.rename(unfinished_name(index), index)
    end_before(place, pending)
    return True


def _make_old_index(place: Workplace, pending: Pending, *, like: str | None) -> None:
    """Write the old index under its unfinished name; a Keras file has another name in the backup."""
    entry, unfinished = pending.entry, unfinished_name(place.path(pending.entry.index))
    backup = place.backup(entry)
    if entry.single_file and backup is not None:
        durable.link_or_copy(backup / entry.index, unfinished)
    elif (content := _old_index(place, pending)) is not None:
        durable.create_file(unfinished, content, like=like)


def give_up(place: Workplace, pending: Pending) -> None:
    """Leave what is there, or that nothing is, and set aside what a change had added to it."""
    entry = pending.entry
    for original in _originals(place, entry):
        unneeded = named_by(place, original.name) is None
        if unneeded and original.kept is not None and is_same(original.kept, original.own):
            durable.remove(original.own)
    if not pending.undoing:
        for name in entry.created:
            if local.is_there(place.path(name)) and named_by(place, name) is None:
                _set_aside(place, entry, name)
    _remove_unfinished(place, entry)
    durable.sync_directory(place.directory)


def _set_aside(place: Workplace, entry: RewriteEntry, name: str) -> None:
    """Move a file to the backup of a change, under a name that is free there."""
    backup = place.backup(entry) or place.make_backup(entry)
    number = 1
    while local.is_there(backup / f"{name}.found-{number}"):
        number += 1
    durable.rename(place.path(name), backup / f"{name}.found-{number}")
    durable.sync_directory(backup)


def verify_kept(place: Workplace, entry: RewriteEntry) -> bytes | None:
    """The old index from the backup of a change that shall be taken back, None where there was none, or a Keras file.

    Raises NotFoundError for a file that the backup lacks, BusyError when the name of one is taken, CorruptError when
    the index is not the one that was kept, or a data file neither the one that the checkpoint still uses nor what the
    old index says.
    """
    backup = place.backup(entry)
    content = None
    hint = ledger.verify_command(place.path(entry.checkpoint))
    if entry.index_before is None and backup is not None and local.is_there(backup / entry.index):
        message = "holds an index, where the ledger says that there was none before the change"
        raise CorruptError(message, path=place.backup_path(entry), hint=hint)
    if entry.index_before is not None:
        if backup is None or not local.is_there(backup / entry.index):
            message = "the backup of this change was removed: it cannot be undone"
            raise NotFoundError(message, path=place.backup_path(entry), hint=hint)
        if file_digest(backup / entry.index) != entry.index_before:
            raise CorruptError("the backup of the index is damaged", path=backup / entry.index, hint=hint)
        if not entry.single_file:
            content = local.read_file(backup / entry.index, limit=MAX_INDEX_BYTES)
    for original in _originals(place, entry):
        if original.kept is None or not original.is_kept():
            path = os.path.join(place.backup_path(entry), original.name)
            raise NotFoundError("the backup lacks a file", path=path, hint=hint)
        if local.is_there(original.own):
            raise taken(original.own)
    same = all(
        kept.kept is not None and kept.second is not None and is_same(kept.kept, kept.second)
        for kept in _originals(place, entry)
    )
    links = any(kept.kept is not None and local.is_link(kept.kept) for kept in _originals(place, entry))
    kept_prefix = os.path.join(place.backup_path(entry), entry.checkpoint)
    if same and not links and content is not None and entry.moves:
        # What both share can be no worse afterwards; the rest was used by nothing since, and may have rotted. (A
        # change without data made an index anew: what it replaced may well be damaged.)
        whole = is_whole_beside(kept_prefix, place.path(entry.checkpoint))
    else:
        whole = same or (not links and is_whole(kept_prefix))
    if not whole:
        raise CorruptError("the backup of the data is damaged", path=place.backup_path(entry), hint=hint)
    return content
