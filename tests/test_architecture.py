"""The pages about the code name what is there, and the walks go as they are written."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import ckpt_tools.cli
import trainer.cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / "explanation" / name for name in ("architecture.md", "extending.md")]
EXPERIMENT = "book_DNN_b128_lr0.005_d8_len20_k210_DNN"

NAMED = re.compile(r"`((?:ckpt_tools|trainer)[\w.]*):([\w.]+)`")
STEP = re.compile(r"^\d+\. `([\w.]+):([\w.]+)`", re.MULTILINE)


def source(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def defines(module: str, name: str) -> bool:
    """Whether the module itself has the function, class or method: an import of it from elsewhere does not count."""
    nodes: list[ast.stmt] = ast.parse(source(module).read_text()).body if source(module).is_file() else []
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.ClassDef)
        found = next((node for node in nodes if isinstance(node, kinds) and node.name == part), None)
        if found is None:
            return False
        nodes = found.body
    return True


def walk(title: str) -> list[tuple[str, str]]:
    section = PAGES[0].read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    return STEP.findall(section)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_function_on_the_page_is_there(page: Path) -> None:
    named = NAMED.findall(page.read_text())
    assert len(named) > 10
    assert [f"{module}:{name}" for module, name in named if not defines(module, name)] == []


def test_a_resume_is_understood_with_twenty_functions() -> None:
    assert 10 < len(walk("A resume of an old run")) <= 20


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for kind in ("best_model", "runs"):
        shutil.copytree(ROOT / "fixtures" / "experiments" / "tf2.10" / kind / EXPERIMENT, tmp_path / kind / EXPERIMENT)
    shutil.copytree(ROOT / "fixtures" / "data", tmp_path / "data")
    return tmp_path


def code_of(module: str, name: str) -> CodeType:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    code: CodeType = inspect.unwrap(found).__code__
    return code


def first_calls(run: Callable[[], int], wanted: dict[CodeType, str]) -> list[str]:
    """Which of the wanted functions were called, by their first call."""
    called: dict[str, None] = {}

    def note(frame: FrameType, event: str, argument: object) -> None:  # noqa: ARG001
        if event == "call" and frame.f_code in wanted:
            called.setdefault(wanted[frame.f_code])

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        code = run()
    finally:
        sys.setprofile(before)
    assert code == 0
    return list(called)


WALKS = {
    "A tensor from file to screen": lambda exp, data: ckpt_tools.cli.run(["inspect", exp, "--stats"]),  # noqa: ARG005
    "A metric from evaluation to disk": lambda exp, data: ckpt_tools.cli.run(["backfill", exp, "--data", data]),
    "A resume of an old run": lambda exp, data: trainer.cli.run(["train", exp, "--resume", "--data-dir", data]),
}


@pytest.mark.parametrize("title", WALKS)
def test_the_walk_goes_as_it_is_written(title: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer.cli, "_run", lambda *_, **__: 0)  # behind the first evaluation, and needs TensorFlow
    steps = walk(title)
    wanted = {code_of(module, name): f"{module}:{name}" for module, name in steps}
    found = first_calls(lambda: WALKS[title](str(place / "best_model" / EXPERIMENT), str(place / "data")), wanted)
    assert found == [f"{module}:{name}" for module, name in steps]
