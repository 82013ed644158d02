"""The Textual application: the runs on the left, on the right what is known of one of them."""

from __future__ import annotations

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

from ckpt_tools.analysis.distributions import Histogram, histogram_of
from ckpt_tools.analysis.inspection import Inspection, Tensor, inspect_with_graph
from ckpt_tools.analysis.run_audit import Row, describe
from ckpt_tools.analysis.verification import Verification, verify
from ckpt_tools.browse.help import Help
from ckpt_tools.browse.plots import curve_picture, evaluations, histogram_picture
from ckpt_tools.browse.words import graph_lines, shown, state_of, summary, what_next
from ckpt_tools.console.widths import middle, told_apart
from ckpt_tools.errors import CkptError
from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.runs.discovery import Discovery

_COLOURS = {
    "not read": "green",
    "whole": "bold green",
    "damaged": "bold red",
    "missing": "yellow",
    "unsupported": "cyan",
    "unreadable": "bold yellow",
}
_GRAPH_LINES = 5000
# What the tree draws before a name: lines for two levels, the mark, a bar for scrolling.
_BESIDE_A_NAME = 14
_NARROWEST = 10


class Browser(App[None]):
    """Reads in the background; changes nothing."""

    TITLE = "ckpt browse"
    CSS = """
    #runs { width: 42%; min-width: 24; border-right: solid $primary; }
    TabbedContent { width: 1fr; }
    #find { display: none; }
    #find.open { display: block; }
    #summary, #curve, #values, #graph { padding: 0 1; width: 100%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("slash", "find", "Find", key_display="/"),
        Binding("v", "verify", "Verify"),
        Binding("y", "copy", "Copy command"),
        Binding("q", "quit", "Quit"),
        Binding("s", "show('summary-tab')", "Summary", show=False),
        Binding("c", "show('curve-tab')", "Curve", show=False),
        Binding("t", "show('tensors-tab')", "Tensors", show=False),
        Binding("h", "histogram", "Histogram", show=False),
        Binding("g", "show('graph-tab')", "Graph", show=False),
        Binding("r", "runs", "Runs", show=False),
        Binding("escape", "leave", "Back", show=False),
    ]

    def __init__(self, root: str) -> None:
        super().__init__()
        self.root = root
        self.rows: list[Row] = []
        self.verified: dict[str, Verification] = {}
        self._chosen: Row | None = None
        self._tensors: tuple[Tensor, ...] = ()
        self._listed: list[Tensor] = []
        self._histogram: Histogram | None = None
        self._finds_tensors = False
        self._wanted = {False: "", True: ""}

    def compose(self) -> ComposeResult:
        yield Header()
        yield Input(id="find")
        with Horizontal():
            yield Tree[Row | None](Text(shown(self.root)), id="runs")
            with TabbedContent():
                with TabPane("Summary", id="summary-tab"), VerticalScroll():
                    yield Static("Choose a run. ? says what can be pressed.", id="summary")
                with TabPane("Curve", id="curve-tab"), VerticalScroll():
                    yield Static("", id="curve")
                with TabPane("Tensors", id="tensors-tab"):
                    yield DataTable[Text](id="tensors", cursor_type="row", zebra_stripes=True)
                with TabPane("Histogram", id="values-tab"), VerticalScroll():
                    yield Static("Choose a tensor (t), then press h.", id="values")
                with TabPane("Graph", id="graph-tab"), VerticalScroll():
                    yield Static("", id="graph")
        yield Footer()

    def on_mount(self) -> None:
        self.query_one("#tensors", DataTable).add_columns("tensor", "dtype", "shape", "bytes")
        tree = self._tree
        tree.root.expand()
        tree.focus()
        self._look_for_runs()

    def on_resize(self) -> None:
        # The size is the new one only then.
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        self._list_runs()
        self._draw_pictures()

    @property
    def _tree(self) -> Tree[Row | None]:
        return self.query_one("#runs", Tree)

    # ------------------------------------------------------------------------------------------ the runs

    @work(thread=True, exclusive=True, group="runs")
    def _look_for_runs(self) -> None:
        worker = get_current_worker()
        for run in Discovery(self.root).runs():
            if worker.is_cancelled:
                return
            self.call_from_thread(self._add, describe(run, self.root))
        if not worker.is_cancelled:
            self.call_from_thread(self._list_runs)

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        if _fits(row, self._wanted[False]):
            self._place(row, middle(shown(os.path.basename(row.path) or row.path), self._room))

    @property
    def _room(self) -> int:
        """How many cells a name in the tree has."""
        return max(_NARROWEST, max(24, self.size.width * 42 // 100) - _BESIDE_A_NAME)

    def _list_runs(self) -> None:
        """All that are wanted, with names that can be told from each other."""
        tree, chosen = self._tree, self._chosen
        tree.root.remove_children()
        directories: dict[str, list[Row]] = {}
        for row in self.rows:
            if _fits(row, self._wanted[False]):
                directories.setdefault(os.path.dirname(row.path), []).append(row)
        for rows in directories.values():
            names = [shown(os.path.basename(row.path) or row.path) for row in rows]
            for row, name in zip(rows, told_apart(names, self._room), strict=True):
                leaf = self._place(row, name)
                if row is chosen:
                    self.call_after_refresh(tree.move_cursor, leaf)

    def _place(self, row: Row, name: str) -> TreeNode[Row | None]:
        """A leaf below the directories of its path; those that only lead on are one node with the next."""
        parent = self._tree.root
        directory = os.path.dirname(row.path)
        if directory:
            label = middle(shown(directory), self._room + 4)
            known = [node for node in parent.children if str(node.label) == label]
            parent = known[0] if known else parent.add(Text(label), expand=True)
        return parent.add_leaf(Text.assemble(*self._mark(row), name), data=row)

    def _mark(self, row: Row) -> tuple[tuple[str, str]]:
        """Hollow where nothing was read but the index."""
        state = state_of(row, self.verified.get(row.location))
        return ((f"{'○' if state == 'not read' else '●'} ", _COLOURS[state]),)

    @on(Tree.NodeHighlighted)
    def _highlighted(self, event: Tree.NodeHighlighted[Row | None]) -> None:
        row = event.node.data
        if row is not None and row is not self._chosen:
            self._chosen = row
            self._histogram = None
            self.query_one("#values", Static).update("Choose a tensor (t), then press h.")
            self._show_summary()
            self._draw_pictures()
            self._look_into(row)

    def _show_summary(self) -> None:
        if self._chosen is not None:
            checked = self.verified.get(self._chosen.location)
            self.query_one("#summary", Static).update(summary(self._chosen, checked))

    # ------------------------------------------------------------------------------------------ what is in one

    @work(thread=True, exclusive=True, group="one")
    def _look_into(self, row: Row) -> None:
        worker = get_current_worker()
        found: Inspection | None = None
        lines: list[str] = []
        problem = ""
        try:
            found, lines = _inside(row.prefix or row.location)
        except CkptError as error:
            problem = error.message
        if not worker.is_cancelled:
            self.call_from_thread(self._fill, row, found.tensors if found else (), lines, problem)

    def _fill(self, row: Row, tensors: tuple[Tensor, ...], lines: list[str], problem: str) -> None:
        if row is not self._chosen:
            return
        self._tensors = tensors
        self._list_tensors()
        self.query_one("#graph", Static).update(Text("\n".join(lines) or shown(problem) or "No object graph."))

    def _list_tensors(self) -> None:
        table = self.query_one("#tensors", DataTable)
        table.clear()
        words = self._wanted[True].lower().split()
        self._listed = [each for each in self._tensors if all(word in _called(each).lower() for word in words)]
        for tensor in self._listed:
            # As texts: in plain strings brackets would be markup.
            cells = (shown(_called(tensor)), tensor.dtype, str(list(tensor.shape)), f"{tensor.nbytes:,}")
            table.add_row(*map(Text, cells))

    def _draw_pictures(self) -> None:
        if self._chosen is None:
            return
        width, height = max(30, self.size.width * 58 // 100 - 5), max(6, (self.size.height - 8) // 2)
        curve = self._chosen.curve
        picture = curve_picture(curve, width, height)
        if curve.points:
            picture = Text("\n\n").join([picture, evaluations(curve, 20)])
        self.query_one("#curve", Static).update(picture)
        if self._histogram is not None:
            title = Text(f"{shown(self._histogram.name)}\n", style="bold")
            bars = histogram_picture(self._histogram, width, max(8, self.size.height - 10))
            self.query_one("#values", Static).update(title + bars)

    def action_histogram(self) -> None:
        """Of the tensor under the cursor."""
        row, place = self._chosen, self.query_one("#tensors", DataTable).cursor_row
        self.action_show("values-tab")
        if row is None or not 0 <= place < len(self._listed):
            return
        tensor = self._listed[place]
        self.query_one("#values", Static).update(Text(f"reading {shown(_called(tensor))} …"))
        self._count(row, tensor)

    @work(thread=True, exclusive=True, group="values")
    def _count(self, row: Row, tensor: Tensor) -> None:
        worker = get_current_worker()
        found: Histogram | None = None
        problem = ""
        try:
            found = histogram_of(row.prefix or row.location, tensor.name)
        except CkptError as error:
            problem = error.message
        if not worker.is_cancelled:
            self.call_from_thread(self._show_histogram, row, found, problem)

    def _show_histogram(self, row: Row, found: Histogram | None, problem: str) -> None:
        if row is self._chosen:
            self._histogram = found
            if found is None:
                self.query_one("#values", Static).update(Text(shown(problem)))
            self._draw_pictures()

    # ------------------------------------------------------------------------------------------ reading every byte

    def action_verify(self) -> None:
        """Read every byte of the run."""
        if self._chosen is not None and self._chosen.prefix is not None:
            self._verify(self._chosen)

    @work(thread=True, exclusive=True, group="verify")
    def _verify(self, row: Row) -> None:
        worker = get_current_worker()
        assert row.prefix is not None
        last = -1

        def tell(done: int, total: int) -> None:
            nonlocal last
            share = 100 * done // max(1, total)
            if share != last:
                last = share
                self.call_from_thread(self._tell, f"reading {shown(os.path.basename(row.path))}: {share} %")

        try:
            found = verify(row.prefix, progress=tell)
        except CkptError as error:
            self.call_from_thread(self.notify, shown(str(error)), severity="error", markup=False)
        else:
            if not worker.is_cancelled:
                self.call_from_thread(self._verified, row, found)
        self.call_from_thread(self._tell, "")

    def _tell(self, words: str) -> None:
        self.sub_title = words

    def _verified(self, row: Row, found: Verification) -> None:
        self.verified[row.location] = found
        self._list_runs()
        self._show_summary()

    # ------------------------------------------------------------------------------------------ finding, and the rest

    @on(Input.Changed, "#find")
    def _narrow(self, event: Input.Changed) -> None:
        if event.value == self._wanted[self._finds_tensors]:
            return
        self._wanted[self._finds_tensors] = event.value
        if self._finds_tensors:
            self._list_tensors()
        else:
            self._list_runs()

    @on(Input.Submitted, "#find")
    def _found(self) -> None:
        if self._finds_tensors:
            self.query_one("#tensors").focus()
            return
        tree = self._tree
        tree.focus()
        at = tree.cursor_node
        if at is None or at.data is None:
            leaves = (leaf for node in tree.root.children for leaf in (node.children or [node]))
            if (first := next(leaves, None)) is not None:
                tree.move_cursor(first)

    def action_find(self) -> None:
        """Runs; where the tensors are looked at, tensors."""
        self._finds_tensors = isinstance(self.focused, DataTable)
        find = self.query_one("#find", Input)
        find.placeholder = "part of a tensor's name" if self._finds_tensors else "part of a path, a model or a state"
        find.value = self._wanted[self._finds_tensors]
        find.add_class("open")
        find.focus()

    def action_leave(self) -> None:
        """Out of the search, with all shown again."""
        find = self.query_one("#find", Input)
        find.remove_class("open")
        find.value = ""
        self._found()

    def action_copy(self) -> None:
        """What to type next about the run under the cursor."""
        row = self._chosen
        if row is not None:
            command = what_next(row)
            self.copy_to_clipboard(command)
            self.notify(shown(command), title="copied", markup=False)

    def action_help(self) -> None:
        self.push_screen(Help())

    def action_runs(self) -> None:
        self._tree.focus()

    def action_show(self, tab: str) -> None:
        self.query_one(TabbedContent).active = tab
        inside = self.query_one(f"#{tab}").query("DataTable, VerticalScroll").first()
        inside.focus()


def _called(tensor: Tensor) -> str:
    return tensor.canonical or tensor.name.removesuffix(VALUE_SUFFIX)


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
