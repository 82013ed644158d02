"""Options and fixtures of the tests of ckpt_tools."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# TensorFlow, where a test asks it as the oracle, should say only what is wrong. Before its first import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# What the tests compare is said in English, whoever runs them.
os.environ["LC_ALL"] = "C.UTF-8"

from checkpoints import EXPERIMENTS, FIXTURES, Sample
from hypothesis import HealthCheck, settings
from tools import find_tool

from ckpt_tools.analysis import stability

# Examples are deterministic, so that a red run is red again; a fixture that is only read is safe to share.
settings.register_profile(
    "repository",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("repository")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage is believed after a pause, and thousands of tests make some: here nobody saves meanwhile."""
    monkeypatch.setattr(stability, "QUIET_SECONDS", 0.0)


GOLDEN = Path(__file__).parent / "golden"
_UPDATE = "--update-golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(_UPDATE, action="store_true", help="rewrite the golden files instead of comparing with them")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with ``golden/NAME``; with --update-golden write it there."""
    update = request.config.getoption(_UPDATE, default=False)

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        expected = path.read_text() if path.exists() else ""
        assert text == expected, f"{path.name} differs; if that is right: pytest {_UPDATE}"

    return compare


@pytest.fixture
def copy(tmp_path: Path) -> Callable[..., Path]:
    """Copy an experiment (its folders below best_model and runs) to a fresh root; returns its best_model folder."""

    def make(sample: Sample, root: str = "root", logs: bool = True) -> Path:
        source = FIXTURES / "experiments" / sample.root
        for folder in ("best_model", *(("runs",) if logs else ())):
            shutil.copytree(source / folder / sample.experiment, tmp_path / root / folder / sample.experiment)
        return tmp_path / root / "best_model" / sample.experiment

    return make


@pytest.fixture(params=EXPERIMENTS, ids=lambda sample: sample.id)
def sample(request: pytest.FixtureRequest) -> Any:
    """Each experiment of the fixtures."""
    return request.param


@pytest.fixture
def require_tool() -> Callable[..., str]:
    """The path of a system tool. Without it the test is skipped, or fails where CKPT_TOOLS_REQUIRE lists the tool."""

    return find_tool
