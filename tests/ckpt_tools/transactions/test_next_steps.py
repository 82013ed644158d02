"""Every error of what changes a checkpoint, of its journal and its ledger ends with what to do next."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle, rewrite, stored_best

from ckpt_tools import errors
from ckpt_tools.cli import run
from ckpt_tools.errors import CkptError
from ckpt_tools.fs.local import translated
from ckpt_tools.transactions import undo

PACKAGE = Path(errors.__file__).parent
MODULES = [
    *sorted((PACKAGE / "transactions").glob("*.py")),
    PACKAGE / "runs" / "ledger.py",
    PACKAGE / "fs" / "durable.py",
]
# `decode` gives what these raise both its path and its next step.
DECODING = {
    "decode",
    "_decode",
    "_files",
    "_removed",
    "_text",
    "_list",
    "_rows",
    "_names",
    "_require_known",
    "_require_ours",
}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_no_error_is_raised_without_a_next_step(module: Path) -> None:
    ours = {name for name, made in vars(errors).items() if isinstance(made, type) and issubclass(made, CkptError)}
    functions = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.FunctionDef)]
    decoding = [node for function in functions if function.name in DECODING for node in ast.walk(function)]
    bare = [
        f"{module.name}:{call.lineno}"
        for function in functions
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in ours
        and call not in decoding
        and "hint" not in {word.arg for word in call.keywords}
    ]
    assert not bare


LINES: dict[str, Callable[[dict[str, object]], str]] = {
    "no JSON": lambda _: '{"id": ',
    "no object": lambda _: "[]",
    "a field lost": lambda row: json.dumps({key: row[key] for key in row if key != "index_after"}),
    "a field of another kind": lambda row: json.dumps(row | {"time": 3}),
    "a path for a name": lambda row: json.dumps(row | {"checkpoint": "../x"}),
    "an id that is none of ours": lambda row: json.dumps(row | {"id": "x"}),
}


@pytest.mark.parametrize("file", ["ledger.jsonl", "pending.json"])
@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_what_is_said_to_be_typed_gets_one_on(
    line: Callable[[dict[str, object]], str], file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = build_bundle(tmp_path / "m", {"a": np.arange(3)})
    rewrite(prefix, 0.25)
    kept = tmp_path / ".ckpt-tools"
    row = json.loads((kept / "ledger.jsonl").read_text())
    (kept / file).write_text(line(row) + "\n" * 2 + json.dumps(row) + "\n" * (file == "ledger.jsonl"))
    backups = sorted((kept / "backup").rglob("*"))
    capsys.readouterr()
    assert run(["undo", prefix]) in (1, 4)
    said = capsys.readouterr().err
    assert "next: " in said, said
    with pytest.raises(CkptError) as caught:
        undo(prefix)
    words = shlex.split((caught.value.hint or "").rpartition(": ")[2])
    assert words[0] == "mv"
    subprocess.run(words, check=True)
    assert stored_best(prefix) == 0.25
    rewrite(prefix, 0.5)
    undo(prefix)
    assert stored_best(prefix) == 0.25
    assert set(backups) <= set((kept / "backup").rglob("*"))


def test_a_refusal_of_the_system_has_one_whatever_it_is() -> None:
    for number in range(1, 134):
        with pytest.raises(CkptError) as caught, translated("x", "read"):
            raise OSError(number, "x")
        assert caught.value.hint or caught.value.id == "not-found"
