"""The one family of errors that leaves this project.

Each class carries a stable ``id`` (for scripts) and the ``exit_code`` of a program that ends with it.
A message says what is wrong in one sentence; ``path``, ``offset`` and ``key`` say where; ``hint`` is the
next thing to do, preferably a command to run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar

from ckpt_tools.redaction import without_secrets

EXIT_OK = 0
EXIT_FINDINGS = 1
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

# The one table of them, as both programs' help and the documentation show it.
EXIT_CODES: Mapping[int, str] = {
    EXIT_OK: "fine",
    EXIT_FINDINGS: "findings (damage, difference, at risk)",
    2: "usage",
    3: "not found",
    4: "unsafe or over a limit",
    5: "storage",
    6: "busy",
    7: "unsupported",
    EXIT_BUG: "bug",
    EXIT_INTERRUPTED: "interrupted",
}


class CkptError(Exception):
    """Base of every error that this project raises on purpose."""

    id: ClassVar[str] = "error"
    exit_code: ClassVar[int] = EXIT_BUG

    def __init__(
        self,
        message: str,
        *,
        path: str | os.PathLike[str] | None = None,
        offset: int | None = None,
        key: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = without_secrets(message)
        self.path = None if path is None else os.fspath(path)
        self.offset = offset
        self.key = key
        self.hint = None if hint is None else without_secrets(hint)

    @property
    def place(self) -> str:
        """Where it is: ``FILE: at byte N: tensor 'K': ``, as much as is known of it."""
        place = [without_secrets(self.path)] if self.path is not None else []
        if self.offset is not None:
            place.append(f"at byte {self.offset}")
        if self.key is not None:
            place.append(f"tensor {self.key!r}")
        return "".join(f"{part}: " for part in place)

    def __str__(self) -> str:
        """The message with its place: ``FILE: at byte N: tensor 'K': message``."""
        return self.place + self.message


class CorruptError(CkptError):
    """The bytes break a rule of their format: damage, truncation, or a file of another kind."""

    id = "corrupt"
    exit_code = EXIT_FINDINGS


class MismatchError(CkptError):
    """Two things that should agree do not: a measured metric and the stored one, data and checkpoint."""

    id = "mismatch"
    exit_code = EXIT_FINDINGS


class UsageError(CkptError):
    """The request itself is wrong or contradicts what the checkpoint says."""

    id = "usage"
    exit_code = 2


class NotFoundError(CkptError):
    """There is no such file, or no checkpoint in it."""

    id = "not-found"
    exit_code = 3


class UnsafeError(CkptError):
    """Going on would leave the directory, follow a device, or exceed a limit."""

    id = "unsafe"
    exit_code = 4


class StorageError(CkptError):
    """The operating system refused: permission, space, I/O."""

    id = "storage"
    exit_code = 5


class LostWorkerError(CkptError):
    """Another process that takes part in the work is gone, or does not answer."""

    id = "worker-lost"
    exit_code = 5


class BusyError(CkptError):
    """Somebody else is writing here now."""

    id = "busy"
    exit_code = 6


class UnsupportedError(CkptError):
    """The file is whole, but this version does not handle what it holds."""

    id = "unsupported"
    exit_code = 7


class StorageWarning(UserWarning):
    """What was done is done, but something about the file system is to be known."""

    id: ClassVar[str] = "storage"


class UnlockedWarning(StorageWarning):
    """A directory is changed without its lock, as was asked for: nothing keeps another program from doing so too."""

    id: ClassVar[str] = "not-locked"


class DurabilityWarning(StorageWarning):
    """A file system cannot be asked to make names durable: what was done is done, but a power loss may undo it."""

    id: ClassVar[str] = "not-durable"
