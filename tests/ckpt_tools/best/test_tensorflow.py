"""Trainers that keep their best, with the real TensorFlow and both kinds of Keras, killed and started again."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import course
import pytest

from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.analysis.verification import verify
from ckpt_tools.best.state import read_state
from ckpt_tools.readers import open_checkpoint

pytestmark = pytest.mark.tensorflow
GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "best-checkpoint.md"
KINDS = ["keras", "tf_keras", "manager", "saver"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "tf_keras":
        pytest.importorskip("tf_keras")
    return str(request.param)


def start(kind: str, directory: Path, *values: float) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, course.__file__, kind, str(directory), *map(str, values)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def train(kind: str, directory: Path, *values: float) -> None:
    course.train(kind, str(directory), values)


def weight_of(path: str) -> float:
    with open_checkpoint(path) as checkpoint:
        names = [name for name in checkpoint.tensors if name.startswith(("weight", "layers/"))]
        assert len(names) == 1, names
        return float(checkpoint.read(names[0]).reshape(()))


def check(directory: Path) -> Any:
    """The state, after making sure that what it points to is what it says."""
    state = read_state(str(directory))
    assert state is not None
    assert state.best_file is not None
    path = str(directory / state.best_file)
    assert verify(path).whole
    assert weight_of(path) == pytest.approx(state.best)
    assert inspect(path).best_metric.value == pytest.approx(state.best)
    return state


def test_a_restart_remembers_the_best_and_goes_on_from_the_newest(kind: str, tmp_path: Path) -> None:
    train(kind, tmp_path / "run", 0.5, 0.3)
    first = check(tmp_path / "run")
    assert (first.best, first.wait) == (0.5, 1)
    train(kind, tmp_path / "run", 0.4)
    second = check(tmp_path / "run")
    assert (second.best, second.wait, second.best_file) == (0.5, 2, first.best_file)
    assert second.latest_file is not None
    assert weight_of(str(tmp_path / "run" / second.latest_file)) == pytest.approx(0.4)
    if kind.endswith("keras"):
        assert second.epoch == 2
    else:
        assert second.step == 3


@pytest.mark.slow
def test_killed_at_random_moments_the_best_is_whole_and_never_worse(kind: str, tmp_path: Path) -> None:
    chance = random.Random(kind)
    best = 0.0
    for _ in range(12):
        values = [round(chance.uniform(0.1, 0.9), 4) for _ in range(200)]
        with start(kind, tmp_path / "run", *values) as trainer:
            assert trainer.stdout is not None
            said = [float(trainer.stdout.readline().split()[1]) for _ in range(2)]
            time.sleep(chance.uniform(0, 1))
            trainer.send_signal(signal.SIGKILL)
            said += [float(word) for word in re.findall(r"saved ([\d.]+)\n", trainer.stdout.read())]
        state = check(tmp_path / "run")
        assert state.best >= max(best, *said), "what was said to be saved is"
        best = state.best
    train(kind, tmp_path / "run", 0.95)
    assert check(tmp_path / "run").best == 0.95
    assert len(list((tmp_path / "run" / "best").glob("*.h5"))) <= 1


def test_the_guide_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks), {})
    for name in ("keras", "manager", "saver"):
        said = json.loads((tmp_path / "runs" / name / "best.json").read_text())
        assert verify(str(tmp_path / "runs" / name / said["best_file"])).whole
