"""Which change of which checkpoint an undo means, and what it took back."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Any

from ckpt_tools import transactions
from ckpt_tools.errors import CkptError
from ckpt_tools.format.filenames import INDEX, STATE_FILE
from ckpt_tools.fs import local
from ckpt_tools.readers.state_files import is_state_file
from ckpt_tools.runs import ledger
from ckpt_tools.runs.experiments import BEST_LINE, LATEST_LINE, resolve
from ckpt_tools.runs.ledger import ChangeEntry


@dataclass(frozen=True)
class Undone:
    """The answer of ``ckpt undo``: the entries of the ledger that were taken back, newest first."""

    prefix: str
    entries: tuple[ChangeEntry, ...]

    @property
    def restored(self) -> list[str]:
        """The names of the files that were put back."""
        return transactions.written_names(self.entries)

    def to_json(self) -> dict[str, Any]:
        return {
            "prefix": self.prefix,
            "restored": self.restored,
            "undone": [entry.id for entry in self.entries],
            "findings": [],
        }


def undo(path: str, *, to: str | None = None) -> Undone:
    """Take back the last change of a checkpoint, or all back to and including the one with the id ``to``.

    Of a directory or an experiment, also what a repair did to the files beside the checkpoints.

    Raises NotFoundError for nothing to undo or no such id, BusyError for what was written again since.
    """
    prefix, beside = chain(path)
    return Undone(prefix, tuple(transactions.undo(prefix, to=to, beside=beside)))


def chain(path: str) -> tuple[str, bool]:
    """The prefix whose changes are meant, and whether those of the files beside it are meant too.

    Of a directory or an experiment it is the checkpoint that it means, as everywhere. Where that one was never
    changed (a resume has saved since), or where none can be told any more, it is the one that was changed last.
    """
    folder = (found := local.look(path, follow=True)) is not None and stat.S_ISDIR(found.st_mode)
    directory = path if folder else local.directory_of(path)
    beside = folder or os.path.basename(path) == STATE_FILE or is_state_file(path)
    prefix, problem = "", None
    try:
        prefix = resolve(path)
    except CkptError as error:
        problem = error
    lines = [local.directory_of(prefix)] if prefix else []
    lines += [directory, *(os.path.join(directory, line) for line in (BEST_LINE, LATEST_LINE) if folder)]
    for line in dict.fromkeys(lines):
        unfinished = transactions.pending(line)
        if unfinished is not None:
            changed = os.path.join(line, getattr(unfinished.entry, "checkpoint", ""))
            if beside or os.path.normpath(changed) in map(os.path.normpath, (prefix, path.removesuffix(INDEX))):
                return changed, beside
    if prefix and (not beside or ledger.history(prefix, beside=True)):
        return prefix, beside
    changes = [(entry, line) for line in dict.fromkeys(lines) for entry in ledger.standing(ledger.read_ledger(line))]
    if beside and changes:
        entry, line = max(changes, key=lambda change: change[0].time)
        return os.path.join(line, getattr(entry, "checkpoint", "")), beside
    if problem is not None:
        raise problem
    return prefix, beside
