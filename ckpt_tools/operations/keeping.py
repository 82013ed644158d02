"""Which checkpoints below a directory may go, and deleting them: only what a list named that somebody has seen."""

from __future__ import annotations

import hashlib
import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ckpt_tools import transactions
from ckpt_tools.analysis.retention import Decision, Kept, Policies, decide
from ckpt_tools.analysis.shelf import Holding, Shelf, survey
from ckpt_tools.analysis.stability import steady
from ckpt_tools.analysis.verification import verify
from ckpt_tools.errors import CkptError, MismatchError, UnsafeError
from ckpt_tools.findings import Finding
from ckpt_tools.format.filenames import INDEX
from ckpt_tools.fs import local
from ckpt_tools.transactions import Removal, removal


@dataclass(frozen=True)
class Shelved:
    """The answer of ``ckpt keep``: what stays and why, what may go, the bytes that are free then, the digest of
    the list, which changes when any of its files does, and the command that deletes it. ``deleted`` are the paths that
    are gone."""

    root: str
    keep: tuple[Kept, ...]
    may_go: tuple[Holding, ...]
    nbytes: int
    digest: str
    command: str
    deleted: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "keep": [{**_row(kept.holding), "reasons": list(kept.reasons)} for kept in self.keep],
            "may_go": [{**_row(h), "files": [file.path for file in h.files]} for h in self.may_go],
            "bytes": self.nbytes,
            "digest": self.digest,
            "deleted": list(self.deleted),
            "findings": [finding.to_json() for finding in self.findings],
        }

    def script(self) -> Iterator[str]:
        """The lines of a POSIX shell script that deletes what may go; of each checkpoint the index first.

        Raises UnsafeError for a name that cannot be shown as it is.
        """
        odd = next((file.path for h in self.may_go for file in h.files if not file.path.isprintable()), None)
        if odd is not None:
            raise UnsafeError("a name that a script cannot show as it is", path=odd, hint=self.command)
        yield "#!/bin/sh"
        yield f"# list {self.digest}: frees {self.nbytes} bytes"
        yield "set -e"
        for holding in self.may_go:
            for file in sorted(holding.files, key=lambda file: not file.path.endswith(INDEX)):
                yield f"rm -- {shlex.quote(os.path.abspath(file.path))}"


def keep(root: str, policies: Policies, *, delete: str | None = None) -> Shelved:
    """Decide what may go below a directory; with the digest of a list, delete what that list says.

    Nothing is deleted unless ``delete`` is the digest of the list as it is now, or of one whose deletion was
    interrupted: then what is left of it goes, as long as it still may.

    Raises:
        UsageError: no policy.
        MismatchError: the list is another one now.
        and what `survey` and `transactions.remove` raise.
    """
    policies.require_one()
    shelf, decision = _decided(root, policies)
    digest = digest_of(decision)
    command = _command(root, policies)
    found = Shelved(root, decision.keep, decision.may_go, decision.nbytes, digest, f"{command} --delete {digest}")
    directories = sorted({local.directory_of(holding.path) for holding in shelf.holdings})
    found = replace(
        found, findings=(*shelf.findings, *_undecided(decision), *_interrupted(directories, command, delete))
    )
    if delete is None:
        return found
    chosen = decision.may_go if delete == found.digest else _of_list(decision, delete)
    left = {directory: transactions.interrupted(directory, delete) for directory in directories}
    if delete != found.digest and not chosen and not any(left.values()):
        raise MismatchError(
            f"the list with the digest {delete[:12]} is not the one of now, {found.digest[:12]}: nothing was deleted",
            path=root,
            hint="look at the list again: the same command without --delete",
        )
    plans = [
        plan for directory in directories if (plan := _removal(directory, delete, chosen, decision, left[directory]))
    ]
    for plan in plans:
        if plan.checkpoints:
            transactions.announce(plan)
    deleted = [os.path.join(plan.directory, name) for plan in plans for name in transactions.remove(plan)]
    return replace(found, deleted=tuple(deleted))


def digest_of(decision: Decision) -> str:
    """SHA-256 of what may go: paths, and sizes, times and inodes of all files; and of the paths of what stays."""
    lines = [f"keep {kept.holding.path!r}" for kept in decision.keep]
    for holding in decision.may_go:
        lines.append(f"go {holding.path!r}")
        for file in holding.files:
            f = file.fingerprint
            lines.append(f"file {file.path!r} {f.size} {f.mtime_ns} {f.inode}")
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


@steady
def _decided(root: str, policies: Policies) -> tuple[Shelf, Decision]:
    shelf = survey(root)
    return shelf, decide(shelf.holdings, policies, is_whole=_is_whole, now=time.time())


def _is_whole(holding: Holding) -> bool:
    try:
        return verify(holding.path).whole
    except CkptError:
        return False


def _removal(
    directory: str, digest: str, chosen: tuple[Holding, ...], decision: Decision, left: dict[str, Any]
) -> Removal | None:
    def of(holdings: tuple[Holding, ...]) -> list[Holding]:
        return [holding for holding in holdings if local.directory_of(holding.path) == directory]

    going = of(chosen)
    if not going and not left:
        return None
    stays = of(tuple(kept.holding for kept in decision.keep))
    return Removal(
        directory,
        digest,
        {os.path.basename(h.path): {file.path: file.fingerprint for file in h.files} for h in going},
        {file.path: file.fingerprint for h in stays for file in h.files},
    )


def _of_list(decision: Decision, digest: str) -> tuple[Holding, ...]:
    """Of what may go now, what an interrupted deletion of another list was to delete, and is as it was then."""
    lists: dict[str, dict[str, dict[str, tuple[int, int]]]] = {}
    chosen = []
    for holding in decision.may_go:
        directory = local.directory_of(holding.path)
        if directory not in lists:
            lists[directory] = removal.announced(directory, digest)
        now = {
            os.path.basename(file.path): (file.fingerprint.size, file.fingerprint.mtime_ns) for file in holding.files
        }
        if lists[directory].get(os.path.basename(holding.path)) == now:
            chosen.append(holding)
    return tuple(chosen)


def _undecided(decision: Decision) -> Iterator[Finding]:
    for line in decision.undecided:
        message = "nothing tells which of these is the best: all stay (--unknown-best thins them out all the same)"
        yield Finding("best-unknown", "warning", message, line)


def _interrupted(directories: list[str], command: str, delete: str | None) -> Iterator[Finding]:
    """One finding for each list that left something which no list before it ends: what one command has ended, the next
    would not find any more."""
    if delete is not None:
        return
    left: dict[str, set[str]] = {}
    for directory in directories:
        for digest, checkpoints in transactions.interrupted(directory).items():
            names = (file.name for checkpoint in checkpoints for file in checkpoint.files)
            left.setdefault(digest, set()).update(os.path.join(directory, name) for name in names)
    ended: set[str] = set()
    for digest, files in left.items():
        if not files <= ended:
            message = "a deletion was interrupted here: data of checkpoints that are gone is left"
            place = local.directory_of(min(files - ended))
            yield Finding("deletion-interrupted", "warning", message, place, fix=f"{command} --delete {digest}")
            ended |= files


def _command(root: str, policies: Policies) -> str:
    """The command that was given, without what deletes."""
    words = ["ckpt", "keep", shlex.quote(root)]
    for option, value in (("last", policies.last), ("best", policies.best), ("every", policies.every)):
        words += [] if value is None else [f"--{option} {value}"]
    words += [] if policies.younger_than is None else [f"--younger-than {policies.younger_than:g}s"]
    return " ".join([*words, *(["--unknown-best"] if policies.unknown_best else [])])


def _row(holding: Holding) -> dict[str, Any]:
    return {
        "path": holding.path,
        "line": holding.line,
        "step": holding.number if holding.step is None else holding.step,
        "values": [{"source": v.source, "metric": v.metric, "value": v.value, "mode": v.mode} for v in holding.values],
        "nbytes": holding.nbytes,
    }
