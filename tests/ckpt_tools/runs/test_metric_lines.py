"""What trainers print, read as names and numbers: as people read it, in linear time, and never raising."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.runs.metric_lines import MAX_LINE, Reading, canonical, lines_of, mode_of, read_line

LINES: list[tuple[str, dict[str, float]]] = [
    ("iter: 150, train loss: 0.1, valid recall: 0.117328", {"train loss": 0.1, "valid recall": 0.117328}),
    ("test_gauc: 0.7 ---- test_auc: 0.71", {"test_gauc": 0.7, "test_auc": 0.71}),
    ("Iter:    300, Train Loss:   0.5, Val Acc: 94.12%, Time: 0:00:10 *", {"Train Loss": 0.5, "Val Acc": 94.12}),
    ("recall=[0.1234, 0.2], precision=[0.3, 0.4]", {"recall": 0.1234, "precision": 0.3}),
    ("eval valid at epoch 4: auc:0.8,logloss:0.4", {"auc": 0.8, "logloss": 0.4}),
    ("[Metrics] monitor(max)=0.812345", {"monitor(max)": 0.812345}),
    ("Iteration 3 [12.1 s]: HR = 0.5012, NDCG = 0.2", {"HR": 0.5012, "NDCG": 0.2}),
    ("INFO:tensorflow:Saving dict for global step 100: accuracy = 0.9, loss = 0.3", {"accuracy": 0.9, "loss": 0.3}),
    ("2024-01-01 12:00:00,123 - INFO - root - Epoch 3 - valid recall: 0.3", {"valid recall": 0.3}),
    (
        "100/100 ━━━━━━━━━━ 0s 1ms/step - auc: 0.70 - loss: 0.5 - val_auc: 7.1e-01",
        {"auc": 0.7, "loss": 0.5, "val_auc": 0.71},
    ),
    ("Epoch 1: 100%|███| 10/10 [00:00<00:00, 9.8it/s, loss=0.5, auc=0.7]", {"loss": 0.5, "auc": 0.7}),
    ('{"event": "eval", "step": 300, "recall": 0.1, "m": {"a": 2}, "ok": true}', {"recall": 0.1, "m/a": 2}),
    ("{'auc': np.float32(0.7), 'loss': 0.5}", {"auc": 0.7, "loss": 0.5}),
    ("| auc | 0.7 | loss | 0.2 |", {"auc": 0.7, "loss": 0.2}),
    ("\x1b[1;32mval_auc\x1b[0m: \x1b[33m0.7\x1b[0m", {"val_auc": 0.7}),
    ("ndcg@10: 0.3 hit_ratio@5=.25", {"ndcg@10": 0.3, "hit_ratio@5": 0.25}),
    ("BLEU --> 27.3", {"BLEU": 27.3}),
    ("perplexity is 31.5", {"perplexity": 31.5}),
    ("loss: inf", {"loss": math.inf}),
    ("lr 0.001 eta 12 seed 7", {}),
    (
        "epoch:20, valid (NDCG@10: 0.5, HR@10: 0.7), test (NDCG@10: 0.4, HR@10: 0.6)",
        {"valid NDCG@10": 0.5, "valid HR@10": 0.7, "test NDCG@10": 0.4, "test HR@10": 0.6},
    ),
    (
        "Epoch 2 | Train: loss 0.5 acc 0.8 | Valid: loss 0.6 acc 0.7",
        {"Train loss": 0.5, "Train acc": 0.8, "Valid loss": 0.6, "Valid acc": 0.7},
    ),
    ("Test: 0.5 loss: 0.4", {"Test": 0.5, "loss": 0.4}),
    ("[003] Val top-1: 71.20% (best: 71.90% @ epoch 2)", {"Val top-1": 71.2}),
    ("perte : 0,512 — val_acc : 0,8", {"perte": 0.512, "val_acc": 0.8}),
    ("val_ppl: 180,3 took 1,234 rows", {"val_ppl": 180.3}),
    ("loss: 1,234", {}),
    ("recall=[1,2]", {}),
    ("val fid: 3.5, best model saved in 12 seconds", {"val fid": 3.5}),
    ("Best checkpoint saved at 2000 images", {}),
    ("val auc at 0.71", {"val auc": 0.71}),
    ("NDCG@10 ............. 0.36", {"NDCG@10": 0.36}),
    ("Inception score at epoch 150: 1.7090 (+/- 0.020)", {"Inception score": 1.709}),
    ("validation result - loss: 0.3 - accuracy: 0.8", {"validation loss": 0.3, "validation accuracy": 0.8}),
    ("│ Val mAP │ 0.3417 │", {"Val mAP": 0.3417}),
    ("{'epoch': 2, 'train': {'f1': 0.7}, 'val': {'f1': 0.6}}", {"train f1": 0.7, "val f1": 0.6}),
    ("Loaded model-300 from /tmp/x/12/3.4", {}),
    ("eval info: auc:0.64, logloss:0.59", {"eval auc": 0.64, "eval logloss": 0.59}),
    ("Test data: acc 0.7 f1 0.6", {"Test acc": 0.7, "Test f1": 0.6}),
    ('{"levelname": "INFO", "lineno": 120, "message": "epoch 2: val_acc=0.81"}', {"val_acc": 0.81}),
]


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_names_and_numbers_of_a_line(line: str, expected: dict[str, float]) -> None:
    assert {reading.name: reading.value for reading in read_line(line).readings} == expected


@pytest.mark.parametrize(
    ("line", "step", "epoch"),
    [
        ("iter: 150, recall: 0.1", 150, None),
        ("[Epoch 3/10] step=20 auc 0.5", 20, 3),
        ("INFO:tensorflow:Saving dict for global step 100: auc = 0.9", 100, None),
        ('{"step": 300, "epoch": 2, "auc": 0.1}', 300, 2),
        ("Epoch 00007: val_auc improved from 0.1 to 0.2, saving model to x.h5", None, 7),
        ("Step 12k | val/ppl 10.07", 12000, None),
        ("iter 1.5M auc 0.7", 1500000, None),
        ("I1127 10:11:12.123456 140234 writer.py:48] [200] eval_auc=0.8", 200, None),
        ("[200] eval_auc=0.8", None, None),
        ("Accuracy at step 100: 0.93", 100, None),
        ("Époque 3/4 — perte : 0,4", None, 3),
        ("epoch 5 val acc 71.2 (best: 71.9 @ epoch 4)", None, 5),
        ("seconds for batch: 0.41", None, None),
        ("{'eval_loss': 0.39, 'epoch': 1.5}", None, None),
        ("{'eval_loss': 0.39, 'epoch': 2.0}", None, 2),
    ],
)
def test_the_step_and_the_epoch_of_a_line(line: str, step: int | None, epoch: int | None) -> None:
    said = read_line(line)
    assert (said.step, said.epoch) == (step, epoch)


@pytest.mark.parametrize(
    ("line", "name", "value", "mode", "path"),
    [
        (
            "Epoch 3: val_auc improved from 0.61 to 0.64, saving model to a b/best.keras",
            "val_auc",
            0.64,
            "max",
            "a b/best.keras",
        ),
        ("Epoch 1: val_loss improved from None to 0.69, saving model to m.keras", "val_loss", 0.69, None, "m.keras"),
        (
            "Epoch 00001: val_loss improved from inf to 0.69312, saving model to m.h5",
            "val_loss",
            0.69312,
            "min",
            "m.h5",
        ),
        ("Validation loss decreased (0.51 --> 0.49).  Saving model ...", "Validation loss", 0.49, "min", None),
        ("Checkpointing with new best matched-dev accuracy: 0.65", "matched-dev accuracy", 0.65, None, None),
        ("new best dev f1 score: 83.2", "dev f1 score", 83.2, None, None),
        ("Saved new best model with loss 0.31 to: x/best_dev-1", "loss", 0.31, None, "x/best_dev-1"),
        ("best_auc: 0.71", "auc", 0.71, None, None),
        ("*** New best model! Val accuracy = 0.8 at epoch 7 ***", "Val accuracy", 0.8, None, None),
        ("epoch 5 auc 0.7, best 0.7", "auc", 0.7, None, None),
        ("max_recall best so far: 0.3", "recall", 0.3, "max", None),
        ("New best return -17.9 at step 600 -> /x/best/ckpt-6", "return", -17.9, None, "/x/best/ckpt-6"),
        ("Best model saved to out/best.h5 with val_f1: 0.84", "val f1", 0.84, None, "out/best.h5"),
        ("epoch 2 val acc 71.9 (best: 71.90 @ epoch 2)", "val acc", 71.9, None, None),
    ],
)
def test_what_a_best_line_says(line: str, name: str, value: float, mode: str | None, path: str | None) -> None:
    best = read_line(line).best
    assert best is not None
    assert (best.reading.name, best.reading.value, best.mode, best.path) == (name, value, mode, path)


@pytest.mark.parametrize(
    "line",
    [
        "best epoch: 5",
        "bestow 3",
        "loading the best model",
        "val_auc did not improve from 0.7",
        "val acc 1 (best: 2 @ epoch 4)",
    ],
)
def test_what_is_no_best_line(line: str) -> None:
    assert read_line(line).best is None


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *[
            (name, "max")
            for name in ("val_auc", "Valid Recall", "hitRate@10", "f1_score", "ndcg@10", "mAP", "BLEU", "val_acc")
        ],
        *[(name, "min") for name in ("val_loss", "log loss", "error_rate", "perplexity", "RMSE", "cross_entropy")],
        *[(name, None) for name in ("score", "quality", "neg_log_loss", "auc_loss", "")],
    ],
)
def test_the_direction_that_a_name_tells(name: str, mode: str | None) -> None:
    assert mode_of(name) == mode


def test_one_name_in_several_spellings() -> None:
    assert len({canonical(name) for name in ("Valid Recall", "valid-recall", "valid_recall", " valid  recall ")}) == 1


def test_a_number_printed_with_fewer_digits_is_the_same() -> None:
    full, short = read_line("auc: 0.61003").readings[0], read_line("auc: 0.6100").readings[0]
    assert full.same_as(short)
    assert not full.same_as(read_line("auc: 0.6101").readings[0])
    assert Reading("a", 1.0).same_as(Reading("b", 1.0))


def test_what_a_carriage_return_draws_over_is_a_line_of_its_own() -> None:
    assert lines_of("a 1\rb 2\r\n\n\x08\x08c 3\n") == ["a 1", "b 2", "c 3"]


@pytest.mark.parametrize(
    "line",
    [
        "a " * MAX_LINE,
        "a" * 10 * MAX_LINE,
        "1 " * MAX_LINE,
        "(" * MAX_LINE,
        "a b c improved from 1 " * 2000,
        "\x1b[" * MAX_LINE,
        '{"a": ' * 5000 + "}",
        "best " * MAX_LINE + "1",
        "x=[" * MAX_LINE,
        "1e" * MAX_LINE,
        "valid (a 1 " * MAX_LINE,
        "test: a " * MAX_LINE,
        "-" * MAX_LINE,
        "ab_" * 5000 + " at step 5: 3",
        "a_(" * 5000 + " improved from 1 to 2",
    ],
    ids=range(15),
)
def test_a_hostile_line_takes_no_long_time(line: str) -> None:
    start = time.process_time()
    read_line(line)
    assert time.process_time() - start < 0.5


@given(st.text(max_size=200))
def test_no_line_raises(line: str) -> None:
    for each in lines_of(line):
        read_line(each)


@given(st.floats(0, 1e6), st.sampled_from(["auc: %.6f", "auc = %.6f", "'auc': %.6f,", "x auc %.6f y", "auc=%.6f]"]))
def test_a_number_is_read_as_it_was_printed(value: float, form: str) -> None:
    readings = read_line(form % value).readings
    assert readings[0].value == float(f"{value:.6f}")
    assert readings[0].name.endswith("auc")
