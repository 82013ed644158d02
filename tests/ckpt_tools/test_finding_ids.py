"""The registry has every id that the code gives a finding, with its levels, and no other."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ckpt_tools import errors, finding_ids
from ckpt_tools.findings import Finding

ROOT = Path(__file__).parents[2]
LEVELS = {"note", "warning", "error", "damage"}
# What an id is made of where it is not written out; whoever adds one has to say what it can be.
MADE = {
    "f'best-metric-{best.status}'": {"best-metric-absent", "best-metric-unset"},
    "f'{row.health}-run'": {"damaged-run", "missing-run", "unread-run", "unreadable-run", "unsupported-run"},
}
# An error's own id, and the one function that hands an id on: its callers are looked at.
HANDED_ON = {"error.id", "e.id", "category.id"}
FORWARDERS = {"_note"}


def made() -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """Where, the id and the level of each finding that is made; of a forwarder's callers too."""
    for package in ("ckpt_tools", "trainer"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                if name == "Finding":
                    assert len(node.args) >= 2, f"{where}: id and level are given by place"
                    yield where, node.args[0], node.args[1]
                elif name in FORWARDERS:
                    yield where, node.args[0], ast.Constant("note")


@cache
def calls() -> tuple[tuple[str, ast.expr, ast.expr], ...]:
    return tuple(made())


def written() -> dict[str, set[str]]:
    """Each id in the code with its levels; all of them where the level is not written out."""
    found: dict[str, set[str]] = {}
    for where, identity, level in calls():
        if isinstance(identity, ast.Constant):
            ids = {identity.value}
        elif ast.unparse(identity) in HANDED_ON | {"kind"}:
            continue
        else:
            assert ast.unparse(identity) in MADE, f"{where}: {ast.unparse(identity)}"
            ids = MADE[ast.unparse(identity)]
        for each in ids:
            found.setdefault(each, set()).update({level.value} if isinstance(level, ast.Constant) else LEVELS)
    return found


def of_errors() -> dict[str, type]:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if hasattr(kind, "id")]
    return {kind.id: kind for kind in kinds if kind is not errors.CkptError}


def test_every_id_of_the_code_is_in_the_registry_and_no_other() -> None:
    assert len(written()) > 60
    assert set(finding_ids.ALL) == set(written()) | set(of_errors())


def test_every_id_is_in_one_table_only() -> None:
    tables = (finding_ids.OF_ERRORS, finding_ids.OF_CKPT, finding_ids.OF_TRAINER)
    assert sum(map(len, tables)) == len(finding_ids.ALL)
    assert set(finding_ids.OF_ERRORS) == set(of_errors())


def test_the_levels_are_those_of_the_code() -> None:
    possible = written()
    for identity in finding_ids.OF_CKPT | finding_ids.OF_TRAINER:
        known = set(finding_ids.ALL[identity].levels)
        assert known <= possible[identity], identity
        if possible[identity] != LEVELS and identity not in set().union(*MADE.values()):
            assert known == possible[identity], identity


@pytest.mark.parametrize("identity", sorted(set(of_errors()) - {"not-durable", "not-locked"}))
def test_an_error_comes_with_a_level_of_the_registry(identity: str) -> None:
    if issubclass(kind := of_errors()[identity], errors.CkptError):
        assert Finding.of(kind("message")).severity in finding_ids.ALL[identity].levels


def test_nothing_that_is_found_waits_for_the_registry() -> None:
    code = (
        "import sys; from ckpt_tools.cli import run; run(['inspect', 'nowhere', '--json']);"
        "sys.exit('ckpt_tools.finding_ids' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0
