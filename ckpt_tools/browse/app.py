"""The Textual application: the runs on the left, on the right the summary, tensors and object graph of one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import DataTable, Footer, Header, Input, Static, TabbedContent, TabPane, Tree
from textual.widgets.tree import TreeNode
from textual.worker import get_current_worker

from ckpt_tools.analysis.inspection import Inspection, Tensor, inspect_with_graph
from ckpt_tools.analysis.run_audit import Row, describe
from ckpt_tools.browse.words import graph_lines, shown, summary
from ckpt_tools.errors import CkptError
from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.runs.discovery import Discovery

_MARKS = {
    "whole": "green",
    "damaged": "bold red",
    "missing": "yellow",
    "unsupported": "cyan",
    "unreadable": "bold yellow",
}
_GRAPH_LINES = 5000


class Browser(App[None]):
    """Reads in the background; changes nothing."""

    TITLE = "ckpt browse"
    CSS = """
    #runs { width: 40%; min-width: 24; border-right: solid $primary; }
    TabbedContent { width: 1fr; }
    #find { display: none; }
    #find.open { display: block; }
    #summary, #graph { padding: 0 1; width: 100%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("slash", "find", "Find", key_display="/"),
        Binding("s", "show('summary-tab')", "Summary"),
        Binding("t", "show('tensors-tab')", "Tensors"),
        Binding("g", "show('graph-tab')", "Graph"),
        Binding("r", "runs", "Runs"),
        Binding("escape", "leave", "Back", show=False),
    ]

    def __init__(self, root: str) -> None:
        super().__init__()
        self.root = root
        self.rows: list[Row] = []
        self._chosen: Row | None = None

    def compose(self) -> ComposeResult:
        yield Header()
        yield Input(placeholder="part of a path, a model or a state", id="find")
        with Horizontal():
            yield Tree[Row | None](Text(shown(self.root)), id="runs")
            with TabbedContent():
                with TabPane("Summary", id="summary-tab"), VerticalScroll():
                    yield Static("Choose a run.", id="summary")
                with TabPane("Tensors", id="tensors-tab"):
                    yield DataTable[Text](id="tensors", cursor_type="row", zebra_stripes=True)
                with TabPane("Graph", id="graph-tab"), VerticalScroll():
                    yield Static("", id="graph")
        yield Footer()

    def on_mount(self) -> None:
        self.query_one("#tensors", DataTable).add_columns("tensor", "dtype", "shape", "bytes")
        tree = self._tree
        tree.root.expand()
        tree.focus()
        self._look_for_runs()

    @property
    def _tree(self) -> Tree[Row | None]:
        return self.query_one("#runs", Tree)

    @work(thread=True, exclusive=True, group="runs")
    def _look_for_runs(self) -> None:
        worker = get_current_worker()
        for run in Discovery(self.root).runs():
            if worker.is_cancelled:
                return
            self.call_from_thread(self._add, describe(run, self.root))

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        if _fits(row, self.query_one("#find", Input).value):
            _place(self._tree.root, row)

    @on(Tree.NodeHighlighted)
    def _highlighted(self, event: Tree.NodeHighlighted[Row | None]) -> None:
        row = event.node.data
        if row is not None and row is not self._chosen:
            self._chosen = row
            self.query_one("#summary", Static).update(summary(row))
            self._look_into(row)

    @work(thread=True, exclusive=True, group="one")
    def _look_into(self, row: Row) -> None:
        worker = get_current_worker()
        found: Inspection | None = None
        lines: list[str] = []
        with contextlib.suppress(CkptError):  # the summary says what is wrong with it
            found, lines = _inside(row.prefix or row.location)
        if not worker.is_cancelled:
            self.call_from_thread(self._fill, row, found.tensors if found else (), lines)

    def _fill(self, row: Row, tensors: tuple[Tensor, ...], lines: list[str]) -> None:
        if row is not self._chosen:
            return
        table = self.query_one("#tensors", DataTable)
        table.clear()
        for tensor in tensors:
            name = tensor.canonical or tensor.name.removesuffix(VALUE_SUFFIX)
            # As texts: in plain strings brackets would be markup.
            cells = (shown(name), tensor.dtype, str(list(tensor.shape)), f"{tensor.nbytes:,}")
            table.add_row(*map(Text, cells))
        self.query_one("#graph", Static).update(Text("\n".join(lines) or "No object graph."))

    @on(Input.Changed, "#find")
    def _narrow(self, event: Input.Changed) -> None:
        self._tree.root.remove_children()
        for row in self.rows:
            if _fits(row, event.value):
                _place(self._tree.root, row)

    @on(Input.Submitted, "#find")
    def _found(self) -> None:
        self._tree.focus()

    def action_find(self) -> None:
        find = self.query_one("#find", Input)
        find.add_class("open")
        find.focus()

    def action_leave(self) -> None:
        """Out of the search, with all runs shown again."""
        find = self.query_one("#find", Input)
        find.value = ""
        find.remove_class("open")
        self._tree.focus()

    def action_runs(self) -> None:
        self._tree.focus()

    def action_show(self, tab: str) -> None:
        self.query_one(TabbedContent).active = tab
        inside = self.query_one(f"#{tab}").query("DataTable, VerticalScroll").first()
        inside.focus()


def _inside(path: str) -> tuple[Inspection, list[str]]:
    """What a checkpoint holds, and its object graph in lines."""
    found, graph = inspect_with_graph(path)
    return found, list(graph_lines(graph, _GRAPH_LINES)) if graph else []


def _fits(row: Row, text: str) -> bool:
    return all(word in " ".join(_texts(row)).lower() for word in text.lower().split())


def _texts(row: Row) -> Iterator[str]:
    yield row.path
    for value in (row.model, row.lineage, row.format, row.health, row.best, row.verdict):
        yield value or ""


def _place(root: TreeNode[Row | None], row: Row) -> None:
    """A leaf below the directories of its path; those that only lead on are one node with the next."""
    directory, name = os.path.split(row.path)
    parent = root
    if directory:
        label = Text(shown(directory))
        known = [node for node in root.children if str(node.label) == str(label)]
        parent = known[0] if known else root.add(label, expand=True)
    parent.add_leaf(Text.assemble(("● ", _MARKS[row.health]), shown(name)), data=row)
