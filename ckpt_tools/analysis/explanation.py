"""The causes behind what TensorFlow, Keras and HDF5 say when a checkpoint cannot be used.

Their messages tell what failed, seldom why: a wrong path is called a bad magic number, a missing data file an altered
graph. `messages` knows the usual cause of each; given the checkpoint, the cause is looked for in it.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from typing import Any

from ckpt_tools import finding_ids
from ckpt_tools.analysis.messages import KNOWN, Asked, recognise
from ckpt_tools.analysis.messages.known import INSPECT
from ckpt_tools.analysis.messages.text import MAX_CHARACTERS
from ckpt_tools.analysis.stability import steady
from ckpt_tools.errors import CkptError, NotFoundError
from ckpt_tools.findings import Finding
from ckpt_tools.lineages import identify
from ckpt_tools.readers.common import damage
from ckpt_tools.runs.opening import open_meant

_IN_BRACKETS = re.compile(r"\w\[([a-z][a-z0-9-]{1,40})\]: ")

# What these commands do, they do for checkpoints whose producer is known.
_OF_KNOWN_PRODUCERS = ("ckpt backfill ", "ckpt migrate ", "ckpt resume-check ")


@dataclass(frozen=True)
class Explanation:
    """``cause`` in a sentence; ``fix`` is the command to run; ``checked`` what the checkpoint itself said, if asked."""

    id: str
    cause: str
    fix: str
    checked: str | None = None
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "cause": self.cause,
            "fix": self.fix,
            "checked": self.checked,
            "findings": [finding.to_json() for finding in self.findings],
        }


def explain(message: str, path: str | os.PathLike[str] | None = None) -> Explanation:
    """The cause of an error message, checked against the checkpoint at ``path`` when it is given.

    Of an id, or of a message of these programs, which has its id in brackets, it is what `finding_ids` says of it; an
    id of one of the known causes stands for its message.

    Raises NotFoundError when the message is none that is known.
    """
    where = None if path is None else os.fspath(path)
    own = _own_id(message)
    if own is not None:
        return Explanation(own, finding_ids.ALL[own].meaning, finding_ids.ALL[own].advice)
    of_id = next((known for known in KNOWN if known.id == message.strip()), None)
    if of_id is not None:
        return Explanation(of_id.id, of_id.cause, _filled(of_id.fix, where))
    asked = recognise(message)
    if asked is None:
        raise NotFoundError(
            "this message is not one that is known; whether the checkpoint is whole can be told all the same",
            hint=f"ckpt verify {shlex.quote(where or 'PATH')}",
        )
    if where is None:
        return Explanation(asked.known.id, asked.known.cause, _filled(asked.known.fix, None))
    return _checked(where, asked)


def _own_id(message: str) -> str | None:
    """The first id of a finding or an error that the message is, or has in brackets: ``error[not-found]: ...``."""
    named = [message.strip(), *(match[1] for match in _IN_BRACKETS.finditer(message[:MAX_CHARACTERS]))]
    return next((name for name in named if name in finding_ids.ALL), None)


@steady
def _checked(path: str, asked: Asked) -> Explanation:
    """With what the checkpoint says, and the next step that it proves to be the right one."""
    known = asked.known
    try:
        told = known.check(asked, path)
        fix = told.fix or known.fix
        if fix.startswith(_OF_KNOWN_PRODUCERS) and not _of_known_producer(path):
            fix = INSPECT
        return Explanation(known.id, known.cause, _filled(fix, path), told.sentence)
    except CkptError as error:
        fix = error.hint or _filled(known.fix, path)
        return Explanation(known.id, known.cause, fix, str(error), (damage(error),))


def _of_known_producer(path: str) -> bool:
    with open_meant(path) as checkpoint:
        return identify(checkpoint) is not None


def _filled(fix: str, path: str | None) -> str:
    # Not str.format: a path may have braces in it.
    return fix.replace("{path}", shlex.quote(path or "PATH"))
