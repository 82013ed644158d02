"""The one place of ``ckpt`` that prints: text for people, or one JSON object; errors and progress on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ckpt_tools.console.escapes import safe as safe
from ckpt_tools.console.pipes import if_heard, while_read
from ckpt_tools.errors import CkptError, NotFoundError, UnsafeError
from ckpt_tools.findings import Finding, noted
from ckpt_tools.format.filenames import KERAS_ENDINGS, STATE_FILE, bundle_part
from ckpt_tools.fs import durable, local
from ckpt_tools.redaction import redacted

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID

SCHEMA_VERSION = 1
# A pipe has no width: lines must not be folded for a terminal that is not there.
_PIPE_WIDTH = 240
# Drawing more often than people can see would be the main work.
_FRAME_SECONDS = 0.1
# A line of ``sha256sum``, as a manifest has them.
_DIGEST_LINE = re.compile(rb"\\?[0-9a-f]{64} [ *]")
# What a formula begins with; the others are the same signs of East Asian keyboards.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_text(path: str, text: str, *, errors: str = "backslashreplace") -> None:
    """Write a document into a file, replacing an older document. Raises what `require_document` raises."""
    require_document(path)
    durable.write_atomic(path, text.encode("utf-8", errors))


def require_document(path: str) -> None:
    """Raise unless a document may be written there: better before the work than behind it.

    Raises NotFoundError when there is no such directory, UnsafeError for what is no file (a device, a directory), for
    the name of a checkpoint, and where another kind of file would be replaced: a path may have come from the name of a
    file that somebody else made.
    """
    directory = os.path.dirname(path) or os.curdir
    if not os.path.isdir(directory):
        raise NotFoundError("no such directory", path=directory, hint=f"mkdir -p {shlex.quote(directory)}")
    other = "write to another name"
    if os.path.islink(path) or (os.path.lexists(path) and not os.path.isfile(path)):
        raise UnsafeError("not a regular file: it would be replaced", path=path, hint=other)
    if _names_a_checkpoint(os.path.basename(path)):
        raise UnsafeError("a document is not written under the name of a checkpoint", path=path, hint=other)
    if os.path.isfile(path) and _begins_otherwise(path):
        raise UnsafeError(
            "holds no document (XML, JSON, HTML or digests) that could be replaced", path=path, hint=other
        )


def _names_a_checkpoint(name: str) -> bool:
    endings = (*KERAS_ENDINGS, ".ckpt", ".safetensors", ".npz")
    return name == STATE_FILE or name.endswith(endings) or bundle_part(name) is not None


def _begins_otherwise(path: str) -> bool:
    with local.RandomAccessFile(path) as file:
        head = file.read(0, min(file.size, 80)).lstrip(b"\xef\xbb\xbf \t\r\n")
    return bool(head) and not head.startswith((b"<", b"{")) and not _DIGEST_LINE.match(head)


class Output:
    """Where one command's answer goes. ``command`` and ``path`` head its JSON."""

    def __init__(self, command: str | None, path: str | None, *, json: bool, quiet: bool) -> None:
        self._head = {"schema_version": SCHEMA_VERSION, "command": command, "path": path}
        self.command = command
        self._json = json
        self._quiet = quiet
        self._notes: Sequence[Finding] = ()
        for stream in (sys.stdout, sys.stderr):
            # Names that are not UTF-8 come out as \udcXX, which is also how JSON writes them.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")

    def line(self, *parts: RenderableType) -> None:
        """Something for people, as soon as it is known."""
        if not self._json and not self._quiet:
            _print(parts)

    def aside(self, text: Callable[[], Iterable[RenderableType]], *, wrong: bool = False) -> None:
        """Something for people on stderr, where stdout is another program's; what is ``wrong`` even when quiet."""
        if wrong or not (self._json or self._quiet):
            _print_on(_console(stderr=True), text())

    def document(self, document: Mapping[str, Any]) -> None:
        """The JSON object, when it was asked for."""
        if self._json:
            # An escape of another encoding's error handler would not be JSON.
            utf8 = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
            notes = [note.to_json() for note in self._notes]
            whole = redacted({**self._head, **document, "findings": [*document.get("findings", ()), *notes]})
            try:
                text = json.dumps(whole, ensure_ascii=not utf8, allow_nan=False)
            except (TypeError, ValueError):
                text = json.dumps(_plain(whole), ensure_ascii=not utf8)
            with while_read():
                print(_escaped(text))

    def result(
        self, document: Mapping[str, Any], text: Callable[[], Iterable[RenderableType]], *, wrong: bool = False
    ) -> None:
        """The whole answer in the form that was asked for; what is ``wrong`` is said even when quiet."""
        if self._json:
            self.document(document)
        elif wrong or not self._quiet:
            _print(text())

    @contextlib.contextmanager
    def with_notes(self) -> Iterator[None]:
        """What storage warns of in the block goes into the JSON, or for people onto stderr at its end."""
        with noted() as notes:
            self._notes = notes
            yield
        if notes and not self._json and not self._quiet:
            from rich.text import Text

            with if_heard():
                lines = [Text.assemble(("note: ", "bold"), safe(each.message)) for each in notes]
                _print_on(_console(stderr=True), lines)

    def lines(self, text: Callable[[], Iterable[RenderableType]], *, wrong: bool = False) -> None:
        """One of several answers; what is ``wrong`` is said even when quiet. The JSON comes when all are there."""
        if not self._json and (wrong or not self._quiet):
            _print(text())

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

    @property
    def width(self) -> int:
        """How many columns there are for people to read."""
        return _console(stderr=False).width

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
        from rich.text import Text

        console = _console(stderr=True)
        lines = [Text.assemble(("error: ", "bold red"), safe(error))]
        if error.hint:
            lines.append(Text.assemble(("  next: ", "bold"), safe(error.hint)))
        with if_heard():
            _print_on(console, lines)

    @contextlib.contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None] | None]:
        """A bar on stderr, on a terminal only; None elsewhere."""
        if self._json or self._quiet or not sys.stderr.isatty():
            yield None
            return
        from rich.progress import Progress

        with Progress(console=_console(stderr=True), transient=True) as bar:
            task = bar.add_task(safe(what), total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextlib.contextmanager
    def live(self) -> Iterator[Callable[[Callable[[int], RenderableType]], None] | None]:
        """A place on stderr that is drawn again and again and vanishes; None where there is no terminal.

        It takes what draws the newest state in so many rows.
        """
        if self._json or self._quiet or not sys.stderr.isatty():
            yield None
            return
        from rich.live import Live

        console = _console(stderr=True)
        last = 0.0
        with Live(console=console, transient=True, auto_refresh=False) as place:

            def show(draw: Callable[[int], RenderableType]) -> None:
                nonlocal last
                if time.monotonic() - last > _FRAME_SECONDS:
                    place.update(draw(max(1, console.height - 6)), refresh=True)
                    last = time.monotonic()

            yield show

    @contextlib.contextmanager
    def bars(self) -> Iterator[Bars]:
        """Bars on stderr for things that go on side by side; they show nothing where there is no terminal."""
        if self._json or self._quiet or not sys.stderr.isatty():
            yield Bars(None)
            return
        from rich.progress import Progress

        # What goes into a pipe must not be drawn above the bars instead.
        with Progress(console=_console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()) as progress:
            yield Bars(progress)


class Bars:
    """One bar for all, and one for each thing that is under way. Its methods may be called from any thread."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._tasks: dict[int, TaskID] = {}
        self._finished: set[int] = set()

    def begin(self, total: int) -> None:
        if self._progress is not None:
            self._tasks[-1] = self._progress.add_task("all", total=total)

    def show(self, number: int, name: str, done: int, total: int) -> None:
        # A report may come behind the end of what it is about.
        if self._progress is not None and number not in self._finished:
            if number not in self._tasks:
                self._tasks[number] = self._progress.add_task(safe(name))
            self._progress.update(self._tasks[number], completed=done, total=total)

    def finish(self, number: int) -> None:
        self._finished.add(number)
        if self._progress is not None:
            self._progress.advance(self._tasks[-1])
            if number in self._tasks:
                self._progress.remove_task(self._tasks.pop(number))


def _print(parts: Iterable[RenderableType]) -> None:
    from rich.text import Text

    if not _is_terminal():
        parts = list(parts)
        if all(isinstance(part, Text) for part in parts):
            # Without colours and folding, sentences need none of the rest of rich, which takes long to import.
            _print_lines("\n".join(str(part) for part in parts))
            return
    console = _console(stderr=False)
    if console.is_terminal:
        with while_read():
            _print_on(console, parts)
        return
    with console.capture() as captured:
        _print_on(console, parts)
    _print_lines(captured.get())


def _print_lines(text: str) -> None:
    # Tables are filled up with blanks, which nobody wants in a file.
    with while_read():
        print("\n".join(line.rstrip() for line in text.splitlines()))


def _is_terminal() -> bool:
    """Whether somebody sees stdout, or colours are wanted all the same, as rich decides it."""
    return sys.stdout.isatty() or any(os.environ.get(name) for name in ("FORCE_COLOR", "TTY_COMPATIBLE"))


def _print_on(console: Console, parts: Iterable[RenderableType]) -> None:
    from rich.text import Text

    for part in parts:
        # A sentence is left for the terminal to break: a command in it can then be copied as one.
        console.print(part, soft_wrap=getattr(part, "soft_wrap", isinstance(part, Text)))


def _console(*, stderr: bool) -> Console:
    from rich.console import Console  # which takes longer to import than much of what is done here

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def _cell(value: Any) -> Any:
    """A value for a spreadsheet, which would run a text that begins as a formula does."""
    if isinstance(value, (list, tuple)):
        return len(value)
    if not isinstance(value, str):
        return value
    text = safe(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _escaped(text: str) -> str:
    """JSON may hold what a terminal obeys or a reader is deceived by (C1, DEL, changes of direction): as escapes."""
    if text.isprintable():
        return text
    odd = lambda found: "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in found[0])  # noqa: E731
    return re.sub(r"[^ -~]+", odd, text)


def _plain(value: Any) -> Any:
    """JSON has no infinity and no NaN: they become their names."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
