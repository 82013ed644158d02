"""scripts/graph_census.py: what an old trainer's scores are computed with, and nothing that only trains."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from checkpoints import FIXTURES, pick

from ckpt_tools.format.wire import bytes_field, text_field

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


def graph(*nodes: tuple[str, str, tuple[str, ...]]) -> bytes:
    rows = b"".join(
        bytes_field(1, text_field(1, name) + text_field(2, op) + b"".join(text_field(3, each) for each in inputs))
        for name, op, inputs in nodes
    )
    return bytes_field(2, rows)


def test_what_is_fed_and_what_that_needs_is_counted(census: ModuleType) -> None:
    nodes = census.read_graph(
        graph(
            ("x", "Placeholder", ()),
            ("w", "VariableV2", ()),
            ("w/init", "Const", ()),
            ("w/Assign", "Assign", ("w", "w/init")),
            ("w/read", "Identity", ("w",)),
            ("score", "MatMul", ("x:0", "w/read", "^w/Assign")),
            ("loss/square", "Square", ("score",)),
            ("gradients/score", "Mul", ("score", "w/read")),
            ("Adam/update", "ApplyAdam", ("w", "gradients/score")),
            ("save/SaveV2", "SaveV2", ("w",)),
            ("aside", "Const", ()),
        )
    )
    assert census.inference(nodes) == {"x", "w", "w/read", "score"}
    fed = census.read_graph(graph(("data", "RangeDataset", ()), ("next", "IteratorGetNext", ("data",))))
    assert census.inference(fed) == {"next"}
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
