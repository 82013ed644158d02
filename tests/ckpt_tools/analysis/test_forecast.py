"""What a resume would do: the verdicts, for this project's trainer and for the old ones."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import EXPERIMENTS, Sample, pick

from ckpt_tools.analysis.resume_forecast import forecast
from ckpt_tools.cli import run
from ckpt_tools.errors import UsageError
from ckpt_tools.lineages.comirec.models import required_variables


def test_everything_needed_is_restored(sample: Sample) -> None:
    found = forecast(str(sample.path))
    assert found.missing == ()
    assert found.survives["optimizer"]
    assert not found.survives["patience"]
    assert found.lineage is not None
    assert set(found.restored) >= set(required_variables(sample.model_type, found.lineage.variant)) - {"optimizer/step"}


def test_safe_only_with_a_best_metric(sample: Sample) -> None:
    found = forecast(str(sample.path))
    if sample.has_best_metric:
        assert found.verdict == "safe"
        assert found.sentence == f"safe: continues from step {sample.best_step}, best {sample.best_recall:.6f}"
    else:
        assert found.verdict == "at-risk"
        assert "first evaluation counts as the best" in found.sentence


def test_a_backfill_makes_it_safe(copy: Callable[..., Path]) -> None:
    sample = next(s for s in EXPERIMENTS if not s.has_best_metric)
    experiment = str(copy(sample))
    assert run(["resume-check", experiment, "--quiet"]) == 1
    assert run(["backfill", experiment, "--value", f"{sample.best_recall:.6f}", "--quiet"]) == 0
    assert run(["resume-check", experiment, "--quiet"]) == 0


@pytest.mark.parametrize(
    ("root", "best", "trainer", "keras", "words"),
    [
        ("tf2.10", False, "comirec-keras", 2, "the weights are restored, but best_metric starts at 0"),
        ("tf2.15", False, "comirec-keras-fixed", 2, "the weights are restored, but best_metric starts at 0"),
        ("tf2.21", False, "comirec-keras", 3, "under Keras 3 the weights are NOT restored"),
        ("tf2.21", True, "comirec-keras-fixed", 3, "best_metric is restored, but no later model reaches it"),
        ("tf2.21", True, "comirec-keras", 2, "Keras 2 cannot read what Keras 3 wrote"),
        ("tf1.15", False, "comirec-keras", 3, "does not find this checkpoint"),
        ("tf1.15", False, "comirec-tf1", 3, "the original trainer starts from new weights"),
    ],
)
def test_the_old_trainers_lose_something(root: str, best: bool, trainer: str, keras: int, words: str) -> None:
    sample = next(s for s in EXPERIMENTS if s.root == root and s.has_best_metric == best)
    found = forecast(str(sample.path), trainer=trainer, keras=keras)
    assert found.verdict == "at-risk"
    assert words in found.sentence


def test_keras_2_with_the_fix_is_safe(copy: Callable[..., Path]) -> None:
    sample = next(s for s in EXPERIMENTS if s.root == "tf2.10")
    experiment = str(copy(sample))
    assert run(["backfill", experiment, "--value", "0.5", "--quiet"]) == 0
    assert forecast(experiment, trainer="comirec-keras-fixed", keras=2).verdict == "safe"
    assert forecast(experiment, trainer="comirec-keras", keras=2).verdict == "at-risk"


def test_a_best_that_only_the_log_knows_is_told(copy: Callable[..., Path], sample: Sample) -> None:
    experiment = copy(sample)
    assert "best-lost" not in [finding.id for finding in forecast(str(experiment)).findings]
    runs = experiment.parents[1] / "runs" / experiment.name
    (runs / "info.json").write_text('{"best_ckpt_global_step": 700, "recall": 0.9}')
    found = forecast(str(experiment))
    (told,) = [finding for finding in found.findings if finding.id == "best-lost"]
    assert "0.900000 at step 700" in told.message
    assert told.severity == "warning"


def test_the_command_that_helps_can_be_typed_for_any_path(tmp_path: Path) -> None:
    sample = next(s for s in EXPERIMENTS if not s.has_best_metric)
    experiment = shutil.copytree(sample.path, tmp_path / "a b" / sample.path.name)
    (finding,) = forecast(str(experiment)).findings
    assert finding.fix is not None
    assert shlex.split(finding.fix) == ["ckpt", "backfill", str(experiment), "--data", "DIR"]


def test_damage_blocks(copy: Callable[..., Path]) -> None:
    sample = EXPERIMENTS[0]
    experiment = copy(sample)
    data = next(experiment.rglob("*.data-*"))
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    found = forecast(str(experiment))
    assert found.verdict == "blocked"
    assert found.findings


def test_json_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    sample = next(s for s in EXPERIMENTS if not s.has_best_metric)
    assert run(["resume-check", str(sample.path), "--json"]) == 1
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["command"] == "resume-check"
    assert document["verdict"] == "at-risk"
    assert {"sentence", "restored", "missing", "unused", "findings", "schema_version"} <= document.keys()


def test_unknown_trainers_are_refused() -> None:
    with pytest.raises(UsageError, match="must be one of"):
        forecast(str(EXPERIMENTS[0].path), trainer="nobody")
    with pytest.raises(UsageError, match="2 or 3"):
        forecast(str(EXPERIMENTS[0].path), keras=4)


@pytest.mark.parametrize("root", ["tf1.15", "tf2.10", "tf2.15", "tf2.21"])
def test_the_projection_that_only_some_minds_have_is_restored(root: str) -> None:
    found = forecast(str(pick(root, "MIND").path))
    assert {f"model/capsule/proj/{name}" for name in ("kernel", "bias")} <= set(found.restored)
    assert found.left == ()
    assert not any(finding.id == "stored-not-restored" for finding in found.findings)


class TestSeveral:
    @pytest.fixture
    def runs(self, copy: Callable[..., Path]) -> list[str]:
        return [str(copy(pick("tf2.21", with_best=True))), str(copy(pick("tf2.21"))), str(copy(pick("tf2.10")))]

    def test_one_line_each_and_a_summary(
        self, runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(["resume-check", *runs]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[1] for line in lines[:3]] == runs
        assert lines[3] == "3 runs: 2 at-risk, 1 safe"
        assert lines[4] == "   2  at risk: best_metric is absent, so that the first evaluation counts as the best"
        assert lines[-1] == f"  next: ckpt backfill --all {tmp_path / 'root' / 'best_model'} --data DIR"

    def test_more_is_said_when_asked_for(self, runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["resume-check", *runs, "--verbose"]) == 1
        text = capsys.readouterr().out
        assert text.count("  checkpoint  ") == 3
        assert "3 runs: 2 at-risk, 1 safe" in text

    def test_the_safe_need_no_reason(self, runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["resume-check", runs[0], runs[0] + "/"]) == 0
        assert "next:" not in capsys.readouterr().out

    def test_quiet_says_what_is_wrong(self, runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["resume-check", *runs, "--quiet"]) == 1
        text = capsys.readouterr().out
        assert runs[0] not in text
        assert runs[1] in text
        assert "3 runs: 2 at-risk, 1 safe" in text
