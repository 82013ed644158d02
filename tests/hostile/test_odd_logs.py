"""One odd log of a run ends no command: it is left out, or told of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import EXPERIMENTS

from ckpt_tools.cli import run

SAMPLE = next(sample for sample in EXPERIMENTS if sample.root == "tf2.21")
EVAL = b'{"event": "eval", "step": %b, "recall": %b, "loss": %b}\n'
LOGS = {
    "metrics.jsonl nested": b"[" * 100_000,
    "metrics.jsonl of 400 digits": EVAL % (b"1", b"9" * 400, b"1"),
    "metrics.jsonl with a step of 400 digits": EVAL % (b"9" * 400, b"0.5", b"1"),
    "metrics.jsonl not finite": EVAL % (b"1", b"0.5", b"NaN") + EVAL % (b"2", b"Infinity", b"-Infinity"),
    "metrics.jsonl huge": EVAL % (b"1", b"1e308", b"1e308") + EVAL % (b"2", b"-1e308", b"-1e308"),
    "metrics.jsonl tiny": EVAL % (b"1", b"5e-324", b"5e-324") + EVAL % (b"2", b"0", b"0"),
    "metrics.jsonl one ulp apart": EVAL % (b"1", b"0.5", b"1") + EVAL % (b"2", b"0.5000000000000001", b"1"),
    "metrics.jsonl steps that are no numbers": b"".join(
        b'{"event": "resume", "step": %b}\n' % step for step in (b'"x"', b"null", b"[1]", b"{}", b"true")
    )
    + EVAL % (b"3", b"0.5", b"1"),
    "history.csv one field": b"epoch,val_recall\n1," + b"9" * 200_000 + b"\n",
    "history.csv lone CR": b'epoch,val_recall\r1,0.5\r"\r',
    "trainer_state.json nested": b'{"log_history":' + b"[" * 100_000,
    "info.json of 400 digits": b'{"best_ckpt_global_step":' + b"1" * 400 + b', "recall": 0.5}',
}


@pytest.mark.parametrize("name", LOGS)
def test_an_odd_log_ends_nothing(
    copy: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    experiment = copy(SAMPLE, logs=False)
    runs = experiment.parents[1] / "runs" / experiment.name
    runs.mkdir(parents=True, exist_ok=True)
    (runs / name.split()[0]).write_bytes(LOGS[name])
    shutil.copytree(experiment, experiment.parent / "another")
    path, root, page = str(experiment), str(experiment.parents[1]), str(tmp_path / "x.html")
    asked = (["inspect", path], ["resume-check", path], ["why", path], ["audit", root], ["report", path, "-o", page])
    for words in (
        *asked,
        ["report", root, "-o", str(tmp_path / "y.html")],
        ["backfill", path, "--from-logs", "--dry-run"],
    ):
        assert run([*words, "--json"]) in (0, 1, 3), words
        said = capsys.readouterr().out
        assert json.loads(said, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    run(["audit", root, "--json"])
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 2
    assert run(["inspect", path]) in (0, 1)
