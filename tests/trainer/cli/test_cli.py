from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import warnings
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from toys import ITEMS, tree
from typer.testing import CliRunner, Result

from ckpt_tools.runs.curve import Curve
from ckpt_tools.runs.evaluations import LoggedEvaluation
from trainer import cli
from trainer.cli.console import Console
from trainer.config import default_config, new_config
from trainer.monitoring.curve import draw
from trainer.monitoring.rows import LogRow

SMALL = [
    *("--dataset", "toys", "--embedding_dim", "4", "--hidden-size", "4", "--num-interest", "2", "--maxlen", "6"),
    *("--batch_size", "16", "--neg-num", "3", "--learning_rate", "0.01", "--test-iter", "10", "--top-n", "10"),
]
NEW = [*SMALL, "--model_type", "ComiRec-DR", "--exp-name", "t"]
NAME = "toys_ComiRec-DR_b16_lr0.01_d4_len6_t"


def trainer(*arguments: Any) -> Result:
    return CliRunner().invoke(cli.app, ["train", *map(str, arguments)])


def new(root: Path, data_dir: str, *arguments: Any) -> Result:
    return trainer(*NEW, "--root", root, "--data-dir", data_dir, *arguments)


BEST_RECIPE = {"variant": "paper", "readout": "max", "min_history": 1, "history_dropout": 0.3, "learning_rate": 0.004}
PAPER = {"variant": "paper", "readout": "target", "min_history": 4, "history_dropout": 0.0, "learning_rate": 0.001}
PORT = {"variant": "keras", "readout": "soft-padding", "min_history": 4, "patience": 100, "history_dropout": 0.0}


@pytest.mark.parametrize(
    ("recipe", "variant", "expected"),
    [
        (None, None, BEST_RECIPE),
        ("best", "keras", BEST_RECIPE | {"variant": "keras"}),
        ("paper", None, PAPER),
        (None, "paper", PAPER),
        ("port", None, PORT),
        (None, "keras", PORT),
    ],
)
def test_a_new_run_is_of_the_best_recipe_unless_another_is_asked_for(
    recipe: str | None, variant: str | None, expected: dict[str, Any]
) -> None:
    config = asdict(new_config(recipe, variant, "toys", "ComiRec-SA", ITEMS))
    assert {name: config[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("model_type", "rate"),
    [("DNN", 0.004), ("GRU4REC", 0.004), ("MIND", 0.02), ("ComiRec-DR", 0.02), ("ComiRec-SA", 0.004)],
)
def test_every_model_begins_with_the_best_recipe_and_a_rate_of_its_own(model_type: str, rate: float) -> None:
    begun = new_config(None, None, "toys", model_type, ITEMS)
    assert (begun.history_dropout, begun.min_history, begun.learning_rate) == (0.3, 1, rate)
    as_published = new_config("paper", None, "toys", model_type, ITEMS)
    assert as_published == default_config("toys", model_type, ITEMS, "paper")


@pytest.mark.tensorflow
def test_flags_go_over_the_recipe_which_a_resume_does_not_take(tmp_path: Path, data_dir: str) -> None:
    result = new(tmp_path, data_dir, "--recipe", "best", "--readout", "mean", "--max-steps", 0, "--json")
    assert result.exit_code == 0, result.output
    config = json.loads(result.stdout)["config"]
    expected = BEST_RECIPE | {"readout": "mean", "learning_rate": 0.01}
    assert {name: config[name] for name in expected} == expected
    again = trainer(tmp_path / "best_model" / NAME, "--resume", "--recipe", "best", "--data-dir", data_dir)
    assert again.exit_code == 2
    assert "a resumed one goes on as it was" in again.stderr


@pytest.mark.tensorflow
def test_a_run_and_its_resume_in_words_and_json(tmp_path: Path, data_dir: str) -> None:
    result = new(tmp_path, data_dir, "--max-steps", 20)
    assert result.exit_code == 0, result.output
    number = r"\d\.\d{6}"
    shape = rf"step 20  loss \d\.\d{{4}}  recall {number}  ndcg {number}  hitrate {number}  best {number} \(step \d+\)"
    assert re.search(shape, result.stdout)
    for split in ("valid", "test"):
        figures = ", ".join(
            f"{split} {name}: {number}" for name in ("recall", "ndcg", "hitrate", "diversity", "coverage")
        )
        assert re.search(figures, result.stdout), "as the older trainers end"
    assert sorted(path.name for path in (tmp_path / "best_model" / NAME).iterdir()) == ["keras_ckpt", "latest"]

    (to_see,) = re.findall(r"to see where this run stands: trainer (.*)", result.stdout)
    assert CliRunner().invoke(cli.app, shlex.split(to_see)).exit_code == 0, "as typed"

    result = trainer(tmp_path / "best_model" / NAME, "--resume", "--from", "latest", "--max-steps", "+10", "--json",
                     "--data-dir", data_dir)  # fmt: skip
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["schema_version"] == 1
    assert document["command"] == "train"
    assert document["experiment"] == NAME
    assert document["path"] == str(tmp_path / "best_model" / NAME)
    assert document["resumed_from"].endswith("latest/ckpt-3")
    assert (document["step"], document["stopped"], document["findings"]) == (30, "max-steps", [])
    assert document["first_evaluation"]["step"] == 20
    assert document["config"]["item_count"] <= ITEMS

    logs = tmp_path / "runs" / NAME
    assert json.loads((logs / "config.json").read_text()) == document["config"]
    events = [json.loads(line)["event"] for line in (logs / "metrics.jsonl").read_text().splitlines()]
    assert events == ["start", "eval", "eval", "stop", "resume", "eval", "stop"]
    assert len(list(logs.glob("events.out.tfevents.*"))) == 2
    assert document["picture"] == str(logs / "recall.png")
    assert (logs / "recall.png").read_bytes().startswith(b"\x89PNG")

    assert set(document["report"]) == set(document["baselines"]) == {"valid", "test"}
    assert set(document["baselines"]["valid"]) == {"popularity", "item-knn", "ease"}
    assert 0 < document["report"]["valid"]["recall"] == pytest.approx(document["best_metric"])
    assert document["report"]["test"]["coverage"] > 0

    result = trainer("--resume", "--exp-name", "t", "--root", tmp_path, "--data-dir", data_dir, "--max-steps", 10)
    assert result.exit_code == 0, result.output
    assert "already, and was to be trained until step 10; to train 10 steps more: --max-steps +10" in result.stderr
    assert "nothing trained; best recall" in result.stdout
    assert "stopped" not in result.stdout
    assert "keras_ckpt/ckpt-" in result.stdout

    before = tree(tmp_path)
    result = new(tmp_path, data_dir)
    assert result.exit_code == 2
    assert "this experiment exists" in result.stderr
    assert "--resume" in result.stderr
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (2, ["--max-steps", "x"], "neither N nor +N"),
        (2, ["--max-steps", "5", "--max-iter", "1"], "both limit the run"),
        (2, ["--from", "latest"], "--from means something only with --resume"),
        (2, ["--accept-metric"], "--accept-metric means something only with --resume"),
        (2, ["--model-type", "BERT"], "there is no model type 'BERT'"),
        (2, ["--hidden-size", "8"], "--hidden-size 8 and --embedding-dim 4 differ"),
        (2, ["--batch-size", "100"], "use --neg-num 1"),
        (2, ["--batch-size", "100", "--neg-num", "1"], "use --batch-size 60 or less"),
        (2, ["--learning-rate", "nan"], "--learning-rate has to be a positive number"),
        (2, ["--exp-name", "a/b"], "cannot be part of a file's name"),
        (2, ["--item-count", "60"], "has no row in the item table, which has 60"),
        (2, ["--resume", "--exp-name", "", "best_model/x"], "not both"),
        (3, ["--resume", "--exp-name", "other"], "no experiment is called 'other'; there are: none"),
        (3, ["--dataset", "book"], "book_train.txt, book_valid.txt, book_test.txt and book_item_cate.txt"),
        (2, ["best_model/x"], "an experiment's folder is given to resume it"),
    ],
)
def test_refusals_say_what_to_do_and_write_nothing(
    tmp_path: Path, data_dir: str, code: int, arguments: list[str], message: str
) -> None:
    result = new(tmp_path, data_dir, *arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert result.stderr.startswith("error[")
    assert "\n  next: " in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_new_run_needs_a_model_and_a_name(tmp_path: Path) -> None:
    assert "needs --model-type" in trainer("--exp-name", "t", "--root", tmp_path).stderr
    result = trainer("--model-type", "DNN", "--root", tmp_path)
    assert (result.exit_code, "needs --exp-name" in result.stderr) == (2, True)


def test_several_experiments_of_one_name_are_listed(tmp_path: Path) -> None:
    for model in ("DNN", "MIND"):
        line = tmp_path / "best_model" / f"toys_{model}_b16_lr0.01_d4_len6_t" / "keras_ckpt"
        line.mkdir(parents=True)
        (line / "checkpoint").write_text('model_checkpoint_path: "ckpt-1"\n')
    result = trainer("--resume", "--exp-name", "t", "--root", tmp_path)
    assert result.exit_code == 2
    assert "2 experiments are called 't'" in result.stderr
    assert "toys_MIND_b16" in result.stderr
    # The model decides, and then its checkpoint turns out not to be there.
    result = trainer("--resume", "--exp-name", "t", "--root", tmp_path, "--model-type", "MIND")
    assert result.exit_code == 3
    assert "toys_MIND_b16" in result.stderr


def test_an_error_as_json(tmp_path: Path, data_dir: str) -> None:
    result = new(tmp_path, data_dir, "--max-steps", "x", "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["error"]["id"], document["error"]["exit_code"]) == (2, "usage", 2)
    assert document["findings"][0]["severity"] == "error"


def test_help_has_examples_and_exit_codes() -> None:
    result = CliRunner().invoke(cli.app, ["train", "--help"])
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    assert "Example: trainer train --dataset book" in text
    assert "130 interrupted" in text


def test_the_version_and_the_module() -> None:
    for program in (["-m", "trainer"], ["-c", "from trainer.cli import main; main()"]):
        found = subprocess.run([sys.executable, *program, "--version"], capture_output=True, text=True, check=True)
        assert found.stdout.startswith("trainer ")


@pytest.mark.parametrize("command", ["train", "evaluate", "export", "prepare"])
def test_help_names_everything_in_full_at_80_columns(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = CliRunner().invoke(cli.app, [command, "--help"], terminal_width=80).output
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("arguments", [["train", "--bogus"], ["train", "--seed", "x"], ["no-such-command"]])
def test_usage_errors_are_json_when_asked_for(arguments: list[str], capsys: Any) -> None:
    assert cli.run([*arguments, "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert (document["error"]["id"], document["error"]["exit_code"]) == ("usage", 2)
    assert document["error"]["hint"].endswith("--help")


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [
        ("tensorflow", ["train", *NEW]),
        ("tensorboard", ["train", *NEW]),
        ("polars", ["prepare", "x.csv", "--dataset", "x"]),
        ("faiss", ["export", "best_model/x", "out", "--index", "flat"]),
    ],
)
def test_what_a_plain_installation_lacks_is_one_sentence(
    missing: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from trainer import extras

    original = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == missing else original(name))
    assert cli.run(arguments) == 7
    error = capsys.readouterr().err
    assert "which is not installed\n  next: pip install 'ckpt-tools[trainer]'\n" in error
    assert len(error.splitlines()) == 2


def test_a_terminal_escape_in_a_name_is_shown_and_never_obeyed(tmp_path: Path, capsys: Any) -> None:
    assert cli.run(["evaluate", f"{tmp_path}/\x1b[31mred"]) == 3
    error = capsys.readouterr().err
    assert "\x1b[31m" not in error
    assert "\\x1b[31mred" in error


def test_json_has_null_for_what_is_no_number(capsys: Any) -> None:
    Console("train", None, json=True, quiet=False).document({"recall": float("nan"), "rows": [{"loss": float("inf")}]})
    document = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert (document["recall"], document["rows"]) == (None, [{"loss": None}])


def test_a_curve_whose_name_no_font_can_write_is_drawn_without_a_word(tmp_path: Path) -> None:
    found = Curve(tuple(LoggedEvaluation(step, None, step / 10, None, None, "log") for step in (1, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw(found, "图书_$x_ComiRec", str(tmp_path)) is not None


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_id_that_no_memory_has_room_for_is_refused(tmp_path: Path, data_dir: str, split: str) -> None:
    shutil.copytree(data_dir, tmp_path / "data")
    with open(tmp_path / "data" / f"toys_{split}.txt", "a") as file:
        file.write("7,2000000000,99\n")
    result = new(tmp_path / "root", str(tmp_path / "data"))
    assert result.exit_code == 4, result.output
    assert "the largest item id is 2000000000" in result.stderr
    assert f"toys_{split}.txt" in result.stderr


def test_a_training_file_without_long_users_says_so(tmp_path: Path, data_dir: str) -> None:
    shutil.copytree(data_dir, tmp_path / "data")
    (tmp_path / "data" / "toys_train.txt").write_text("1,2,3\n1,3,4\n")
    result = new(tmp_path / "root", str(tmp_path / "data"), "--recipe", "paper")
    assert result.exit_code == 2
    assert "no training user has 5 items or more" in result.stderr
    assert "or less" not in result.stderr


def test_a_bug_says_so_with_its_own_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def broken(*arguments: Any) -> None:  # noqa: ARG001
        raise RuntimeError("out of ideas")

    monkeypatch.setattr(cli, "_budget", broken)
    monkeypatch.setattr(sys, "argv", ["trainer", "train", *NEW])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 70
    assert "out of ideas" in capsys.readouterr().err


def test_the_command_that_goes_on_is_the_one_that_began(
    tmp_path: Path, data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(start: Any, experiment: Any, max_steps: int, *_: Any, **__: Any) -> Any:  # noqa: ARG001
        first = LogRow("start", 0, None, 0.0, 0.0, 0.0, 0.0, 0, 0)
        return SimpleNamespace(run_state=start.run_state, first=first, reason="interrupted")

    monkeypatch.setattr(cli, "training_loop", lambda: interrupted)
    going_on = "--resume --from latest --data-dir "
    for flags, kept in (
        ([], ""),
        (["--max-steps", "300"], " --max-steps 300"),
        (["--max-iter", "2", "--keep", "5", "--report", "none"], " --max-steps 2000 --keep 5 --report none"),
    ):
        done = new(tmp_path, data_dir, *flags)
        assert done.exit_code == 130
        assert f"{going_on}{data_dir}{kept}\n" in done.stdout.replace("\n", "") + "\n"


def test_advice_to_resume_names_the_data_that_was_named(tmp_path: Path, data_dir: str) -> None:
    folder = tmp_path / "best_model" / NAME
    folder.mkdir(parents=True)
    refused = trainer("--resume", folder, "--from", "latest", "--data-dir", data_dir)
    assert refused.exit_code == 3
    assert f"--resume --data-dir {data_dir}" in refused.stderr
    assert "--data-dir" not in trainer("--resume", folder, "--from", "latest").stderr


def test_an_interrupt_before_training_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_new", interrupted)
    assert trainer(*NEW).exit_code == 130


def test_deciding_what_to_do_needs_no_tensorflow() -> None:
    import subprocess

    code = "import sys, trainer.cli, trainer.evaluation.evaluator; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def command(root: Path, data_dir: str, *arguments: str) -> list[str]:
    program = [sys.executable, "-c", "from trainer.cli import main; main()", "train", *NEW]
    return [*program, "--root", str(root), "--data-dir", data_dir, *arguments]


@pytest.mark.tensorflow
def test_on_a_terminal_the_progress_is_drawn(tmp_path: Path, data_dir: str) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    # A run that lasts long enough for some pictures; it ends as soon as they have been seen.
    running = subprocess.Popen(
        command(tmp_path, data_dir, "--max-steps", "100000", "--test-iter", "1000"), stderr=theirs, stdout=theirs,
        env=environment,
    )  # fmt: skip
    os.close(theirs)
    shape = re.compile(
        rb"step \d+ of 100000 . \d+ steps/s . \d+:\d\d:\d\d left.*?loss \d\.\d{4} . best 0\.\d{6} at step \d+ . "
        rb"patience \d+ of 50",
        re.DOTALL,
    )
    seen = b""
    with contextlib.suppress(OSError):
        while not shape.search(seen.replace("·".encode(), b".")):
            seen += os.read(ours, 4096)
    running.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):
        while os.read(ours, 4096):
            pass
    assert shape.search(seen.replace("·".encode(), b"."))
    assert running.wait() == 130
    os.close(ours)


@pytest.mark.tensorflow
def test_a_reader_of_the_pipe_that_leaves_does_not_stop_the_run(tmp_path: Path, data_dir: str) -> None:
    with subprocess.Popen(command(tmp_path, data_dir, "--max-steps", "30"), stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.close()
    assert running.returncode == 0
    assert json.loads((tmp_path / "runs" / NAME / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 30
