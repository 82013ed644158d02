"""`ckpt average --evaluate` and `--data`: the mean stays only when it is better than what it was made from."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from checkpoints import FIXTURES, build_bundle, contents, pick
from gzipped import make
from objects import build_objects

from ckpt_tools.analysis.repeated import lead
from ckpt_tools.cli import run
from ckpt_tools.operations.averaging import average
from ckpt_tools.operations.command_evaluator import CommandEvaluation
from ckpt_tools.operations.comparing import ByProgram, ByUsers
from ckpt_tools.readers import Checkpoint, open_checkpoint

DATA = str(FIXTURES / "data")
KINDS = ("tf1", "tf2", "model.h5", "model.weights.h5", "model.keras")
_calls = 0


def distance(checkpoint: Checkpoint) -> float:
    """How far the first weight is from 2: between 1 and 3 the mean is nearer than either."""
    name = next(name for name, info in checkpoint.tensors.items() if info.shape == (2, 3))
    return float(abs(checkpoint.read(name) - 2).mean())


def noisy(checkpoint: Checkpoint) -> float:
    global _calls
    _calls += 1
    return distance(checkpoint) + (_calls % 3) * 0.4


def by(function: str, repeat: int = 1) -> ByProgram:
    return ByProgram(CommandEvaluation(f"{__name__}:{function}", repeat=repeat), "min")


def saved(folder: Path, kind: str, value: float) -> str:
    """A checkpoint whose only weight has one value."""
    weight = np.full((2, 3), value, np.float32)
    folder.mkdir(parents=True)
    if kind == "tf1":
        slots = {"w/Adam": np.ones_like(weight), "beta1_power": np.float32(0.9), "global_step": np.int64(9)}
        return build_bundle(folder / "model.ckpt-9", {"w": weight, **slots})
    if kind == "tf2":
        variables = {"model/w": ("w", weight), "optimizer/iter": ("Adam/iter", np.int64(7))}
        return build_objects(folder / "ckpt-1", variables, {("model/w", "m"): np.ones_like(weight)})
    path = make(folder / kind)
    inner = path if kind.endswith(".h5") else folder / "inner.h5"
    if inner != path:
        import zipfile

        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        inner.write_bytes(members["model.weights.h5"])
    with h5py.File(inner, "r+") as file:
        file["layers/dense/vars/0"][...] = weight
    if inner != path:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (members | {"model.weights.h5": inner.read_bytes()}).items():
                archive.writestr(name, content)
        inner.unlink()
    return str(path)


def output(tmp_path: Path, kind: str) -> str:
    return str(tmp_path / "mean" / "ckpt" if kind.startswith("tf") else tmp_path / f"mean-{kind}")


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_kept_when_it_is_better_and_not_when_it_is_worse(kind: str, tmp_path: Path) -> None:
    one, three, five = (saved(tmp_path / str(value), kind, value) for value in (1.0, 3.0, 5.0))
    before = contents(tmp_path)
    out = output(tmp_path, kind)
    done = average([three, five], out, how=by("distance"))  # 4 is farther from 2 than 3 is
    assert (done.written, done.plan) == (False, None)
    assert [finding.id for finding in done.findings] == ["not-better"]
    assert done.comparison is not None
    assert (done.comparison.best.prefix, done.comparison.best.lead) == (three, pytest.approx(-1.0))
    assert contents(tmp_path) == before
    done = average([one, three], out, how=by("distance"))
    assert done.written
    assert done.findings == ()
    assert done.comparison is not None
    assert done.comparison.better
    assert (done.comparison.value, done.comparison.best.value) == (0.0, 1.0)
    with open_checkpoint(out) as mean:
        assert distance(mean) == 0.0
    assert {name: row for name, row in contents(tmp_path).items() if not name.startswith("mean")} == before


def test_a_lead_within_the_noise_of_the_program_is_none(tmp_path: Path) -> None:
    paths = [saved(tmp_path / str(value), "tf1", value) for value in (1.8, 2.2)]
    done = average(paths, str(tmp_path / "mean" / "ckpt"), how=by("noisy", 3))
    assert not done.written
    assert done.comparison is not None
    assert done.comparison.best.lead == pytest.approx(0.2, abs=1e-6)
    assert "within noise" in done.comparison.sentence
    far = [saved(tmp_path / str(value), "tf1", value) for value in (-8.0, 12.0)]
    done = average(far, str(tmp_path / "mean" / "ckpt"), how=by("noisy", 3))
    assert done.written
    assert done.comparison is not None
    low, high = done.comparison.best.low, done.comparison.best.high
    assert done.comparison.best.lead == pytest.approx(10)
    assert low < 10 < high


def test_the_interval_covers_what_it_says() -> None:
    random = np.random.default_rng(18)
    for few, many in ((2, 2), (3, 3), (3, 8), (20, 30)):
        held = 0
        for _ in range(600):
            difference, margin = lead(random.normal(0.5, 1, few).tolist(), random.normal(0.2, 2, many).tolist())
            held += abs(difference - 0.3) <= margin
        # Of two or three each the degrees of freedom are rounded down: it then covers more.
        assert 0.93 <= held / 600 <= (0.97 if few == 20 else 1), (few, many, held)
    assert lead([1.0, 1.0], [0.5]) == (0.5, 0.0)
    with pytest.raises(ValueError, match="one measurement"):
        lead([], [1.0])


PROGRAM = """
import os, struct, sys
path = sys.argv[1]
with open(path + ".data-00000-of-00001", "rb") as data:
    print("error", abs(struct.unpack("<f", data.read(4))[0] - 2))
"""


def test_a_program_sees_a_copy_with_the_name_that_it_will_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sources").mkdir()
    weights = {name: np.full(3, value, np.float32) for name, value in (("one", 1), ("three", 3))}
    paths = [build_bundle(tmp_path / "sources" / name, {"w": weight}) for name, weight in weights.items()]
    script = tmp_path / "measure.py"
    script.write_text(PROGRAM + "assert os.path.basename(path) in ('one', 'three', 'averaged.ckpt', 'worse'), path\n")
    out = str(tmp_path / "mean" / "averaged.ckpt")
    command = ["average", *paths, out, "--evaluate", f"'{sys.executable}' -SI '{script}' {{prefix}}"]
    assert run([*command, "--pattern", "error (.*)"]) == 2
    assert "--mode" in capsys.readouterr().err
    assert run([*command, "--pattern", "error (.*)", "--metric", "val_error", "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["written"] is True
    assert document["comparison"]["mode"] == "min"
    assert document["comparison"]["metric"] == "val_error"
    assert [row["value"] for row in document["comparison"]["sources"]] == [1.0, 1.0]
    assert document["plan"]["evidence"]["measured"]["better"] is True
    again = ["average", paths[0], out, str(tmp_path / "worse"), *command[4:], "--pattern", "error (.*)"]
    assert run([*again, "--mode", "min"]) == 1
    said = capsys.readouterr().out
    assert "not written" in said
    assert "trails" in said
    assert not (tmp_path / "worse.index").exists()
    for odd in (["--data", DATA], ["--mode", "middle"]):
        assert run([*again, "--metric", "val_error", *odd]) == 2
    assert run(["average", *paths, str(tmp_path / "x"), "--pattern", "a"]) == 2
    assert run(["average", *paths, str(tmp_path / "x"), "--data", DATA, "--split", "all"]) == 2


@pytest.mark.parametrize("root", ["tf1.15", "tf2.21"])
def test_users_of_comirec_are_measured_one_by_one(root: str, tmp_path: Path) -> None:
    """The mean of a checkpoint and a copy of it scores as they do, for every user."""
    sample = pick(root)
    copies = []
    for name in ("one", "two"):
        experiment = tmp_path / name / "best_model" / sample.experiment
        shutil.copytree(sample.path, experiment)
        copies.append(sample.prefix_in(experiment))
    done = average(copies, str(tmp_path / "mean" / "ckpt"), how=ByUsers(DATA))
    assert not done.written
    assert done.comparison is not None
    assert f"{done.comparison.value:.6f}" == f"{sample.best_recall:.6f}"
    assert (done.comparison.best.lead, done.comparison.best.high) == (0.0, 0.0)
    assert done.comparison.users is not None


def test_what_nobody_can_measure_is_not_averaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [saved(tmp_path / str(value), "tf1", value) for value in (1.0, 3.0)]
    assert run(["average", *paths, str(tmp_path / "mean" / "ckpt"), "--data", DATA]) == 7
    assert "--evaluate COMMAND" in capsys.readouterr().err
    assert not (tmp_path / "mean").exists()
