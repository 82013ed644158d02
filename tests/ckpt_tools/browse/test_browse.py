"""``ckpt browse``, driven by Textual's pilot."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import EXPERIMENTS, FIXTURES, build_bundle, pick, snapshot

from ckpt_tools.browse.words import graph_lines
from ckpt_tools.cli import run
from ckpt_tools.readers import Bundle

pytest.importorskip("textual", reason="needs the extra 'browse'")

from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Static, TabbedContent, Tree
from textual.widgets.tree import TreeNode

from ckpt_tools.analysis.distributions import Histogram
from ckpt_tools.browse.app import Browser
from ckpt_tools.browse.help import KEYS, Help
from ckpt_tools.browse.plots import curve_picture, histogram_picture
from ckpt_tools.runs.curve import Curve
from ckpt_tools.runs.evaluations import LoggedEvaluation

Copy = Callable[..., Path]
Steps = Callable[[Browser, Pilot[None]], Awaitable[None]]


def drive(root: Path, steps: Steps, size: tuple[int, int] = (120, 40)) -> None:
    async def body() -> None:
        app = Browser(str(root))
        async with app.run_test(size=size) as pilot:
            await settled(app, pilot)
            await steps(app, pilot)

    asyncio.run(body())


async def settled(app: Browser, pilot: Pilot[None]) -> None:
    """What goes on in the background has ended, and is on the screen."""
    await pilot.pause()
    await app.workers.wait_for_complete()
    await pilot.pause()


def leaves(app: Browser) -> list[TreeNode]:
    return [leaf for node in app.query_one("#runs", Tree).root.children for leaf in (node.children or [node])]


def text(app: Browser, identifier: str) -> str:
    return str(app.query_one(identifier, Static).render())


def test_every_run_is_in_the_tree_and_shows_what_it_holds() -> None:
    before = snapshot(FIXTURES)

    async def steps(app: Browser, pilot: Pilot[None]) -> None:
        assert {leaf.data.path for leaf in leaves(app)} == {
            os.path.relpath(sample.path, FIXTURES / "experiments") for sample in EXPERIMENTS
        }
        sample = pick("tf2.21")
        leaf = next(leaf for leaf in leaves(app) if leaf.data.location == str(sample.path))
        app.query_one("#runs", Tree).move_cursor(leaf)
        await settled(app, pilot)
        assert "at risk" in text(app, "#summary")
        assert f"{sample.best_recall:.6f}" in text(app, "#summary")
        table = app.query_one("#tensors", DataTable)
        names = [table.get_row_at(number)[0].plain for number in range(table.row_count)]
        assert "model/item_embedding" in names
        assert "model/proj/_kernel" in text(app, "#graph") or "_kernel" in text(app, "#graph")

    drive(FIXTURES / "experiments", steps)
    assert snapshot(FIXTURES) == before


def test_nothing_lies_beyond_the_edge_of_a_small_terminal() -> None:
    async def steps(app: Browser, pilot: Pilot[None]) -> None:
        app.query_one("#runs", Tree).move_cursor(leaves(app)[0])
        await settled(app, pilot)
        assert app.query_one(TabbedContent).region.right <= 80
        assert app.query_one("#summary").region.right <= 80

    drive(FIXTURES / "experiments", steps, size=(80, 24))


def test_by_keyboard_alone(copy: Copy, tmp_path: Path) -> None:
    copy(pick("tf2.21"))
    copy(pick("tf2.10", "ComiRec-DR"))

    async def steps(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("down", "down")
        await settled(app, pilot)
        assert "ComiRec-DR" in text(app, "#summary")
        tabs = app.query_one(TabbedContent)
        panes = ("c", "curve-tab"), ("t", "tensors-tab"), ("g", "graph-tab"), ("s", "summary-tab")
        for key, tab in panes:
            await pilot.press(key)
            await pilot.pause()
            assert tabs.active == tab
        await pilot.press("r")
        assert app.focused is app.query_one("#runs", Tree)
        await pilot.press("q")
        await pilot.pause()
        assert not app.is_running

    drive(tmp_path, steps)


def test_finding(copy: Copy, tmp_path: Path) -> None:
    copy(pick("tf2.21"))
    copy(pick("tf2.10", "ComiRec-DR"))

    async def steps(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"comirec-dr")
        await pilot.pause()
        assert [leaf.data.model for leaf in leaves(app)] == ["ComiRec-DR"]
        await pilot.press("enter")
        assert app.focused is app.query_one("#runs", Tree)
        await pilot.press("escape")
        await pilot.pause()
        assert len(leaves(app)) == 2
        assert app.query_one("#find", Input).value == ""

    drive(tmp_path, steps)


def test_a_damaged_run_and_strange_names(tmp_path: Path) -> None:
    build_bundle(tmp_path / "a[red]\x1b[31m", {"w[/]\x07": np.zeros(3, np.float32)})
    (tmp_path / "b.index").write_bytes(b"")
    (tmp_path / "b.data-00000-of-00001").write_bytes(b"")

    async def steps(app: Browser, pilot: Pilot[None]) -> None:
        for key in ("down", "down"):
            await pilot.press(key)
            await settled(app, pilot)
            await pilot.press("t", "g", "s", "r")
        assert "damaged" in text(app, "#summary")
        assert "\x1b" not in "".join(str(leaf.label) for leaf in leaves(app))

    drive(tmp_path, steps, size=(80, 24))


def test_the_graph_is_shown_once_and_no_longer_than_allowed() -> None:
    with Bundle(pick("tf2.21").full_prefix) as bundle:
        assert bundle.graph is not None
        lines = list(graph_lines(bundle.graph, 1000))
        assert lines[0] == "root"
        assert any("item_embedding" in line for line in lines)
        assert len(list(graph_lines(bundle.graph, 5))) == 6


def test_it_needs_a_terminal_and_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["browse", str(tmp_path)]) == 2
    assert "ckpt audit" in capsys.readouterr().err


def test_names_are_told_apart_in_a_small_terminal() -> None:
    async def steps(app: Browser, pilot: Pilot[None]) -> None:
        tree = app.query_one("#runs", Tree)
        for directory in tree.root.children:
            names = [str(leaf.label) for leaf in directory.children]
            assert len({*names}) == len(names)
        width = app.query_one("#runs").region.width
        assert max(len(str(leaf.label)) for leaf in leaves(app)) + 9 <= width
        # There is room for more of them in a larger one.
        await pilot.resize_terminal(200, 40)
        await settled(app, pilot)
        assert any("_b128_lr0.005_" in str(leaf.label) for leaf in leaves(app))

    drive(FIXTURES / "experiments", steps, size=(80, 24))


def test_what_was_not_read_is_not_called_whole(copy: Copy, tmp_path: Path) -> None:
    copy(pick("tf2.21"))
    (data,) = (copy(pick("tf2.10")) / "keras_ckpt").glob("*.data-*")
    values = bytearray(data.read_bytes())
    values[5000] ^= 1
    data.write_bytes(values)

    async def steps(app: Browser, pilot: Pilot[None]) -> None:
        found = {}
        for leaf in leaves(app):
            assert str(leaf.label).startswith("○")
            app.query_one("#runs", Tree).move_cursor(leaf)
            await settled(app, pilot)
            assert "not read (v reads every byte)" in text(app, "#summary")
            await pilot.press("v")
            await settled(app, pilot)
            found[leaf.data.model, leaf.data.lineage] = text(app, "#summary")
        (whole,) = [words for words in found.values() if "whole: " in words]
        (damaged,) = [words for words in found.values() if "damaged: " in words]
        assert "bytes read" in whole
        assert "cause" in damaged
        assert {str(leaf.label)[0] for leaf in leaves(app)} == {"●"}

    drive(tmp_path, steps)


def test_curve_and_histogram(copy: Copy, tmp_path: Path) -> None:
    sample = pick("tf2.21")
    copy(sample)

    async def steps(app: Browser, pilot: Pilot[None]) -> None:
        app.query_one("#runs", Tree).move_cursor(leaves(app)[0])
        await settled(app, pilot)
        await pilot.press("c")
        assert "◆" in text(app, "#curve")
        assert f"{sample.best_recall:.5g}" in text(app, "#curve")
        await pilot.press("t", "slash")
        app.query_one("#find", Input).value = "proj/kernel"
        await pilot.press("enter")
        await settled(app, pilot)
        table = app.query_one("#tensors", DataTable)
        assert {table.get_row_at(number)[0].plain.rpartition("proj/")[2] for number in range(table.row_count)} == {
            "kernel"
        }
        await pilot.press("h")
        await settled(app, pilot)
        assert "█" in text(app, "#values")
        # Of what holds no floats it is said why not.
        app.query_one("#find", Input).value = "step"
        await pilot.press("t", "h")
        await settled(app, pilot)
        assert "are not counted" in text(app, "#values")

    drive(tmp_path, steps)


def test_help_and_copying(copy: Copy, tmp_path: Path) -> None:
    experiment = copy(pick("tf2.21"))

    async def steps(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(app.screen, Help)
        await pilot.press("escape")
        await pilot.pause()
        app.query_one("#runs", Tree).move_cursor(leaves(app)[0])
        await settled(app, pilot)
        await pilot.press("y")
        assert app.clipboard == f"ckpt backfill {experiment} --data DIR"

    drive(tmp_path, steps)


class TestPictures:
    def test_every_key_is_in_the_help(self) -> None:
        told = " ".join(key for key, _ in KEYS)
        names = {"question_mark": "?", "slash": "/"}
        keys = [names.get(binding.key, binding.key) for binding in Browser.BINDINGS if binding.key != "escape"]
        assert [key for key in keys if key not in told] == []

    def test_a_curve_is_as_large_as_there_is_room(self) -> None:
        points = [LoggedEvaluation(n, None, abs(n - 50) / 50, None, None, "log") for n in range(101)]
        curve = Curve(tuple(points), (30,))
        lines = curve_picture(curve, 60, 12).plain.split("\n")
        assert len(lines) == 12
        assert max(map(len, lines)) <= 60
        assert "◆" in lines[0]
        assert lines[-1].split() == ["step", "0", "100"]
        assert any("│" in line for line in lines)

    def test_odd_curves(self) -> None:
        def curve(*recalls: float) -> Curve:
            return Curve(tuple(LoggedEvaluation(7, None, recall, None, None, "log") for recall in recalls))

        assert curve_picture(curve(), 40, 8).plain == "No evaluation is logged."
        for odd in (curve(0.5), curve(0.5, 0.5), curve(1e308, -1e308, 0.5), curve(5e-324, 0.0)):
            assert len(curve_picture(odd, 40, 8).plain.split("\n")) == 8

    def test_bars_are_at_most_as_many_as_there_are_rows(self) -> None:
        found = Histogram("w", tuple(range(40)), tuple(float(n) for n in range(41)), 3)
        lines = histogram_picture(found, 60, 10).plain.rstrip("\n").split("\n")
        assert len(lines) == 11
        assert max(map(len, lines)) <= 60
        assert lines[-1] == "3 values are not finite"
        assert "No finite value" in histogram_picture(Histogram("w", (), (), 3), 60, 10).plain
