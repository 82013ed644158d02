"""Names of files and of the best metric are written once: elsewhere the code asks the module that knows them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# What a name is told by, and the one module that may write it. A text with blanks in it is a sentence for people.
HOMES = {
    r"data-(\d{5}|\\d|\{\}|\[)|\.data-": "ckpt_tools/format/filenames.py",
    r"\.index$|\\\.index|\.meta$": "ckpt_tools/format/filenames.py",
    r"(^|/|\\)\.ckpt-tools|\.ckpt-tools$": "ckpt_tools/format/filenames.py",
    r"_temp\b|tempstate|\.tmp\b": "ckpt_tools/format/filenames.py",
    r"keras_ckpt": "ckpt_tools/runs/experiments.py",
    r"best_metric(_meaning|\.json)?$": "ckpt_tools/format/stored_best.py",
}


@cache
def texts(module: Path) -> list[tuple[int, str]]:
    """The strings of a module that are no docstrings, with their lines."""
    return list(texts_of(ast.parse(module.read_text())))


def texts_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The strings that are no docstrings; what is formatted into one stands as ``{}``."""
    prose = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            pieces = (str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield node.lineno, "".join(pieces)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose | parts:
            yield node.lineno, node.value


def elsewhere(pattern: str, home: str) -> list[str]:
    found = []
    for path in sorted([*ROOT.glob("ckpt_tools/**/*.py"), *ROOT.glob("trainer/**/*.py")]):
        name = path.relative_to(ROOT).as_posix()
        for line, text in texts(path) if name != home else ():
            if re.search(pattern, text) and " " not in text:
                found.append(f"{name}:{line}: {text}")
    return found


@pytest.mark.parametrize(("pattern", "home"), HOMES.items())
def test_a_name_is_written_in_its_one_home(pattern: str, home: str) -> None:
    assert elsewhere(pattern, home) == []


@pytest.mark.parametrize(("pattern", "home"), HOMES.items())
def test_the_home_has_it(pattern: str, home: str) -> None:
    assert any(re.search(pattern, text) for _, text in texts(ROOT / home))
