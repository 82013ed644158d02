"""What public trainers print, in their own forms: the best value is found, or candidates are told and none guessed."""

# ruff: noqa: E501 (lines as they are printed)
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle

from ckpt_tools.errors import UsageError
from ckpt_tools.runs.declared_history import choose_declared, history_of
from ckpt_tools.runs.declared_run import DeclaredRun
from ckpt_tools.runs.metric_history import choose, read_history

DIEN = (
    "          test_auc: 0.5000 ---- test_loss: 1.2 ---- test_accuracy: 0.5 ---- test_aux_loss: 0.7\n"
    "iter: 100 ----> train_loss: 1.1 ---- train_accuracy: 0.6 ---- tran_aux_loss: 0.7\n"
    "          test_auc: 0.7712 ----test_loss: 1.0 ---- test_accuracy: 0.7 ---- test_aux_loss: 0.6\n"
    "iter: 200 ----> train_loss: 1.0 ---- train_accuracy: 0.7 ---- tran_aux_loss: 0.6\n"
    "          test_auc: 0.7600 ----test_loss: 0.9 ---- test_accuracy: 0.7 ---- test_aux_loss: 0.6\n"
)
ESTIMATOR = (
    "INFO:tensorflow:Finished evaluation at 2019-03-04-05:06:07\n"
    "INFO:tensorflow:Saving dict for global step 10: DetectionBoxes_Precision/mAP = 0.21, loss = 2.1\n"
    "INFO:tensorflow:Saving dict for global step 20: DetectionBoxes_Precision/mAP = 0.34, loss = 1.9\n"
)
# (where it is from, log, metric that is asked for, the best value, or None where candidates must be told)
FORMATS: dict[str, tuple[str, str | None, float | None]] = {
    "mouna99/dien": (DIEN, "test_auc", 0.7712),
    "mouna99/dien, not asked": (DIEN, None, None),
    "zhougr1993/DeepInterestNetwork": (
        "test_gauc: 0.5000\t test_auc: 0.5000\n"
        "Epoch 0 Global_step 1000\tTrain_loss: 0.69\tEval_GAUC: 0.6512\tEval_AUC: 0.66\n"
        "Epoch 0 Global_step 2000\tTrain_loss: 0.65\tEval_GAUC: 0.7001\tEval_AUC: 0.71\nbest test_gauc: 0.7001\n",
        "Eval_GAUC",
        0.7001,
    ),
    "kang205/SASRec": (
        "epoch:20, time: 66.12(s), valid (NDCG@10: 0.5123, HR@10: 0.7411), test (NDCG@10: 0.50, HR@10: 0.73)\n"
        "epoch:40, time: 99.00(s), valid (NDCG@10: 0.5588, HR@10: 0.7711), test (NDCG@10: 0.54, HR@10: 0.76)\n",
        "valid NDCG@10",
        0.5588,
    ),
    "hexiangnan/NCF": (
        "Init: HR = 0.1001, NDCG = 0.0502\nIteration 0 [12.1 s]: HR = 0.4911, NDCG = 0.2702, loss = 0.3712 [3.3 s]\n"
        "Iteration 1 [12.0 s]: HR = 0.5523, NDCG = 0.3111, loss = 0.3001 [3.2 s]\n"
        "End. Best Iteration 1:  HR = 0.5523, NDCG = 0.3111. \n",
        "HR",
        0.5523,
    ),
    "xiangwang1223/NGCF": (
        "Epoch 9 [30.1s + 9.9s]: train==[9.1=9.0 + 0.1 + 0.0], recall=[0.1211, 0.2502], precision=[0.03, 0.02], "
        "hit=[0.41, 0.6], ndcg=[0.2012, 0.25]\n"
        "Epoch 19 [30.1s + 9.9s]: train==[8.1=8.0 + 0.1 + 0.0], recall=[0.1377, 0.2702], precision=[0.03, 0.02], "
        "hit=[0.42, 0.6], ndcg=[0.2112, 0.26]\n",
        "recall",
        0.1377,
    ),
    "reczoo/FuxiCTR": (
        "2022-05-01 10:11:12,345 P1234 INFO Evaluation @epoch 1 - batch 500: \n"
        "2022-05-01 10:11:12,345 P1234 INFO [Metrics] AUC: 0.801212 - logloss: 0.451212\n"
        "2022-05-01 10:11:12,345 P1234 INFO Save best model: monitor(max): 0.350000\n"
        "2022-05-01 10:12:12,345 P1234 INFO [Metrics] AUC: 0.811212 - logloss: 0.441212\n",
        "AUC",
        0.811212,
    ),
    "FeiSun/BERT4Rec": (
        "ndcg@1:0.1012, hit@1:0.1012， ndcg@5:0.2012, hit@5:0.3012, ndcg@10:0.2412, hit@10:0.4212, ap:0.2112, "
        "valid_user:6040.0\n",
        "ndcg@10",
        0.2412,
    ),
    "google-research/bert": (
        "INFO:tensorflow:***** Eval results *****\nINFO:tensorflow:  eval_accuracy = 0.8455882\n"
        "INFO:tensorflow:  eval_loss = 0.505248\nINFO:tensorflow:  global_step = 343\n",
        "eval_accuracy",
        0.8455882,
    ),
    "object detection": (ESTIMATOR, "mAP", 0.34),
    "object detection, not asked": (ESTIMATOR, None, None),
    "tf-slim": (
        "INFO:tensorflow:Evaluation [100/100]\neval/Accuracy[0.8712]eval/Recall_5[0.9712]\n",
        "eval/Accuracy",
        0.8712,
    ),
    "tensor2tensor": (
        "INFO:tensorflow:Saving dict for global step 1000: global_step = 1000, loss = 4.1, metrics-translate/targets/"
        "approx_bleu_score = 0.1512, metrics-translate/targets/neg_log_perplexity = -3.2\n",
        "approx_bleu_score",
        0.1512,
    ),
    "tensorflow/nmt": (
        "# External evaluation, global step 1000\n  bleu dev: 17.2\n  saving hparams to out/best_bleu/hparams\n"
        "# External evaluation, global step 2000\n  bleu dev: 19.8\n",
        "bleu dev",
        19.8,
    ),
    "OpenNMT-tf": (
        "INFO:tensorflow:Evaluation result for step 5000: loss: 2.912; perplexity: 18.391; bleu: 21.5\n"
        "INFO:tensorflow:Evaluation result for step 9000: loss: 2.712; perplexity: 15.060; bleu: 23.9\n",
        "perplexity",
        15.06,
    ),
    "Keras 2 ModelCheckpoint": (
        "Epoch 1/2\n100/100 [====] - 3s 30ms/step - loss: 0.6 - val_loss: 0.55\n"
        "Epoch 00001: val_loss improved from inf to 0.55000, saving model to w.h5\nEpoch 2/2\n"
        "100/100 [====] - 3s 30ms/step - loss: 0.5 - val_loss: 0.51\n"
        "Epoch 00002: val_loss improved from 0.55000 to 0.51000, saving model to w.h5\n",
        None,
        0.51,
    ),
    "Keras 3 ModelCheckpoint": (
        "Epoch 1/2\n"
        "\x1b[1m100/100\x1b[0m \x1b[32m━━━━━━━\x1b[0m\x1b[37m\x1b[0m \x1b[1m1s\x1b[0m 2ms/step - auc: 0.6 - val_auc: 0.64\n"
        "\nEpoch 1: val_auc improved from None to 0.64000, saving model to best.keras\nEpoch 2/2\n"
        "\nEpoch 2: val_auc improved from 0.64000 to 0.70000, saving model to best.keras\n",
        None,
        0.70,
    ),
    "tensorflow/models official": (
        "eval | step:   2000 | running complete evaluation...\n"
        "eval | step:   2000 | eval time:    9.1 sec | output: \n"
        "    {'accuracy': 0.7612,\n     'top_5_accuracy': 0.9312,\n     'validation_loss': 1.0112}\n",
        "accuracy",
        0.7612,
    ),
    "DeepSpeech": (
        "Epoch 0 | Validation | Elapsed Time: 0:00:12 | Steps: 10 | Loss: 88.123 | Dataset: dev.csv\n"
        "I Saved new best validating model with loss 88.123000 to: ck/best_dev-100\n"
        "Epoch 1 | Validation | Elapsed Time: 0:00:12 | Steps: 10 | Loss: 60.500 | Dataset: dev.csv\n"
        "I Saved new best validating model with loss 60.500000 to: ck/best_dev-200\n",
        None,
        60.5,
    ),
    "tf-ner": (
        "Epoch 1 out of 15\nacc 97.11 - f1 83.20\n- new best score!\nEpoch 2 out of 15\nacc 97.90 - f1 86.11\n- new best score!\n",
        "f1",
        86.11,
    ),
    "text classifier, Chinese": (
        "Iter:      0, Train Loss:    2.3, Train Acc: 10.16%, Val Loss:    2.3, Val Acc: 10.01%, Time: 0:00:03 *\n"
        "Iter:    100, Train Loss:   0.71, Train Acc: 78.12%, Val Loss:   0.61, Val Acc: 81.22%, Time: 0:00:12 *\n"
        "Iter:    200, Train Loss:   0.51, Train Acc: 84.12%, Val Loss:   0.65, Val Acc: 80.00%, Time: 0:00:22 \n",
        "Val Acc",
        81.22,
    ),
    "DeepCTR": (
        "Epoch 1/2\n128/128 - 0s - loss: 0.69 - binary_crossentropy: 0.69 - val_loss: 0.66 - val_binary_crossentropy: 0.6601\n"
        "Epoch 2/2\n128/128 - 0s - loss: 0.60 - binary_crossentropy: 0.60 - val_loss: 0.62 - val_binary_crossentropy: 0.6211\n",
        "val_binary_crossentropy",
        0.6211,
    ),
    "alibaba/EasyRec": (
        "[2021-01-01 00:00:00,000][INFO] Saving dict for global step 500: auc = 0.6812, global_step = 500, loss = 0.42, "
        "loss/loss/cross_entropy_loss = 0.41\n"
        "[2021-01-01 00:00:00,000][INFO] Saving dict for global step 900: auc = 0.7012, global_step = 900, loss = 0.40, "
        "loss/loss/cross_entropy_loss = 0.40\n",
        "auc",
        0.7012,
    ),
    "Hugging Face, TensorFlow": (
        "{'loss': 0.5, 'eval_loss': 0.41, 'epoch': 1.0}\n{'eval_loss': 0.39, 'epoch': 2.0}\n",
        "eval_loss",
        0.39,
    ),
    "kuandeng/LightGCN": (
        "Epoch 19 [5.1s + 2.2s]: train==[0.31=0.30 + 0.01], recall=[0.15511], precision=[0.047], ndcg=[0.13111]\n"
        "Epoch 39 [5.1s + 2.2s]: train==[0.21=0.20 + 0.01], recall=[0.16023], precision=[0.049], ndcg=[0.13611]\n",
        "recall",
        0.16023,
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_best_of_a_public_trainers_log(name: str, tmp_path: Path) -> None:
    log, metric, best = FORMATS[name]
    prefix = build_bundle(tmp_path / "model", {"w": np.ones(2, np.float32)})
    (tmp_path / "train.log").write_text(log)
    if best is None:
        with pytest.raises(UsageError) as caught:
            choose(read_history(prefix), metric)
        assert "logged were" in caught.value.message
        return
    chosen = choose(read_history(prefix), metric)
    assert chosen.best is not None
    assert chosen.best.value == best


def test_a_declared_line_reads_what_the_grammar_does_not(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "model", {"w": np.ones(2, np.float32)})
    (tmp_path / "train.log").write_text("(0.5123, 0.7411) (0.50, 0.73)\n(0.5588, 0.7711) (0.54, 0.76)\n")
    (tmp_path / "ckpt.toml").write_text(
        "[layout]\nlogs = 'train.log'\n[metric]\nname = 'ndcg'\nmode = 'max'\nline = '^[(]([0-9.]+), '\n"
    )
    run = DeclaredRun.above(prefix)
    chosen = choose_declared(history_of(prefix, run), run)
    assert [each.value for each in chosen.evaluations] == [0.5123, 0.5588]


def test_a_log_behind_thousands_of_other_names_is_found(tmp_path: Path) -> None:
    """As of a run that keeps every checkpoint."""
    prefix = build_bundle(tmp_path / "model.ckpt-20", {"w": np.ones(3, np.float32), "global_step": np.int64(20)})
    for number in range(6000):
        (tmp_path / f"model.ckpt-{number:05}.index.old").touch()
    (tmp_path / "train.log").write_text("step 10 val_auc: 0.7000\nstep 20 val_auc: 0.8000\n")
    chosen = choose(read_history(prefix))
    assert (chosen.name, chosen.best and chosen.best.value) == ("val_auc", 0.8)
    (tmp_path / "ckpt.toml").write_text('[layout]\nbest = "model.ckpt-20"\nlogs = "*.log"\n')
    run = DeclaredRun.above(prefix)
    assert run is not None
    assert run.logs() == [str(tmp_path / "train.log")]


def test_a_pipe_or_a_device_of_the_name_of_a_log_is_none(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "model.ckpt-20", {"w": np.ones(3, np.float32), "global_step": np.int64(20)})
    (tmp_path / "train.log").write_text("step 10 val_auc: 0.7000\nstep 20 val_auc: 0.8000\n")
    os.mkfifo(tmp_path / "stdout")
    (tmp_path / "stderr").symlink_to("/dev/null")
    history = read_history(prefix)
    assert history.unread is None
    assert history.findings == ()
    assert len(history.logged) == 2
