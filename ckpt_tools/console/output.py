"""Where an answer goes: text for people, or one JSON object on stdout; errors and progress on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ckpt_tools.console import terminal
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.json_text import encode_json
from ckpt_tools.console.language import label, said
from ckpt_tools.console.pipes import if_heard, while_read
from ckpt_tools.console.progress import Bars, Drawing
from ckpt_tools.console.widths import NAME_WIDTH, middle
from ckpt_tools.errors import CkptError
from ckpt_tools.findings import Finding, noted

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress

    from ckpt_tools.console.pulse import Pulse

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
        self._while_drawing = contextlib.ExitStack()
        self._pulse: Pulse | None = None
        # Where bars are being drawn: what is printed on the same terminal meanwhile has to go above them.
        self._bars_on: Console | None = None
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
        self.lines(lambda: parts)

    def lines(self, text: Callable[[], Iterable[RenderableType]], *, wrong: bool = False) -> None:
        """One of several answers; what is ``wrong`` is said even when quiet. The JSON comes when all are there."""
        if not self._json and (wrong or not self._silent):
            self.end_progress()
            with self.held():
                if self._bars_on is not None and sys.stdout.isatty():
                    terminal.print_on(self._bars_on, text())
                else:
                    terminal.print_answer(text())

    def aside(self, text: Callable[[], Iterable[RenderableType]], *, wrong: bool = False) -> None:
        """Something for people on stderr, where stdout is another program's; what is ``wrong`` even when quiet."""
        if wrong or not self._silent:
            self.end_progress()
            with self.held(), if_heard():
                terminal.print_on(self._bars_on or terminal.console(stderr=True), text())

    def findings(self, found: Sequence[Finding]) -> None:
        """Findings on stderr, as soon as they are known, of a command whose answer takes its time."""
        from ckpt_tools.console import render

        if found:
            self.aside(lambda: render.findings(found))

    @property
    def is_json(self) -> bool:
        """Whether the answer is asked for as JSON: what is long to make is made only then."""
        return self._json

    def document(self, document: Mapping[str, Any]) -> None:
        """The JSON object, when it was asked for."""
        if self._json:
            # An escape of another encoding's error handler would not be JSON.
            utf8 = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
            notes = [note.to_json() for note in self._notes]
            whole = {**self._head, **document, "findings": [*document.get("findings", ()), *notes]}
            text = encode_json(whole, ascii_only=not utf8, not_finite=self.not_finite)
            with self.held(), while_read():
                print(text)

    def result(
        self, document: Mapping[str, Any], text: Callable[[], Iterable[RenderableType]], *, wrong: bool = False
    ) -> None:
        """The whole answer in the form that was asked for; what is ``wrong`` is said even when quiet."""
        self.document(document)
        self.lines(text, wrong=wrong)

    def script(self, lines: Iterable[str]) -> None:
        """Lines for another program, as they are."""
        with self.held(), while_read():
            for line in lines:
                print(line)

    def csv(self, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        """A table for spreadsheets; lists become numbers of things."""
        import csv  # only when it is asked for

        with self.held(), while_read():
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
    def cuts(self) -> bool:
        """Whether names are cut so that a table fits: people see it. In a pipe they stay whole."""
        return sys.stdout.isatty() or "COLUMNS" in os.environ

    @property
    def _draws(self) -> bool:
        return not self._silent and sys.stderr.isatty()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """In the block, on a terminal only: where nothing is shown for a second, a line says that work goes on."""
        if not self._draws or os.environ.get("TERM") == "dumb" or os.name == "nt":  # no escapes there, perhaps
            yield
            return
        from ckpt_tools.console.pulse import Pulse

        self._pulse = Pulse(self.command or self.program)
        try:
            yield
        finally:
            self._pulse.end()
            self._pulse = None

    def phase(self, words: str) -> None:
        """What is being done from now on, for a step without a count that may take seconds."""
        self.end_progress()
        if self._pulse is not None:
            self._pulse.say(words)

    def held(self) -> contextlib.AbstractContextManager[None]:
        """The terminal is somebody else's in the block: nothing says that work goes on."""
        return contextlib.nullcontext() if self._pulse is None else self._pulse.held()

    def draw(self, picture: Callable[[int], RenderableType]) -> None:
        """Show how it goes, on a terminal only, until `end_progress`; ``picture`` takes the number of rows for it."""
        if self._draws:
            if not self._drawing.is_shown:
                self._while_drawing.enter_context(self.held())
            self._drawing.show(picture)

    def end_progress(self) -> None:
        """Take away what `draw` drew."""
        self._drawing.end()
        self._while_drawing.close()

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
        with self._bars() as bar:
            task = bar.add_task(middle(safe(what), NAME_WIDTH), total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextlib.contextmanager
    def bars(self) -> Iterator[Bars]:
        """Bars on stderr for things that go on side by side; they show nothing where there is no terminal."""
        if not self._draws:
            yield Bars(None)
            return
        with self._bars() as progress:
            yield Bars(progress)

    @contextlib.contextmanager
    def _bars(self) -> Iterator[Progress]:
        from rich.progress import Progress

        stderr = terminal.console(stderr=True)
        # What is printed meanwhile goes through the same console (`lines`), or into a pipe: nothing is redirected.
        with self.held(), Progress(console=stderr, transient=True, redirect_stdout=False) as progress:
            self._bars_on = stderr
            try:
                yield progress
            finally:
                self._bars_on = None


def _cell(value: Any) -> Any:
    """A value for a spreadsheet, which would run a text that begins as a formula does."""
    if isinstance(value, (list, tuple)):
        return len(value)
    if not isinstance(value, str):
        return value
    text = safe(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
