"""More runs that nobody told of: saves that are counted, bests that are praised without a number, what is evaluated
after it was read again. Each checkpoint gets its own value, or none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle
from event_files import event

from ckpt_tools.cli import run
from ckpt_tools.errors import NotFoundError
from ckpt_tools.operations.backfilling import Options, backfill
from ckpt_tools.runs.metric_history import read_history

STEP = "global_step"
RATES = (35.125, 22.0625, 25.5, 18.1875, 19.25)


def recognition(*, news: bool) -> str:
    """Only what is better is saved; the trainer says so without a number, and tells a wrong best where it is not."""
    text, best = "", 100.0
    for epoch, rate in enumerate(RATES, start=1):
        text += f'Epoch: {epoch}\nTrain NN\nEpoch: {epoch} Batch: 1/1 Loss: 3.5\n[ERR:2] "move" -> "mo"\n'
        text += f"Character error rate: {rate}%. Word accuracy: {50 + epoch}.5%.\n"
        better = rate < best
        best = min(rate, best)
        if news:
            told = "improved, save model" if better else f"not improved, best so far: {rate}%"
            text += f"Character error rate {told}\n"
    return text


def value(place: Path, prefix: str, files: Mapping[str, str], *, step: int | None = None, **options: str) -> float:
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    tensors = {"w": np.ones(2, np.float32)} | ({} if step is None else {STEP: np.int64(step)})
    (place / prefix).parent.mkdir(parents=True, exist_ok=True)
    found = backfill(build_bundle(place / prefix, tensors), Options(from_logs=True, dry_run=True, **options))  # type: ignore[arg-type]
    assert found.value is not None
    return found.value


def test_the_number_of_a_save_is_not_an_epoch_where_only_what_is_better_is_saved(tmp_path: Path) -> None:
    assert value(tmp_path, "snapshot-3", {"train.log": recognition(news=True)}) == 18.1875


def test_where_the_log_tells_of_no_save_it_may_be_either(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"3 in its name may mean 25\.5 .* or 18\.1875 "):
        value(tmp_path, "snapshot-3", {"train.log": recognition(news=False)}, metric="Character error rate")


NER = "".join(
    f"iteration:{e} step:10/20, NER loss: 0.5\nevaluate:dev\naccuracy:  98.1%; precision:  90.1%; FB1:  {dev}\n"
    + (f"new best dev f1 score:{dev}0\n{{saved}}" if better else "")
    + f"evaluate:test\naccuracy:  98.2%; precision:  91.1%; FB1:  {dev + 1}\nnew best test f1 score:{dev + 1}0\n"
    for e, dev, better in ((1, 70.11, True), (2, 88.24, True), (3, 87.9, False))
)


def test_a_best_that_only_was_saved_is_known_though_the_log_counts_otherwise_than_its_step(tmp_path: Path) -> None:
    assert value(tmp_path, "ckpt/ner.ckpt", {"log/train.log": NER.format(saved="model saved\n")}, step=40) == 88.24


@pytest.mark.parametrize("saved", ["", "Saving latest checkpoint\nepoch done, acc 0.5\nmodel saved\n"])
def test_it_may_be_the_newest_where_no_save_or_more_saves_are_told(tmp_path: Path, saved: str) -> None:
    with pytest.raises(NotFoundError, match="do not tell"):
        value(tmp_path, "ckpt/ner.ckpt", {"log/train.log": NER.format(saved=saved)}, step=40, metric="dev f1 score")


def test_a_save_due_to_an_increase_is_a_best_line(tmp_path: Path) -> None:
    log = "".join(
        f"---------\n| mean 100 episode reward | {mean} |\n| steps | {step} |\n---------\n{said}"
        for step, mean, said in (
            (6, 17.0, "Saving model due to mean reward increase: None -> 18.3\n"),
            (12, 23.1, "Saving model due to mean reward increase: 18.3 -> 21.5\n"),
        )
    )
    assert value(tmp_path, "model", {"log.txt": log + "Restored model with mean reward: 21.5\n"}) == 21.5


def test_the_rows_of_a_table_of_pairs_are_counted_by_its_last_one(tmp_path: Path) -> None:
    log = "".join(
        f"-----\n| eprewmean | {mean} |\n| loss/value | 1.5 |\n"
        f"| misc/nupdates | {n} |\n| total_timesteps | {n}000 |\n-----\n"
        for n, mean in ((10, 20.1), (30, 44.2), (40, 41.0))
    )
    assert value(tmp_path, "checkpoints/00030", {"log.txt": log}, metric="eprewmean") == 44.2


TRAINED = "".join(
    f"I1128 02:01:11.123456 139872 train_gpu.py:391] [{s}] | gnorm 0.9 | loss {v} | pplx {v * 8}\n"
    for s, v in ((2000, 4.0), (4000, 3.5))
)
EVALUATED = "Evaluate EXP/model.ckpt\nprocessing batch 18/20 ..\n| loss 3.20 | pplx 24.53\n"


def test_what_is_measured_after_a_checkpoint_was_read_again_is_its_value(tmp_path: Path) -> None:
    assert value(tmp_path, "model.ckpt", {"eval.log": EVALUATED}, step=4000, metric="pplx") == 24.53


def test_nothing_is_written_where_training_logged_another_value_for_its_step(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"24\.53 was measured after it was read again, but 28 is logged"):
        value(tmp_path, "model.ckpt", {"train.log": TRAINED, "eval.log": EVALUATED}, step=4000, metric="pplx")


def test_what_follows_a_restart_is_not_measured_of_what_was_read(tmp_path: Path) -> None:
    log = "Restoring parameters from x/model.ckpt\naccuracy: 0.5\nstep 10 accuracy: 0.7\nstep 20 accuracy: 0.8\n"
    assert value(tmp_path, "model.ckpt", {"train.log": log}, step=20, metric="accuracy") == 0.8


def test_a_step_that_nothing_counted_is_none(tmp_path: Path) -> None:
    log = "step 0 val_acc: 0.5\nstep 3 val_acc: 0.784\n"
    assert value(tmp_path, "model.ckpt-3", {"train.log": log}, step=0) == 0.784
    assert value(tmp_path, "model.ckpt-0", {"train.log": log}, step=0) == 0.5


def test_a_directory_may_be_called_as_its_checkpoint_was_counted(tmp_path: Path) -> None:
    log = "".join(f"Epoch = {e} Count = 20\nValidation IoU score = {v}\n" for e, v in ((0, 0.3), (1, 0.5), (2, 0.4)))
    for number in (0, 1, 2):
        build_bundle(_made(tmp_path / f"checkpoints/{number:04d}") / "model.ckpt", {"w": np.ones(2, np.float32)})
    assert value(tmp_path, "checkpoints/0001/model.ckpt", {"train.log": log}) == 0.5
    assert value(tmp_path, "checkpoints/0002/model.ckpt", {"train.log": log}) == 0.4


def _made(place: Path) -> Path:
    place.mkdir(parents=True)
    return place


def test_of_several_checkpoints_that_are_declared_best_none_is_given_the_best_of_the_log(tmp_path: Path) -> None:
    toml = "[layout]\nbest = 'a*/model.ckpt'\nlogs = 'train.log'\n[metric]\nname = 'auc'\nmode = 'max'\n"
    files = {"ckpt.toml": toml, "train.log": "auc: 0.5\nauc: 0.7\nauc: 0.6\n"}
    assert value(tmp_path, "a1/model.ckpt", files) == 0.7
    with pytest.raises(NotFoundError, match="do not tell"):
        value(tmp_path, "a2/model.ckpt", files)


BEST_DECLARED = "[layout]\nbest = 'best.ckpt'\nlogs = 'train.log'\n[metric]\nname = 'valid acc'\nmode = 'max'\n"


def test_the_best_that_is_declared_is_not_that_of_another_datas_metric(tmp_path: Path) -> None:
    files = {
        "ckpt.toml": BEST_DECLARED,
        "train.log": "acc 0.7 valid acc 0.5\nacc 0.8 valid acc 0.6\nacc 0.9 valid acc 0.6\n",
    }
    assert value(tmp_path, "best.ckpt", files) == 0.6
    with pytest.raises(NotFoundError, match="do not tell"):
        value(tmp_path, "best.ckpt", files, metric="acc", force=True)


def test_a_declared_line_that_tells_the_best_so_far_again_tells_nothing_of_its_step(tmp_path: Path) -> None:
    toml = f"{BEST_DECLARED}line = 'so far (?P<value>[0-9.]+)'\n"
    log = "".join(f"step {s}\nbest valid acc so far {v}\n" for s, v in ((1, 0.5), (2, 0.7), (3, 0.7)))
    files = {"ckpt.toml": toml, "train.log": log}
    assert value(tmp_path, "model.ckpt-2", files) == 0.7
    with pytest.raises(NotFoundError, match="do not tell"):
        value(tmp_path, "model.ckpt-3", files)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("Epoch 5 Test loss: 12.35 Saving ./x/net_test_loss=12.3456.ckpt ...\n", 12.3456),
        ("Epoch 5 Test loss: 12.345612\n", 12.345612),
    ],
)
def test_the_number_in_a_name_and_the_logged_one_are_one_however_they_are_rounded(
    tmp_path: Path, log: str, expected: float
) -> None:
    rest = "Epoch 4 Test loss: 14.22\nEpoch 6 Test loss: 12.91\n"
    assert value(tmp_path, "net_test_loss=12.3456.ckpt-5", {"train.log": rest[:25] + log + rest[25:]}) == expected


def test_the_number_of_another_metric_in_a_name_does_not_hide_this_one(tmp_path: Path) -> None:
    log = "Epoch 1 val_loss: 0.9 val_auc: 0.6\nEpoch 2 val_loss: 0.42 val_auc: 0.7\n"
    assert value(tmp_path, "net-2-val_loss=0.42", {"train.log": log}, metric="val_auc") == 0.7


HISTORY = {"loss": [0.9, 0.6, 0.4], "val_loss": [0.8, 0.4433, 0.47]}
STEPS = {"steps": [1, 2, 3], "timestamps": ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("name", "text", "metric"),
    [
        ("history.txt", str(HISTORY), "val_loss"),
        ("history.txt", str({k: [np.float32(v) for v in row] for k, row in HISTORY.items()}), "val_loss"),
        ("metrics.json", json.dumps({"val.loss": {**STEPS, "values": HISTORY["val_loss"]}}), "val.loss"),
        (
            "training_statistics.json",
            json.dumps({"validation": {"y": HISTORY}, "test": {"y": HISTORY}}),
            "validation/y/loss",
        ),
        ("dvclive/plots/metrics/val/loss.tsv", "step\tloss\n1\t0.8\n2\t0.4433\n3\t0.47\n", "val/loss"),
        (
            "lcurve.out",
            "#  step   rmse_val   lr\n# nan where there is none\n  1   8.0e-01  1e-3\n  2   4.433e-01  1e-3\n",
            "rmse_val",
        ),
        ("results.csv", ",Training iterations:, Test error(px)\n0,1,0.8\n1,2,0.4433\n", "Test error(px)"),
    ],
)
def test_the_columns_of_a_document_are_read_as_they_were_counted(
    tmp_path: Path, name: str, text: str, metric: str
) -> None:
    expected = pytest.approx(0.6 if metric == "validation/y/loss" else 0.4433)
    assert value(tmp_path, "weights-2", {name: text}, metric=metric) == expected


def test_a_table_without_a_head_has_no_metrics(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no log with a metric"):
        value(tmp_path, "weights-2", {"stats.csv": "500,0.006,0.005\n1000,0.003,0.005\n"})


EPOCHS = "epoch 1 val_loss: 90.5\nepoch 2 val_loss: 71.75\nepoch 3 val_loss: 74.1\n"


@pytest.mark.parametrize("name", ["net3_train_2.tf", "model_2.ckpt", "unet_1.00002", "net-2.model", "min_2.tfmodel"])
def test_a_number_counts_before_an_ending_and_behind_a_point(tmp_path: Path, name: str) -> None:
    head, _, tail = name.rpartition("2")
    for number in "13":  # beside it
        build_bundle(tmp_path / f"{head}{number}{tail}", {"w": np.ones(2)})
    assert value(tmp_path, name, {"train.log": EPOCHS}) == 71.75


def test_the_numbers_beside_are_those_of_the_place_that_counts(tmp_path: Path) -> None:
    for number in (0, 1, 2):
        build_bundle(tmp_path / f"net2_{number}", {"w": np.ones(2)})
    assert value(tmp_path, "net2_2", {"train.log": EPOCHS}) == 74.1  # the third, counted from 0


def test_a_small_value_in_a_name_stays_one(tmp_path: Path) -> None:
    log = "epoch 1 val_loss: 0.5\nepoch 2 val_loss: 1.00003\nepoch 3 val_loss: 0.4\n"
    assert value(tmp_path, "net_loss_1.00003", {"train.log": log}) == 1.00003


def test_a_counter_of_epochs_and_their_steps_is_read(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = [
        {"step": [2, 20], "data": {"loss": 0.1}},
        {"step": [1], "data": {"val_map12": 0.6}},
        {"step": [2], "data": {"val_map12": 0.6712}},
        {"step": [], "data": {"throughput": 1200.5}},
    ]
    log = "".join(f"DLLL {json.dumps(line)}\n" for line in lines)
    assert value(tmp_path, "model.ckpt-2", {"nvlog.json": log}, metric="val_map12", mode="max") == 0.6712


def test_a_declared_line_is_looked_for_in_lines_that_are_called_a_document(tmp_path: Path) -> None:
    line = "line = 'at (?P<epoch>[0-9]+) (?P<value>[0-9.]+)'\n"
    toml = f"[layout]\nlogs = 'nvlog.json'\n[metric]\nname = 'map'\nmode = 'max'\n{line}"
    files = {"ckpt.toml": toml, "nvlog.json": "{}\nat 1 0.5\nat 2 0.75\n"}
    assert value(tmp_path, "model.ckpt-2", files) == 0.75


def test_a_log_needs_no_ending(tmp_path: Path) -> None:
    log = "Eval loss for global step 20: 0.633\nEval loss for global step 40: 0.571\n"
    assert value(tmp_path, "pretrained/model.ckpt-40", {"Terminal_train_log": log}) == 0.571


def test_the_events_of_a_folder_dev_are_of_held_out_data(tmp_path: Path) -> None:
    for split, accuracy in (("train", 0.9), ("dev", 0.75)):
        place = _made(tmp_path / "summaries" / split)
        (place / "events.out.tfevents.1.host").write_bytes(event(60, accuracy=accuracy))
    assert value(tmp_path, "checkpoints/model-60", {}, step=60) == 0.75


FRAME = {"loss": [0.9, 0.6, 0.5], "val_loss": [0.8, 0.4433, 0.47]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run-validation-tag-loss.csv", "Wall time,Step,Value\n1.5e9,1,0.8\n1.5e9,2,0.4433\n1.5e9,3,0.47\n"),
        ("run-validation-tag-loss.json", "[[1.5e9, 1, 0.8], [1.5e9, 2, 0.4433], [1.5e9, 3, 0.47]]"),
        ("history.csv", ",loss,val_loss\n0,0.9,0.8\n1,0.6,0.4433\n2,0.5,0.47\n"),
        ("history.json", json.dumps({name: {str(n): v for n, v in enumerate(row)} for name, row in FRAME.items()})),
    ],
)
def test_what_people_save_of_a_history_is_read(tmp_path: Path, name: str, text: str) -> None:
    for each in (1, 3):
        build_bundle(tmp_path / f"model.ckpt-{each}", {"w": np.ones(2, np.float32)})
    assert value(tmp_path, "model.ckpt-2", {name: text}) == pytest.approx(0.4433)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("per_class.csv", ",precision,recall\ncat,0.9,0.8\ndog,0.6,0.7\n"),
        ("per_class.json", '{"precision": {"0": 0.9, "1": 0.8}, "recall": {"0": 0.6, "1": 0.7}}'),
        ("run-validation-tag-loss.json", '[[1.5e9, "a", 0.8], [1], 3]'),
    ],
)
def test_a_table_of_something_else_is_no_history(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(NotFoundError):
        value(tmp_path, "model.ckpt-1", {name: text}, metric="recall")


TOML_OF_REPORTS = "[layout]\nlogs = 'results/*'\n[metric]\nname = 'bleu score'\nmode = 'max'\n"


def reports(*names: str) -> dict[str, str]:
    told = {
        f"results/{name}": f"- got: it is 3 : 1\n- got: it is 3 : 2\nBleu Score = {i}.5" for i, name in enumerate(names)
    }
    return {"ckpt.toml": TOML_OF_REPORTS, **told}


@pytest.mark.parametrize("form", ["{}", "{}.txt", "eval_{}.log", "{}_test_results.txt"])
def test_a_report_that_is_called_as_a_checkpoint_is_of_that_one(tmp_path: Path, form: str) -> None:
    files = reports(*(form.format(f"model_epoch_0{e}_gs_{7 * e}") for e in (0, 1, 2)))
    assert value(tmp_path, "logdir/model_epoch_01_gs_7", files, step=7) == 1.5
    with pytest.raises(NotFoundError, match="do not tell"):
        value(tmp_path, "logdir/model_epoch_03_gs_21", files, step=21)


def test_a_log_that_is_called_as_a_checkpoint_is_a_log(tmp_path: Path) -> None:
    log = "epoch 1 val_acc 0.6\nepoch 2 val_acc 0.7\nfinal test_acc 0.8\n"
    with pytest.raises(NotFoundError, match="do not tell"):
        value(tmp_path, "net-7", {"net-7.log": log}, metric="test_acc")


@pytest.mark.parametrize(("printed", "found"), [(0.7123, True), (0.9999, False)])
def test_values_that_were_printed_without_a_step_have_that_of_the_events(
    tmp_path: Path, printed: float, found: bool
) -> None:
    _made(tmp_path / "eval")
    rows = [event(s, running_loss__decay=v) for s, v in ((10, 0.91234), (20, 0.71234), (30, 0.81234))]
    (tmp_path / "eval" / "events.out.tfevents.1.host").write_bytes(b"".join(rows))
    files = {"eval.log": f"running_loss: 0.9123\nrunning_loss: {printed}\n"}
    if found:
        assert value(tmp_path, "best-20", files, metric="running_loss", step=20) == pytest.approx(0.71234)
    else:
        with pytest.raises(NotFoundError, match="do not tell"):
            value(tmp_path, "best-20", files, metric="running_loss", step=20)


OWN = ["inspect {p}", "backfill {p} --from-logs --metric acc --dry-run", "audit {d}", "why {p}", "verify {p}"]


@pytest.mark.parametrize("ending", ["", " --json"])
@pytest.mark.parametrize("command", OWN)
def test_what_this_program_said_is_no_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, ending: str
) -> None:
    prefix = build_bundle(tmp_path / "net-2", {"w": np.ones(2, np.float32)})
    (tmp_path / "train.log").write_text("epoch 1 val_acc 0.6\nepoch 2 val_acc 0.7\nepoch 3 val_acc 0.8\n")
    assert backfill(prefix, Options(from_logs=True, metric="val_acc")).written
    before = read_history(prefix)
    capsys.readouterr()
    run((command + ending).format(p=prefix, d=tmp_path).split())
    said = "".join(capsys.readouterr())
    for name in ("backfill.log", "audit.txt", "results.json", "all.jsonl"):
        (tmp_path / name).write_text(said)
    assert read_history(prefix) == before
    (tmp_path / "train.log").write_text((tmp_path / "train.log").read_text() + said)
    if "backfill" in command:
        assert read_history(prefix).names() == before.names()


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, 0.9),
        ({"out/train.log": "epoch 1 val_acc 0.5\n"}, None),
        ({"out/a/eval_results.txt": "val_acc = 0.5\n"}, None),
        ({"out/logs/lfw_result.txt": "20\t0.5\n"}, 0.9),
        ({"out/train.log": "epoch 2 val_loss 0.5\n"}, 0.9),
    ],
)
def test_a_log_two_directories_up_is_not_of_a_run_that_has_its_own(
    tmp_path: Path, own: dict[str, str], expected: float | None
) -> None:
    files = {"train.log": "epoch 2 val_acc 0.9\nepoch 3 val_acc 0.8\n", **own}
    if expected is not None:
        assert value(tmp_path, "out/a/net-2", files, metric="val_acc") == expected
    else:
        with pytest.raises(NotFoundError, match="do not tell"):
            value(tmp_path, "out/a/net-2", files, metric="val_acc")
