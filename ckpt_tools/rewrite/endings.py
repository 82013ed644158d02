"""How a change ends: forward after its commit point, else back; and the same for taking one back.

Each of the four can be done again after it was killed half-way: what was done already is left as it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ckpt_tools import ledger, storage
from ckpt_tools.ledger import STATE_DIRECTORY, backup_directory, history
from ckpt_tools.rewrite.files import comes_from, temporary_index


def finish(directory: str, entry: Mapping[str, Any]) -> None:
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
    if comes_from(second, original):
        storage.rename(original, target)
        if not comes_from(second, target):  # saved between the look and the rename
            storage.rename(target, original)


def roll_back(directory: str, entry: Mapping[str, Any]) -> None:
    """Remove what an uncommitted change left: second names and files of its own, never an original."""
    _remove_created(directory, entry)
    storage.remove(temporary_index(os.path.join(directory, entry["checkpoint"])))
    remove_backup(directory, entry)


def _remove_created(directory: str, entry: Mapping[str, Any]) -> None:
    """Remove the names that a change gave, and put back what was in their way."""
    backup = backup_directory(directory, entry)
    for name in entry["created"]:
        if name not in entry["displaced"]:
            storage.remove(os.path.join(directory, name))
        elif os.path.lexists(os.path.join(backup, name)):
            storage.rename(os.path.join(backup, name), os.path.join(directory, name))


def finish_undo(directory: str, entry: Mapping[str, Any]) -> None:
    """After the old index is back: remove what the change had added, then its backup."""
    storage.sync_directory(directory)
    _remove_created(directory, entry)
    if entry["id"] in {known["id"] for known in history(os.path.join(directory, entry["checkpoint"]))}:
        ledger.append(directory, ledger.undo_entry(entry))
    remove_backup(directory, entry)


def roll_back_undo(directory: str, entry: Mapping[str, Any]) -> None:
    """Remove the names that an uncommitted undo gave back; a file that something else wrote since then stays."""
    backup = backup_directory(directory, entry)
    for name in entry["moved"]:
        if comes_from(os.path.join(backup, name), os.path.join(directory, name)):
            storage.remove(os.path.join(directory, name))
    storage.remove(temporary_index(os.path.join(directory, entry["checkpoint"])))


def remove_backup(directory: str, entry: Mapping[str, Any]) -> None:
    """Remove a backup: the files that it names and, when nothing else is in them, its directories."""
    backup = backup_directory(directory, entry)
    for name in (*entry["moved"], *entry["displaced"], f"{entry['checkpoint']}.index"):
        storage.remove(os.path.join(backup, name))
    for parent in (backup, os.path.dirname(backup), os.path.join(directory, STATE_DIRECTORY)):
        storage.remove_directory(parent)
