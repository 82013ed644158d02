"""Backfilling a value that is known: written once, never over another one, always taken back whole."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import OF_EACH_LINEAGE, Sample, build_bundle, contents, digests, pick, snapshot, stored_best

from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.cli import run
from ckpt_tools.errors import UsageError
from ckpt_tools.lineages.base import float32
from ckpt_tools.operations.backfilling import Options, backfill
from ckpt_tools.runs.ledger import read_ledger

each = pytest.mark.parametrize("sample", OF_EACH_LINEAGE, ids=lambda sample: sample.id)


@each
def test_the_logged_best_is_written_and_found_again(sample: Sample, copy: Callable[..., Path]) -> None:
    experiment = str(copy(sample))
    prefix = sample.prefix_in(Path(experiment))
    before = digests(prefix)
    done = backfill(experiment, Options(value=sample.best_recall))
    assert done.written
    assert done.agreement == "match"
    assert done.backup is not None
    assert os.path.isdir(done.backup)
    assert digests(prefix) == before
    found = inspect(experiment).best_metric
    assert (found.status, found.value) == ("present", float32(sample.best_recall))


@each
def test_the_same_value_again_writes_nothing(sample: Sample, copy: Callable[..., Path]) -> None:
    experiment = copy(sample)
    backfill(str(experiment), Options(value=sample.best_recall))
    before = snapshot(experiment)
    for options in (Options(value=sample.best_recall), Options(), Options(value=sample.best_recall, force=True)):
        if options.value is None:
            assert backfill(str(experiment), options).value == float32(sample.best_recall)
        else:
            assert not backfill(str(experiment), options).written
        assert snapshot(experiment) == before


@each
def test_another_value_needs_force(sample: Sample, copy: Callable[..., Path]) -> None:
    experiment = copy(sample)
    prefix = sample.prefix_in(experiment)
    backfill(str(experiment), Options(value=sample.best_recall))
    before = snapshot(experiment)
    with pytest.raises(UsageError, match="already") as caught:
        backfill(str(experiment), Options(value=0.5))
    assert "--force" in (caught.value.hint or "")
    assert snapshot(experiment) == before
    assert backfill(str(experiment), Options(value=0.5, force=True)).written
    assert stored_best(prefix) == 0.5
    assert len(read_ledger(os.path.dirname(prefix))) == 2


@each
def test_a_dry_run_writes_nothing(sample: Sample, copy: Callable[..., Path]) -> None:
    experiment = copy(sample)
    before = snapshot(experiment)
    done = backfill(str(experiment), Options(value=sample.best_recall, dry_run=True))
    assert not done.written
    assert done.plan is not None
    assert done.plan.to_json()["changes"]
    assert snapshot(experiment) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_recall_lies_between_0_and_1(value: float, copy: Callable[..., Path]) -> None:
    words = "between 0 and 1" if math.isfinite(value) else "NaN or infinite"
    with pytest.raises(UsageError, match=words):
        backfill(str(copy(pick("tf2.21"))), Options(value=value))


@pytest.mark.parametrize("option", ["--metric", "--unit"])
def test_bytes_that_are_no_text_cannot_be_stored(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = build_bundle(tmp_path / "m", {"a": np.ones(2, np.float32)})
    before = contents(tmp_path)
    words = ["backfill", prefix, "--value", "0.5", "--metric", "auc", option, os.fsdecode(b"\xff")]
    assert run(words) == 2
    assert "no text" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_checkpoint_that_has_the_value_is_left_alone(copy: Callable[..., Path]) -> None:
    sample = pick("tf2.21", with_best=True)
    experiment = copy(sample)
    before = snapshot(experiment)
    assert not backfill(str(experiment), Options()).written
    assert snapshot(experiment) == before


def test_a_rewrite_that_was_killed_after_its_commit_is_finished_first(
    copy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = pick("tf2.21")
    experiment = copy(sample)
    prefix = sample.prefix_in(experiment)

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("ckpt_tools.transactions.journal.end_after", kill)
        with pytest.raises(Killed):
            backfill(str(experiment), Options(value=sample.best_recall))
    state = Path(prefix).parent / ".ckpt-tools"
    assert (state / "pending.json").exists()
    assert not backfill(str(experiment), Options(value=sample.best_recall, dry_run=True)).written
    assert (state / "pending.json").exists(), "a dry run changes nothing"
    assert not backfill(str(experiment), Options(value=sample.best_recall)).written
    assert sorted(os.listdir(state)) == ["backup", "ledger.jsonl"]
    assert not Path(f"{prefix}.data-00000-of-00001").exists()
    assert stored_best(prefix) == float32(sample.best_recall)


@each
def test_from_the_command_line_and_back(
    sample: Sample, copy: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = copy(sample)
    before = contents(experiment)
    assert run(["backfill", str(experiment), "--value", str(sample.best_recall), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (row,) = document["experiments"]
    assert (row["written"], row["agreement"]) == (True, "match")
    assert row["metric"]["value"] == sample.best_recall
    assert row["logged_best"]["step"] == sample.best_step
    assert run(["undo", str(experiment), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["undone"]) == 1
    names = {os.path.basename(name) for name in document["restored"]}
    base = os.path.basename(sample.full_prefix)
    assert names == {f"{base}.index", f"{base}.data-00000-of-00001"}
    after = {name: digest for name, digest in contents(experiment).items() if "ledger" not in name}
    assert after == before


def test_several_experiments_where_one_fails(
    copy: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = pick("tf2.15"), pick("tf2.10")
    paths = [str(copy(first, "one")), str(tmp_path / "nowhere"), str(copy(second, "two"))]
    assert run(["backfill", *paths, "--value", "0.147235", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["experiments"]
    assert [row["written"] for row in rows] == [True, False, True]
    for sample, path in ((first, paths[0]), (second, paths[2])):
        assert stored_best(sample.prefix_in(Path(path))) == float32(0.147235)
