"""What a question found out: the only source of text, JSON, counts and exit codes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

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


def exit_code(findings: Iterable[Finding]) -> int:
    """0 when nothing is damaged, else 1."""
    return int(any(finding.severity == "damage" for finding in findings))
