"""How long a store may take to answer, and where it may send us: the same for all requests of this process."""

from __future__ import annotations

from dataclasses import dataclass

# How slow a network may be at least, added to the time that an answer has.
SLOWEST = 100_000


@dataclass
class Limits:
    """``seconds`` for an answer, and one more for each 100 kB of it; whether redirects to other hosts are followed."""

    seconds: float = 30.0
    redirects: bool = False

    def deadline(self, nbytes: int = 0) -> float:
        """The seconds in which an answer of so many bytes has to be there."""
        return self.seconds + nbytes / SLOWEST


limits = Limits()
