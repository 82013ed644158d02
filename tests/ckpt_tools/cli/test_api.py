"""``ckpt_tools.NAME``: the commands as functions, which return what the commands print."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import contents, pick, stored_best

import ckpt_tools as ct
from ckpt_tools.errors import NotFoundError, UsageError

FUNCTIONS = [name for name in ct.__all__ if name not in ("__version__", "open")]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An old experiment without its best metric, with its logs, in a root of its own."""
    sample = pick("tf2.21")
    root = sample.path.parent.parent
    for kind in ("best_model", "runs"):
        shutil.copytree(root / kind / sample.experiment, tmp_path / kind / sample.experiment)
    return tmp_path / "best_model" / sample.experiment


ASKS: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "inspect": (lambda run: ct.inspect(run, digest=True), ["inspect", "RUN", "--digest"]),
    "verify": (lambda run: ct.verify(run), ["verify", "RUN"]),
    "resume_check": (lambda run: ct.resume_check(run), ["resume-check", "RUN"]),
    "diff": (lambda run: ct.diff(run, run), ["diff", "RUN", "RUN"]),
    "audit": (lambda run: ct.audit(run), ["audit", "RUN"]),
    "repair": (lambda run: ct.repair(run, dry_run=True), ["repair", "RUN", "--dry-run"]),
}


@pytest.mark.parametrize("name", ASKS)
def test_they_return_what_the_commands_print(name: str, run: Path, ckpt: Callable[..., Any]) -> None:
    ask, words = ASKS[name]
    document = ask(run).to_json()
    said = ckpt(*(run if word == "RUN" else word for word in words), "--json").json
    for each in [*document.get("runs", []), *said.get("runs", [])]:
        each.pop("age_days")
    assert {field: said[field] for field in document} == json.loads(json.dumps(document))
    assert len(document) > 2


def test_backfill_and_undo(run: Path) -> None:
    before = contents(run)
    done = ct.backfill(run, from_logs=True, dry_run=True)
    assert contents(run) == before
    done = ct.backfill(run, from_logs=True)
    assert done.written
    assert stored_best(str(done.prefix)) == pytest.approx(done.value)
    undone = ct.undo(run)
    assert undone.restored
    assert stored_best(str(done.prefix)) is None
    with pytest.raises(NotFoundError):
        ct.undo(run)


def test_export_is_opened_again(run: Path, tmp_path: Path) -> None:
    done = ct.export(run, tmp_path / "m.npz")
    assert len(done.written) == len(ct.inspect(run).tensors)
    with pytest.raises(UsageError):
        ct.export(run, tmp_path / "m.npz")


def test_audit_chooses_and_orders(run: Path) -> None:
    shutil.copytree(run, run.with_name(run.name + "_copy"))
    assert len(ct.audit(run.parent, filter=["_copy"]).rows) == 1
    paths = [row.path for row in ct.audit(run.parent, sort="-path").rows]
    assert paths == sorted(paths, reverse=True)
    with pytest.raises(UsageError):
        ct.audit(run.parent, sort="nothing")


@pytest.mark.parametrize("name", [*FUNCTIONS, "open"])
def test_they_are_documented_and_typed(name: str) -> None:
    function = getattr(ct, name)
    assert "Raises" in (inspect.getdoc(function) or "")
    signature = inspect.signature(function)
    assert all(parameter.annotation is not parameter.empty for parameter in signature.parameters.values())
    assert signature.return_annotation not in (signature.empty, "Any")
    assert name in dir(ct)


def test_what_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'inspekt'"):
        ct.inspekt  # noqa: B018


def test_importing_the_package_loads_nothing_else() -> None:
    code = "import sys, ckpt_tools; print(*[name for name in sys.modules if name.startswith(('ckpt_tools', 'numpy'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == ["ckpt_tools", "ckpt_tools.version"]
