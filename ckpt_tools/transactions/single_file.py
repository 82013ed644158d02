"""Changing a checkpoint that is one file, as Keras writes it: by a whole new file, which takes the place of the old.

    1. write, fsync   FILE.ckpt-tools, the whole new file; the next change of the directory removes what was killed here
    2. read back      it must hold what was meant
    3. journal        as of every change (`ckpt_tools.transactions.commit`)
    4. link           the old file goes to the backup, under a second name
    5. look again     the file that all was made from must not have changed
    6. rename         the new file over the old one: the commit point
    7. ledger

A twin of the file (``cp -al``) stays as it was, for the file is another one then. Undo is the rename back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, BinaryIO

from ckpt_tools.errors import BusyError, CkptError, CorruptError, UnsupportedError
from ckpt_tools.format.filenames import KERAS_ENDINGS, unfinished_name
from ckpt_tools.format.overlay import Patch
from ckpt_tools.fs import durable, local
from ckpt_tools.runs.ledger import RewriteEntry
from ckpt_tools.transactions.commit import READ_BACK, Applied, publish
from ckpt_tools.transactions.completion import Pending
from ckpt_tools.transactions.files import digest_if_there, file_digest
from ckpt_tools.transactions.journal import recover_in
from ckpt_tools.transactions.plan import Change
from ckpt_tools.transactions.workplace import Workplace, working_in


@dataclass(frozen=True)
class FilePlan:
    """A change of a single file, computed but not yet made.

    ``source`` is the file as it was read, None where there is none; ``like`` is what a new one gets mode and owner of.
    ``write`` writes the whole new one, ``check`` raises CorruptError unless the
    file at a path is what was meant; both can be pickled, for workers return their plans. ``nbytes`` are those of
    it that are not copied as they are.
    """

    path: str
    reason: str
    evidence: Mapping[str, Any]
    changes: tuple[Change, ...]
    source: local.Fingerprint | None
    write: Callable[[BinaryIO], None]
    check: Callable[[str], None]
    nbytes: int
    like: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "prefix": self.path,
            "target": self.path,
            "reason": self.reason,
            "evidence": dict(self.evidence),
            "changes": [{**asdict(change), "shape": list(change.shape)} for change in self.changes],
            "writes_bytes": self.nbytes,
        }


def patched(path: str, patch: Patch) -> Callable[[BinaryIO], None]:
    """What writes a file with a patch over it."""
    return partial(_write_patched, path, patch)


def _write_patched(path: str, patch: Patch, target: BinaryIO) -> None:
    with local.RandomAccessFile(path) as source:
        source.copy_to(target.fileno())
    os.ftruncate(target.fileno(), patch.kept)
    os.ftruncate(target.fileno(), patch.size)
    for offset, data in patch.pieces:
        target.seek(offset)
        target.write(data)


def plan_copy(source: str, target: str, *, reason: str, evidence: Mapping[str, Any]) -> FilePlan:
    """Plan to put a copy of a file in the place of ``target``, which need not be there."""
    return FilePlan(
        path=target,
        reason=reason,
        evidence=evidence,
        changes=(),
        source=local.fingerprint(target) if local.is_there(target) else None,
        write=partial(_write_copy, source),
        check=partial(_check_copy, source),
        nbytes=local.fingerprint(source).size,
        like=source,
    )


def _write_copy(source: str, target: BinaryIO) -> None:
    with local.RandomAccessFile(source) as file:
        file.copy_to(target.fileno())


def _check_copy(source: str, new: str) -> None:
    if file_digest(source) != file_digest(new):
        raise CorruptError("differs from the file it was copied from", path=new, hint=READ_BACK)


def replace_file(plan: FilePlan) -> Applied:
    """Make the change, durably and all at once.

    Raises:
        UnsupportedError: a file whose name does not tell that it is one of Keras.
        CorruptError: the new file does not read back as what was meant; the old one stays.
        and what `commit.apply` raises.
    """
    if not plan.path.endswith(KERAS_ENDINGS):
        raise UnsupportedError(
            f"a Keras file is changed when its name ends in {', '.join(KERAS_ENDINGS)}",
            path=plan.path,
            hint="give it such a name",
        )
    with working_in(local.directory_of(plan.path)) as place:
        recover_in(place)
        _require_unchanged(plan)
        new = unfinished_name(plan.path)
        durable.write_file(new, plan.write, like=plan.path if plan.source else plan.like or plan.path)
        try:
            try:
                plan.check(os.fspath(new))
            except CkptError:
                _require_unchanged(plan)  # the reason may be what somebody wrote meanwhile
                raise
            pending = Pending(_entry(plan, place, new), undoing=False, old_index=None)
            return publish(
                place,
                pending,
                prepare=lambda: _keep_original(place, pending.entry),
                look_again=lambda: _require_unchanged(plan),
            )
        except BaseException:
            with contextlib.suppress(CkptError):  # else the next change does it
                durable.remove(new)
            raise


def replace_own(plan: FilePlan) -> None:
    """The same for a file that is known to this process alone, such as one that is being pinned: durable and whole, and
    nothing of the old one is kept.

    Raises CorruptError when the new file does not read back as what was meant, StorageError; the old one stays then.
    """
    new = unfinished_name(plan.path)
    try:
        durable.write_file(new, plan.write, like=plan.path)
        plan.check(os.fspath(new))
        durable.rename(new, plan.path)
    finally:
        durable.remove(new)


def _entry(plan: FilePlan, place: Workplace, new: str) -> RewriteEntry:
    after = file_digest(new)
    return RewriteEntry(
        **place.new_head(plan.reason, after.encode()),
        checkpoint=os.path.basename(plan.path),
        evidence=dict(plan.evidence),
        changes=tuple(plan.to_json()["changes"]),
        index_before=digest_if_there(plan.path),
        index_after=after,
        single_file=True,
    )


def _keep_original(place: Workplace, entry: RewriteEntry) -> None:
    backup, path = place.make_backup(entry), place.path(entry.index)
    if entry.index_before is None:
        return
    if local.is_link(path):  # seen from the backup it could lead nowhere
        with local.RandomAccessFile(path) as source:
            durable.write_file(backup / entry.index, lambda file: source.copy_to(file.fileno()), like=path)
    else:
        durable.link_or_copy(path, backup / entry.index)
    durable.sync_directory(backup)


def _require_unchanged(plan: FilePlan) -> None:
    if (local.fingerprint(plan.path) if local.is_there(plan.path) else None) != plan.source:
        raise BusyError("changed while it was being worked on", path=plan.path, hint="run the same command again")
