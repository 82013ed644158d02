"""What goes on is drawn on a terminal, never over what is printed, and nowhere else."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import pytest
from checkpoints import pick
from rich.text import Text
from screen import Screen

from ckpt_tools.cli import run
from ckpt_tools.console import pulse
from ckpt_tools.console.output import Output
from ckpt_tools.console.widths import middle, told_apart

LONG = "a line that is longer than the terminal is wide, " * 3


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def output(*, json: bool = False, quiet: bool = False) -> Output:
    return Output("verify", None, json=json, quiet=quiet)


def test_what_is_printed_stands_above_the_bars() -> None:
    with Screen(columns=60) as screen:
        out = output()
        with out.bars() as bars:
            bars.begin(3)
            for number in range(3):
                bars.show(number, f"run {number}", 1, 2)
                out.line(Text(f"{number}: {LONG}"))
                out.problem(_error(number))
                time.sleep(0.12)
                bars.finish(number)
        out.line(Text("done"))
    shown = "".join(line.ljust(60) for line in screen.lines)
    for number in range(3):
        assert f"{number}: {LONG}".rstrip() in shown
        assert f": problem {number}" in shown
    assert "━" in screen.received
    assert "━" not in shown
    assert screen.lines[-2:] == ["done", ""]


def _error(number: int) -> Exception:
    from ckpt_tools.errors import CkptError

    return CkptError(f"problem {number}")


class TestPulse:
    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pulse, "_PATIENCE_SECONDS", 0.05)
        monkeypatch.setattr(pulse, "_FRAME_SECONDS", 0.02)

    def test_is_shown_while_nothing_else_is_and_vanishes(self) -> None:
        with Screen() as screen:
            out = output()
            with out.working():
                time.sleep(0.2)
                assert "verify 0:00" in screen.received
                out.phase("reading everything")
                time.sleep(0.2)
                assert "reading everything 0:00" in screen.received
                out.line(Text("an answer"))
                time.sleep(0.2)
        assert screen.lines == ["an answer", ""]

    def test_is_held_back_by_what_is_drawn(self) -> None:
        with Screen() as screen:
            out = output()
            with out.working():
                for block in (out.held, lambda: out.progress("reading"), out.bars, lambda: _drawn(out)):
                    with block():
                        time.sleep(0.15)
        assert "verify" not in screen.received

    def test_a_long_name_stays_on_one_line(self) -> None:
        with Screen(columns=20) as screen:
            out = output()
            with out.working():
                out.phase("x" * 100)
                time.sleep(0.2)
            assert "xxx 0:00" in screen.received
        assert screen.lines == [""]

    @pytest.mark.parametrize("silent", [{"quiet": True}, {"json": True}])
    def test_is_silent(self, silent: dict[str, bool]) -> None:
        with Screen() as screen, output(**silent).working():
            time.sleep(0.15)
        assert screen.received == ""

    def test_is_not_shown_where_there_is_no_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        with output().working():
            time.sleep(0.15)
        assert sys.stderr.getvalue() == ""


def _drawn(out: Output):
    import contextlib

    @contextlib.contextmanager
    def block():
        out.draw(lambda _: Text("a picture"))
        yield
        out.end_progress()

    return block()


@pytest.mark.parametrize("command", ["inspect", "export"])
def test_commands_that_read_everything_tell_how_far_they_are(command: str, tmp_path: Path) -> None:
    path = str(pick("tf2.21").path)
    arguments = {
        "inspect": ["inspect", path, "--stats", "--digest"],
        "export": ["export", path, str(tmp_path / "out.npz")],
    }[command]
    with Screen() as screen:
        assert run(arguments) == 0
    assert "100%" in screen.received
    assert "━" not in "".join(screen.lines)
    with Screen() as screen:
        assert run([*arguments, "--quiet", *(["--force"] if command == "export" else [])]) == 0
    assert screen.received == ""


class TestWidths:
    def test_the_middle_goes(self) -> None:
        assert middle("short", 10) == "short"
        assert middle("book_ComiRec-DR_b128_k3", 12) == "boo…_b128_k3"
        assert middle("中文的名字很长的", 7) == "中…长的"
        assert [middle("abc", width) for width in (0, 1, 2)] == ["", "…", "…c"]

    def test_names_that_differ_look_different(self) -> None:
        alike = [f"root/{'x' * 30}{letter}{'y' * 30}" for letter in "abc"]
        for width in (8, 16, 40):
            assert len({*told_apart(alike, width)}) == 3
        runs = [
            f"tf/book_{name}_b128_lr0.005_{kind}_{name}"
            for name, kind in (("DNN", "k3"), ("DNN", "tf1"), ("MIND", "k3"))
        ]
        assert told_apart(runs, 30) == ["DNN…k3", "DNN…tf1", "MIND…k3"]
        assert told_apart(runs, 60) == runs
        assert told_apart(["a_long_name", "a_long_name_2"], 8) == ["a_…_name", "a_…ame_2"]
        assert told_apart(["the same long name"] * 2, 8) == ["th… name"] * 2
        assert told_apart(["a", "a"], 5) == ["a", "a"]
        assert told_apart([], 5) == []
