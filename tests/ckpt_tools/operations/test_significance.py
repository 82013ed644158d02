"""Is the best really the best? Known differences, simulated ties, and real checkpoints."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from checkpoints import FIXTURES, pick

from ckpt_tools.analysis.bootstrap import paired_difference
from ckpt_tools.cli import run
from ckpt_tools.errors import NotFoundError
from ckpt_tools.operations.evaluators import find_evaluator
from ckpt_tools.operations.significance import compare_with_rivals
from ckpt_tools.readers import Bundle, open_checkpoint
from ckpt_tools.transactions import Value, apply_to, plan_values

DATA = str(FIXTURES / "data")


def recalls(random: np.random.Generator, users: int, truths: np.ndarray, chance: np.ndarray) -> np.ndarray:
    return random.binomial(truths, chance, size=users) / truths


def test_of_simulated_ties_95_percent_are_called_noise() -> None:
    """Two checkpoints as good as each other in the population: hard users are hard for both."""
    random = np.random.default_rng(95)
    ties = 1000
    noise = 0
    for number in range(ties):
        truths, chance = random.integers(1, 6, 400), random.beta(0.5, 4, 400)
        a, b = (recalls(random, 400, truths, chance) for _ in range(2))
        noise += paired_difference(a, b, draws=1000, seed=number).within_noise
    assert 0.935 <= noise / ties <= 0.965


def test_a_real_lead_is_found_and_its_size_is_in_the_interval() -> None:
    random = np.random.default_rng(1)
    covered = found = 0
    for number in range(200):
        truths, chance = random.integers(1, 6, 2000), random.uniform(0.05, 0.3, 2000)
        a, b = recalls(random, 2000, truths, chance + 0.03), recalls(random, 2000, truths, chance)
        lead = paired_difference(a, b, draws=1000, seed=number)
        covered += lead.low <= 0.03 <= lead.high
        found += not lead.within_noise and lead.mean > 0
    assert covered / 200 >= 0.91
    assert found / 200 > 0.9


def test_both_ways_to_draw_agree_and_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    from ckpt_tools.analysis import bootstrap

    random = np.random.default_rng(2)
    a, b = random.integers(0, 5, (2, 500)) / 4
    one = paired_difference(a, b)
    assert one == paired_difference(a, b)
    assert one.deviation == pytest.approx((a - b).std() / np.sqrt(500), rel=0.03)
    monkeypatch.setattr(bootstrap, "_MOST_VALUES", 0)
    other = paired_difference(a, b)
    assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=one.deviation / 10)
    same = paired_difference(a, a)
    assert (same.mean, same.low, same.high, same.within_noise) == (0, 0, 0, True)
    for x, y in ((a, b[:-1]), (a[:0], b[:0])):
        with pytest.raises(ValueError, match="one value for each user"):
            paired_difference(x, y)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """An old experiment with two more checkpoints: the same weights, and ones that noise made much worse."""
    sample = pick("tf2.10")
    experiment = tmp_path / "best_model" / sample.experiment
    shutil.copytree(sample.path, experiment)
    prefix = sample.prefix_in(experiment)
    with Bundle(prefix) as bundle:
        name = next(key for key, info in bundle.tensors.items() if "embedding" in key and ".OPTIMIZER_SLOT" not in key)
        table = bundle.read(name)
        worse = table + np.random.default_rng(0).normal(size=table.shape).astype("f") * 2
        value = Value.of("float32", table.shape, worse.astype("<f4").tobytes())
        for folder, values in (("same", {}), ("worse", {name: value})):
            keep = {key: key for key in bundle.entries if key not in values}
            plan = plan_values(
                bundle, values, keep=keep, reason="test", evidence={}, target=str(experiment / folder / "ckpt-1")
            )
            apply_to(plan, plan.target)
    return experiment


def test_the_kept_checkpoints_of_a_run(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = pick("tf2.10")
    found = compare_with_rivals(str(kept), data_dir=DATA)
    assert f"{found.measured.value:.6f}" == f"{sample.best_recall:.6f}"
    assert [os.path.relpath(rival.prefix, kept) for rival in found.rivals] == ["same/ckpt-1", "worse/ckpt-1"]
    same, worse = found.rivals
    assert same.same
    assert not worse.lead.within_noise
    assert worse.lead.mean > 0
    with open_checkpoint(worse.prefix) as checkpoint:
        from ckpt_tools.lineages import identify

        lineage = identify(checkpoint)
        assert lineage is not None
        whole = find_evaluator(lineage).measure(checkpoint, lineage, data_dir=DATA, split="valid", top_n=50)
        assert worse.value == pytest.approx(whole.value, abs=1e-12)
    assert run(["why", str(kept), "--significance", "--data", DATA, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)["significance"]
    assert answer["users"] == len(found.measured.values)
    assert answer["sentences"][0].endswith("score the same for every user")
    assert answer["sentences"][1].endswith(": more than noise")
    assert run(["why", str(kept), "--significance"]) == 2


def test_without_another_checkpoint_there_is_nothing_to_compare() -> None:
    with pytest.raises(NotFoundError, match="nothing to compare"):
        compare_with_rivals(str(pick("tf1.15").path), data_dir=DATA)
