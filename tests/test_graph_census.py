"""scripts/graph_census.py: what an old trainer's scores are computed with, and nothing that only trains."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from checkpoints import FIXTURES, pick

ROOT = FIXTURES.parent


@pytest.fixture(scope="module")
def census() -> ModuleType:
    spec = importlib.util.spec_from_file_location("graph_census", ROOT / "scripts" / "graph_census.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["graph_census"] = module
    spec.loader.exec_module(module)
    return module


def test_the_graphs_stand_in_the_order_in_which_they_cost_least(census: ModuleType) -> None:
    assert list(census.covered({"a": {"Add"}, "b": {"Add", "Mul"}, "c": {"Mul", "Sub", "Exp"}})) == [
        *(("a", 1), ("b", 2), ("c", 4))
    ]


def test_an_old_trainer(census: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = pick("tf1.15").full_prefix
    census.main([f"{prefix}.meta"])
    said = capsys.readouterr().out
    assert f"| {Path(prefix).name} |" in said
    assert "GatherV2" in said
    assert "MatMul" in said
    for op in ("ApplyAdam", "SaveV2", "RestoreV2", "Assign,", "Unique"):
        assert op not in said
