"""What a question found out: the only source of text, JSON, counts and exit codes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, TextIO

from ckpt_tools.errors import DurabilityWarning

Severity = Literal["note", "warning", "damage"]


@dataclass(frozen=True)
class Finding:
    """One fact worth telling.

    ``note`` is information, ``warning`` is a risk that leaves the exit code alone, ``damage`` makes it 1.
    ``fix`` is a command to run, or None when nothing helps.
    """

    id: str
    severity: Severity
    message: str
    path: str | None = None
    key: str | None = None
    offset: int | None = None
    fix: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@contextlib.contextmanager
def noted() -> Iterator[list[Finding]]:
    """Collect, as a note, what storage warns of in the block; once, for whichever file it is first true of."""
    notes: list[Finding] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", DurabilityWarning)
        show = warnings.showwarning

        def add(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, DurabilityWarning):
                show(message, category, filename, lineno, file, line)
            elif not notes:
                notes.append(Finding(DurabilityWarning.id, "note", str(message)))

        warnings.showwarning = add
        yield notes


def exit_code(findings: Iterable[Finding]) -> int:
    """0 when nothing is damaged, else 1."""
    return int(any(finding.severity == "damage" for finding in findings))
