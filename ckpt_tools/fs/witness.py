"""What a question looked at on its way to an answer, so that one can see whether it changed since.

Everything that reads notes what it saw here: the files it opened, the names that were there or not, what a directory
held. No clock is asked, neither this machine's nor that of a server: what was seen is compared with what is there now.
"""

from __future__ import annotations

import contextlib
import contextvars
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator
from typing import TypeVar, cast

Look = Callable[[str], Hashable]
Result = TypeVar("Result")

_current: contextvars.ContextVar[Witness | None] = contextvars.ContextVar("witness", default=None)


class Witness:
    """What was seen during one question. ``doubted`` is set by whoever found something damaged or gone."""

    def __init__(self) -> None:
        self.doubted = False
        self.done: dict[Hashable, object] = {}
        self._seen: dict[tuple[Look, str], Hashable] = {}
        self._unchecked: set[str] = set()
        self._two_states = False

    def saw(self, look: Look, path: str, found: Hashable) -> None:
        """What ``look`` found at a path; ``look`` gives it again, None for what cannot be looked at."""
        if self._seen.setdefault((look, path), found) != found:
            self._two_states = True

    def saw_unchecked(self, path: str) -> None:
        """A file without checksums: what was read of it while it was overwritten looks like any other value."""
        self._unchecked.add(path)

    def changed_unchecked(self) -> bool:
        """Whether a file changed whose values nothing else vouches for."""
        seen = ((look, path, found) for (look, path), found in list(self._seen.items()) if path in self._unchecked)
        return any(look(path) != found for look, path, found in seen)

    def changed(self) -> bool:
        """Whether anything differs from what was seen, or was seen in two states."""
        return self._two_states or any(look(path) != found for (look, path), found in list(self._seen.items()))

    def changes(self) -> Callable[[str], bool]:
        """The same for parts of what was seen, all of which is looked at now, once: whether it is so for anything
        whose path begins as is asked."""
        moved = sorted(path for (look, path), found in list(self._seen.items()) if look(path) != found)

        def below(beginning: str) -> bool:
            place = bisect_left(moved, beginning)
            return self._two_states or (place < len(moved) and moved[place].startswith(beginning))

        return below


@contextlib.contextmanager
def watching(witness: Witness | None = None) -> Iterator[Witness]:
    """Watch what is looked at in the block, and add it to what a witness has seen before."""
    witness = witness or Witness()
    token = _current.set(witness)
    try:
        yield witness
    finally:
        _current.reset(token)


def current() -> Witness | None:
    """The witness of the question that is being asked, if one is."""
    return _current.get()


def once(key: Hashable, work: Callable[[], Result]) -> Result:
    """What some work leads to, done once in a question, however many parts of it ask; ``key`` tells which work."""
    witness = _current.get()
    if witness is None:
        return work()
    if key not in witness.done:
        witness.done[key] = work()
    return cast(Result, witness.done[key])


def saw(look: Look, path: str, found: Hashable) -> None:
    """Note what was seen, when somebody watches."""
    witness = _current.get()
    if witness is not None:
        witness.saw(look, path, found)
