"""One checkpoint that was looked at for machines that watch over a repository."""

from __future__ import annotations

from dataclasses import dataclass

from ckpt_tools.findings import Finding, exit_code


@dataclass(frozen=True)
class Check:
    """One checkpoint that was looked at: as it was named, and the file that stands for it in the repository.

    ``failed`` means that it could not be looked at.
    """

    name: str
    file: str
    findings: tuple[Finding, ...] = ()
    failed: bool = False
    seconds: float = 0.0


def failing(check: Check) -> list[Finding]:
    """The findings that make a check fail."""
    return [finding for finding in check.findings if exit_code([finding])]
