"""What was changed in a directory: the ledger, and where the originals are kept.

    DIRECTORY/.ckpt-tools/ledger.jsonl   one JSON object for each change and each undo
    DIRECTORY/.ckpt-tools/backup/ID/     the original files, under their own names

A change of a checkpoint names it (``checkpoint``) with the files that were ``moved``, ``created`` and ``displaced``;
one of the files beside the checkpoints has the ``state`` that it wrote, and which names it moved ``aside``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ckpt_tools import storage
from ckpt_tools.errors import CorruptError, UnsafeError
from ckpt_tools.format.filenames import STATE_FILE
from ckpt_tools.redaction import redacted
from ckpt_tools.version import __version__

STATE_DIRECTORY = ".ckpt-tools"
# The journal of a change that is under way, or was killed; see `ckpt_tools.rewrite.journal`.
PENDING = "pending.json"
SCHEMA_VERSION = 1
MAX_LEDGER_BYTES = 1 << 26
_LEDGER, _BACKUP = "ledger.jsonl", "backup"


def new_entry(directory: str, action: str, after: bytes) -> dict[str, Any]:
    """The head of a new entry; its id is made of the time and of what the change leads to."""
    now = datetime.now(timezone.utc)
    identity = f"{now:%Y%m%dT%H%M%S}-{hashlib.sha256(after).hexdigest()[:8]}"
    # The same change, made again within the second in which it was taken back, or killed before it was recorded.
    taken = {known["id"] for known in read_ledger(directory)} | {os.path.basename(path) for path in backups(directory)}
    again = sum(known.startswith(identity) for known in taken)
    return {
        "schema_version": SCHEMA_VERSION,
        "id": f"{identity}-{again + 1}" if again else identity,
        "time": now.isoformat(timespec="seconds"),
        "tool": f"ckpt-tools {__version__}",
        "action": action,
    }


def undo_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The line that says that a change was taken back."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"id": f"undo-{entry['id']}", "time": now, "action": "undo", "undoes": entry["id"]}


def undo_command(prefix: str) -> str:
    """What takes the last change of a checkpoint back, as one types it."""
    return f"ckpt undo {shlex.quote(prefix)}"


def require_own(directory: str) -> None:
    """Raise UnsafeError when what is kept for a directory lies elsewhere: no link may lead a change out of it."""
    state = os.path.join(directory, STATE_DIRECTORY)
    for path in (state, *(os.path.join(state, name) for name in (_LEDGER, PENDING, _BACKUP))):
        if storage.is_link(path):
            raise UnsafeError("is a link: it would lead out of the directory", path=path, hint=f"remove it: rm {path}")


def read_ledger(directory: str) -> list[dict[str, Any]]:
    """All lines of a directory's ledger, oldest first; empty without one.

    Raises CorruptError for a line that is not JSON, unless it is a last one that was cut off; UnsafeError for a link.
    """
    require_own(directory)
    path = os.path.join(directory, STATE_DIRECTORY, _LEDGER)
    if not storage.is_there(path):
        return []
    lines = storage.read_file(path, limit=MAX_LEDGER_BYTES).decode("utf-8", "replace").split("\n")
    entries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entries.append(checked(json.loads(line), path))
        except ValueError as error:
            if number == len(lines):
                break
            raise CorruptError(f"line {number} is not JSON", path=path) from error
    return entries


def append(directory: str, entry: Mapping[str, Any]) -> None:
    """Add a line, unless it is there already; durable, with the file's name, when this returns."""
    if entry["id"] in {known["id"] for known in read_ledger(directory)}:
        return
    state = os.path.join(directory, STATE_DIRECTORY)
    storage.append_line(os.path.join(state, _LEDGER), json.dumps(redacted(entry)))
    storage.sync_directory(state)


def standing(directory: str) -> list[dict[str, Any]]:
    """The changes of a directory that stand, oldest first: those of the ledger that were not undone."""
    entries = read_ledger(directory)
    undone = {entry.get("undoes") for entry in entries}
    return [entry for entry in entries if "undoes" not in entry and entry["id"] not in undone]


def history(prefix: str, *, beside: bool = False) -> list[dict[str, Any]]:
    """The changes of a checkpoint that stand, oldest first. ``beside``: those of the files beside it too."""
    name = os.path.basename(prefix)
    return [
        entry
        for entry in standing(os.path.dirname(prefix) or ".")
        if entry.get("checkpoint") == name or (beside and is_beside(entry))
    ]


def is_beside(entry: Mapping[str, Any]) -> bool:
    """Whether a change is one of the files beside the checkpoints."""
    return "aside" in entry


def state_file(entry: Mapping[str, Any]) -> str:
    """The name of the state file that a change beside the checkpoints wrote; old entries tell of one only."""
    return str(entry.get("state_file", STATE_FILE))


def checked(entry: Any, path: str, *, of_checkpoint: bool = False) -> dict[str, Any]:
    """A line of the ledger, or the journal (then ``of_checkpoint``); names in it are names, never paths."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        raise CorruptError("an entry without an id", path=path)
    names = [entry["id"]]
    if "aside" in entry:
        if not isinstance(entry["aside"], list) or not isinstance(entry.get("state"), str | None):
            raise CorruptError("an entry without its list of names, or the state that was written", path=path)
        names += [*entry["aside"], entry.get("state_file", STATE_FILE)]
    if of_checkpoint or "checkpoint" in entry:
        if entry.get("checkpoint") != "":  # TensorFlow saves one without a name too: ``DIRECTORY/.index``
            names.append(entry.get("checkpoint"))
        for part in ("moved", "created", "displaced"):
            if not isinstance(entry.get(part), list):
                raise CorruptError(f"an entry without its list of {part} files", path=path)
            names += entry[part]
    for name in names:
        if not isinstance(name, str) or os.path.basename(name) != name or name in ("", os.curdir, os.pardir):
            raise UnsafeError(f"an entry names {name!r}, which is not a plain file name", path=path)
    return entry


def backup_directory(directory: str, entry: Mapping[str, Any]) -> str:
    return os.path.join(directory, STATE_DIRECTORY, _BACKUP, entry["id"])


def backups(directory: str) -> list[str]:
    """The directories with originals that are kept for a directory."""
    require_own(directory)
    place = os.path.join(directory, STATE_DIRECTORY, _BACKUP)
    if not storage.is_directory(place):
        return []
    return [path for name in storage.list_directory(place) if storage.is_directory(path := os.path.join(place, name))]


def make_backup_directory(directory: str, entry: Mapping[str, Any]) -> str:
    """Create the directory for the originals of a change, durably."""
    backup = backup_directory(directory, entry)
    storage.make_directory(backup)
    for parent in (os.path.dirname(backup), os.path.join(directory, STATE_DIRECTORY), directory):
        storage.sync_directory(parent)
    return backup
