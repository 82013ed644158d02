"""Changing a tensor bundle: a plan, one commit point, a backup, and the way back.

A bundle names its data files ``PREFIX.data-I-of-N``. The rewrite leaves every byte where it is:

    1. journal        what is about to happen, so that an interrupted rewrite can be cleaned up
    2. link           PREFIX.data-I-of-N also gets the name PREFIX.data-I-of-(N+1); the index goes to the backup.
                      A file of another save that has such a name already is moved to the backup
    3. write, fsync   PREFIX.data-N-of-(N+1), the one small new shard; the new index under a temporary name
    4. read back      the files must hold what the plan says, the second names be the same files
    5. look again     the files that the plan was made from must not have changed
    6. rename         the new index over the old one: the commit point
    7. move           PREFIX.data-I-of-N into the backup
    8. ledger         one line that says what was changed, why, and by which version

The old index needs only the old names and the new index only the new ones, so at every moment the checkpoint
is whole: before step 6 it is the old one, after it the new one. Undo is the same in reverse.

A plan with another ``target`` makes a second checkpoint beside the first, which stays as it is; one without new data
only writes an index. They go through the same steps, with nothing to move.

    DIRECTORY/.ckpt-tools/pending.json   the journal; there only while a change is under way, or was killed
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ckpt_tools import ledger, storage
from ckpt_tools.errors import BusyError, CkptError, CorruptError, NotFoundError, UsageError
from ckpt_tools.format import checksum
from ckpt_tools.format.bundle import HEADER_KEY, OBJECT_GRAPH_KEY, Entry
from ckpt_tools.format.dtypes import BY_NAME
from ckpt_tools.format.object_graph import add_variable
from ckpt_tools.format.slices import Slice
from ckpt_tools.format.state import FILE_NAME, encode_state
from ckpt_tools.format.strings import encode_strings
from ckpt_tools.format.table import read_table, write_table
from ckpt_tools.ledger import STATE_DIRECTORY, backup_directory, history, read_ledger  # noqa: F401 (part of this interface)
from ckpt_tools.readers.bundle import MAX_INDEX_BYTES, Bundle, index_name, shard_name

_PENDING = "pending.json"
_PIECE = 1 << 22


# ------------------------------------------------------------------------------------------ the plan


@dataclass(frozen=True)
class Change:
    """One tensor that is added or replaced; ``value`` is for people."""

    key: str
    action: str
    dtype: str
    shape: tuple[int, ...]
    value: Any


@dataclass(frozen=True)
class Plan:
    """A change of one checkpoint, or the making of another one from it, computed but not yet made.

    ``prefix`` is the checkpoint that it was computed from, ``target`` the one that it writes: the same, or one that
    is not there yet. ``shards`` are the data files of ``prefix`` that the new index keeps, in the order of its own;
    ``index`` and ``shard`` are the new files' bytes (``shard`` None: no data is added); ``old_index`` is what
    ``target`` had, None when it had none. ``sources`` are the files that all was computed from, as they were then.
    """

    prefix: str
    target: str
    reason: str
    evidence: Mapping[str, Any]
    changes: tuple[Change, ...]
    shards: tuple[str, ...]
    old_index: bytes | None
    index: bytes
    shard: bytes | None
    sources: Mapping[str, storage.Fingerprint]

    @property
    def in_place(self) -> bool:
        return self.target == self.prefix

    def created(self, target: str) -> list[str]:
        """The data files that the new index names when it stands at ``target``: those kept, then the new one."""
        if self.shard is None and self.in_place:
            return []
        count = len(self.shards) + (self.shard is not None)
        return [shard_name(target, number, count) for number in range(count)]

    def to_json(self) -> dict[str, Any]:
        return {
            "prefix": self.prefix,
            "target": self.target,
            "reason": self.reason,
            "evidence": dict(self.evidence),
            "changes": [{**asdict(change), "shape": list(change.shape)} for change in self.changes],
            "writes_bytes": len(self.index) + len(self.shard or b""),
            "shards": [len(self.shards), len(self.shards) + (self.shard is not None)],
        }


@dataclass(frozen=True)
class Value:
    """A tensor to be written: ``raw`` is what a bundle stores, ``crc`` its masked checksum, ``shown`` for people."""

    dtype: str
    shape: tuple[int, ...]
    raw: bytes
    crc: int
    shown: Any

    @staticmethod
    def of(dtype: str, shape: tuple[int, ...], raw: bytes, shown: Any = None) -> Value:
        """A value of a type with elements of one size, from its little-endian bytes."""
        return Value(dtype, shape, raw, checksum.masked(raw), shown)

    @staticmethod
    def of_string(content: bytes, shown: Any = None) -> Value:
        """A scalar string."""
        raw, crc = encode_strings([content])
        return Value("string", (), raw, crc, shown)


def plan_values(
    bundle: Bundle,
    values: Mapping[str, Value],
    *,
    reason: str,
    evidence: Mapping[str, Any],
    keep: Mapping[str, str] | None = None,
    target: str | None = None,
) -> Plan:
    """Write some tensors; keep the others where they are.

    ``values`` maps keys to what is to be stored under them. ``keep`` maps the other keys of the new checkpoint to
    those that their bytes have now; None keeps every key under its own name. With a ``target`` the result is another
    checkpoint, of only the data files that it needs.

    Raises CorruptError or NotFoundError when a data file that is kept is cut off or missing.
    """
    kept = {key: key for key in bundle.entries} if keep is None else keep
    needed = {entry.shard for stored in kept.values() for entry in bundle.stored(stored) if entry.size}
    shards = list(range(bundle.header.num_shards)) if target is None else sorted(needed) or [0]
    table = dict(_kept_entries(bundle, kept, {old: new for new, old in enumerate(shards)}))
    shard = bytearray()
    changes = []
    for key, value in sorted(values.items()):
        entry = Entry(BY_NAME[value.dtype], value.shape)
        place = {"shard": len(shards), "offset": len(shard), "size": len(value.raw), "crc": value.crc}
        table[key.encode()] = entry.moved(**place).encode()
        shard += value.raw
        action = "replace" if key in bundle.entries else "add"
        changes.append(Change(key, action, value.dtype, value.shape, value.shown))
    table[HEADER_KEY] = bundle.header.with_shards(len(shards) + bool(values)).raw
    _check_extents(bundle, kept.values())
    sources = {bundle.path: bundle.index_fingerprint}
    sources |= {bundle.shard_paths[number]: bundle.shard(number).fingerprint for number in shards}
    return Plan(
        prefix=bundle.prefix,
        target=target or bundle.prefix,
        reason=reason,
        evidence=evidence,
        changes=tuple(changes),
        shards=tuple(bundle.shard_paths[number] for number in shards),
        old_index=bundle.index_bytes if target is None else None,
        index=write_table(table),
        shard=bytes(shard) if values else None,
        sources=sources,
    )


def _kept_entries(bundle: Bundle, kept: Mapping[str, str], numbers: Mapping[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """The keys and entries of some tensors under their new names, those of their parts among them.

    ``numbers`` are the new numbers of the shards. An entry whose shard keeps its number stays byte for byte.
    """
    table = read_table(bundle.index_bytes)
    for new, stored in kept.items():
        entry = bundle.entries[stored]
        found = [(new.encode(), stored.encode(), entry)]
        for raw, part in zip(entry.slices, bundle.parts.get(stored, ()), strict=False):
            piece = Slice.decode(raw)
            found.append((piece.key(new), piece.key(stored), part.entry))
        for new_key, key, each in found:
            number = numbers.get(each.shard, 0)  # what has no bytes may be of any shard
            yield new_key, table[key] if number == each.shard else replace(each, shard=number).encode()


def plan_scalar(bundle: Bundle, *, key: str, name: str, value: float, reason: str, evidence: Mapping[str, Any]) -> Plan:
    """Set a float32 scalar: a child ``name`` of the root in an object-based bundle, else a tensor called ``key``.

    The key alone would restore nothing: TensorFlow finds a variable by the object graph, so that a bundle that
    has one gets the child and the node too.

    Raises CorruptError when the index, the extents or the object graph are damaged.
    """
    values = {key: Value.of("float32", (), struct.pack("<f", value), value)}
    graph = bundle.graph
    if graph is not None and graph.child(name) is None:
        grown = add_variable(bundle.graph_bytes, name=name, key=key)
        values[OBJECT_GRAPH_KEY] = Value.of_string(grown, f"with the child {name!r}")
    return plan_values(bundle, values, reason=reason, evidence=evidence)


def plan_index(bundle: Bundle, *, reason: str, evidence: Mapping[str, Any]) -> Plan:
    """Give a checkpoint whose own index is lost the index that ``bundle`` was opened with; no data is touched."""
    own = index_name(bundle.prefix)
    there = os.path.lexists(own)
    sources = {path: bundle.shard(number).fingerprint for number, path in enumerate(bundle.shard_paths)}
    sources |= {path: storage.fingerprint(path) for path in (own, bundle.path) if os.path.lexists(path)}
    return Plan(
        prefix=bundle.prefix,
        target=bundle.prefix,
        reason=reason,
        evidence=evidence,
        changes=(),
        shards=tuple(bundle.shard_paths),
        old_index=storage.read_file(own, limit=MAX_INDEX_BYTES) if there else None,
        index=bundle.index_bytes,
        shard=None,
        sources=sources,
    )


def _check_extents(bundle: Bundle, names: Iterable[str]) -> None:
    for number, end in bundle.ends(names).items():
        shard = bundle.shard(number)
        if end > shard.size:
            raise CorruptError(f"the file is cut off at {shard.size} bytes, its tensors need {end}", path=shard.path)


# ------------------------------------------------------------------------------------------ applying


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
            changed one, and the hint says so.
    """
    directory = os.path.dirname(plan.target) or "."
    storage.require_writable(directory)
    with storage.locked(directory):
        _recover(directory)
        _require_unchanged(plan)
        entry = _ledger_entry(plan)
        with _journal(directory, entry):
            _prepare(directory, plan, entry)
            storage.sync_directory(directory)
            _require_unchanged(plan)
            storage.rename(_temporary(plan.target), index_name(plan.target))
            with _after_commit():
                _finish(directory, entry)
    return Applied(entry["id"], backup_directory(directory, entry))


def apply_to(plan: Plan, prefix: str) -> str:
    """Make the changed checkpoint under a new prefix, in a directory of its own; the source stays as it is.

    Returns the prefix. Raises UsageError when a checkpoint is there already, and what `apply` raises.
    """
    directory, name = os.path.split(prefix)
    storage.make_directory(directory)
    storage.require_writable(directory)
    with storage.locked(directory):
        if storage.list_directory(directory):
            raise UsageError("the output directory is not empty", path=directory, hint="name a new one")
        created = plan.created(prefix)
        try:
            _write(plan, prefix)
            storage.sync_directory(directory)
            _require_unchanged(plan)
            storage.rename(_temporary(prefix), index_name(prefix))
            storage.write_atomic(os.path.join(directory, FILE_NAME), encode_state(name, [name]))
        except BaseException:
            for path in (index_name(prefix), _temporary(prefix), *created):
                storage.remove(path)
            raise
    return prefix


def _ledger_entry(plan: Plan) -> dict[str, Any]:
    directory, name = os.path.split(plan.target)
    created = [os.path.basename(path) for path in plan.created(plan.target)]
    return {
        **ledger.new_entry(directory or ".", plan.reason, plan.index),
        "checkpoint": name,
        "evidence": dict(plan.evidence),
        "changes": plan.to_json()["changes"],
        "index_before": None if plan.old_index is None else _digest(plan.old_index),
        "index_after": _digest(plan.index),
        "moved": [os.path.basename(path) for path in plan.shards] if plan.in_place and created else [],
        "created": created,
        "displaced": [file for file in created if os.path.lexists(os.path.join(directory, file))],
    }


def _prepare(directory: str, plan: Plan, entry: Mapping[str, Any]) -> None:
    """Steps 2 to 4: everything that the new index needs, beside everything that the old one needs."""
    backup = ledger.make_backup_directory(directory, entry)
    if plan.old_index is not None:
        storage.link_or_copy(index_name(plan.target), os.path.join(backup, f"{entry['checkpoint']}.index"))
    for name in entry["displaced"]:
        storage.rename(os.path.join(directory, name), os.path.join(backup, name))
    _write(plan, plan.target)
    storage.sync_directory(backup)
    _read_back(plan)


def _write(plan: Plan, target: str) -> None:
    """The files of a checkpoint at ``target``, but for the last step: its index has a temporary name."""
    created = plan.created(target)
    like = next(iter(plan.sources))
    for old, new in zip(plan.shards, created, strict=False):
        storage.link_or_copy(old, new)
    if plan.shard is not None:
        storage.create_file(created[-1], plan.shard, like=like)
    storage.create_file(_temporary(target), plan.index, like=like)


def _read_back(plan: Plan) -> None:
    """The files on disk, not the bytes in memory, must say what the plan says."""
    created = plan.created(plan.target)
    if storage.read_file(_temporary(plan.target), limit=len(plan.index)) != plan.index:
        raise CorruptError("reads back differently", path=_temporary(plan.target))
    for before, after in zip(plan.shards, created, strict=False):
        source, target = plan.sources[before], storage.fingerprint(after)
        if target != source and (target.size != source.size or _file_digest(before) != _file_digest(after)):
            raise CorruptError("differs from the file it was copied from", path=after)
    if plan.shard is not None and storage.read_file(created[-1], limit=len(plan.shard)) != plan.shard:
        raise CorruptError("reads back differently", path=created[-1])


def _finish(directory: str, entry: Mapping[str, Any]) -> None:
    """Steps 7 and 8, after the commit. Every part may have been done already by a run that was killed."""
    storage.sync_directory(directory)
    backup = backup_directory(directory, entry)
    for name, second in zip(entry["moved"], entry["created"], strict=False):
        _move_original(os.path.join(directory, second), os.path.join(directory, name), os.path.join(backup, name))
    storage.sync_directory(backup)
    storage.sync_directory(directory)
    ledger.append(directory, entry)


def _move_original(second: str, original: str, target: str) -> None:
    """Move a data file away that has a second name, unless it is not that file: a trainer that saves takes no lock."""
    if _comes_from(second, original):
        storage.rename(original, target)
        if not _comes_from(second, target):  # saved between the look and the rename
            storage.rename(target, original)


def _roll_back(directory: str, entry: Mapping[str, Any]) -> None:
    """Remove what an uncommitted change left: second names and files of its own, never an original."""
    _remove_created(directory, entry)
    storage.remove(_temporary(os.path.join(directory, entry["checkpoint"])))
    _remove_backup(directory, entry)


def _remove_created(directory: str, entry: Mapping[str, Any]) -> None:
    """Remove the names that a change gave, and put back what was in their way."""
    backup = backup_directory(directory, entry)
    for name in entry["created"]:
        if name not in entry["displaced"]:
            storage.remove(os.path.join(directory, name))
        elif os.path.lexists(os.path.join(backup, name)):
            storage.rename(os.path.join(backup, name), os.path.join(directory, name))


# ------------------------------------------------------------------------------------------ undo


def undo(prefix: str, *, to: str | None = None) -> list[dict[str, Any]]:
    """Take back the last change of a checkpoint, or all back to and including the one with the id ``to``.

    Returns the ledger's entries that were undone, newest first.

    Raises:
        NotFoundError: nothing to undo, or no such id.
        BusyError: the checkpoint was written by something else since; its files win.
    """
    directory = os.path.dirname(prefix) or "."
    storage.require_writable(directory)
    with storage.locked(directory):
        _recover(directory)
        standing = history(prefix)
        ids = [entry["id"] for entry in standing]
        if not standing or (to is not None and to not in ids):
            what = f"no change {to} to undo" if to else "nothing to undo: no change of this checkpoint is recorded"
            known = f"known: {', '.join(ids)}" if ids else None
            raise NotFoundError(what, path=prefix, hint=known)
        count = len(ids) - ids.index(to) if to is not None else 1
        chosen = standing[::-1][:count]
        for entry in chosen:
            _undo_one(directory, entry)
    return chosen


def drop_backups(prefix: str) -> list[str]:
    """Remove the originals that the standing changes of a checkpoint keep; they can then not be undone any more.

    Returns the ids whose backups were removed. Raises NotFoundError when there is none.
    """
    directory = os.path.dirname(prefix) or "."
    storage.require_writable(directory)
    with storage.locked(directory):
        _recover(directory)
        chosen = [entry for entry in history(prefix) if entry["index_before"] and has_backup(prefix, entry)]
        if not chosen:
            raise NotFoundError("no backup of this checkpoint", path=prefix)
        for entry in chosen:
            _remove_backup(directory, entry)
    return [entry["id"] for entry in chosen]


def has_backup(prefix: str, entry: Mapping[str, Any]) -> bool:
    """Whether a change can be taken back: its originals are still kept, or there were none."""
    backup = backup_directory(os.path.dirname(prefix) or ".", entry)
    return entry["index_before"] is None or os.path.lexists(os.path.join(backup, f"{entry['checkpoint']}.index"))


def recover(prefix: str) -> None:
    """Bring a change that was killed half-way to an end, forward or back; does nothing when there is none.

    Raises BusyError while somebody works in this directory, StorageError when it cannot be written.
    """
    directory = os.path.dirname(prefix) or "."
    if os.path.lexists(os.path.join(directory, STATE_DIRECTORY, _PENDING)):
        storage.require_writable(directory)
        with storage.locked(directory):
            _recover(directory)


def _undo_one(directory: str, entry: dict[str, Any]) -> None:
    index = os.path.join(directory, f"{entry['checkpoint']}.index")
    if _file_digest(index) != entry["index_after"]:
        raise BusyError(
            "the checkpoint was written again after this change: taking it back would lose that",
            path=index,
            hint=f"the originals are in {backup_directory(directory, entry)}",
        )
    backup = backup_directory(directory, entry)
    saved = os.path.join(backup, os.path.basename(index))
    existed = entry["index_before"] is not None
    if existed and not os.path.lexists(saved):
        raise NotFoundError("the backup of this change was removed: it cannot be undone", path=backup)
    if existed and _file_digest(saved) != entry["index_before"]:
        raise CorruptError("the backup of the index is damaged", path=saved)
    for name in entry["moved"]:
        if not os.path.lexists(os.path.join(backup, name)):
            raise NotFoundError("the backup lacks a file", path=os.path.join(backup, name))
        if os.path.lexists(os.path.join(directory, name)):
            raise BusyError(
                "a file with the name of an original was put here after the change",
                path=os.path.join(directory, name),
                hint="move it somewhere else, then run the same command again",
            )
    undoing = {**entry, "undoing": True}
    with _journal(directory, undoing):
        for name in entry["moved"]:
            storage.link_or_copy(os.path.join(backup, name), os.path.join(directory, name))
        if existed:
            temporary = _temporary(os.path.join(directory, entry["checkpoint"]))
            storage.link_or_copy(saved, temporary)
            storage.sync_directory(directory)
            storage.rename(temporary, index)
        else:
            storage.remove(index)
        with _after_commit():
            _finish_undo(directory, undoing)


def _finish_undo(directory: str, entry: Mapping[str, Any]) -> None:
    storage.sync_directory(directory)
    _remove_created(directory, entry)
    if entry["id"] in {known["id"] for known in history(os.path.join(directory, entry["checkpoint"]))}:
        ledger.append(directory, ledger.undo_entry(entry))
    _remove_backup(directory, entry)


def _roll_back_undo(directory: str, entry: Mapping[str, Any]) -> None:
    """Remove the names that an uncommitted undo gave back; a file that something else wrote since then stays."""
    backup = backup_directory(directory, entry)
    for name in entry["moved"]:
        if _comes_from(os.path.join(backup, name), os.path.join(directory, name)):
            storage.remove(os.path.join(directory, name))
    storage.remove(_temporary(os.path.join(directory, entry["checkpoint"])))


# ------------------------------------------------------------------------------------------ the journal


@contextlib.contextmanager
def _journal(directory: str, entry: Mapping[str, Any]) -> Iterator[None]:
    """Announce a change before its first step; on an error take the uncommitted steps back."""
    try:
        storage.make_directory(os.path.join(directory, STATE_DIRECTORY))
        storage.write_atomic(_pending_path(directory), json.dumps(entry).encode())
        yield
    except BaseException:
        # Also for KeyboardInterrupt. What cannot be cleaned up now is left to the next run's recovery.
        with contextlib.suppress(CkptError):
            _recover(directory)
        raise
    storage.remove(_pending_path(directory))


def _recover(directory: str) -> None:
    """Bring a change that was killed half-way to an end: forward after its commit point, else back."""
    path = _pending_path(directory)
    _sweep(directory)
    if not os.path.lexists(path):
        return
    try:
        stored = json.loads(storage.read_file(path, limit=ledger.MAX_LEDGER_BYTES))
        entry = ledger.checked(stored, path, of_checkpoint=True)
    except ValueError as error:
        raise CorruptError("the journal is not JSON", path=path) from error
    index = index_name(os.path.join(directory, entry["checkpoint"]))
    current = _file_digest(index) if os.path.lexists(index) else None
    undoing = bool(entry.get("undoing"))
    if current == entry["index_before" if undoing else "index_after"]:
        (_finish_undo if undoing else _finish)(directory, entry)
    else:
        (_roll_back_undo if undoing else _roll_back)(directory, entry)
    storage.remove(path)
    storage.remove_directory(os.path.dirname(path))


def _sweep(directory: str) -> None:
    """Remove journals that were killed before they had their name: nothing had been done yet."""
    state = os.path.join(directory, STATE_DIRECTORY)
    if os.path.isdir(state):
        for name in storage.list_directory(state):
            if name.startswith(f"{_PENDING}.tmp-"):
                storage.remove(os.path.join(state, name))
        storage.remove_directory(state)


@contextlib.contextmanager
def _after_commit() -> Iterator[None]:
    """What fails now fails after the change was made: the message must not let one think that it was not."""
    try:
        yield
    except CkptError as error:
        error.hint = "the change is made and the checkpoint whole: run the same command again to finish the rest"
        raise


# ------------------------------------------------------------------------------------------ small parts


def _pending_path(directory: str) -> str:
    return os.path.join(directory, STATE_DIRECTORY, _PENDING)


def _remove_backup(directory: str, entry: Mapping[str, Any]) -> None:
    """Remove a backup: the files that it names and, when nothing else is in them, its directories."""
    backup = backup_directory(directory, entry)
    for name in (*entry["moved"], *entry["displaced"], f"{entry['checkpoint']}.index"):
        storage.remove(os.path.join(backup, name))
    for parent in (backup, os.path.dirname(backup), os.path.join(directory, STATE_DIRECTORY)):
        storage.remove_directory(parent)


def _temporary(prefix: str) -> str:
    return f"{prefix}.index.ckpt-tools"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _file_digest(path: str) -> str:
    digest = hashlib.sha256()
    with storage.RandomAccessFile(path) as file:
        for offset in range(0, file.size, _PIECE):
            digest.update(file.read(offset, min(_PIECE, file.size - offset)))
    return digest.hexdigest()


def _comes_from(original: str, path: str) -> bool:
    """Whether a file is a second name of another, or a copy of it, perhaps one that was cut off."""
    if not os.path.lexists(path) or not os.path.lexists(original):
        return False
    if os.path.samefile(original, path):
        return True
    with storage.RandomAccessFile(original) as whole, storage.RandomAccessFile(path) as part:
        return part.size <= whole.size and all(
            whole.read(offset, size) == part.read(offset, size)
            for offset in range(0, part.size, _PIECE)
            for size in [min(_PIECE, part.size - offset)]
        )


def _require_unchanged(plan: Plan) -> None:
    again = "run the same command again"
    for path, before in plan.sources.items():
        if storage.fingerprint(path) != before:
            raise BusyError("changed while it was being worked on", path=path, hint=again)
    if plan.old_index is None and os.path.lexists(index_name(plan.target)):
        raise BusyError("was made while this was being worked on", path=index_name(plan.target), hint=again)


def written_names(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of the files that undoing these entries put back."""
    return [name for entry in entries for name in (*entry["moved"], f"{entry['checkpoint']}.index")]
