"""What shall be changed in a tensor bundle: computed, printable, and not yet made. Nothing here writes.

A plan keeps every byte of data where it is: its new index names the old data files, under second names, and one small
new one with what is added or replaced. One with another ``target`` is a second checkpoint beside the first.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ckpt_tools.errors import CorruptError, NotFoundError, UnsafeError, UnsupportedError
from ckpt_tools.format import checksum
from ckpt_tools.format.bundle import HEADER_KEY, OBJECT_GRAPH_KEY, Entry
from ckpt_tools.format.dtypes import BY_NAME
from ckpt_tools.format.filenames import bundle_part, data_name, index_name
from ckpt_tools.format.object_graph import add_variable
from ckpt_tools.format.slices import Slice
from ckpt_tools.format.strings import encode_strings
from ckpt_tools.format.table import read_table, write_table
from ckpt_tools.fs import local
from ckpt_tools.readers.bundle import MAX_INDEX_BYTES, Bundle
from ckpt_tools.runs.ledger import verify_command

# What is copied is held in memory until it is written.
MAX_COPIED_BYTES = 16 << 30
_FEWER = "let the trainer itself save what is to be kept"


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
    ``retired`` are the data files that a change in place needs no more, and ``empty`` is how many without any bytes it
    adds, so that no new name is one of an old file. ``copied``: the shards are of a checkpoint in another directory,
    and are copied, for a trainer that writes in place would change both.
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
    sources: Mapping[str, local.Fingerprint]
    retired: tuple[str, ...] = ()
    empty: int = 0
    copied: bool = False

    @property
    def in_place(self) -> bool:
        return self.target == self.prefix

    def created(self, target: str) -> list[str]:
        """The data files that the new index names when it stands at ``target``: those kept, the new one, empty ones."""
        if self.shard is None and self.in_place and not self.copied:
            return []
        count = len(self.shards) + (self.shard is not None) + self.empty
        return [data_name(target, number, count) for number in range(count)]

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
    changes = _append(values, bundle, table, shard, len(shards))
    table[HEADER_KEY] = bundle.header.with_shards(len(shards) + bool(values)).raw
    _check_extents(bundle, kept.values())
    sources = {bundle.path: bundle.index_fingerprint}
    sources |= {bundle.shard_paths[number]: bundle.shard(number).fingerprint for number in shards}
    return Plan(
        prefix=bundle.prefix,
        target=target or bundle.prefix,
        reason=reason,
        evidence=evidence,
        changes=changes,
        shards=tuple(bundle.shard_paths[number] for number in shards),
        old_index=bundle.index_bytes if target is None else None,
        index=write_table(table),
        shard=bytes(shard) if values else None,
        sources=sources,
    )


def plan_part(
    bundle: Bundle,
    keep: Iterable[str],
    values: Mapping[str, Value],
    *,
    reason: str,
    evidence: Mapping[str, Any],
    target: str | None = None,
) -> Plan:
    """Write some tensors, keep some others under their names, and leave the rest out with its bytes.

    A data file of which everything is kept stays, linked; what is kept of another is copied into the new one, byte for
    byte, with its checksum, which is verified. Raises CorruptError or NotFoundError when what is kept is damaged,
    UnsafeError when there is more to copy than is held in memory.
    """
    names = set(keep)
    lost = {entry.shard for name in bundle.entries if name not in names for entry in bundle.stored(name) if entry.size}
    used = {entry.shard for name in names for entry in bundle.stored(name) if entry.size}
    whole = [number for number in range(bundle.header.num_shards) if number in used and number not in lost]
    copied = sum(entry.size for name in names for entry in bundle.stored(name) if entry.shard not in whole)
    if copied + sum(len(value.raw) for value in values.values()) > MAX_COPIED_BYTES:
        message = f"{copied} bytes to copy are over the limit of {MAX_COPIED_BYTES}"
        raise UnsafeError(message, path=bundle.prefix, hint=_FEWER)
    _check_extents(bundle, names)
    numbers = {old: new for new, old in enumerate(whole)}
    table: dict[bytes, bytes] = {}
    shard = bytearray()
    for name in sorted(names):
        offsets: dict[tuple[int, int], int] = {}
        for entry in bundle.stored(name):
            if entry.size and entry.shard not in numbers:
                offsets[entry.shard, entry.offset] = len(shard)
                shard += _verified(bundle, name, entry)
        for raw_key, _, entry in _entries_of(bundle, name, name):
            offset = offsets.get((entry.shard, entry.offset)) if entry.size else None
            if offset is None:
                table[raw_key] = replace(entry, shard=numbers.get(entry.shard, 0)).encode()
            else:
                table[raw_key] = replace(entry, shard=len(whole), offset=offset).encode()
    changes = _append(values, bundle, table, shard, len(whole))
    retired = [number for number in range(bundle.header.num_shards) if number not in numbers] if target is None else []
    # A name of an old file must stay that file's until the change is made: so there is one more than before.
    empty = bundle.header.num_shards - len(whole) if target is None else 0
    table[HEADER_KEY] = bundle.header.with_shards(len(whole) + 1 + empty).raw
    read = sorted(used | set(retired))
    sources = {bundle.path: bundle.index_fingerprint}
    sources |= {bundle.shard_paths[number]: bundle.shard(number).fingerprint for number in read}
    return Plan(
        prefix=bundle.prefix,
        target=target or bundle.prefix,
        reason=reason,
        evidence=evidence,
        changes=changes,
        shards=tuple(bundle.shard_paths[number] for number in whole),
        old_index=bundle.index_bytes if target is None else None,
        index=write_table(table),
        shard=bytes(shard),
        sources=sources,
        retired=tuple(bundle.shard_paths[number] for number in retired),
        empty=empty,
    )


def _append(
    values: Mapping[str, Value], bundle: Bundle, table: dict[bytes, bytes], shard: bytearray, number: int
) -> tuple[Change, ...]:
    """Put new values behind what the new shard (its ``number`` in the set) holds, and their entries into the index."""
    changes = []
    for key, value in sorted(values.items()):
        place = {"shard": number, "offset": len(shard), "size": len(value.raw), "crc": value.crc}
        table[key.encode()] = Entry(BY_NAME[value.dtype], value.shape).moved(**place).encode()
        shard += value.raw
        action = "replace" if key in bundle.entries else "add"
        changes.append(Change(key, action, value.dtype, value.shape, value.shown))
    return tuple(changes)


def _verified(bundle: Bundle, name: str, entry: Entry) -> bytes:
    """The stored bytes of an entry, whose checksum holds."""
    raw = bundle.shard(entry.shard).read(entry.offset, entry.size)
    if not entry.dtype.size:
        for _ in bundle.check(name):  # the checksums of strings and variants run over other bytes than the stored ones
            pass
    elif checksum.masked(raw) != entry.crc:
        path, hint = bundle.shard_paths[entry.shard], verify_command(bundle.prefix)
        raise CorruptError("checksum does not match", path=path, key=name, hint=hint)
    return raw


def _entries_of(bundle: Bundle, stored: str, new: str) -> Iterator[tuple[bytes, bytes, Entry]]:
    """The key that each entry of a tensor gets, the one that it has, and the entry: its own, then its parts'."""
    entry = bundle.entries[stored]
    yield new.encode(), stored.encode(), entry
    for raw, part in zip(entry.slices, bundle.parts.get(stored, ()), strict=False):
        piece = Slice.decode(raw)
        yield piece.key(new), piece.key(stored), part.entry


def _kept_entries(bundle: Bundle, kept: Mapping[str, str], numbers: Mapping[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """The keys and entries of some tensors under their new names, those of their parts among them.

    ``numbers`` are the new numbers of the shards. An entry whose shard keeps its number stays byte for byte.
    """
    table = read_table(bundle.index_bytes)
    for new, stored in kept.items():
        for new_key, key, each in _entries_of(bundle, stored, new):
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
    there = local.is_there(own)
    sources = {path: bundle.shard(number).fingerprint for number, path in enumerate(bundle.shard_paths)}
    sources |= {path: local.fingerprint(path) for path in (own, bundle.path) if local.is_there(path)}
    return Plan(
        prefix=bundle.prefix,
        target=bundle.prefix,
        reason=reason,
        evidence=evidence,
        changes=(),
        shards=tuple(bundle.shard_paths),
        old_index=local.read_file(own, limit=MAX_INDEX_BYTES) if there else None,
        index=bundle.index_bytes,
        shard=None,
        sources=sources,
    )


def plan_replacement(bundle: Bundle, target: str, *, reason: str, evidence: Mapping[str, Any]) -> Plan:
    """Put a copy of a checkpoint in the place of the one at ``target``, which need not be there, nor be whole.

    Raises CorruptError or NotFoundError when a data file of the copy is cut off or missing.
    """
    _check_extents(bundle, bundle.entries)
    directory, name = local.directory_of(target), os.path.basename(target)
    parts = [(file, bundle_part(file)) for file in local.list_directory(directory)]
    data = {file: part.count for file, part in parts if part and part.prefix == name and part.count is not None}
    count = bundle.header.num_shards
    # A name of an old file must stay that file's until the change is made.
    empty = next(more for more in range(len(data) + 1) if count + more not in data.values())
    table = read_table(bundle.index_bytes)
    table[HEADER_KEY] = bundle.header.with_shards(count + empty).raw
    retired = [os.path.join(directory, file) for file in _own_data(target) if file in data]
    sources = {bundle.path: bundle.index_fingerprint}
    sources |= {path: bundle.shard(number).fingerprint for number, path in enumerate(bundle.shard_paths)}
    index = index_name(target)
    sources |= {path: local.fingerprint(path) for path in (*retired, index) if local.is_there(path)}
    return Plan(
        prefix=target,
        target=target,
        reason=reason,
        evidence=evidence,
        changes=(),
        shards=tuple(bundle.shard_paths),
        old_index=local.read_file(index, limit=MAX_INDEX_BYTES) if local.is_there(index) else None,
        index=write_table(table),
        shard=b"" if empty else None,
        sources=sources,
        retired=tuple(retired),
        empty=max(0, empty - 1),
        copied=True,
    )


def _own_data(prefix: str) -> list[str]:
    """The names of the data files that a checkpoint's index counts; none where it cannot be read or one is missing."""
    try:
        with Bundle(prefix) as old:
            paths = old.shard_paths
    except (CorruptError, NotFoundError, UnsafeError, UnsupportedError):  # a look that was refused tells nothing
        return []
    return [os.path.basename(path) for path in paths] if all(map(local.is_there, paths)) else []


def _check_extents(bundle: Bundle, names: Iterable[str]) -> None:
    for number, end in bundle.ends(names).items():
        shard = bundle.shard(number)
        if end > shard.size:
            message = f"the file is cut off at {shard.size} bytes, its tensors need {end}"
            raise CorruptError(message, path=shard.path, hint=verify_command(bundle.prefix))
