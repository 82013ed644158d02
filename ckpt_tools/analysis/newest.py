"""Which checkpoint of a directory to go on from: the one that its ``checkpoint`` file names, if that one is whole."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable

from ckpt_tools.analysis.verification import verify
from ckpt_tools.errors import CkptError, CorruptError, NotFoundError
from ckpt_tools.findings import Finding
from ckpt_tools.readers.location import latest_in, prefixes_in
from ckpt_tools.readers.state_files import inside, read_state

# What a salvage adds to a name: such a checkpoint is whole, but not complete, and never taken by itself.
SALVAGED = "-salvaged"

_NUMBER = re.compile(r"(?P<family>.*)-(\d+)", re.DOTALL)


def by_number(name: str) -> tuple[int, str]:
    """A key that sorts checkpoints by the step or count in their names, never by time; those without one first."""
    match = _NUMBER.fullmatch(name)
    return (int(match[2]) if match else -1), name


def is_salvaged(name: str) -> bool:
    return SALVAGED in name


def instead_of(lost: str | None, names: Iterable[str]) -> list[str]:
    """The names in the order in which they stand in for a lost one, the best of them last.

    Those of its own family, ``NAME-number``, come before all others, whose numbers count something else.
    """
    own = _NUMBER.fullmatch(lost) if lost is not None else None

    def key(name: str) -> tuple[bool, tuple[int, str]]:
        match = _NUMBER.fullmatch(name)
        return bool(own and match and own["family"] == match["family"]), by_number(name)

    return sorted(names, key=key)


def newest_whole(directory: str) -> tuple[str, tuple[Finding, ...]]:
    """The prefix to go on from; every byte of it has been verified.

    When the ``checkpoint`` file, or what it names, is damaged or gone: the whole one with the highest number, of the
    same family where there is one, and a finding that says so. Raises what is wrong when there is none, UnsafeError
    for a file that leads elsewhere.
    """
    found = None
    try:
        found = latest_in(directory)
        failure = _failure(found)
        if failure is None:
            return found, ()
    except (CorruptError, NotFoundError) as error:
        failure = error
    for name in reversed(instead_of(_named(directory), prefixes_in(directory))):
        prefix = os.path.join(directory, name)
        if prefix != found and not is_salvaged(name) and _failure(prefix) is None:
            message = f"going on from {prefix}, the newest that is whole, because of this: {failure}"
            return prefix, (
                Finding("fallback", "warning", message, prefix, fix=f"ckpt repair {shlex.quote(directory)}"),
            )
    raise failure


def _named(directory: str) -> str | None:
    """The name that the ``checkpoint`` file has for the newest, there or not; None without a readable one."""
    try:
        return os.path.basename(inside(directory, read_state(directory).latest))
    except CkptError:
        return None


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
