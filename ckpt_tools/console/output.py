"""Where an answer goes: text for people, or one JSON object on stdout; errors and progress on stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ckpt_tools.console import terminal
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.json_text import json_text
from ckpt_tools.console.language import label, said
from ckpt_tools.console.pipes import if_heard, while_read
from ckpt_tools.console.progress import Bars, Drawing
from ckpt_tools.errors import CkptError
from ckpt_tools.findings import Finding, noted

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA_VERSION = 1
# What a formula begins with; the others are the same signs of East Asian keyboards.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class Output:
    """Where one command's answer goes. ``command`` and ``path`` head its JSON; ``quiet``: only what is wrong."""

    program: ClassVar[str] = "ckpt"

    def __init__(self, command: str | None, path: str | None, *, json: bool, quiet: bool) -> None:
        self._head = {"schema_version": SCHEMA_VERSION, "command": command, "path": path}
        self.command = command
        self._json = json
        self._silent = json or quiet
        self._notes: Sequence[Finding] = ()
        self._drawing = Drawing()
        for stream in (sys.stdout, sys.stderr):
            # Names that are not UTF-8 come out as \udcXX, which is also how JSON writes them.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")

    def not_finite(self, number: float) -> Any:
        """What stands in JSON for a NaN or an infinity: the name of what is stored."""
        return str(number)

    def say(self, text: str) -> None:
        """A sentence for people, as soon as it is known; what is in it is made harmless."""
        from rich.text import Text

        self.line(Text(safe(text)))

    def line(self, *parts: RenderableType) -> None:
        """Something for people, as soon as it is known."""
        if not self._silent:
            self.end_progress()
            terminal.print_answer(parts)

    def lines(self, text: Callable[[], Iterable[RenderableType]], *, wrong: bool = False) -> None:
        """One of several answers; what is ``wrong`` is said even when quiet. The JSON comes when all are there."""
        if not self._json and (wrong or not self._silent):
            self.end_progress()
            terminal.print_answer(text())

    def aside(self, text: Callable[[], Iterable[RenderableType]], *, wrong: bool = False) -> None:
        """Something for people on stderr, where stdout is another program's; what is ``wrong`` even when quiet."""
        if wrong or not self._silent:
            self.end_progress()
            with if_heard():
                terminal.print_on(terminal.console(stderr=True), text())

    def findings(self, found: Sequence[Finding]) -> None:
        """Findings on stderr, as soon as they are known, of a command whose answer takes its time."""
        from ckpt_tools.console import render

        if found:
            self.aside(lambda: render.findings(found))

    def document(self, document: Mapping[str, Any]) -> None:
        """The JSON object, when it was asked for."""
        if self._json:
            # An escape of another encoding's error handler would not be JSON.
            utf8 = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
            notes = [note.to_json() for note in self._notes]
            whole = {**self._head, **document, "findings": [*document.get("findings", ()), *notes]}
            text = json_text(whole, ascii_only=not utf8, not_finite=self.not_finite)
            with while_read():
                print(text)

    def result(
        self, document: Mapping[str, Any], text: Callable[[], Iterable[RenderableType]], *, wrong: bool = False
    ) -> None:
        """The whole answer in the form that was asked for; what is ``wrong`` is said even when quiet."""
        self.document(document)
        self.lines(text, wrong=wrong)

    def script(self, lines: Iterable[str]) -> None:
        """Lines for another program, as they are."""
        with while_read():
            for line in lines:
                print(line)

    def csv(self, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        """A table for spreadsheets; lists become numbers of things."""
        import csv  # only when it is asked for

        with while_read():
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(columns)
            for row in rows:
                writer.writerow(_cell(row[column]) for column in columns)

    @contextlib.contextmanager
    def with_notes(self) -> Iterator[None]:
        """What storage warns of in the block goes into the JSON, or for people onto stderr at its end."""
        with noted() as notes:
            self._notes = notes
            yield
        self.findings(notes)

    def error(self, error: CkptError) -> None:
        """The end of a command that failed: in words on stderr, and as JSON when that was asked for."""
        self.problem(error)
        self.document(
            {
                "findings": [Finding.of(error).to_json()],
                "error": {"id": error.id, "exit_code": error.exit_code, "message": str(error), "hint": error.hint},
            }
        )

    def problem(self, error: CkptError) -> None:
        """What failed, in words on stderr."""
        from rich.text import Text

        from ckpt_tools.console import render

        lines = [Text.assemble((label("error", error.id), "bold red"), safe(error.place + said(error.message)))]
        if error.hint:
            lines.append(render.next_step(error.hint))
        self.aside(lambda: lines, wrong=True)

    @property
    def width(self) -> int:
        """How many columns there are for people to read."""
        return terminal.console(stderr=False).width

    @property
    def _draws(self) -> bool:
        return not self._silent and sys.stderr.isatty()

    def draw(self, picture: Callable[[int], RenderableType]) -> None:
        """Show how it goes, on a terminal only, until `end_progress`; ``picture`` takes the number of rows for it."""
        if self._draws:
            self._drawing.show(picture)

    def end_progress(self) -> None:
        """Take away what `draw` drew."""
        self._drawing.end()

    @contextlib.contextmanager
    def live(self) -> Iterator[Callable[[Callable[[int], RenderableType]], None] | None]:
        """What `draw` does, for the block; None where there is no terminal."""
        try:
            yield self.draw if self._draws else None
        finally:
            self.end_progress()

    @contextlib.contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None] | None]:
        """A bar on stderr, on a terminal only; None elsewhere."""
        if not self._draws:
            yield None
            return
        from rich.progress import Progress

        with Progress(console=terminal.console(stderr=True), transient=True) as bar:
            task = bar.add_task(safe(what), total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextlib.contextmanager
    def bars(self) -> Iterator[Bars]:
        """Bars on stderr for things that go on side by side; they show nothing where there is no terminal."""
        if not self._draws:
            yield Bars(None)
            return
        from rich.progress import Progress

        stderr = terminal.console(stderr=True)
        # What goes into a pipe must not be drawn above the bars instead.
        with Progress(console=stderr, transient=True, redirect_stdout=sys.stdout.isatty()) as progress:
            yield Bars(progress)


def _cell(value: Any) -> Any:
    """A value for a spreadsheet, which would run a text that begins as a formula does."""
    if isinstance(value, (list, tuple)):
        return len(value)
    if not isinstance(value, str):
        return value
    text = safe(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
