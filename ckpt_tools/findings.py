"""What a question found out: the only source of text, JSON, counts and exit codes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, TextIO

from ckpt_tools.errors import CkptError, CorruptError, StorageWarning

Severity = Literal["note", "warning", "error", "damage"]


@dataclass(frozen=True)
class Finding:
    """One fact worth telling.

    ``note`` is information, ``warning`` a risk that leaves the exit code alone. Two levels make the exit code 1:
    ``damage`` says that bytes are wrong or missing, ``error`` that something else keeps from what was asked for
    (a permission, a best that is absent). ``fix`` is a command to run, or None when nothing helps.
    """

    id: str
    severity: Severity
    message: str
    path: str | None = None
    key: str | None = None
    offset: int | None = None
    fix: str | None = None

    @property
    def fails(self) -> bool:
        """Whether a command that found this ends with exit code 1."""
        return self.severity in ("error", "damage")

    @staticmethod
    def of(error: CkptError) -> Finding:
        """An error that ended a question, as one of its findings; only what the bytes say is damage."""
        severity: Severity = "damage" if isinstance(error, CorruptError) else "error"
        return Finding(error.id, severity, error.message, error.path, error.key, error.offset, error.hint)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@contextlib.contextmanager
def noted() -> Iterator[list[Finding]]:
    """Collect, as a note, what storage warns of in the block; once, for whichever file it is first true of."""
    notes: list[Finding] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", StorageWarning)
        show = warnings.showwarning

        def add(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, StorageWarning):
                show(message, category, filename, lineno, file, line)
            elif category.id not in [note.id for note in notes]:
                notes.append(Finding(category.id, "note", str(message)))

        warnings.showwarning = add
        yield notes


def exit_code(findings: Iterable[Finding]) -> int:
    """0 when nothing is damaged and nothing went wrong, else 1."""
    return int(any(finding.fails for finding in findings))
