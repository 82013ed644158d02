"""Which checkpoint of a directory to go on from: the one that its ``checkpoint`` file names, if that one is whole."""

from __future__ import annotations

import os
import re
import shlex

from ckpt_tools.analysis.verification import verify
from ckpt_tools.errors import CkptError, CorruptError, NotFoundError
from ckpt_tools.findings import Finding
from ckpt_tools.readers.location import latest_in, prefixes_in

# What a salvage adds to a name: such a checkpoint is whole, but not complete, and never taken by itself.
SALVAGED = "-salvaged"

_NUMBER = re.compile(r".*-(\d+)", re.DOTALL)


def by_number(name: str) -> tuple[int, str]:
    """A key that sorts checkpoints by the step or count in their names, never by time; those without one first."""
    match = _NUMBER.fullmatch(name)
    return (int(match[1]) if match else -1), name


def is_salvaged(name: str) -> bool:
    return SALVAGED in name


def newest_whole(directory: str) -> tuple[str, tuple[Finding, ...]]:
    """The prefix to go on from; every byte of it has been verified.

    When the ``checkpoint`` file, or what it names, is damaged or gone: the whole one with the highest number, and a
    finding that says so. Raises what is wrong when there is none, UnsafeError for a file that leads elsewhere.
    """
    named = None
    try:
        named = latest_in(directory)
        failure = _failure(named)
        if failure is None:
            return named, ()
    except (CorruptError, NotFoundError) as error:
        failure = error
    for name in sorted(prefixes_in(directory), key=by_number, reverse=True):
        prefix = os.path.join(directory, name)
        if prefix != named and not is_salvaged(name) and _failure(prefix) is None:
            message = f"going on from {prefix}, the newest that is whole, because of this: {failure}"
            return prefix, (
                Finding("fallback", "warning", message, prefix, fix=f"ckpt repair {shlex.quote(directory)}"),
            )
    raise failure


def _failure(prefix: str) -> CkptError | None:
    """Why a checkpoint cannot be used; None when all of it is whole."""
    try:
        found = verify(prefix)
    except (CorruptError, NotFoundError) as error:
        return error
    for finding in found.findings:
        if finding.severity == "damage":
            hint = f"ckpt repair {shlex.quote(prefix)}"
            return CorruptError(finding.message, path=finding.path, key=finding.key, offset=finding.offset, hint=hint)
    return None
