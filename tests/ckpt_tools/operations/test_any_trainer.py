"""The best metric of runs that are not ComiRec's: given, logged in anybody's words, measured by anybody's program."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import build_bundle, snapshot
from objects import build_objects

from ckpt_tools.errors import CkptError, LostWorkerError, MismatchError, NotFoundError, UnsafeError, UsageError
from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.operations import command_evaluator
from ckpt_tools.operations.backfilling import Options, backfill
from ckpt_tools.operations.command_evaluator import CommandEvaluation
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.transactions import undo

Bundle = Callable[..., str]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A name-based checkpoint of some trainer, at a step, in a directory of its own."""

    def make(name: str = "model.ckpt-300", step: int | None = 300) -> str:
        import numpy as np

        tensors: dict[str, Any] = {"dense/kernel": np.ones((2, 3), np.float32), "dense/bias": np.zeros(3, np.float32)}
        if step is not None:
            tensors["global_step"] = np.array(step, np.int64)
        (tmp_path / "run").mkdir(exist_ok=True)
        return build_bundle(tmp_path / "run" / name, tensors)

    return make


def stored(prefix: str, name: str = "best_metric") -> Any:
    with open_checkpoint(prefix) as checkpoint:
        return checkpoint.read(name).item()


# One line for each evaluation; the value of step 300 (epoch 3) is meant. What is logged beside it must not confuse.
LOGS = {
    "plain": ("train.log", "step {step} loss {loss:.4f} val_auc: {value:.4f}\n"),
    "logging prefix": (
        "run.log",
        "2021-03-04 05:06:07,123 INFO [train.py:88] step: {step}, train_loss: {loss:.5f}, valid auc: {value:.6f}\n",
    ),
    "absl": ("output.log", "I0304 05:06:07.123456 140 eval.py:10] global_step = {step}, auc = {value:.5f}\n"),
    "estimator": (
        "nohup.out",
        "INFO:tensorflow:Saving dict for global step {step}: auc = {value:.7f}, "
        "global_step = {step}, loss = {loss:.5f}\n",
    ),
    "json lines": ("metrics.jsonl", '{{"step": {step}, "val/auc": {value:.6f}, "train/loss": {loss:.4f}}}\n'),
    "colours": ("log.txt", "\x1b[32mIter {step}\x1b[0m | loss={loss:.4f} | \x1b[1mval_auc\x1b[0m={value:.5f}\n"),
    "tqdm": ("stdout.txt", "50%|#####     | 5/10\r 100%|##########| 10/10 step={step}, val_auc={value:.5f}\n"),
    "exponents": ("train.log", "[step {step}] valid_auc = {value:.5e}\n"),
    "percent": ("train.log", "Step {step}: Val AUC: {percent:.3f}%\n"),
}


@pytest.mark.parametrize("log", LOGS, ids=LOGS)
def test_the_value_of_the_step_is_found_in_the_log(log: str, bundle: Bundle) -> None:
    prefix = bundle()
    name, line = LOGS[log]
    rows = [(100, 0.61), (200, 0.7125), (300, 0.7431)]
    text = "".join(line.format(step=s, value=v, percent=100 * v, loss=2 - v) for s, v in rows)
    (Path(prefix).parent / name).write_text(text)
    outcome = backfill(prefix, Options(from_logs=True, metric="auc", mode="max"))
    assert outcome.written
    expected = 74.31 if log == "percent" else 0.7431
    assert stored(prefix) == pytest.approx(expected, rel=1e-6)
    meaning = json.loads(stored(prefix, "best_metric_meaning"))
    assert (meaning["mode"], meaning["step"]) == ("max", 300)
    assert "auc" in meaning["name"].lower()


def test_csv_with_an_epoch_and_a_keras_history(bundle: Bundle) -> None:
    prefix = bundle("weights-03", None)
    folder = Path(prefix).parent
    (folder / "history.csv").write_text("epoch,loss,val_loss\n1,0.9,0.8\n2,0.7,0.6\n3,0.6,0.65\n")
    outcome = backfill(prefix, Options(from_logs=True))
    assert stored(prefix) == pytest.approx(0.65)
    assert [finding.id for finding in outcome.findings] == ["best-lost"]


def test_the_trainers_own_best_lines_say_which_metric_is_meant(bundle: Bundle) -> None:
    prefix = bundle("best_model", None)
    (Path(prefix).parent / "train.log").write_text(
        "epoch 1 acc 0.50 hr@10 0.31 ndcg@10 0.20\nnew best ndcg@10: 0.20\n"
        "epoch 2 acc 0.70 hr@10 0.41 ndcg@10 0.25\nnew best ndcg@10: 0.25\n"
        "epoch 3 acc 0.80 hr@10 0.40 ndcg@10 0.22\n"
    )
    outcome = backfill(prefix, Options(from_logs=True))
    assert stored(prefix) == pytest.approx(0.25)
    assert outcome.metric is not None
    assert (outcome.metric["name"], outcome.metric["mode"]) == ("ndcg@10", "max")


def test_a_lower_loss_is_the_better_one(bundle: Bundle) -> None:
    prefix = bundle("best.ckpt", None)
    (Path(prefix).parent / "train.log").write_text(
        "Epoch 1: val_loss improved from inf to 0.81000, saving model to best.ckpt\n"
        "Epoch 2: val_loss improved from 0.81000 to 0.42000, saving model to best.ckpt\n"
        "Epoch 3: val_loss did not improve from 0.42000\n"
    )
    outcome = backfill(prefix, Options(from_logs=True))
    assert stored(prefix) == pytest.approx(0.42)
    assert outcome.metric is not None
    assert outcome.metric["mode"] == "min"


def test_where_several_are_logged_nothing_is_guessed(bundle: Bundle) -> None:
    prefix = bundle()
    before = snapshot(Path(prefix).parent)
    (Path(prefix).parent / "train.log").write_text("step 300 val_auc 0.7 val_logloss 0.4 val_gauc 0.66\n")
    with pytest.raises(UsageError) as caught:
        backfill(prefix, Options(from_logs=True))
    assert "val_auc" in str(caught.value)
    assert "--metric" in (caught.value.hint or "")
    (Path(prefix).parent / "train.log").unlink()
    assert snapshot(Path(prefix).parent) == before


def test_the_training_figure_is_not_taken_for_the_held_out_one(bundle: Bundle) -> None:
    prefix = bundle()
    (Path(prefix).parent / "train.log").write_text("step 300 train_auc: 0.99 val_auc: 0.71\n")
    backfill(prefix, Options(from_logs=True, metric="auc"))
    assert stored(prefix) == pytest.approx(0.71)


def test_a_step_that_no_log_has_is_refused(bundle: Bundle) -> None:
    prefix = bundle()
    (Path(prefix).parent / "train.log").write_text("step 100 val_auc: 0.6\nstep 200 val_auc: 0.7\n")
    with pytest.raises(NotFoundError, match=r"best of the log is 0\.7"):
        backfill(prefix, Options(from_logs=True))


def test_a_value_in_the_name_of_the_file(bundle: Bundle) -> None:
    prefix = bundle("weights.12-val_auc-0.871", None)
    backfill(prefix, Options(from_logs=True))
    assert stored(prefix) == pytest.approx(0.871)


def test_a_given_value_with_its_meaning_and_the_way_back(bundle: Bundle) -> None:
    prefix = bundle()
    before = snapshot(Path(prefix).parent)
    backfill(prefix, Options(value=27.31, metric="BLEU", unit="points"))
    assert stored(prefix) == pytest.approx(27.31)
    meaning = json.loads(stored(prefix, "best_metric_meaning"))
    assert (meaning["name"], meaning["mode"], meaning["unit"]) == ("BLEU", "max", "points")
    again = backfill(prefix, Options(value=27.31, metric="BLEU"))
    assert not again.written
    with pytest.raises(UsageError, match="already"):
        backfill(prefix, Options(value=28.0, metric="BLEU"))
    undo(prefix)
    left = {path: found for path, found in snapshot(Path(prefix).parent).items() if ".ckpt-tools" not in str(path)}
    assert left == {path: found for path, found in before.items() if ".ckpt-tools" not in str(path)}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_no_best_is_nan_or_infinite(value: float) -> None:
    with pytest.raises(UsageError, match="NaN or infinite"):
        Options(value=value)


def test_into_a_variable_of_another_name(tmp_path: Path) -> None:
    import numpy as np

    prefix = build_bundle(tmp_path / "m", {"best_acc": np.float32(0.5), "w": np.ones(2, np.float32)})
    with pytest.raises(UsageError, match=r"0\.5 already"):
        backfill(prefix, Options(value=0.75, into="best_acc"))
    backfill(prefix, Options(value=0.75, into="best_acc", force=True))
    assert stored(prefix, "best_acc") == 0.75
    with open_checkpoint(prefix) as checkpoint:
        assert "best_metric" not in checkpoint.tensors


def test_into_a_variable_that_is_only_spelt_like_ours(tmp_path: Path) -> None:
    """It gets its value, and nothing of ours: no meaning, and no node in the graph that has no value."""
    import numpy as np

    variables = {"Best_Metric": ("Best_Metric", np.float32(0)), "w": ("w", np.ones(2, np.float32))}
    prefix = build_objects(tmp_path / "m", variables)
    backfill(prefix, Options(value=0.75, into="Best_Metric", metric="auc"))
    with open_checkpoint(prefix) as checkpoint:
        assert set(checkpoint.tensors) == {f"{name}{VALUE_SUFFIX}" for name in variables}
        assert checkpoint.read(f"Best_Metric{VALUE_SUFFIX}").item() == 0.75
        assert checkpoint.graph is not None
        assert [checkpoint.graph.child(name) for name in ("best_metric", "best_metric_meaning")] == [None, None]


def program(tmp_path: Path, body: str, pattern: str = r"auc: ([0-9.]+)", **more: Any) -> CommandEvaluation:
    script = tmp_path / "evaluate it.py"
    script.write_text(f"import os, sys, time\nprefix, step = sys.argv[1:]\n{body}\n")
    return CommandEvaluation(f"'{sys.executable}' '{script}' {{prefix}} {{step}}", pattern, **more)


def test_a_program_measures_a_copy(bundle: Bundle, tmp_path: Path) -> None:
    prefix = bundle()
    body = f"""
assert prefix != {prefix!r} and os.path.isfile(prefix + '.index') and step == '300'
assert 'model.ckpt-300' in open(os.path.join(os.path.dirname(prefix), 'checkpoint')).read()
print('loss: 3'); print('\\x1b[1mauc: 0.8125\\x1b[0m')
"""
    outcome = backfill(prefix, Options(evaluation=program(tmp_path, body), metric="auc"))
    assert stored(prefix) == 0.8125
    assert outcome.plan is not None
    measured = outcome.plan.evidence["measured"]
    assert measured["arguments"][-2:] == ["{prefix}", "300"]
    assert len(measured["output_sha256"]) == 64


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ("print('auc: 0.5'); sys.exit(3)", MismatchError, "exit code 3"),
        ("print('nothing')", MismatchError, "matches nothing"),
        ("print('auc: 0.5'); print('auc: 0.6')", MismatchError, "2 different values"),
        ("time.sleep(60)", LostWorkerError, "did not end"),
        ("print('auc: .')", MismatchError, "no number"),
    ],
)
def test_a_program_that_fails_writes_nothing(
    body: str, error: type[CkptError], words: str, bundle: Bundle, tmp_path: Path
) -> None:
    prefix = bundle()
    before = snapshot(Path(prefix).parent)
    with pytest.raises(error, match=words):
        backfill(prefix, Options(evaluation=program(tmp_path, body, seconds=2)))
    assert snapshot(Path(prefix).parent) == before


def test_endless_output_and_a_pattern_without_end_are_given_up(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = bundle()
    monkeypatch.setattr(command_evaluator, "MAX_OUTPUT_BYTES", 1 << 20)
    with pytest.raises(UnsafeError, match="printed more"):
        backfill(prefix, Options(evaluation=program(tmp_path, "while True: print('x' * 1000)")))
    monkeypatch.setattr(command_evaluator, "_MATCH_SECONDS", 1)
    with pytest.raises(UnsafeError, match="did not end"):
        backfill(prefix, Options(evaluation=program(tmp_path, "print('a' * 5000)", "((a+)+)b")))


def test_measured_several_times_the_mean_counts(bundle: Bundle, tmp_path: Path) -> None:
    prefix = bundle()
    (tmp_path / "n").write_text("0")
    body = f"n = int(open({str(tmp_path / 'n')!r}).read()); open({str(tmp_path / 'n')!r}, 'w').write(str(n + 1))\n"
    outcome = backfill(prefix, Options(evaluation=program(tmp_path, body + "print('auc:', 0.5 + n / 4)", repeat=3)))
    assert stored(prefix) == 0.75
    assert "deviation" in outcome.sentence


def test_no_shell_sees_the_command(bundle: Bundle, tmp_path: Path) -> None:
    prefix = bundle()
    evaluation = CommandEvaluation(
        f"echo auc: 0.5 ; touch {tmp_path / 'made'} $(touch {tmp_path / 'made'})", "auc: ([0-9.]+)"
    )
    backfill(prefix, Options(evaluation=evaluation))
    assert not (tmp_path / "made").exists()


def test_a_function_measures(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "measures_any.py").write_text(
        "def score(checkpoint):\n    return float(checkpoint.read('dense/kernel').sum())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    prefix = bundle()
    backfill(prefix, Options(evaluation=CommandEvaluation("measures_any:score"), metric="sum", mode="max"))
    assert stored(prefix) == 6.0


@pytest.mark.parametrize("theirs", ["model.ckpt-300", "w.h5", None])
def test_the_log_of_a_run_beside_this_one_is_not_its_log(bundle: Bundle, tmp_path: Path, theirs: str | None) -> None:
    prefix = bundle()
    beside = tmp_path / "output"
    beside.mkdir()
    (beside / "train.log").write_text("step 100 dev auc: 0.6\nstep 300 dev auc: 0.7\n")
    if theirs is None:  # a folder of logs, as many trainers have one
        assert backfill(prefix, Options(from_logs=True)).metric["value"] == 0.7
        return
    build_bundle(beside / theirs, {"v": np.ones(3, np.float32)}) if "ckpt" in theirs else (beside / theirs).touch()
    with pytest.raises(NotFoundError):
        backfill(prefix, Options(from_logs=True))


# ------------------------------------------------------------------------------------------ a value that is there


WAYS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "--value, the same": {"value": 0.5},
    "--value, another": {"value": 0.75},
    "--from-logs, the same": {"from_logs": True, "metric": "val_auc"},
    "--from-logs, another": {"from_logs": True, "metric": "val_ndcg"},
    "--evaluate, the same": {"evaluation": CommandEvaluation(f"{sys.executable} -c 'print(0.5)'", "([0-9.]+)")},
    "--evaluate, another": {"evaluation": CommandEvaluation(f"{sys.executable} -c 'print(0.75)'", "([0-9.]+)")},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("force", [False, True], ids=["", "--force"])
def test_every_way_with_and_without_force_of_what_has_a_value(way: str, force: bool, bundle: Bundle) -> None:
    prefix = bundle()
    (Path(prefix).parent / "train.log").write_text("step 300 val_auc: 0.5 val_ndcg: 0.75\n")
    backfill(prefix, Options(value=0.5, metric=WAYS[way].get("metric"), mode="max"))
    options = Options(**{"mode": "max", **WAYS[way]}, force=force)
    if way.endswith("another"):
        if not force:
            with pytest.raises(UsageError, match=r"already, not 0\.75") as caught:
                backfill(prefix, options)
            assert "--force" in (caught.value.hint or "")
        else:
            assert backfill(prefix, options).written
        assert stored(prefix) == (0.75 if force else 0.5)
        return
    if way == "nothing" and force:
        with pytest.raises(CkptError, match="no rule is known"):
            backfill(prefix, options)
        return
    done = backfill(prefix, options)
    assert not done.written
    assert done.sentence.endswith("nothing to replace" if force else "left alone")


def test_force_with_the_same_value_tells_what_it_means(bundle: Bundle) -> None:
    prefix = bundle()
    backfill(prefix, Options(value=0.5))
    assert backfill(prefix, Options(value=0.5, metric="val_auc", mode="max", force=True)).written
    assert json.loads(stored(prefix, "best_metric_meaning"))["name"] == "val_auc"


def test_what_has_a_value_is_not_measured_again_because_a_declaration_says_how(bundle: Bundle) -> None:
    prefix = bundle()
    backfill(prefix, Options(value=0.5))
    (Path(prefix).parent / "ckpt.toml").write_text("[evaluate]\ncommand = 'false'\npattern = '(.)'\n")
    assert backfill(prefix, Options()).sentence.endswith("left alone")
    with pytest.raises(UnsafeError, match="trust"):
        backfill(prefix, Options(force=True))
