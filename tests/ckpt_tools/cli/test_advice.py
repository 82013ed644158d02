"""Each command that is advised, in the situation in which it is: typed as it is printed, it does what it promises.

A place in the source that puts a path into a command quotes it; what quotes is watched, so that a place that no
situation here leads to is found (`test_every_place_that_advises_a_command_was_led_to`).
"""

from __future__ import annotations

import ast
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import typer
from checkpoints import FIXTURES, build_bundle, pick
from made import version_1
from objects import build_objects

import ckpt_tools
from ckpt_tools.analysis.newest import newest_whole
from ckpt_tools.analysis.run_audit import describe
from ckpt_tools.browse.words import what_next
from ckpt_tools.cli import run
from ckpt_tools.errors import CorruptError
from ckpt_tools.readers import Bundle
from ckpt_tools.runs.discovery import Discovery

SOURCES = Path(ckpt_tools.__file__).parent
KERNEL = np.ones((2, 3), np.float32)


@dataclass(frozen=True)
class Case:
    """``typed`` makes the situation below a directory and says what is typed in it; the command leaves with ``code``
    and gives advice, which leaves with one of ``then``; after it, ``good`` is typed and leaves with 0 or 1 (a list of
    what is still to be done)."""

    typed: Callable[[Path], list[str]]
    code: int
    then: Collection[int] = (0,)
    good: bool = False

    @property
    def name(self) -> str:
        return self.typed.__name__.strip("_")


CASES: list[Case] = []


def case(code: int, *then: int, good: bool = False) -> Callable[[Callable[[Path], list[str]]], None]:
    def add(typed: Callable[[Path], list[str]]) -> None:
        CASES.append(Case(typed, code, then or (0,), good))

    return add


def plain(here: Path, name: str = "plain") -> str:
    return build_bundle(here / name, {"dense/kernel": KERNEL})


def experiment(here: Path, root: str = "tf2.21", *, with_best: bool = False) -> Path:
    sample = pick(root, with_best=with_best)
    for folder in ("best_model", "runs"):
        source = FIXTURES / "experiments" / sample.root / folder / sample.experiment
        shutil.copytree(source, here / "root" / folder / sample.experiment, symlinks=True)
    return here / "root" / "best_model" / sample.experiment


# ------------------------------------------------------------------------------------------------ where it lies


@case(3)
def no_such_directory(here: Path) -> list[str]:
    return ["inspect", str(here / "nowhere" / "at" / "all")]


@case(3)
def nothing_here_but_folders(here: Path) -> list[str]:
    (here / "below" / "further").mkdir(parents=True)
    return ["inspect", str(here)]


@case(3, 0, 1)
def a_state_file_that_names_what_is_gone(here: Path) -> list[str]:
    (here / "checkpoint").write_text('model_checkpoint_path: "gone-1"\n')
    return ["inspect", str(here)]


@case(1, good=True)
def data_under_another_name(here: Path) -> list[str]:
    prefix = plain(here)
    os.rename(f"{prefix}.data-00000-of-00001", f"{prefix}.data-00000-of-00001 (1)")
    return ["verify", prefix]


@case(1, good=True)
def data_that_another_checkpoint_has_too(here: Path) -> list[str]:
    prefix, other = plain(here), plain(here, "other")
    os.unlink(f"{prefix}.data-00000-of-00001")
    assert Path(f"{other}.index").exists()
    return ["verify", prefix]


@case(1)
def an_index_under_another_name_than_its_data(here: Path) -> list[str]:
    prefix = plain(here)
    os.rename(f"{prefix}.index", here / "renamed.index")
    return ["verify", str(here / "renamed")]


@case(3, good=True)
def an_index_with_something_behind_its_name(here: Path) -> list[str]:
    prefix = plain(here)
    os.rename(f"{prefix}.index", f"{prefix}.index.txt")
    return ["inspect", prefix]


@case(3)
def an_index_alone_with_something_behind_its_name(here: Path) -> list[str]:
    os.rename(f"{plain(here)}.index", here / "plain.index.download")
    os.unlink(here / "plain.data-00000-of-00001")
    return ["inspect", str(here / "plain")]


# ------------------------------------------------------------------------------------------------ what is asked of it


@case(0)
def a_filter_that_no_name_matches(here: Path) -> list[str]:
    return ["inspect", plain(here), "--filter", "dense/kernle"]


@case(2)
def a_graph_of_which_nothing_says_what_it_is_fed(here: Path) -> list[str]:
    for file in (FIXTURES / "graphs").glob("textcnn.*"):
        shutil.copy(file, here)
    return ["backfill", str(here / "textcnn"), "--evaluate", "graph", "--metric", "accuracy"]


@case(3)
def nothing_to_undo(here: Path) -> list[str]:
    return ["undo", plain(here)]


@case(7)
def a_migration_of_a_strangers_checkpoint(here: Path) -> list[str]:
    return ["migrate", plain(here), "--to", "trainer"]


@case(7, 0, 1)
def a_second_migration(here: Path) -> list[str]:
    path = str(experiment(here, with_best=True))
    assert run(["migrate", path, "--to", "trainer", "--quiet"]) == 0
    return ["migrate", path, "--to", "trainer"]


@case(0)
def a_migration_of_a_run_without_a_best(here: Path) -> list[str]:
    return ["migrate", str(experiment(here)), "--to", "trainer"]


@case(3)
def a_migration_without_a_variable(here: Path) -> list[str]:
    prefix = str(experiment(here, "tf1.15") / "model.ckpt")
    with Bundle(prefix) as bundle:
        values = {key: bundle.read(key) for key in bundle.tensors if key != "bias_lookup_table"}
    build_bundle(prefix, values)
    return ["migrate", prefix, "--to", "trainer"]


@case(7)
def a_migration_of_what_is_no_bundle(here: Path) -> list[str]:
    with Bundle(str(experiment(here, "tf1.15") / "model.ckpt")) as bundle:
        values = {key: bundle.read(key) for key, tensor in bundle.tensors.items() if tensor.dtype == "float32"}
    return ["migrate", str(version_1(here / "old", values)), "--to", "trainer"]


@case(7)
def a_repair_of_a_keras_file(here: Path) -> list[str]:
    with h5py.File(here / "w.h5", "w") as file:
        file["model_weights/dense/dense/kernel:0"] = KERNEL
    return ["repair", str(here / "w.h5")]


@case(3)
def an_export_into_no_directory(here: Path) -> list[str]:
    return ["export", plain(here), str(here / "no" / "such" / "x.npz")]


@case(1)
def an_export_of_what_keras_loads_as_it_is(here: Path) -> list[str]:
    with h5py.File(here / "w.h5", "w") as file:
        file["model_weights/dense/dense/kernel:0"] = KERNEL
    return ["export", str(here / "w.h5"), str(here / "x.weights.h5")]


@case(1)
def an_export_of_layers_without_a_graph(here: Path) -> list[str]:
    return ["export", plain(here), str(here / "x.h5")]


@case(1)
def an_export_of_an_object_graph_without_layers(here: Path) -> list[str]:
    prefix = build_objects(here / "m", {"optimizer/step": ("step", KERNEL)})
    return ["export", prefix, str(here / "x.weights.h5")]


@case(1, 0, 1)
def an_export_of_layers_whose_classes_are_not_told(here: Path) -> list[str]:
    variables = {f"model/layer-{n}/kernel": (f"first_{n}/kernel", KERNEL) for n in range(2)}
    return ["export", build_objects(here / "m", variables), str(here / "x.weights.h5")]


@case(3)
def digests_into_no_directory(here: Path) -> list[str]:
    return ["verify", plain(here), "--sarif", str(here / "no" / "such" / "x.sarif")]


@case(2, 0, 1)
def a_browser_without_a_terminal(here: Path) -> list[str]:
    return ["browse", str(here)]


@case(0, good=True)
def a_link_out_of_what_is_looked_at(here: Path) -> list[str]:
    (here / "root").mkdir()
    (here / "elsewhere").mkdir()
    plain(here / "elsewhere")
    (here / "root" / "link").symlink_to(here / "elsewhere")
    return ["audit", str(here / "root")]


@case(1, 0, 1)
def an_audit_of_a_damaged_run(here: Path) -> list[str]:
    path = experiment(here, "tf1.15")
    index = next(path.glob("*.index"))
    index.write_bytes(index.read_bytes()[:40])
    return ["audit", str(here / "root")]


# ------------------------------------------------------------------------------------------------ what is found in it


@case(0)
def a_run_without_a_best(here: Path) -> list[str]:
    return ["inspect", str(experiment(here))]


@case(1, 0, 1)
def a_forecast_of_several_without_a_best(here: Path) -> list[str]:
    return ["resume-check", str(experiment(here)), str(experiment(here, "tf2.10"))]


@case(1)
def a_forecast_without_a_best(here: Path) -> list[str]:
    return ["resume-check", str(experiment(here))]


@case(0, good=True)
def what_a_killed_save_left(here: Path) -> list[str]:
    path = experiment(here)
    left = path / "keras_ckpt" / "ckpt-9_temp" / "part-00000-of-00001.data-00000-of-00001"
    left.parent.mkdir()
    left.write_bytes(b"x")
    for each in (left, left.parent):
        os.utime(each, (1, 1))
    return ["inspect", str(path)]


@case(4)
def a_link_in_the_place_of_the_backups(here: Path) -> list[str]:
    prefix = plain(here)
    (here / "elsewhere").mkdir()
    (here / ".ckpt-tools").symlink_to(here / "elsewhere")
    return ["backfill", prefix, "--value", "0.5", "--metric", "auc", "--mode", "max"]


@case(3)
def an_unknown_message(here: Path) -> list[str]:
    return ["explain", "it does not work", plain(here)]


@case(0)
def a_message_about_another_name(here: Path) -> list[str]:
    prefix = plain(here)
    message = "Unsuccessful TensorSliceReader constructor: Failed to find any matching files for /old/plain"
    plain(here, "other")
    return ["explain", message, f"{prefix[:-5]}other"]


@case(0)
def a_message_about_this_name(here: Path) -> list[str]:
    message = "Unsuccessful TensorSliceReader constructor: Failed to find any matching files for /old/gone"
    return ["explain", message, plain(here)]


@case(0)
def a_message_about_a_file_from_windows(here: Path) -> list[str]:
    with h5py.File(here / "w.weights.h5", "w") as file:
        file["layers\\dense/vars/0"] = KERNEL
    message = "Layer 'dense' expected 2 variables, but received 0 variables during loading"
    return ["explain", message, str(here / "w.weights.h5")]


@case(1)
def a_forecast_with_an_old_trainer(here: Path) -> list[str]:
    return ["resume-check", str(experiment(here)), "--with", "comirec-keras", "--keras", "3"]


@case(3)
def a_run_that_has_only_its_newest_state(here: Path) -> list[str]:
    (here / "best_model" / "run" / "latest").mkdir(parents=True)
    plain(here / "best_model" / "run" / "latest", "ckpt-1")
    return ["inspect", str(here / "best_model" / "run")]


@case(1)
def a_run_that_says_that_it_stores_its_best_and_has_none(here: Path) -> list[str]:
    (here / "ckpt.toml").write_text(
        "[layout]\nbest = 'plain'\nlogs = 'log.txt'\n[metric]\nname = 'auc'\nmode = 'max'\n"
        "[resume]\nrestores = 'best'\nbest = 'checkpoint'\n"
    )
    (here / "log.txt").write_text("epoch 1 auc: 0.5\nepoch 2 auc: 0.6\nepoch 3 auc: 0.55\n")
    return ["resume-check", plain(here)]


@case(7, 0, 1)
def a_list_of_what_may_go_in_a_store(here: Path) -> list[str]:  # noqa: ARG001
    import fsspec

    with fsspec.open("memory://advice/checkpoint", "w") as file:
        file.write('model_checkpoint_path: "gone-1"\n')
    return ["keep", "memory://advice", "--last", "1"]


@case(1)
def backups_that_are_all_that_is_left(here: Path) -> list[str]:
    prefix = plain(here)
    assert run(["backfill", prefix, "--value", "0.5", "--metric", "auc", "--mode", "max", "--quiet"]) == 0
    os.truncate(f"{prefix}.data-00001-of-00002", 1)
    return ["undo", prefix, "--drop-backups"]


@case(7)
def a_file_that_no_value_is_written_to(here: Path) -> list[str]:
    assert run(["export", plain(here), str(here / "x.safetensors"), "--quiet"]) == 0
    return ["backfill", str(here / "x.safetensors"), "--value", "0.5", "--metric", "auc", "--mode", "max"]


@case(0)
def an_experiment_to_try_everything_on(here: Path) -> list[str]:
    return ["demo", str(here / "demo")]


@case(3, 0, 1)
def a_state_file_in_a_store(here: Path) -> list[str]:  # noqa: ARG001
    import fsspec

    with fsspec.open("memory://advice/checkpoint", "w") as file:
        file.write('model_checkpoint_path: "gone-1"\n')
    return ["inspect", "memory://advice"]


# ------------------------------------------------------------------------------------------------ what is to be kept


def guarded(here: Path) -> Path:
    """A run whose best a guard has pinned, and which holds something worse."""
    run = here / "a guarded run"
    pin = Path(f"{run}.pins", "000001")
    run.mkdir()
    pin.mkdir(parents=True)
    build_bundle(pin / "model", {"dense/kernel": KERNEL})
    build_bundle(run / "model", {"dense/kernel": 2 * KERNEL})
    metric = {"name": "auc", "mode": "max", "value": 0.8}
    said = {"name": "model", "kind": "bundle", "source": "model", "metric": metric, "written": 1.0}
    (pin / "pin.json").write_text(json.dumps(said))
    (pin.parent / "guard.json").write_text(json.dumps({"metric": metric}))
    return run


@case(0)
def a_run_that_lost_its_best_to_a_pin(here: Path) -> list[str]:
    return ["inspect", str(guarded(here) / "model")]


@case(3)
def a_run_that_is_gone_but_for_its_pins(here: Path) -> list[str]:
    run = guarded(here)
    shutil.rmtree(run)
    return ["inspect", str(run)]


@case(3)
def a_pin_that_there_is_not(here: Path) -> list[str]:
    return ["guard", str(guarded(here)), "--restore", "--pin", "9"]


@case(3)
def a_run_that_was_never_guarded(here: Path) -> list[str]:
    return ["guard", str(here / "run"), "--status"]


@case(2)
def a_guard_without_a_command(here: Path) -> list[str]:
    return ["guard", str(here / "run")]


def trainer_that_prints(here: Path, line: str) -> list[str]:
    code = f"import shutil\nprint({line!r}, flush=True)\n"
    (here / "train.py").write_text(code)
    (here / "run").mkdir()
    return ["guard", str(here / "run"), "--", sys.executable, str(here / "train.py")]


@case(0)
def a_metric_that_is_not_known(here: Path) -> list[str]:
    return trainer_that_prints(here, "epoch 1: quux 0.5")


@case(0)
def a_metric_that_two_lines_could_mean(here: Path) -> list[str]:
    guard, run_, *command = trainer_that_prints(here, "dev a recall 0.3, dev b recall 0.4")
    return [guard, run_, "--metric", "recall", *command]


def test_a_change_in_place_says_how_it_is_taken_back(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = build_bundle(
        here / "m", {"dense/kernel": KERNEL, "dense/kernel/Adam": KERNEL, "dense/kernel/Adam_1": KERNEL}
    )
    assert run(["slim", prefix, "--in-place"]) == 0
    (advice,) = [line for line in said(capsys).splitlines() if " takes this back" in line]
    command = advice.partition("the originals are kept: ")[2].partition(" takes this back")[0]
    assert follow(command) == 0
    with Bundle(prefix) as bundle:
        assert len(bundle.tensors) == 3


@pytest.mark.parametrize("other", [True, False])
def test_a_newest_that_is_damaged(here: Path, other: bool) -> None:
    if other:
        plain(here, "ckpt-1")
    damaged = plain(here, "ckpt-2")
    raw = Path(f"{damaged}.data-00000-of-00001").read_bytes()
    Path(f"{damaged}.data-00000-of-00001").write_bytes(raw[:-1] + b"\0")
    (here / "checkpoint").write_text('model_checkpoint_path: "ckpt-2"\nall_model_checkpoint_paths: "ckpt-2"\n')
    if other:
        found, findings = newest_whole(str(here))
        assert found == str(here / "ckpt-1")
        advice = findings[0].fix
    else:
        with pytest.raises(CorruptError) as caught:
            newest_whole(str(here))
        advice = caught.value.hint
    assert advice is not None
    assert follow(advice) in (0, 1)


@pytest.mark.parametrize(
    ("logs", "code"),
    [
        ({"eval.log": "Restoring parameters from x/net-2\nacc: 0.6\n", "train.log": "step 2 acc: 0.5\n"}, 3),
        ({"a/b/c/train.log": "step 2 acc: 0.5\n"}, 3),
    ],
)
def test_the_log_that_tells_it_can_be_named(
    here: Path, capsys: pytest.CaptureFixture[str], logs: dict[str, str], code: int
) -> None:
    prefix = plain(here, "net-2")
    for name, text in logs.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(text)
    command = ["backfill", prefix, "--from-logs", "--metric", "acc"]
    assert typed(command) == code
    advice = " ".join(said(capsys).split())
    assert "[layout] logs" in advice
    assert "ckpt.toml" in advice
    (here / "ckpt.toml").write_text(f"[layout]\nlogs = '{list(logs)[-1]}'\n")
    assert typed(command) == 0


def test_what_is_copied_about_a_run(here: Path) -> None:
    """Of a stranger's, and of one whose best can be put back."""
    plain(here)
    experiment(here)
    rows = {row.kind: row for row in (describe(run, str(here)) for run in Discovery(here).runs())}
    assert what_next(rows["experiment"]) == rows["experiment"].fix
    assert rows["checkpoint"].fix is None
    assert follow(what_next(rows["checkpoint"])) == 0


# ------------------------------------------------------------------------------------------------ followed


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose name a shell would take apart."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a 'b' $c"
    path.mkdir()
    return path


Place = tuple[str, int]


@pytest.fixture
def quoting(monkeypatch: pytest.MonkeyPatch) -> set[Place]:
    """The places in the source that quoted something."""
    seen: set[Place] = set()
    true = shlex.quote

    def quote(text: str) -> str:
        frame: Any = sys._getframe(1)
        seen.add((os.path.relpath(frame.f_code.co_filename, SOURCES), frame.f_lineno))
        return true(text)

    monkeypatch.setattr(shlex, "quote", quote)
    return seen


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_advised_can_be_typed(case: Case, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = case.typed(here)
    capsys.readouterr()
    assert typed(words) == case.code
    advice = [line.split("next: ", 1)[1] for line in said(capsys).splitlines() if "next: " in line]
    assert advice
    for command in dict.fromkeys(advice):
        assert follow(command) in case.then, command
    if case.good:
        assert typed(words) in (0, 1)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def typed(words: list[str]) -> int:
    try:
        return run(words)
    except SystemExit as ended:
        return int(ended.code or 0)


def follow(command: str) -> int:
    """Type it in a shell's stead; what a person fills in is filled in."""
    if command.startswith(("mv ", "cp ", "mkdir ", "rm ")):
        return subprocess.run(["sh", "-c", command], check=False).returncode
    command = command.replace("-- ...", "-- true").replace("-- python train.py", "-- true")
    program, *words = shlex.split(command)
    if program == "trainer":  # its own tests resume what is resumed here
        from trainer.cli import app

        assert typer.main.get_command(app).make_context("trainer", words, resilient_parsing=False)
        name, *given = words
        typer.main.get_command(app).commands[name].make_context(name, given)  # type: ignore[attr-defined]
        assert all(Path(word).exists() for word in given if os.sep in word)
        return 0
    assert program == "ckpt", command
    return typed([str(FIXTURES / "data") if word == "DIR" else word for word in words])


_COMMAND = r"""f['"]+(ckpt|trainer|mv|cp|rm(?! --)|mkdir) """


def places() -> Iterator[Place]:
    """Where in the source a command is put together."""
    for source in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.JoinedStr) and re.match(_COMMAND, ast.unparse(node)):
                quotes = (each for each in ast.walk(node) if isinstance(each, ast.Call))
                yield from (
                    (os.path.relpath(source, SOURCES), each.lineno)
                    for each in quotes
                    if ast.unparse(each.func) == "shlex.quote"
                )


def test_every_place_that_advises_a_command_was_led_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quoting: set[Place], capsys: pytest.CaptureFixture[str]
) -> None:
    folders = (tmp_path / str(number) for number in itertools.count())

    def anew() -> Path:
        here = next(folders)
        here.mkdir()
        monkeypatch.chdir(here)
        return here

    for case in CASES:
        typed(case.typed(anew()))
    test_a_change_in_place_says_how_it_is_taken_back(anew(), capsys)
    for other in (True, False):
        test_a_newest_that_is_damaged(anew(), other)
    test_what_is_copied_about_a_run(anew())
    # What is said of a ledger or journal that cannot be read is followed in transactions/test_next_steps.py.
    ledger = Path(plain(anew())).with_name(".ckpt-tools") / "ledger.jsonl"
    ledger.parent.mkdir()
    ledger.write_text("no JSON\n")
    typed(["undo", str(ledger.parent.with_name("plain"))])
    missing = sorted(set(places()) - quoting)
    assert not missing, f"no situation leads to: {missing}"


_OF_A_PATH = re.compile(r"(path|run|prefix|directory|folder|root|experiment|target|out|output|data_dir|name)\b")


def test_a_path_that_is_put_into_a_command_is_quoted() -> None:
    for source in [*SOURCES.rglob("*.py"), *(SOURCES.parent / "trainer").rglob("*.py")]:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.JoinedStr) and re.match(_COMMAND, ast.unparse(node)):
                filled = [ast.unparse(part.value) for part in node.values if isinstance(part, ast.FormattedValue)]
                last = [each.rpartition(".")[2] for each in filled if not re.match(r"(shlex\.)?quote\(", each)]
                unquoted = [each for each in last if _OF_A_PATH.fullmatch(each)]
                # Of a guard's metric, quoted where it was made.
                assert unquoted in ([], ["name"]), (source, node.lineno)
