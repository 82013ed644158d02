"""What is built installs in an empty environment and works there, without TensorFlow."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist and the wheel that is built from it."""
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", directory, ROOT], check=True, capture_output=True)
    return directory


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_what_is_built_installs_and_works(built: Path, kind: str, tmp_path: Path) -> None:
    package = next(built.glob(kind))
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    install = [python, "-m", "pip", "install", "--quiet", "-c", constraints, package]
    subprocess.run(install, check=True, capture_output=True, cwd=tmp_path)
    experiment = next((ROOT / "fixtures/experiments/tf1.15/best_model").glob("*DNN"))
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "ckpt", "inspect", experiment], capture_output=True, text=True, check=True
    )
    assert "comirec-tf1" in done.stdout
    absent = "import importlib.util, sys; sys.exit(importlib.util.find_spec('tensorflow') is not None)"
    subprocess.run([python, "-c", absent], check=True)
