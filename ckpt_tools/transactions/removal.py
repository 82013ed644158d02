"""Deleting checkpoints of a directory: the one change that has no way back.

What shall go is recorded in the ledger before the first file goes, with the size and time of each. Then, for each
checkpoint, its index goes, which makes it none; then its data. Killed between the two, data without an index is left:
the record proves whose it is, and the same removal again ends it. Data that no record knows, or that has changed since,
may be somebody's last copy, and is never touched.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ckpt_tools.errors import BusyError, CkptError
from ckpt_tools.format.filenames import STATE_FILE, bundle_part, index_name, temporary_of
from ckpt_tools.fs import durable, local, paths
from ckpt_tools.fs.local import Fingerprint
from ckpt_tools.readers.state_files import inside, other_states, read_state
from ckpt_tools.runs import ledger
from ckpt_tools.runs.ledger import RemovalEntry, Removed, RemovedFile
from ckpt_tools.transactions.journal import recover_in
from ckpt_tools.transactions.workplace import Workplace, working_in


@dataclass(frozen=True)
class Removal:
    """What goes from a directory: checkpoints, by their names in it, each with its files' paths. ``stays``
    are files that must be as they were when that was decided. ``digest`` is that of the list that was agreed to."""

    directory: str
    digest: str
    checkpoints: Mapping[str, Mapping[str, Fingerprint]]
    stays: Mapping[str, Fingerprint]


def announce(removal: Removal) -> None:
    """Record what shall go, durably; nothing is deleted yet.

    Raises BusyError when something changed since it was decided, or somebody works in the directory; StorageError.
    """
    with working_in(removal.directory) as place:
        recover_in(place)
        _require_unchanged(removal)
        for files in removal.checkpoints.values():
            for path in files:
                durable.require_removable(path)
        removed = tuple(
            Removed(name, tuple(RemovedFile(os.path.basename(path), f.size, f.mtime_ns) for path, f in files.items()))
            for name, files in removal.checkpoints.items()
        )
        known = [entry for entry in place.entries() if isinstance(entry, RemovalEntry)]
        if (removal.digest, removed) not in [(entry.digest, entry.removed) for entry in known]:
            head = place.new_head("keep", removal.digest.encode())
            place.record(RemovalEntry(**head, digest=removal.digest, removed=removed))
            durable.sync_directory(place.directory)


def remove(removal: Removal) -> list[str]:
    """Delete what was announced; returns the names of the checkpoints that went, those that a killed run left half
    gone among them. Raises what `announce` raises."""
    with working_in(removal.directory) as place:
        recover_in(place)
        _require_unchanged(removal)
        gone = _end_interrupted(place, removal.digest)
        _forget(removal)
        for name, files in removal.checkpoints.items():
            _require_same({**removal.stays, **files})
            _delete(place, [os.path.basename(path) for path in files])
            gone.append(name)
    return gone


def interrupted(directory: str, digest: str | None = None) -> dict[str, list[Removed]]:
    """The checkpoints of a directory that some removals left half gone, by the digests of their lists.

    Raises what reading the ledger raises.
    """
    found: dict[str, list[Removed]] = {}
    for entry in ledger.read_ledger(directory):
        if isinstance(entry, RemovalEntry) and digest in (None, entry.digest):
            left = [removed for removed in entry.removed if _left(directory, removed)]
            if left:
                found.setdefault(entry.digest, []).extend(left)
    return found


def announced(directory: str, digest: str) -> dict[str, dict[str, tuple[int, int]]]:
    """What a list said that is to go from a directory: for each checkpoint size and time of its files by name."""
    return {
        removed.checkpoint: {file.name: (file.size, file.mtime_ns) for file in removed.files}
        for entry in ledger.read_ledger(directory)
        if isinstance(entry, RemovalEntry) and entry.digest == digest
        for removed in entry.removed
    }


def _left(directory: str, removed: Removed) -> list[str]:
    """The files of a checkpoint without an index that a removal did not get to; only those that are as they were."""
    if local.is_there(os.path.join(directory, index_name(removed.checkpoint))):
        return []
    names = []
    for file in removed.files:
        part = bundle_part(file.name)
        status = local.look(os.path.join(directory, file.name))
        same = status is not None and (status.st_size, status.st_mtime_ns) == (file.size, file.mtime_ns)
        if part is not None and same:
            names.append(file.name)
    return names


def _end_interrupted(place: Workplace, digest: str) -> list[str]:
    ended = []
    for removed in (row for rows in interrupted(place.directory, digest).values() for row in rows):
        for name in _left(place.directory, removed):
            durable.remove(place.path(name))
        ended.append(removed.checkpoint)
    if ended:
        durable.sync_directory(place.directory)
    return list(dict.fromkeys(ended))


def _delete(place: Workplace, names: Sequence[str]) -> None:
    indexes = [name for name in names if (part := bundle_part(name)) is None or part.part == "index"]
    for name in indexes:
        durable.remove(place.path(name))
    # Else a power loss could bring an index back whose data is gone.
    durable.sync_directory(place.directory)
    for name in names:
        if name not in indexes:
            durable.remove(place.path(name))
    durable.sync_directory(place.directory)


def _forget(removal: Removal) -> None:
    """Take what goes out of the lists of the state files; each entry that stays keeps its time."""
    states = dict.fromkeys((STATE_FILE, *other_states(removal.directory)))
    for name in local.list_directory(removal.directory):
        if temporary_of(name) in states:  # of a removal that was killed
            durable.remove(os.path.join(removal.directory, name))
    for name in states:
        path = os.path.join(removal.directory, name)
        if not local.is_file(path):
            continue
        before = local.fingerprint(path)
        try:
            state = read_state(removal.directory, name)
        except CkptError:
            continue  # a damaged one is for a repair
        if _goes(removal, state.latest, name):
            raise _busy(path)
        pairs = list(enumerate(state.all))
        stay = [number for number, stored in pairs if not _goes(removal, stored, name)]
        if len(stay) == len(pairs):
            continue
        times = [state.timestamps[number] for number in stay if number < len(state.timestamps)]
        kept = replace(state, all=tuple(state.all[number] for number in stay), timestamps=tuple(times))

        def unchanged(path: str = path, before: Fingerprint = before) -> None:
            if local.fingerprint(path) != before:
                raise _busy(path)

        durable.write_atomic(path, kept.encode(), last_look=unchanged)


def _goes(removal: Removal, stored: str, state: str) -> bool:
    with contextlib.suppress(CkptError):
        prefix = inside(removal.directory, stored, state)
        return paths.lies_in(prefix, removal.directory) and os.path.basename(prefix) in removal.checkpoints
    return False


def _require_unchanged(removal: Removal) -> None:
    _require_same({**removal.stays, **{path: f for files in removal.checkpoints.values() for path, f in files.items()}})


def _require_same(files: Mapping[str, Fingerprint]) -> None:
    """Raise BusyError when a file is not as it was when this was decided: a trainer takes no lock."""
    for path, before in files.items():
        status = local.look(path)
        if status is None or Fingerprint.of(status) != before:
            raise _busy(path)


def _busy(path: str) -> BusyError:
    return BusyError(
        "changed while it was decided what may go: nothing more is deleted",
        path=path,
        hint="look at the list again: the same command without --delete",
    )
