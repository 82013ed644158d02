"""Printing for people: with colours and folded where there is a terminal, plain lines where there is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckpt_tools.console.escapes import safe_lines
from ckpt_tools.console.pipes import while_read

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

# A pipe has no width: lines must not be folded for a terminal that is not there.
_PIPE_WIDTH = 240


def console(*, stderr: bool) -> Console:
    """What draws on stdout or stderr."""
    from rich.console import Console  # which takes longer to import than much of what is done here

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


@dataclass(frozen=True)
class _Harmless:
    """A part as it is drawn, but that no text in it moves the terminal: the last to look, whoever forgot to."""

    part: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        for text, style, control in console.render(self.part, options):
            yield Segment(text if control else safe_lines(text), style, control)


def print_on(console: Console, parts: Iterable[RenderableType]) -> None:
    """Draw the parts, one after the other."""
    from rich.text import Text

    for part in parts:
        # A sentence is left for the terminal to break: a command in it can then be copied as one.
        console.print(_Harmless(part), soft_wrap=getattr(part, "soft_wrap", isinstance(part, Text)))


def print_answer(parts: Iterable[RenderableType]) -> None:
    """Draw the parts on stdout. Raises StorageError when that cannot be written; a reader that leaves is no error."""
    from rich.text import Text

    if not _is_terminal():
        parts = list(parts)
        if all(isinstance(part, Text) for part in parts):
            # Without colours and folding, sentences need none of the rest of rich, which takes long to import.
            _print_lines(safe_lines("\n".join(str(part) for part in parts)))
            return
    stdout = console(stderr=False)
    if stdout.is_terminal:
        with while_read():
            print_on(stdout, parts)
        return
    with stdout.capture() as captured:
        print_on(stdout, parts)
    _print_lines(captured.get())


def _print_lines(text: str) -> None:
    # Tables are filled up with blanks, which nobody wants in a file.
    with while_read():
        print("\n".join(line.rstrip() for line in text.splitlines()))


def _is_terminal() -> bool:
    """Whether somebody sees stdout, or colours are wanted all the same, as rich decides it."""
    return sys.stdout.isatty() or any(os.environ.get(name) for name in ("FORCE_COLOR", "TTY_COMPATIBLE"))
