"""Runs of trainers that nobody told of, with the odd habits that people's logs have: each gets the right value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle
from event_files import event

from ckpt_tools.errors import NotFoundError, UsageError
from ckpt_tools.operations.backfilling import Options, backfill
from ckpt_tools.readers import open_checkpoint


@dataclass(frozen=True)
class Foreign:
    """A run: ``files`` beside the checkpoint ``prefix``, at most eight lines of ``toml``, and the ``value`` it has."""

    prefix: str
    files: Mapping[str, str | bytes]
    value: float
    step: int | None = None
    saves: int | None = None
    toml: str = ""
    metric: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


def epochs(line: str, *values: float, start: int = 1) -> str:
    return "".join(line.format(e=e, v=v, p=100 * v, l=1 - v) for e, v in enumerate(values, start=start))


RUNS = {
    # 1. Only the best is kept under one name; a table by epoch, the word best behind the row that is one.
    "table with stars": Foreign(
        "weights_best",
        {"run.out": "epoch | train_loss | valid_ndcg\n" + epochs("{e:5d} | {l:.4f} | {v:.4f}\n", 0.31, 0.42, 0.40)},
        0.42,
        toml="[layout]\nbest = 'weights_best'\nlogs = 'run.out'\n[metric]\nname = 'valid_ndcg'\nmode = 'max'\n"
        "line = '^ *(?P<epoch>[0-9]+) \\| [0-9.]+ \\| (?P<value>[0-9.]+)'\n",
    ),
    # 2. Percent, and the best line printed after the value.
    "percent, best line after": Foreign(
        "best.ckpt",
        {"nohup.out": epochs("Epoch {e}: Val Acc: {p:.2f}%\n", 0.61, 0.7412, 0.73) + "Best Val Acc: 74.12%\n"},
        74.12,
    ),
    # 3. The best line before the table of values.
    "best line before": Foreign(
        "ckpt_best",
        {
            "log/train_log.txt": "*** new best! dev map = 0.2210\nepoch 1 done\n"
            "*** new best! dev map = 0.2511\nepoch 2 done\n"
        },
        0.2511,
    ),
    # 4. Estimator.
    "estimator": Foreign(
        "model.ckpt-2000",
        {
            "train.err": "".join(
                f"INFO:tensorflow:Saving dict for global step {s}: auc = {a}, global_step = {s}, loss = {b}\n"
                for s, a, b in ((1000, 0.71, 0.5), (2000, 0.7333333, 0.45), (3000, 0.70, 0.6))
            )
        },
        0.7333333,
        step=2000,
        metric="auc",
    ),
    # 5. TensorBoard events below eval/.
    "events": Foreign(
        "model.ckpt-20",
        {"eval/events.out.tfevents.1.host": event(10, metrics__hit=0.5) + event(20, metrics__hit=0.625)},
        0.625,
        step=20,
    ),
    # 6. JSON lines with nested metrics, in a folder below.
    "json lines": Foreign(
        "ckpt-7",
        {
            "logs/metrics.ndjson": "".join(
                json.dumps({"epoch": e, "train": {"loss": 0.3}, "valid": {"recall@20": v}}) + "\n"
                for e, v in ((6, 0.11), (7, 0.1234567), (8, 0.1))
            )
        },
        0.1234567,
        metric="recall@20",
    ),
    # 7. CSV with a decimal comma would be guessed wrong; with semicolons and points it is not.
    "csv": Foreign(
        "epoch-3",
        {"history.csv": "epoch;loss;val_rmse\n1;0.9;1.31\n2;0.8;1.12\n3;0.7;1.05\n4;0.6;1.06\n"},
        1.05,
    ),
    # 8. tqdm draws over itself, the evaluation comes on a line of its own.
    "tqdm": Foreign(
        "best_model",
        {
            "stdout.log": "".join(
                f"\rEpoch {e}:  50%|#####     | 5/10 [00:01<00:01, loss=0.{e}]"
                f"\rEpoch {e}: 100%|##########| 10/10 [00:02<00:00, loss=0.{e}]\n"
                f"[epoch {e}] validation hr@10: {v:.5f}{' <- best' if b else ''}\n"
                for e, v, b in ((1, 0.41, True), (2, 0.52, True), (3, 0.47, False))
            )
        },
        0.52,
    ),
    # 9. Keras' bar and ModelCheckpoint's line, saved as TensorFlow's format.
    "keras": Foreign(
        "weights.02",
        {
            "nohup.out": "Epoch 1/3\n"
            "10/10 [====] - 1s 99ms/step - loss: 0.9 - auc: 0.5 - val_loss: 0.80 - val_auc: 0.60\n"
            "\nEpoch 00001: val_loss improved from inf to 0.80000, saving model to weights.01\nEpoch 2/3\n"
            "10/10 [====] - 1s 99ms/step - loss: 0.8 - auc: 0.6 - val_loss: 0.7123 - val_auc: 0.66\n"
            "\nEpoch 00002: val_loss improved from 0.80000 to 0.71230, saving model to weights.02\n"
            "Epoch 3/3\n10/10 [====] - 1s 99ms/step - loss: 0.7 - auc: 0.7 - val_loss: 0.75 - val_auc: 0.65\n"
            "\nEpoch 00003: val_loss did not improve from 0.71230\n"
        },
        0.7123,
    ),
    # 10. The value in the name, no log.
    "value in the name": Foreign("dev-012-val_f1=0.8125", {}, 0.8125),
    # 11. A metric whose name says no direction, declared.
    "a name without direction": Foreign(
        "keep/top",
        {"keep.log": "it 10 fitness 3.5\nit 20 fitness 2.25\nit 30 fitness 2.75\n"},
        2.25,
        toml="[layout]\nbest = 'keep/top'\nlogs = 'keep.log'\n[metric]\nname = 'fitness'\nmode = 'min'\n",
    ),
    # 12. DIEN: random weights are evaluated, the best is in another directory under one name, restarted in between.
    "dien": Foreign(
        "dnn_best_model/ckpt_noshuffDIEN3",
        {
            "train_dien.log": "   test_auc: 0.4990 ----test_loss: 1.1\n"
            "iter: 100 ----> train_loss: 1.2\n   test_auc: 0.8123 ----test_loss: 1.0\n"
            "iter: 200 ----> train_loss: 1.1\n   test_auc: 0.8456 ----test_loss: 0.9\n"
            "iter: 300 ----> train_loss: 1.0\n   test_auc: 0.8333 ----test_loss: 0.9\n"
        },
        0.8456,
    ),
    # 13. Percent in the log, a fraction is what is compared.
    "scale": Foreign(
        "step_40",
        {"out.txt": "[40/100] Valid | HR: 31.25 %\n[80/100] Valid | HR: 30.00 %\n"},
        0.3125,
        toml="[layout]\nlogs = 'out.txt'\n[metric]\nname = 'HR'\nmode = 'max'\nscale = 0.01\n"
        "line = '\\[(?P<step>[0-9]+)/100\\] Valid \\| HR: (?P<value>[0-9.]+)'\n",
        step=40,
    ),
    # 14. The logs lie in a folder of the run beside the checkpoints, several runs below one ckpt.toml.
    "many runs": Foreign(
        "exps/books_din/ckpts/model-9",
        {
            "exps/books_din/out/a.txt": "step=8 gauc=0.61\nstep=9 gauc=0.63\n",
            "exps/books_dien/out/a.txt": "step=9 gauc=0.99\n",
        },
        0.63,
        step=9,
        toml="[experiment]\nname = 'exps/{dataset}_{model}'\n[layout]\nlogs = 'out/*.txt'\n[metric]\nname = 'gauc'\n",
    ),
    # 15. A loss with an exponent and a logger's prefix; the trainer says which way by its verbs.
    "verbs": Foreign(
        "best",
        {
            "trainer.log": "2020-01-01 10:00:00 [INFO] Validation NLL decreased (inf --> 3.21e+01). Saving model\n"
            "2020-01-01 11:00:00 [INFO] Validation NLL decreased (3.21e+01 --> 2.95e+01). Saving model\n"
        },
        29.5,
    ),
}

# Habits that were once misread, or not read.
RUNS |= {
    "a table of blanks": Foreign(
        "ckpt-2",
        {"train.out": "epoch   train_loss   val_acc\n  1   0.90    0.61\n  2   0.70   0.71\n  3  0.60  0.70\n"},
        0.71,
        metric="val_acc",
    ),
    "thousands": Foreign(
        "model.ckpt-12000", {"log": "step 10,000: dev bleu = 21.1\nstep 12,000: dev bleu = 23.4\n"}, 23.4, step=12000
    ),
    "a step of so many": Foreign(
        "model.ckpt-120",
        {"train.log": "[120/200] lr 0.1 | Val: loss 0.41 auc 0.73\n[140/200] lr 0.1 | Val: loss 0.40 auc 0.74\n"},
        0.73,
        step=120,
        metric="auc",
    ),
    "names and values without a separator": Foreign("ep012-loss0.345-val_loss0.401", {}, 0.401),
    "a folder of each split": Foreign(
        "model.ckpt-20",
        {
            "tb/valid/events.out.tfevents.1.h": event(10, auc=0.5) + event(20, auc=0.625),
            "tb/train/events.out.tfevents.1.h": event(10, auc=0.9) + event(20, auc=0.95),
        },
        0.625,
        step=20,
    ),
    "an arrow": Foreign(
        "best", {"x.out": "Val F1 improved: 0.61 -> 0.64, saving\nVal F1 improved: 0.64 -> 0.68, saving\n"}, 0.68
    ),
    "begun again": Foreign(
        "dnn_best_model/ckpt_noshuffDIEN3",
        {
            "t.log": "iter: 100 ----> train_loss: 1.2\n test_auc: 0.81 ----test_loss: 1.0\n"
            "iter: 200 ----> train_loss: 1.1\n test_auc: 0.84 ----test_loss: 0.9\n"
            "iter: 100 ----> train_loss: 1.2\n test_auc: 0.80 ----test_loss: 1.0\n"
        },
        0.80,
    ),
    "begun again, kept under a name": Foreign(
        "save/best",
        {
            "out.log": epochs("epoch {e} valid mrr {v:.4f}\n", 0.31, 0.44, 0.43)
            + epochs("epoch {e} valid mrr {v}\n", 0.3, 0.37)
        },
        0.37,
        toml="[layout]\nbest = 'save/best'\nlogs = 'out.log'\n[metric]\nname = 'valid mrr'\n[resume]\nbest = 'memory'\n"
        "overwrites = true\n",
    ),
    "the best in brackets": Foreign(
        "model-1000",
        {"train.out": "[500/2000] dev: ppl 51.07 (best 51.07)\n[1000/2000] dev: ppl 39.90 (best 39.90) time 3\n"},
        39.90,
        step=1000,
    ),
    "a table with bars": Foreign(
        "model_ep5",
        {"results.txt": "| Epoch | Val loss | Val acc (%) |\n|---|---|---|\n| 4 | 0.4 | 70.1 |\n| 5 | 0.3 | 71.3 |\n"},
        71.30,
        metric="Val acc (%)",
    ),
    "a data frame": Foreign(
        "model-200",
        {"run.log": "   step  val_auc\n0   100   0.6100\n1   200   0.7125\n2   300   0.7431\n"},
        0.7125,
        step=200,
    ),
    "decimal commas": Foreign(
        "model-200", {"m.csv": "step;val_auc\n100;0,61\n200;0,7125\n300;0,7431\n"}, 0.7125, step=200
    ),
    "a tensor as TensorFlow shows it": Foreign(
        "model-200",
        {
            "t.log": "step 100: val_auc=<tf.Tensor: shape=(), dtype=float32, numpy=0.61>\n"
            "step 200: val_auc=<tf.Tensor: shape=(), dtype=float32, numpy=0.7125>\n"
        },
        0.7125,
        step=200,
    ),
    "glog": Foreign(
        "model-200",
        {"train.host.user.log.INFO.20230101-100000.12": "I20230101 10:00:00.1 12 t.cc:7] step=200 val_auc=0.7125\n"},
        0.7125,
        step=200,
    ),
    "mlflow": Foreign(
        "model-200", {"metrics/val_auc": "1600000000000 0.61 100\n1600000001000 0.7125 200\n"}, 0.7125, step=200
    ),
    "a summary": Foreign("best_weights", {"wandb-summary.json": '{"best_val_auc": 0.8125, "_step": 4000}'}, 0.8125),
    "docker": Foreign(
        "model-200",
        {"pod.log": '{"log":"step 200 val_auc: 0.7125\\n","stream":"stdout","time":"2023-01-01T00:00:00Z"}\n'},
        0.7125,
        step=200,
    ),
    "powershell": Foreign("model-200", {"t.log": "step 200 val_auc: 0.7125\r\n".encode("utf-16")}, 0.7125, step=200),
    "a report whose step comes last": Foreign(
        "model.ckpt-343",
        {"eval_results.txt": "eval_accuracy = 0.845\neval_loss = 0.505\nglobal_step = 343\nloss = 0.49\n"},
        0.845,
        step=343,
        metric="eval_accuracy",
    ),
    "Keras counts its table from 0, its names from 1": Foreign(
        "e003.keras-weights", {"history.csv": "epoch,val_mae\n0,0.5\n1,0.4\n2,0.31\n"}, 0.31
    ),
    "events of Keras count epochs": Foreign(
        "e3",
        {"logs/events.out.tfevents.1.v2": event(0, epoch_mae=0.5) + event(1, epoch_mae=0.4) + event(2, epoch_mae=0.25)},
        0.25,
    ),
    "a count of saves, after each epoch": Foreign(
        "ckpt-3", {"t.log": epochs("Epoch {e} val_acc {v}\n", 0.5, 0.7, 0.6, start=0)}, 0.6, saves=3
    ),
    "a count of saves, of those that were better": Foreign(
        "best/ckpt-3", {"t.log": epochs("Epoch {e} val_acc {v}\n", 0.5, 0.7, 0.6, 0.65, 0.8, 0.75)}, 0.8, saves=3
    ),
    "one of several metrics that are called so": Foreign(
        "model.ckpt-20",
        {"eval/events.out.tfevents.1.h": event(20, auc=0.75, auc_precision_recall=0.5)},
        0.75,
        step=20,
        metric="auc",
    ),
    "a point that is written as a line": Foreign(
        "model_0_36749-100",
        {"t.out": "loss 0.3674931 | val 0.41\nloss 0.3912345 | val 0.4\n"},
        0.3674931,
        metric="loss",
    ),
    "the best in bold": Foreign(
        "best_asr",
        {"results.txt": "| Epoch | Val WER |\n|---|---|\n| 1 | 0.41 |\n| 2 | **0.31** |\n| 3 | 0.33 |\n"},
        0.31,
    ),
    "rows of a document, nested": Foreign(
        "asr-200",
        {"log.json": json.dumps([{"step": s, "eval": {"wer": w}} for s, w in ((100, 0.5), (200, 0.4), (300, 0.45))])},
        0.4,
    ),
    "the best once more, with all its digits": Foreign(
        "best",
        {"t.log": epochs("epoch {e} f1={v:.5f}\n", 0.81, 0.8615384615, 0.8) + "Best f1: 0.8615384615\n"},
        0.86154,
    ),
    "measured and called the best on one line": Foreign(
        "best",
        {
            "t.log": "epoch 1 f1=0.7 best_f1=0.7\nepoch 2 f1=0.86154 best_f1=0.86154\nepoch 3 f1=0.2 best_f1=0.86154\n"
            "Best F1: 0.8615384615\n"
        },
        0.86154,
    ),
    "a byte order mark": Foreign("m-2", {"h.csv": "\ufeffEpoche;val_auc\r\n1;0,61\r\n2;0,7125\r\n3;0,7\r\n"}, 0.7125),
    "rich": Foreign(
        "ep-2",
        {"o.log": "┃ Epoch ┃ Train loss ┃ Val mAP ┃\n│ 1     │ 2.3        │ 0.21 │\n│ 2     │ 1.9        │ 0.34 │\n"},
        0.34,
    ),
    "it": Foreign(
        "pinn-900", {"l.log": "It: 800, Val loss: 3.21e-05\nIt: 900, Val loss: 1.87e-05\n"}, 1.87e-05, step=900
    ),
}


@pytest.mark.parametrize(
    "files",
    [
        {
            "log_a.txt": epochs("epoch {e} val_auc {v}\n", 0.8, 0.9),
            "log_b.txt": epochs("epoch {e} val_auc {v}\n", 0.5, 0.6),
        },
        {"log.txt": epochs("epoch {e} val_auc {v}\n", 0.8, 0.9) + epochs("epoch {e} val_auc {v}\n", 0.5, 0.6)},
    ],
    ids=["logs of two runs", "begun again"],
)
def test_which_start_the_best_is_of_is_not_guessed(files: dict[str, str], tmp_path: Path) -> None:
    prefix = lay(tmp_path, Foreign("best_model", files, 0))
    with pytest.raises(NotFoundError, match="do not tell"):
        backfill(prefix, Options(from_logs=True, metric="val_auc"))


UNTOLD: dict[str, tuple[str, str, str]] = {
    "a number that is of an epoch and of a step": (
        "ckpt-3",
        "epoch 1 step 3 val_auc 0.3\nepoch 2 step 4 val_auc 0.4\nepoch 3 step 6 val_auc 0.6\n",
        "val_auc",
    ),
    "the size of a layer": ("mlp_128_64_best", epochs("epoch {e} val_auc {l}\n", *np.linspace(0, 0.5, 130)), "val_auc"),
    "the best of another metric, by its name": (
        "best_loss",
        "epoch 1 val_loss 0.5 val_auc 0.70\nepoch 2 val_loss 0.4 val_auc 0.69\n",
        "val_auc",
    ),
    "the best of another metric, by the trainer's lines": (
        "best_model",
        "epoch 1 hr 0.5 ndcg 0.30\nnew best ndcg 0.30\nepoch 2 hr 0.6 ndcg 0.28\n",
        "hr",
    ),
    "an accuracy of batches, saved as the best by that of the validation": (
        "best_weights",
        epochs(
            "Step #{e}00: accuracy {p:.2f}%\nStep {e}00: Validation accuracy = {l}\nbest validation accuracy is 0.5\n",
            *(0.5, 0.6, 0.7),
        ),
        "accuracy",
    ),
    "the metric of a test, saved as the best by that of the validation": (
        "best_weights",
        "epoch 1 val_auc 0.70 test_auc 0.60\nnew best val_auc 0.70\nepoch 2 val_auc 0.69 test_auc 0.66\n",
        "test_auc",
    ),
    "a best that was told before, once more": (
        "net-2",
        epochs("epoch {e} done, best val_auc so far: {v}\n", 0.7, 0.7, 0.8),
        "val_auc",
    ),
    "a year": ("model-2021", "2021-03-01 10:00:00 epoch 1 val_auc 0.71\n", "val_auc"),
    "a count of saves, of some epochs": ("ckpt-3", epochs("epoch {e} val_auc {v}\n", 0.5, 0.7, 0.6, 0.65), "val_auc"),
    "a count of saves of the best that is as high as that of epochs": (
        "best/ckpt-3",
        epochs("epoch {e} val_auc {v}\n", 0.5, 0.7, 0.6),
        "val_auc",
    ),
    "epochs from 0, and no other name": ("e2", epochs("epoch {e} val_auc {v}\n", 0.5, 0.7, 0.6, start=0), "val_auc"),
    "a count behind what it counts": ("ep-2", epochs("val auc {v}\nepoch {e} done\n", 0.5, 0.7, 0.6), "val auc"),
    "a best that nothing measured": (
        "best_model",
        epochs("epoch {e} val_auc {v:.4f}\n", 0.5, 0.7, 0.6) + "Best val_auc: 0.8500\n",
        "val_auc",
    ),
    "another file than the best lines name": (
        "final_model",
        "epoch 1 val_auc 0.7\nBest model saved to out/best.h5 with val_auc: 0.7\nepoch 2 val_auc 0.6\n",
        "val_auc",
    ),
    "an epoch of which only others were told": (
        "net-3",
        epochs("new best val_auc {v} in epoch {e}\n", 0.5, 0.6),
        "val_auc",
    ),
    "the last of all": ("final", epochs("epoch {e} val_auc {v}\n", 0.7, 0.9, 0.8), "val_auc"),
}


@pytest.mark.parametrize("name", UNTOLD)
def test_what_the_logs_do_not_tell_of_a_checkpoint_is_not_written(name: str, tmp_path: Path) -> None:
    prefix, log, metric = UNTOLD[name]
    path = lay(tmp_path, Foreign(prefix, {"train.log": log}, 0, saves=3 if "saves" in name else None))
    with pytest.raises(NotFoundError, match="do not tell"):
        backfill(path, Options(from_logs=True, metric=metric, mode="max"))


def test_a_metric_without_a_word_for_its_data_may_be_the_one(tmp_path: Path) -> None:
    log = epochs("Epoch {e} loss 0.3 - val_loss {l}\nWord Error Rate: {v}\n", 0.4, 0.3)
    prefix = lay(tmp_path, Foreign("ep-2", {"ctc.log": log}, 0))
    with pytest.raises(UsageError, match="Word Error Rate"):
        backfill(prefix, Options(from_logs=True))


def test_the_value_of_a_metric_by_which_the_checkpoint_was_not_chosen(tmp_path: Path) -> None:
    told = "10/10 - 1s - val_auc: {} - val_loss: {}\nEpoch {}: val_loss improved from {} to {}, saving model to best\n"
    log = "Epoch 1/2\n" + told.format(0.70, 0.5, 1, "inf", 0.5) + "Epoch 2/2\n" + told.format(0.69, 0.4, 2, 0.5, 0.4)
    path = lay(tmp_path, Foreign("best", {"train.log": log}, 0))
    assert backfill(path, Options(from_logs=True, metric="val_auc")).value == 0.69


def test_the_number_of_something_else_in_a_name_is_not_the_metric(tmp_path: Path) -> None:
    prefix = lay(tmp_path, Foreign("net-lr0.001", {}, 0))
    with pytest.raises(NotFoundError):
        backfill(prefix, Options(from_logs=True, metric="auc"))


def lay(place: Path, run: Foreign) -> str:
    for name, content in run.files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content.encode() if isinstance(content, str) else content)
    tensors = {"tower/kernel": np.ones((2, 3), np.float32), "tower/kernel/Adam": np.ones((2, 3), np.float32)}
    if run.prefix.startswith("dnn_best"):
        tensors |= {"uid_embedding_var": np.ones((2, 3), np.float32), "mid_embedding_var": np.ones((2, 3), np.float32)}
    if run.step is not None:
        tensors["global_step"] = np.array(run.step, np.int64)
    if run.saves is not None:
        tensors["save_counter/.ATTRIBUTES/VARIABLE_VALUE"] = np.array(run.saves, np.int64)
    if run.toml:
        (place / "ckpt.toml").write_text(run.toml)
    (place / run.prefix).parent.mkdir(parents=True, exist_ok=True)
    return build_bundle(place / run.prefix, tensors)


@pytest.mark.parametrize("name", RUNS)
def test_the_right_value_of_a_foreign_run(name: str, tmp_path: Path) -> None:
    run = RUNS[name]
    assert len(run.toml.splitlines()) <= 8
    place = tmp_path / "run"
    place.mkdir()
    prefix = lay(place, run)
    outcome = backfill(prefix, Options(from_logs=True, metric=run.metric))
    assert outcome.written, outcome.sentence
    with open_checkpoint(prefix) as checkpoint:
        assert checkpoint.read("best_metric").item() == pytest.approx(run.value, rel=1e-6)
