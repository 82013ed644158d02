"""The rules of the house that no linter knows: what a lineage may know, and what a name may mean."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import ckpt_tools
import trainer
from ckpt_tools.lineages import base

ROOTS = [Path(package.__path__[0]) for package in (ckpt_tools, trainer)]
MODULES = sorted(path for root in ROOTS for path in root.rglob("*.py"))
COMIREC = ROOTS[0] / "lineages" / "comirec"

# What any lineage may use: the bytes, and the public interface that extending.md names.
INTERFACE = {
    "ckpt_tools.errors",
    "ckpt_tools.format",
    "ckpt_tools.fs",
    "ckpt_tools.lineages.base",
    "ckpt_tools.lineages.names",
    "ckpt_tools.lineages.scalars",
    "ckpt_tools.lineages.meaning",
    "ckpt_tools.lineages.comirec",
    "ckpt_tools.readers.base",
}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Each module that is imported from, and what."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, name.asname or name.name) for name in node.names)
        elif isinstance(node, ast.Import):
            yield from ((name.name, "") for name in node.names)


def belongs(module: str, allowed: set[str]) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in allowed)


def test_comirec_needs_the_public_interface_of_lineages_alone() -> None:
    modules = sorted(COMIREC.glob("*.py"))
    assert len(modules) > 8
    for path in modules:
        for module, name in imported(parsed(path)):
            if module.startswith("ckpt_tools"):
                full = f"{module}.{name}" if module in ("ckpt_tools.lineages", "ckpt_tools.readers") else module
                assert belongs(full, INTERFACE), f"{path.name} imports {full}"
                assert not name.startswith("_"), f"{path.name} imports {name}"


def test_the_base_of_lineages_knows_no_model() -> None:
    said = parsed(Path(base.__file__))
    names = {node.id for node in ast.walk(said) if isinstance(node, ast.Name)}
    names |= {node.arg for node in ast.walk(said) if isinstance(node, ast.arg)}
    names |= {node.attr for node in ast.walk(said) if isinstance(node, ast.Attribute)}
    words = {node.value for node in ast.walk(said) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert not {"model_type", "variant", "item_count", "num_interest", "recall"} & (names | words)
    assert not any("comirec" in module for module, _ in imported(said))


def test_no_class_name_is_in_three_modules() -> None:
    """One meaning a word."""
    homes = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(path.stem)
    assert {name: found for name, found in homes.items() if len(found) > 2} == {}


def test_no_module_hides_behind_a_function_of_its_name() -> None:
    """Modules are nouns, functions verbs. A command is a module with the function that is called so."""
    for path in MODULES:
        tree = parsed(path)
        if path.parent.name != "commands":
            defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
            assert path.stem not in defined, f"{path} and its function have one name"
        if path.name == "__init__.py":
            below = {each.stem for each in path.parent.iterdir() if each.suffix in ("", ".py")} - {"__init__"}
            package = ".".join(path.parent.relative_to(ROOTS[0].parent).parts)
            functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
            shown = [name for module, name in imported(tree) if module.startswith(f"{package}.") and name != "app"]
            assert not below & {*functions, *shown}, f"{path} hides a module"


def test_who_needs_a_known_producer_asks_the_one_door() -> None:
    """`identify` is for those who have another way with a stranger; the others call `open_identified`."""
    asking = {path.stem for path in MODULES for _, name in imported(parsed(path)) if name == "identify"}
    assert asking == {
        *("opening", "naming", "opened"),
        *("declaration_check", "explanation", "inspection", "resume_forecast", "shelf"),
        *("backfilling", "bulk_backfilling", "comparing"),
        *("adopting", "pins"),
    }


def test_nothing_is_there_that_nothing_uses() -> None:
    """A function or class that no other code names, nor the documents, the scripts or the entry points: a test alone
    is no reason for one. What is decorated, or called by its special name, is found in another way."""
    project = ROOTS[0].parent
    others = [*project.glob("scripts/*.py"), *project.glob("benchmarks/*.py"), *project.rglob("docs/**/*.md")]
    others += [*ROOTS[0].rglob("*.j2"), project / "pyproject.toml"]
    words = Counter(word for path in (*MODULES, *others) for word in re.findall(r"\w+", path.read_text()))
    unused = []
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or words[node.name] > 1:
                continue
            called_by_name = node.name.startswith(("__", "_repr_", "on_", "set_", "action_", "_implements_"))
            if not called_by_name and not getattr(node, "decorator_list", []):
                unused.append(f"{path.stem}:{node.name}")
    assert unused == []


def test_no_test_module_imports_another() -> None:
    """What several need is in ``tests/support``."""
    tests = Path(__file__).parent
    modules = [path for path in tests.rglob("test_*.py") if "fuzz" not in path.parts]
    named = {path.stem for path in modules}
    wrong = [(path.name, module) for path in modules for module, _ in imported(parsed(path)) if module in named]
    assert len(modules) > 100
    assert wrong == []
