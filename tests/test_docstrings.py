"""Who raises one of our errors says so in its docstring: the error is part of what a function promises."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ckpt_tools
import trainer

LIBRARY, TRAINER = (Path(package.__path__[0]) for package in (ckpt_tools, trainer))
LIBRARY_FOLDERS = ["format", "fs", "readers", "lineages", "runs", "analysis", "transactions", "operations"]
PLACES = [*(LIBRARY / name for name in LIBRARY_FOLDERS), TRAINER]
MODULES = {path: ast.parse(path.read_text()) for root in (LIBRARY, TRAINER) for path in sorted(root.rglob("*.py"))}
SAID = re.compile(r"\bRaises?\b")


def family() -> set[str]:
    """The names of all our errors, those of single modules too."""
    found = {"CkptError"}
    classes = [node for tree in MODULES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while more := {
        node.name
        for node in classes
        if node.name not in found and any(isinstance(base, ast.Name) and base.id in found for base in node.bases)
    }:
        found |= more
    return found


ERRORS = family()


def raised(function: ast.FunctionDef) -> set[str]:
    """The errors that a function raises itself; not those of functions within it."""
    found = set()
    waiting: list[ast.AST] = [*function.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.Raise):
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(error, ast.Name) and error.id in ERRORS:
                found.add(error.id)
        waiting += ast.iter_child_nodes(node)
    return found


def public(body: list[ast.stmt], owner: ast.ClassDef | None = None) -> Iterator[tuple[str, str, ast.FunctionDef]]:
    """Name, docstring and definition of each public function; a class speaks for its ``__init__``."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public(node.body, node)
        elif isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__"):
            said = ast.get_docstring(node) or ""
            if owner is not None and node.name == "__init__":
                said += ast.get_docstring(owner) or ""
            yield f"{owner.name}.{node.name}" if owner else node.name, said, node


def unsaid(tree: ast.Module) -> list[str]:
    found = []
    for name, said, function in public(tree.body):
        errors = raised(function)
        if errors and not (SAID.search(said) and all(error in said for error in errors)):
            found.append(f"{name}: {', '.join(sorted(errors))}")
    return found


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_who_raises_says_so(place: Path) -> None:
    trees = {path: tree for path, tree in MODULES.items() if path.is_relative_to(place)}
    assert trees
    assert {path.name: found for path, tree in trees.items() if (found := unsaid(tree))} == {}


def test_silence_would_be_seen() -> None:
    quiet = 'def read():\n    """The value."""\n    if True:\n        raise CorruptError("no")\n'
    assert unsaid(ast.parse(quiet)) == ["read: CorruptError"]
    assert unsaid(ast.parse(quiet.replace("value.", "value. Raises CorruptError for none."))) == []
    within = 'def read():\n    def _inner():\n        raise CorruptError("no")\n'
    assert unsaid(ast.parse(within)) == []
    assert {"CorruptError", "ClosedError", "NoManifestError"} <= ERRORS
