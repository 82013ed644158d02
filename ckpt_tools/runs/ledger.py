"""What was changed in a directory: the ledger, and where the originals are kept.

    DIRECTORY/.ckpt-tools/ledger.jsonl   one JSON object for each change and each undo
    DIRECTORY/.ckpt-tools/backup/ID/     the original files, under their own names

There are four kinds of entries: a checkpoint was rewritten (`RewriteEntry`), what lies beside the checkpoints was
tidied (`TidyEntry`), one of these was taken back (`UndoEntry`), or checkpoints were deleted (`RemovalEntry`), which
nothing takes back. The files that an entry is about are named in it,
each with what it is to the change; a directory may come from anywhere, so that an entry with names that no change of
ours gives is refused. Entries without a ``kind`` are of version 1, which told the files by their places in lists.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from typing import Any, ClassVar, TypedDict

from ckpt_tools.errors import CkptError, CorruptError, NotFoundError, UnsafeError, UnsupportedError
from ckpt_tools.format import json_text
from ckpt_tools.format.filenames import (
    KERAS_ENDINGS,
    PENDING,
    STATE_DIRECTORY,
    STATE_FILE,
    bundle_part,
    data_name,
    index_name,
    is_unfinished,
    is_unfinished_folder,
)
from ckpt_tools.fs import local, paths
from ckpt_tools.fs.local import Folder
from ckpt_tools.version import __version__

LEDGER, BACKUP = "ledger.jsonl", "backup"
SCHEMA_VERSION = 2
MAX_LEDGER_BYTES = 1 << 26

_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}(-\d{1,6})?")
_DIGEST = re.compile(r"[0-9a-f]{64}")


# ------------------------------------------------------------------------------------------------ entries


@dataclass(frozen=True)
class Link:
    """A data file that the new index names as ``name``; ``original`` is its name before, None when not recorded."""

    name: str
    original: str | None


@dataclass(frozen=True)
class Added:
    """A data file that the change wrote, with the SHA-256 of its bytes, None when not recorded."""

    name: str
    sha256: str | None


@dataclass(frozen=True)
class Entry:
    """What every entry tells: its id, when it was made (ISO 8601, UTC), by which program, and why."""

    id: str
    time: str
    tool: str
    action: str
    kind: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, "kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class RewriteEntry(Entry):
    """A checkpoint was changed, or made from another one.

    ``index_before`` and ``index_after`` are the SHA-256 of its index, None where there was none. ``links`` and then
    ``added`` are the data files of the new index, in its order; ``moves`` tells that the originals of the links went
    to the backup, and ``retired`` are data files of the old index that went there, too, and that the new one leaves
    out. ``displaced`` are those names of the new ones that a file of another save had: it went to the backup, too.
    ``single_file``: the checkpoint is one file (of Keras) that was replaced as a whole; what is said here of an index
    is then said of that file.
    """

    kind = "rewrite"
    checkpoint: str
    evidence: Mapping[str, Any] = field(hash=False)
    changes: tuple[Mapping[str, Any], ...] = field(hash=False)
    index_before: str | None
    index_after: str
    links: tuple[Link, ...] = ()
    moves: bool = False
    added: tuple[Added, ...] = ()
    displaced: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    single_file: bool = False

    @property
    def index(self) -> str:
        """The name of the file that commits the change by being renamed."""
        return self.checkpoint if self.single_file else index_name(self.checkpoint)

    @property
    def created(self) -> tuple[str, ...]:
        """The names that the change gave, in the order of the new index."""
        return (*(link.name for link in self.links), *(added.name for added in self.added))

    @property
    def moved(self) -> tuple[str, ...]:
        """The names of the originals that went to the backup."""
        linked = tuple(link.original for link in self.links if link.original is not None)
        return (*linked, *self.retired) if self.moves else ()

    @property
    def kept(self) -> tuple[str, ...]:
        """The names of all that the backup may hold."""
        return (*self.moved, *self.displaced, self.index)

    @property
    def restored(self) -> tuple[str, ...]:
        """The names of the files that an undo puts back."""
        return (*self.moved, self.index)


@dataclass(frozen=True)
class TidyEntry(Entry):
    """Names were moved ``aside``; the ``state_file`` got what ``state`` holds, unless that is None."""

    kind = "tidy"
    aside: tuple[str, ...]
    state: str | None
    state_file: str = STATE_FILE
    directory: str = ""

    @property
    def restored(self) -> tuple[str, ...]:
        """The names of the files that an undo puts back."""
        return (*self.aside, *([] if self.state is None else [self.state_file]))


@dataclass(frozen=True)
class UndoEntry(Entry):
    """The change with the id ``undoes`` was taken back."""

    kind = "undo"
    undoes: str

    @staticmethod
    def of(entry: ChangeEntry) -> UndoEntry:
        return UndoEntry(f"undo-{entry.id}", _now(), _tool(), "undo", entry.id)


@dataclass(frozen=True)
class RemovedFile:
    """A file that was to be deleted, as it was then."""

    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Removed:
    """A checkpoint that was to be deleted, by its name in the directory, and its files."""

    checkpoint: str
    files: tuple[RemovedFile, ...]


@dataclass(frozen=True)
class RemovalEntry(Entry):
    """Checkpoints were to be deleted, as the list with the SHA-256 ``digest`` says; recorded before the first is."""

    kind = "removal"
    digest: str
    removed: tuple[Removed, ...]


ChangeEntry = RewriteEntry | TidyEntry


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _tool() -> str:
    return f"ckpt-tools {__version__}"


class Head(TypedDict):
    """The fields that every `Entry` has."""

    id: str
    time: str
    tool: str
    action: str


def head(taken: set[str], action: str, after: bytes) -> Head:
    """The fields of a new `Entry`; its id is made of the time and of what the change leads to, and is not ``taken``."""
    now = datetime.now(timezone.utc)
    identity = f"{now:%Y%m%dT%H%M%S}-{hashlib.sha256(after).hexdigest()[:8]}"
    # The same change, made again within the second in which it was taken back, or killed before it was recorded.
    again = sum(known.startswith(identity) for known in taken)
    return {
        "id": f"{identity}-{again + 1}" if again else identity,
        "time": now.isoformat(timespec="seconds"),
        "tool": _tool(),
        "action": action,
    }


def undo_command(prefix: str) -> str:
    """What takes the last change of a checkpoint back, as one types it."""
    return f"ckpt undo {shlex.quote(prefix)}"


def verify_command(path: str) -> str:
    """What tells which checkpoints are whole, as one types it: the next step where a backup is not."""
    return f"ckpt verify {shlex.quote(path)}"


# ------------------------------------------------------------------------------------------------ what lies on disk


def decode(stored: Any, path: str) -> Entry:
    """An entry from its JSON, of this version or of version 1.

    Raises CorruptError for what is none, UnsafeError for names that are paths, or that no change of ours gives,
    UnsupportedError for one of a later version.
    """
    try:
        if not isinstance(stored, dict):
            raise CorruptError("an entry that is not an object")
        version = stored.get("schema_version", 1)
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            later = "take the ckpt-tools that wrote it, or a later one"
            raise UnsupportedError(f"an entry of version {version!r}, of a later ckpt-tools", hint=later)
        entry = _decode(stored)
        if version == SCHEMA_VERSION:
            _require_known(stored)
        _require_ours(entry)
    except CkptError as error:
        error.path, error.hint = path, error.hint or put_aside(path)
        raise
    return entry


def _require_known(stored: Mapping[str, Any]) -> None:
    """Raise CorruptError for a key that no entry of this version has: where a byte of ``moves`` has rotted, it would be
    taken for one that moved nothing, and what was moved would not come back."""
    entries = (RewriteEntry, TidyEntry, UndoEntry, RemovalEntry)
    known = {"schema_version", "kind", *(each.name for entry in entries for each in fields(entry))}
    rows = [(stored, known)]
    for name, row in (("links", Link), ("added", Added), ("removed", Removed)):
        rows += [(each, {own.name for own in fields(row)}) for each in stored.get(name, ())]
    for found, names in rows:
        for name in sorted(found.keys() - names):
            raise CorruptError(f"an entry with {name!r}, which none has: it is damaged")


def put_aside(path: str | os.PathLike[str]) -> str:
    """How to go on without a ledger or a journal that cannot be believed: nothing is lost by it but what it told."""
    away = f"mv {shlex.quote(os.fspath(path))} {shlex.quote(f'{os.fspath(path)}.damaged')}"
    return f"checkpoints and backups stay as they are. To go on without what it tells of them: {away}"


def _decode(stored: dict[str, Any]) -> Entry:
    common = {name: _text(stored, name, "") for name in ("time", "tool", "action")}
    common["id"] = _text(stored, "id")
    if "undoes" in stored:
        return UndoEntry(**common, undoes=_text(stored, "undoes"))
    if "aside" in stored:
        state = stored.get("state")
        if not isinstance(state, str | None):
            raise CorruptError("an entry without the state that was written")
        return TidyEntry(
            **common,
            aside=_names(stored, "aside"),
            state=state,
            state_file=_text(stored, "state_file", STATE_FILE),
            directory=_text(stored, "directory", ""),
        )
    if "removed" in stored:
        rows = _rows(stored, "removed")
        removed = tuple(Removed(_text(row, "checkpoint"), tuple(map(_removed, _rows(row, "files")))) for row in rows)
        return RemovalEntry(**common, digest=_text(stored, "digest"), removed=removed)
    links, added, moves = _files(stored)
    return RewriteEntry(
        **common,
        checkpoint=_text(stored, "checkpoint"),
        evidence=evidence if isinstance(evidence := stored.get("evidence"), dict) else {},
        changes=tuple(change for change in _list(stored, "changes", []) if isinstance(change, dict)),
        index_before=_text_or_none(stored, "index_before"),
        index_after=_text(stored, "index_after"),
        links=links,
        moves=moves,
        added=added,
        displaced=_names(stored, "displaced"),
        retired=_names(stored, "retired") if "retired" in stored else (),
        single_file=stored.get("single_file") is True,
    )


def _files(stored: dict[str, Any]) -> tuple[tuple[Link, ...], tuple[Added, ...], bool]:
    if "links" in stored:
        links = tuple(Link(_text(row, "name"), _text_or_none(row, "original")) for row in _rows(stored, "links"))
        added = tuple(Added(_text(row, "name"), _text_or_none(row, "sha256")) for row in _rows(stored, "added"))
        return links, added, stored.get("moves") is True
    # Version 1: the originals that moved, and the names created, first theirs. Whose the others are, it did not tell.
    moved, created = _names(stored, "moved"), _names(stored, "created")
    links = tuple(Link(name, original) for original, name in zip(moved, created, strict=False))
    return links, tuple(Added(name, None) for name in created[len(links) :]), bool(moved)


def _removed(row: Mapping[str, Any]) -> RemovedFile:
    size, time = row.get("size"), row.get("mtime_ns")
    if not isinstance(size, int) or not isinstance(time, int):
        raise CorruptError("an entry without the sizes and times of its files")
    return RemovedFile(_text(row, "name"), size, time)


def _text(stored: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = stored.get(name, default)
    if not isinstance(value, str):
        raise CorruptError(f"an entry without its {name}")
    return value


def _text_or_none(stored: Mapping[str, Any], name: str) -> str | None:
    return None if stored.get(name) is None else _text(stored, name)


def _list(stored: Mapping[str, Any], name: str, default: list[Any] | None = None) -> list[Any]:
    value = stored.get(name, default)
    if not isinstance(value, list):
        raise CorruptError(f"an entry without its list of {name} files")
    return value


def _rows(stored: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    rows = _list(stored, name)
    if not all(isinstance(row, dict) for row in rows):
        raise CorruptError(f"an entry without its list of {name} files")
    return rows


def _names(stored: Mapping[str, Any], name: str) -> tuple[str, ...]:
    names = _list(stored, name)
    for each in names:
        if not isinstance(each, str) or not local.is_plain(each):
            raise UnsafeError(f"an entry names {each!r}, which is not a plain file name")
    return tuple(names)


def _require_ours(entry: Entry) -> None:
    """Raise UnsafeError for an entry whose names are not those that a change gives: it may be made to do harm."""
    if isinstance(entry, UndoEntry):
        return
    if not _ID.fullmatch(entry.id):
        raise UnsafeError(f"an entry has the id {entry.id!r}, which is none of ours")
    if isinstance(entry, TidyEntry):
        if not local.is_plain(entry.state_file):
            raise UnsafeError(f"an entry names {entry.state_file!r}, which is not a plain file name")
        for name in entry.aside:
            if not (is_unfinished(name) or is_unfinished_folder(name) or name in (STATE_FILE, entry.state_file)):
                raise UnsafeError(f"an entry names {name!r}, which no repair moves away")
        return
    if isinstance(entry, RemovalEntry):
        for removed in entry.removed:
            for file in removed.files:
                part = bundle_part(file.name)
                own = part.prefix if part else file.name if file.name.endswith(KERAS_ENDINGS) else None
                if own != removed.checkpoint or not local.is_plain(file.name):
                    raise UnsafeError(f"an entry names {file.name!r}, which is no file of its checkpoint")
        return
    assert isinstance(entry, RewriteEntry)
    for name in (*entry.created, *entry.moved, *entry.displaced, entry.index):
        if not local.is_plain(name):
            raise UnsafeError(f"an entry names {name!r}, which is not a plain file name")
    for digest in (entry.index_before, entry.index_after, *(added.sha256 for added in entry.added)):
        if digest is not None and not _DIGEST.fullmatch(digest):
            raise CorruptError("an entry with a digest that is none")
    if entry.single_file and (entry.created or entry.retired or not entry.checkpoint.endswith(KERAS_ENDINGS)):
        raise UnsafeError(f"an entry names {entry.checkpoint!r}, which is no file that is replaced as a whole")
    if entry.moves and any(link.original is None for link in entry.links):
        raise CorruptError("an entry that does not say what the moved files were called")
    count = len(entry.created)
    expected = [data_name(entry.checkpoint, number, count) for number in range(count)]
    moved = [data_name(entry.checkpoint, number, len(entry.moved)) for number in range(len(entry.moved))]
    originals = [link.original for link in entry.links if link.original is not None and not entry.moves]
    if list(entry.created) != expected or sorted(entry.moved) != moved or not set(entry.displaced) <= set(expected):
        raise UnsafeError("an entry names files that are not those of its checkpoint")
    if not all((part := bundle_part(name)) is not None and part.part == "data" for name in originals):
        raise UnsafeError("an entry names files that are no data files")


# ------------------------------------------------------------------------------------------------ reading


def open_state(directory: Folder) -> Folder | None:
    """What is kept for a directory, held open; None when nothing is.

    Raises UnsafeError when it, or anything that it is made of, is a link: none may lead a change out of the directory.
    """
    _require_no_link(directory / STATE_DIRECTORY)
    state = directory.inside(STATE_DIRECTORY)
    if state is not None:
        try:
            for name in (LEDGER, PENDING, BACKUP):
                _require_no_link(state / name)
        except BaseException:
            state.close()
            raise
    return state


def _require_no_link(path: local.Held) -> None:
    if local.is_link(path):
        remove = f"rm {shlex.quote(os.fspath(path))}"
        raise UnsafeError("is a link: it would lead out of the directory", path=path, hint=remove)


def require_own(directory: str) -> None:
    """Raise UnsafeError when what is kept for a directory lies elsewhere."""
    with Folder(directory) as folder:
        if (state := open_state(folder)) is not None:
            state.close()


def entries_in(state: Folder) -> list[Entry]:
    """All lines of a ledger, oldest first; empty without one.

    Raises CorruptError for a line that is not JSON, unless it is a last one that was cut off.
    """
    path = state / LEDGER
    try:
        lines = local.read_file(path, limit=MAX_LEDGER_BYTES).decode("utf-8", "replace").split("\n")
    except NotFoundError:
        return []
    entries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entries.append(decode(json_text.parse(line), os.fspath(path)))
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break
            raise CorruptError(f"line {number} is not JSON", path=path, hint=put_aside(path)) from error
    return entries


def read_ledger(directory: str) -> list[Entry]:
    """All lines of a directory's ledger, oldest first; empty without one, and behind a URL, where nothing is changed.

    Raises what `open_state` and `entries_in` raise.
    """
    if paths.is_url(directory) or not local.is_directory(directory, follow=True):
        return []
    with Folder(directory) as folder:
        state = open_state(folder)
        if state is None:
            return []
        with state:
            return entries_in(state)


def standing(entries: list[Entry]) -> list[ChangeEntry]:
    """The changes that were not undone, oldest first."""
    undone = {entry.undoes for entry in entries if isinstance(entry, UndoEntry)}
    return [entry for entry in entries if isinstance(entry, RewriteEntry | TidyEntry) and entry.id not in undone]


def history(prefix: str, *, beside: bool = False) -> list[ChangeEntry]:
    """The changes of a checkpoint that stand, oldest first. ``beside``: those of the files beside it too."""
    return of_checkpoint(standing(read_ledger(local.directory_of(prefix))), prefix, beside=beside)


def rewrites(prefix: str) -> list[RewriteEntry]:
    """The changes of a checkpoint itself that stand, oldest first."""
    return [entry for entry in history(prefix) if isinstance(entry, RewriteEntry)]


def of_checkpoint(changes: list[ChangeEntry], prefix: str, *, beside: bool) -> list[ChangeEntry]:
    name = os.path.basename(prefix)
    return [entry for entry in changes if (beside if isinstance(entry, TidyEntry) else entry.checkpoint == name)]


def backup_path(directory: str, entry: Entry) -> str:
    """Where the originals of a change are kept; a path for messages."""
    return os.path.join(directory, STATE_DIRECTORY, BACKUP, entry.id)


def backups(directory: str) -> list[str]:
    """The directories with originals that are kept for a directory."""
    require_own(directory)
    place = os.path.join(directory, STATE_DIRECTORY, BACKUP)
    if not local.is_directory(place):
        return []
    return [path for name in local.list_directory(place) if local.is_directory(path := os.path.join(place, name))]
