"""Hints are a contract: what a command advises can be typed as it stands, and does what it promises."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import typer
from checkpoints import FIXTURES, build_bundle, pick

import ckpt_tools
import trainer.cli
from ckpt_tools import cli
from ckpt_tools.cli import run

SOURCES = [
    *Path(ckpt_tools.__file__).parent.rglob("*.py"),
    *Path(trainer.__file__).parent.rglob("*.py"),
]
_NAMES = ("hint", "fix", "going_on", "following")


def options() -> dict[str, set[str]]:
    """The options of each command, by what is typed: ``ckpt inspect``."""
    cli._register([])
    programs = {"ckpt": typer.main.get_command(cli.app), "trainer": typer.main.get_command(trainer.cli.app)}
    found: dict[str, set[str]] = {}
    for program, group in programs.items():
        commands: dict[str, Any] = getattr(group, "commands")  # noqa: B009 (typer tells no types)
        for name, command in commands.items():
            own = {option for each in command.params for option in [*each.opts, *each.secondary_opts]}
            found[f"{program} {name}"] = own | {"--help", "-h"}
    return found


def hints() -> Iterator[tuple[str, str]]:
    """Where in the source something is advised, and its words; what is filled in is X."""

    def words(node: ast.AST) -> str:
        if isinstance(node, ast.JoinedStr):
            return "".join(words(part) for part in node.values)
        if isinstance(node, ast.Constant):
            return str(node.value) if isinstance(node.value, str) else ""
        return "X" if isinstance(node, ast.FormattedValue) else ""

    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            advice: list[ast.AST] = []
            if isinstance(node, ast.keyword) and node.arg in _NAMES:
                advice = [node.value]
            if isinstance(node, ast.Assign):
                advice = [node.value for target in node.targets if getattr(target, "id", None) in _NAMES]
            for value in advice:
                for each in ast.walk(value):
                    text = words(each) if isinstance(each, (ast.JoinedStr, ast.Constant)) else ""
                    if len(text) > 3:
                        yield f"{source.name}:{each.lineno}", text  # type: ignore[attr-defined]


def test_commands_and_options_that_are_advised_exist() -> None:
    known = options()
    everything = set().union(*known.values())
    seen = 0
    for place, text in hints():
        for program, name, rest in re.findall(r"\b(ckpt|trainer) ([a-z][a-z-]+)([^;()]*)", text):
            if f"{program} {name}" not in known:
                # "the trainer keeps", in a sentence
                assert not (program == "ckpt" and re.match(r"\s+\S", rest)), (place, text)
                continue
            seen += 1
            wrong = set(re.findall(r"(?<!\S)--[a-z][a-z-]+", rest)) - known[f"{program} {name}"]
            assert not wrong or "; or" in text, (place, text, wrong)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
            assert option in everything or "git" in text or "tensorflowjs" in text, (place, text, option)
    assert seen > 30


# ------------------------------------------------------------------------------- what each says, tried as it is printed


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a run, bundles and other files under names that a shell would take apart."""
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "a 'b' $c"
    shutil.copytree(pick("tf2.21").path.parents[1], here / "root", symlinks=True)
    shutil.copytree(FIXTURES / "data", here / "data")
    build_bundle(here / "plain", {"dense/kernel": np.ones((2, 3), np.float32)})
    (here / "torn.index").write_bytes(Path(here / "plain.index").read_bytes()[:40])
    with h5py.File(here / "w.h5", "w") as file:
        file["model_weights/dense/dense/kernel:0"] = np.ones((2, 3))
    return here


RUN = "root/best_model/book_DNN_b128_lr0.005_d8_len20_k3_DNN"
# What is typed, what the exit code is, and what the advised command ends with (None: a sentence is no command).
SCENARIOS: list[tuple[list[str], int, int | None]] = [
    (["inspect", "plai"], 3, None),
    (["inspect", "nowhere/at/all"], 3, 0),
    (["inspect", RUN], 0, None),
    (["inspect", "plain", "--jsn"], 2, 0),
    (["inspct", "plain"], 2, 0),
    (["verify", "torn"], 1, None),
    (["verify", "plain", "--sarif", "no/such/x.sarif"], 3, 0),
    (["diff", "plain"], 2, 0),
    (["undo", "plain"], 3, 0),
    (["migrate", "plain", "--to", "trainer"], 7, 0),
    (["migrate", "plain", "--to", "other"], 2, 0),
    (["repair", "w.h5"], 7, 0),
    (["export", "plain", "o.foo"], 2, 0),
    (["export", "plain", "no/such/o.npz"], 3, 0),
    (["audit", "roo"], 3, None),
    (["audit", "root", "--sort", "bestt"], 2, None),
    (["backfill", "plain"], 7, None),
    (["backfill", "plain", "--from-logs"], 3, None),
    (["backfill", RUN, "--data", "nothing"], 3, None),
    (["backfill", RUN, "--value", "7"], 2, 0),
    (["explain", "it does not work", "plain"], 3, 0),
    (["resume-check", RUN], 1, None),
    (["resume-check", "plain", "--keras", "9"], 2, 0),
    (["browse", "root"], 2, 0),
]


_PATHS = {"plai", "plain", "torn", "w.h5", "roo", "root", "nowhere/at/all", RUN}


def typed(words: list[str], here: Path) -> list[str]:
    return [str(here / word) if word in _PATHS else word for word in words]


@pytest.mark.parametrize(("words", "code", "then"), SCENARIOS, ids=[" ".join(words) for words, _, _ in SCENARIOS])
def test_every_error_has_a_next_step_that_works(
    words: list[str], code: int, then: int | None, sandbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*typed(words, sandbox), "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    steps = [document["error"]["hint"]] if "error" in document else [f["fix"] for f in document["findings"] if f["fix"]]
    steps += [document["diagnosis"]["fix"]] if document.get("diagnosis") else []
    assert steps
    assert all(steps)
    if then is not None:
        follow(steps[0], then)
    capsys.readouterr()


def follow(step: str, code: int) -> None:
    program, *arguments = shlex.split(step)
    if program == "mkdir":
        assert arguments[0] == "-p"
        Path(arguments[1]).mkdir(parents=True)
        return
    assert program == "ckpt", step
    try:
        # An audit is a list, of what is damaged too.
        assert run(arguments) in ((0, 1) if arguments[0] == "audit" else (code,)), step
    except SystemExit as ended:
        assert int(ended.code or 0) == code  # noqa: PT017 (help leaves so)


def test_the_advice_of_an_inspection_can_be_followed(sandbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(sandbox / RUN), "--json"]) == 0
    fixes = [finding["fix"] for finding in json.loads(capsys.readouterr().out)["findings"] if finding["fix"]]
    advice = next(fix for fix in fixes if fix.startswith("ckpt backfill"))
    assert advice.endswith(" --data DIR")
    assert run([*shlex.split(advice)[1:-2], "--value", "0.117328"]) == 0
    assert run(["inspect", str(sandbox / RUN), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert said["best_metric"]["status"] == "present"


@pytest.mark.parametrize(("wrong", "right"), [("plai", "plain"), ("plan", "plain"), ("w.hs", "w.h5")])
def test_a_path_that_is_nearly_there(wrong: str, right: str, sandbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(sandbox / wrong), "--json"]) == 3
    hint = json.loads(capsys.readouterr().out)["error"]["hint"]
    match = re.fullmatch(r"did you mean (.*)\?", hint)
    assert match
    assert shlex.split(match[1])[0] == str(sandbox / right)


def test_names_that_are_nearly_there(sandbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ckpt_tools.open(sandbox / "plain") as opened, pytest.raises(KeyError, match=r"did you mean dense/kernel\?"):
        opened["dense/kernl"]
    assert run(["audit", str(sandbox), "--sort", "modl"]) == 2
    assert "did you mean model?" in capsys.readouterr().err
    assert run(["inspct", "x"]) == 2
    assert "inspect" in capsys.readouterr().err
    assert run(["inspect", "--jsn", "x"]) == 2
    assert "--json" in capsys.readouterr().err
