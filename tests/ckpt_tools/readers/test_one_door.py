"""A path is located once, told by its content once, opened once; and what shows an answer opens nothing."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import made
import numpy as np
import pytest
from checkpoints import EXPERIMENTS, build_bundle

from ckpt_tools.analysis.inspection import Inspection, inspect
from ckpt_tools.analysis.page_contents import run_contents
from ckpt_tools.analysis.provenance import Provenance, trace
from ckpt_tools.analysis.verification import verify
from ckpt_tools.cli.commands.inspect import _text as text_of_inspection
from ckpt_tools.cli.commands.why import _text as text_of_provenance
from ckpt_tools.format.state import encode_state
from ckpt_tools.fs.local import RandomAccessFile
from ckpt_tools.readers import location, open_checkpoint
from ckpt_tools.readers.signatures import sniff
from ckpt_tools.report import render


class Calls:
    """How often each was called: ``found`` for all paths together, the others for each path."""

    def __init__(self) -> None:
        self.found = 0
        self.sniffed: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()


@contextlib.contextmanager
def counted() -> Iterator[Calls]:
    calls = Calls()

    def found(_: FrameType) -> None:
        calls.found += 1

    def sniffed(frame: FrameType) -> None:
        calls.sniffed[frame.f_locals["file"].path] += 1

    def opened(frame: FrameType) -> None:
        calls.opened[os.fspath(frame.f_locals["path"])] += 1

    # Whoever calls them, under whatever name it was imported.
    watched: dict[CodeType, Callable[[FrameType], None]] = {
        location.find.__code__: found,
        sniff.__code__: sniffed,
        RandomAccessFile.__init__.__code__: opened,
    }

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code in watched:
            watched[frame.f_code](frame)

    sys.setprofile(profile)
    try:
        yield calls
    finally:
        sys.setprofile(None)


VALUES = {"a": np.ones(3, np.float32)}


def h5(folder: Path) -> Path:
    return made.h5(folder / "model.h5", VALUES)


def keras(folder: Path) -> Path:
    return made.keras(folder / "m.keras", VALUES)


def safetensors(folder: Path) -> Path:
    return made.safetensors(folder / "m.safetensors", VALUES)


def version_1(folder: Path) -> Path:
    return made.version_1(folder / "old.ckpt", VALUES)


def bundle(folder: Path) -> Path:
    return Path(build_bundle(folder / "ckpt-1", VALUES))


def saved_model(folder: Path) -> Path:
    return made.saved_model(folder / "model", VALUES)


def directory(folder: Path) -> Path:
    bundle(folder)
    (folder / "checkpoint").write_bytes(encode_state("ckpt-1", ["ckpt-1"]))
    return folder


def directory_of_one(folder: Path) -> Path:
    return h5(folder).parent


def named_by_another_state(folder: Path) -> Path:
    bundle(folder)
    (folder / "best_checkpoint").write_bytes(encode_state("ckpt-1", ["ckpt-1"]))
    return folder / "best_checkpoint"


MADE = [h5, keras, safetensors, bundle, directory, directory_of_one, named_by_another_state, saved_model, version_1]


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
@pytest.mark.parametrize("ask", [open_checkpoint, inspect, verify], ids=lambda ask: ask.__name__)
def test_each_path_is_opened_once(make: Callable[[Path], Path], ask: Callable[[str], Any], tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    path = str(make(tmp_path / "here"))
    with counted() as calls:
        ask(path)
    assert calls.opened
    assert calls.found == 1
    assert set(calls.sniffed.values()) <= {1}
    assert set(calls.opened.values()) == {1}, calls.opened


def test_an_experiment_is_opened_once(copy: Callable[..., Path]) -> None:
    experiment = copy(EXPERIMENTS[0])
    for ask in (inspect, verify):
        with counted() as calls:
            ask(str(experiment))
        assert set(calls.opened.values()) == {1}, calls.opened
        assert calls.found <= 1


# ------------------------------------------------------------------------------- what shows an answer


_FORBIDDEN = ("open", "os.listdir", "os.scandir")
_opened: list[tuple[str, Any]] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event in _FORBIDDEN and not str(arguments[0]).endswith((".py", ".pyc", ".j2")):
        _opened.append((event, arguments[0]))


sys.addaudithook(_audit)


@contextlib.contextmanager
def told(directory: Path) -> Iterator[list[tuple[str, Any]]]:
    """What is opened or listed below a directory in the block."""
    global _opened
    _opened = found = []
    try:
        yield found
    finally:
        _opened = None
        found[:] = [(event, path) for event, path in found if str(directory) in str(path)]


def inspected(path: Path) -> tuple[Inspection, Callable[[Inspection], Any]]:
    return inspect(str(path)), lambda found: list(text_of_inspection(found, tree=True))


def why(path: Path) -> tuple[Provenance, Callable[[Provenance], Any]]:
    return trace(str(path)), lambda found: list(text_of_provenance(found))


@pytest.mark.parametrize("ask", [inspected, why])
@pytest.mark.parametrize("number", [0, -1])
def test_what_shows_an_answer_opens_nothing(ask: Callable[..., Any], number: int, copy: Callable[..., Path]) -> None:
    experiment = copy(EXPERIMENTS[number])
    found, show = ask(experiment)
    root = experiment.parents[1]
    with told(root) as opened:
        assert show(found)
        found.to_json()
    assert opened == []
    with told(root) as opened:  # that anything would be seen
        ask(experiment)
    assert opened


def test_a_page_opens_nothing(copy: Callable[..., Path]) -> None:
    pytest.importorskip("jinja2")
    experiment = copy(EXPERIMENTS[0])
    found = run_contents(str(experiment))
    with told(experiment.parents[1]) as opened:
        assert "<html" in render(found)
    assert opened == []


def test_the_history_is_part_of_the_answer(copy: Callable[..., Path]) -> None:
    experiment = copy(EXPERIMENTS[0])
    found = inspect(str(experiment))
    history = found.to_json()["history"]
    assert history["metric"] == "recall"
    assert [point["recall"] for point in history["points"]] == found.curve.recalls
    assert len(history["points"]) == EXPERIMENTS[0].evaluations
    assert history["points"][history["best"]]["recall"] == max(found.curve.recalls)
