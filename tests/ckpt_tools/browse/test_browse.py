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

from ckpt_tools.browse.app import Browser

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
        for key, tab in (("t", "tensors-tab"), ("g", "graph-tab"), ("s", "summary-tab")):
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
