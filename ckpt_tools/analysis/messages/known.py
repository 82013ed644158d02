"""What is kept of a message that is known."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from ckpt_tools.analysis.messages.text import Reading

INSPECT, VERIFY, RESUME = "ckpt inspect {path}", "ckpt verify {path}", "ckpt resume-check {path}"
EXPORT = "ckpt export {path} model.weights.h5"


@dataclass(frozen=True)
class Told:
    """What the checkpoint says: a sentence, and a better next step than the usual one, if it proves one."""

    sentence: str
    fix: str | None = None


@dataclass(frozen=True)
class Known:
    """A message, or several with one cause.

    ``patterns`` are written for a text in which every run of white space is one blank and every quote is ``'``; what
    they name (``key``, ``path``) is looked for in the checkpoint. ``cause`` states what the message itself tells;
    where several causes are possible it lists them, and ``check`` tells them apart. ``fix`` is a command with
    ``{path}`` in it. A ``wrapper`` is said around another message, which counts more when it is there too.
    """

    id: str
    patterns: tuple[str, ...]
    cause: str
    fix: str
    check: Callable[[Asked, str], Told]
    wrapper: bool = False

    def search(self, reading: Reading) -> re.Match[str] | None:
        patterns = self._packed if reading.packed else self._spaced
        return next(filter(None, (pattern.search(reading.text) for pattern in patterns)), None)

    @cached_property
    def _spaced(self) -> list[re.Pattern[str]]:
        return [re.compile(pattern, re.IGNORECASE) for pattern in self.patterns]

    @cached_property
    def _packed(self) -> list[re.Pattern[str]]:
        """For a text without any white space."""
        return [re.compile(pattern.replace(" ", ""), re.IGNORECASE) for pattern in self.patterns]


@dataclass(frozen=True)
class Asked:
    """A message that was recognised, and in which reading of what was pasted."""

    known: Known
    match: re.Match[str]
    reading: Reading

    def named(self, group: str) -> str | None:
        """What the message names; None when it names nothing, or when that can't be told from what is around it."""
        if self.reading.packed:
            return None
        found = self.match.groupdict().get(group)
        return found.strip(" '\"") or None if found else None
