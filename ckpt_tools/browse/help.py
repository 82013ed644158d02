"""What can be pressed."""

from __future__ import annotations

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

KEYS = (
    ("arrows, enter", "move; open and close a directory"),
    ("s c t h g", "summary, curve, tensors, histogram of the tensor under the cursor, object graph"),
    ("r", "back to the runs"),
    ("/", "find runs: part of a path, a model, a state; in the tensors: part of a name; escape shows all"),
    ("v", "read every byte of the run, and compare it with its checksums"),
    ("y", "copy the next command for the run, or the one that inspects it"),
    ("?", "this help; escape closes it"),
    ("q", "quit"),
)
MARKS = (
    ("○ green", "the index and the sizes are as they should be; the values were not read"),
    ("● green", "every byte was read, and is whole"),
    ("● red", "damaged"),
    ("● yellow", "there is no checkpoint, or it cannot be read now"),
    ("● cyan", "of a kind that is not read"),
)


class Help(ModalScreen[None]):
    """The keys and the marks."""

    CSS = """
    Help { align: center middle; }
    #help {
        width: 76; max-width: 95%; height: auto; max-height: 90%;
        border: solid $primary; padding: 0 1; background: $surface;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for key, does in KEYS:
            table.add_row(key, does)
        table.add_row("", "")
        for mark, means in MARKS:
            sign, _, colour = mark.partition(" ")
            table.add_row(Text(sign, style=colour), means)
        with VerticalScroll(id="help"):
            yield Static(table)
