"""Data flows one way, and reading a checkpoint needs neither TensorFlow nor the trainer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ckpt_tools

ROOT = Path(__file__).parents[1]


def test_the_contracts_hold(tmp_path: Path) -> None:
    command = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--cache-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


WITHOUT = """
import importlib, pkgutil, sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"tensorflow", "keras", "faiss", "trainer"}:
            raise AssertionError(f"{name} was imported")

sys.meta_path.insert(0, Forbid())
import ckpt_tools
names = [m.name for m in pkgutil.walk_packages(ckpt_tools.__path__, "ckpt_tools.") if m.name != "ckpt_tools.__main__"]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_every_module_can_be_imported_where_tensorflow_is_not() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30


@pytest.mark.parametrize("forbidden", ["import glob", "import pickle", "rmtree(", " eval(", "os.system("])
def test_what_no_module_uses(forbidden: str) -> None:
    """Names with brackets are names, checkpoints run no code, and no directory goes with what is in it."""
    using = [path for path in Path(ckpt_tools.__file__).parent.rglob("*.py") if forbidden in path.read_text()]
    assert using == []
