"""Making a planned change: one commit point, and the originals in a backup.

A bundle names its data files ``PREFIX.data-I-of-N``. The rewrite leaves every byte where it is:

    1. journal        what is about to happen, so that an interrupted rewrite can be cleaned up; before it a look
                      whether all of what follows is allowed, as after the commit there is no way back
    2. link           PREFIX.data-I-of-N also gets the name PREFIX.data-I-of-(N+1); the index goes to the backup.
                      A file of another save that has such a name already is moved to the backup
    3. write, fsync   PREFIX.data-N-of-(N+1), the one small new shard; the new index under a temporary name
    4. read back      the files must hold what the plan says, the second names be the same files
    5. look again     the files that the plan was made from must not have changed
    6. rename         the new index over the old one: the commit point
    7. ledger         one line that says what was changed, why, and by which version
    8. move           PREFIX.data-I-of-N into the backup

The old index needs only the old names and the new index only the new ones, so at every moment the checkpoint
is whole: before step 6 it is the old one, after it the new one. Undo is the same in reverse.

A plan that leaves data out (`plan_part`) also has old data files without a second name: they go to the backup behind
the commit, in step 7. Empty new ones make the number in the names another than before.

A plan with another ``target`` makes a second checkpoint beside the first, which stays as it is; one without new data
only writes an index. They go through the same steps, with nothing to move.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from ckpt_tools.errors import BusyError, CorruptError, StorageError, UsageError
from ckpt_tools.format.filenames import STATE_FILE, index_name, temporary_of, unfinished_name
from ckpt_tools.format.state import encode_state
from ckpt_tools.fs import durable, local
from ckpt_tools.runs.ledger import Added, Link, RewriteEntry
from ckpt_tools.transactions.completion import Pending
from ckpt_tools.transactions.files import begins_with, digest, file_digest, is_same
from ckpt_tools.transactions.journal import announced, conclude, recover_in
from ckpt_tools.transactions.plan import Plan
from ckpt_tools.transactions.workplace import Workplace, working_in

_AGAIN = "run the same command again"
READ_BACK = "nothing was changed; look after the disk (dmesg, smartctl), then run the same command again"


@dataclass(frozen=True)
class Applied:
    """What `apply` did: the entry's id in the ledger and the directory with the originals."""

    id: str
    backup: str


def apply(plan: Plan) -> Applied:
    """Make the change, durably and all at once.

    Raises:
        BusyError: somebody else works in this directory, or the checkpoint changed since the plan was made.
        StorageError: the operating system refused; the checkpoint is as it was. After the commit point it is the
            changed one, and the message says so.
        CorruptError, UnsafeError: what an earlier change left cannot be brought to an end, or is none of ours.
    """
    with working_in(local.directory_of(plan.target)) as place:
        recover_in(place)
        _require_unchanged(plan)
        entry = _entry(plan, place)
        return publish(
            place,
            Pending(entry, undoing=False, old_index=plan.old_index),
            prepare=lambda: _prepare(plan, place, entry),
            look_again=lambda: _require_unchanged(plan),
        )


def publish(
    place: Workplace, pending: Pending, *, prepare: Callable[[], None], look_again: Callable[[], None]
) -> Applied:
    """A change from its journal to its end: all that it needs is prepared, then one rename makes it.

    Raises what `apply` raises; nothing is begun when something behind the commit would be refused.
    """
    entry = pending.entry
    _require_allowed(place, entry)
    with announced(place, pending) as change:
        prepare()
        durable.sync_directory(place.directory)
        look_again()
        change.committing = True
        durable.rename(unfinished_name(place.path(entry.index)), place.path(entry.index))
    conclude(place, pending)
    return Applied(entry.id, place.backup_path(entry))


def apply_to(plan: Plan, prefix: str) -> str:
    """Make the changed checkpoint under a new prefix, in a directory of its own; the source stays as it is.

    What a run of the same plan left there when it was killed is made anew. Returns the prefix. Raises UsageError when
    anything else is there already, and what `apply` raises.
    """
    directory, name = local.directory_of(prefix), os.path.basename(prefix)
    durable.make_directory(directory)
    durable.require_writable(directory)
    durable.require_atomic_rename(directory)
    with durable.locked(directory):
        for path in _unfinished(plan, prefix):
            durable.remove(path)
        if local.list_directory(directory):
            raise UsageError("the output directory is not empty", path=directory, hint="name a new one")
        state, created = os.path.join(directory, STATE_FILE), plan.created(prefix)
        try:
            _write(plan, prefix)
            _read_back(plan, prefix)
            durable.sync_directory(directory)
            _require_unchanged(plan)
            durable.rename(unfinished_name(index_name(prefix)), index_name(prefix))
            durable.sync_directory(directory)  # the state file must not outlive the index that it names
            durable.write_atomic(state, encode_state(name, [name]))
            durable.sync_directory(os.path.dirname(os.path.abspath(directory)))
        except BaseException:
            for path in (state, index_name(prefix), *created):
                durable.remove(path)
                durable.remove(unfinished_name(path))
            raise
    return prefix


def apply_own(plan: Plan) -> None:
    """Make a change in place of a checkpoint that is known to this process alone, such as one that is being pinned:
    durable, whole at every moment, and nothing of the old one is kept. What a kill left is made anew.

    Raises what `apply` raises.
    """
    for path in plan.created(plan.target):
        durable.remove(path)
    durable.remove(unfinished_name(index_name(plan.target)))
    _write(plan, plan.target)
    _read_back(plan, plan.target)
    durable.rename(unfinished_name(index_name(plan.target)), index_name(plan.target))
    for path in (*plan.shards, *plan.retired):
        durable.remove(path)


def is_interrupted(plan: Plan) -> bool:
    """Whether all that the directory of the target holds was left there by this plan, when it was killed."""
    return bool(_unfinished(plan, plan.target))


def _unfinished(plan: Plan, prefix: str) -> list[str]:
    """The files at ``prefix`` when all there is begins as this plan's would, and is not complete; the index first."""
    directory, name = os.path.split(prefix)
    created = plan.created(prefix)
    links = dict(zip(created, plan.shards, strict=False))
    written = {index_name(prefix): plan.index}
    written |= _new_data(plan, prefix)
    written |= {unfinished_name(path): content for path, content in written.items()}
    found = [os.path.join(directory, file) for file in local.list_directory(directory or os.curdir)]
    written |= {
        path: encode_state(name, [name]) for path in found if temporary_of(os.path.basename(path)) == STATE_FILE
    }
    copies = {unfinished_name(path) for path in links}
    for path in found:
        if path in links:
            begun = is_same(links[path], path)
        else:
            begun = path in copies or (path in written and begins_with(path, written[path]))
        if not begun:
            return []
    return sorted(found, key=lambda path: path != index_name(prefix))


def _entry(plan: Plan, place: Workplace) -> RewriteEntry:
    created = [os.path.basename(path) for path in plan.created(plan.target)]
    given = 0 if plan.copied else len(plan.shards)
    links, added = created[:given], created[given:]
    digests = [file_digest(path) for path in plan.shards] if plan.copied else []
    digests += [digest(content) for content in _new_data(plan, plan.target).values()]
    return RewriteEntry(
        **place.new_head(plan.reason, plan.index),
        checkpoint=os.path.basename(plan.target),
        evidence=dict(plan.evidence),
        changes=tuple(plan.to_json()["changes"]),
        index_before=None if plan.old_index is None else digest(plan.old_index),
        index_after=digest(plan.index),
        links=tuple(Link(name, os.path.basename(old)) for name, old in zip(links, plan.shards, strict=False)),
        moves=plan.in_place and bool(created),
        added=tuple(Added(name, each) for name, each in zip(added, digests, strict=True)),
        displaced=tuple(name for name in created if local.is_there(place.path(name))),
        retired=tuple(map(os.path.basename, plan.retired)) if plan.in_place and created else (),
    )


def _require_allowed(place: Workplace, entry: RewriteEntry) -> None:
    """Raise StorageError when something behind the commit would be refused: then nothing is begun."""
    for name in (entry.index, *entry.moved, *entry.displaced):
        if local.is_there(place.path(name)):
            durable.require_removable(place.path(name))
    place.require_endable(entry)


def _prepare(plan: Plan, place: Workplace, entry: RewriteEntry) -> None:
    """Steps 2 to 4: everything that the new index needs, beside everything that the old one needs."""
    backup = place.make_backup(entry)
    if plan.old_index is not None:
        if local.is_link(place.path(entry.index)):  # seen from the backup it could lead nowhere
            durable.create_file(backup / entry.index, plan.old_index, like=place.path(entry.index))
        else:
            durable.link_or_copy(place.path(entry.index), backup / entry.index)
    for name in entry.displaced:
        durable.rename(place.path(name), backup / name)
    _write(plan, plan.target)
    durable.sync_directory(backup)
    _read_back(plan, plan.target)


def _write(plan: Plan, target: str) -> None:
    """The files of a checkpoint at ``target``, but for the last step: its index is called unfinished."""
    created = plan.created(target)
    like = next(iter(plan.sources))
    try:
        for old, new in zip(plan.shards, created, strict=False):
            (durable.copy_file if plan.copied else durable.link_or_copy)(old, new)
        for path, content in _new_data(plan, target).items():
            durable.create_whole(path, content, like=like)
    except StorageError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise BusyError("was made while this was being worked on", path=error.path, hint=_AGAIN) from error
        raise
    durable.create_file(unfinished_name(index_name(target)), plan.index, like=like)


def _new_data(plan: Plan, target: str) -> dict[str, bytes]:
    """The data files that are not links of old ones, and what is in them."""
    new = plan.created(target)[len(plan.shards) :] if plan.shard is not None else []
    return {path: b"" if number else plan.shard or b"" for number, path in enumerate(new)}


def _read_back(plan: Plan, target: str) -> None:
    """The files on disk, not the bytes in memory, must say what the plan says."""
    created, index = plan.created(target), unfinished_name(index_name(target))
    if local.read_file(index, limit=len(plan.index)) != plan.index:
        raise CorruptError("reads back differently", path=index, hint=READ_BACK)
    for before, after in zip(plan.shards, created, strict=False):
        source, made = plan.sources[before], local.fingerprint(after)
        if made != source and (made.size != source.size or file_digest(before) != file_digest(after)):
            raise CorruptError("differs from the file it was copied from", path=after, hint=READ_BACK)
    for path, content in _new_data(plan, target).items():
        if local.read_file(path, limit=len(content)) != content:
            raise CorruptError("reads back differently", path=path, hint=READ_BACK)


def _require_unchanged(plan: Plan) -> None:
    for path, before in plan.sources.items():
        if local.fingerprint(path) != before:
            raise BusyError("changed while it was being worked on", path=path, hint=_AGAIN)
    if plan.old_index is None and local.is_there(index_name(plan.target)):
        raise BusyError("was made while this was being worked on", path=index_name(plan.target), hint=_AGAIN)
