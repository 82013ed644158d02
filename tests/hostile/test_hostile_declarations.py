"""A ``ckpt.toml`` that came with a download, its logs and its commands: nothing happens that was not asked for."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle, snapshot

from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.cli import run as ckpt
from ckpt_tools.errors import CkptError, UnsafeError, UsageError
from ckpt_tools.lineages.declared.grammar import MAX_BYTES, fields_in, parse
from ckpt_tools.operations import command_evaluator, declaring
from ckpt_tools.operations.backfilling import Options, backfill
from ckpt_tools.runs import declared_history, metric_history


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a checkpoint; the user's configuration is empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(declared_history, "_SECONDS", 1.0)
    (tmp_path / "run").mkdir()
    build_bundle(tmp_path / "run" / "m-3", {"w": np.ones(2, np.float32), "global_step": np.array(3, np.int64)})
    return tmp_path / "run"


def declare(place: Path, text: str) -> None:
    (place / "ckpt.toml").write_text(text)


def evaluating(code: str) -> str:
    return f"[evaluate]\ncommand = '''{sys.executable} -c \"{code}\"'''\npattern = 'auc: ([0-9.]+)'\n"


def test_no_command_runs_before_it_is_trusted_nor_after_a_change(place: Path) -> None:
    made = place.parent / "made"
    declare(place, evaluating(f"open('{made}', 'w'); print('auc: 0.5')"))
    before = snapshot(place)
    for command in (["backfill"], ["inspect"], ["resume-check"], ["audit"], ["lineage", "test"], ["backfill", "--all"]):
        code = ckpt([*command, str(place)])
        if command == ["backfill"]:
            assert code == UnsafeError.exit_code
    assert not made.exists()
    assert snapshot(place) == before
    assert ckpt(["lineage", "trust", str(place)]) == 0
    declare(place, evaluating(f"open('{made}', 'w'); print('auc: 0.6')"))
    assert ckpt(["backfill", str(place)]) == UnsafeError.exit_code
    assert not made.exists()
    assert ckpt(["lineage", "trust", str(place)]) == 0
    assert ckpt(["backfill", str(place)]) == 0
    assert made.exists()


def test_a_trust_that_a_folder_brings_along_is_none(place: Path) -> None:
    declare(place, evaluating("print('auc: 0.5')"))
    (place / "trusted.json").write_text("{}")
    (place / ".config").mkdir()
    with pytest.raises(UnsafeError, match="not trusted"):
        backfill(str(place), Options())


@pytest.mark.parametrize(
    "path", ["../secret.txt", "/etc/passwd", "a/../../b", "~/x", "C:\\\\x", "https://host/x", "", "a/b/../../../c"]
)
@pytest.mark.parametrize("key", ["best", "latest", "logs"])
def test_a_path_that_leaves_the_directory_is_refused(key: str, path: str, place: Path) -> None:
    declare(place, f'[layout]\n{key} = "{path}"\n')
    assert ckpt(["backfill", str(place / "m-3"), "--from-logs"]) == UnsafeError.exit_code
    assert ckpt(["lineage", "test", str(place)]) == UnsafeError.exit_code


@pytest.mark.parametrize("outside", ["../../secret", "../logs/*"])
def test_an_experiment_may_go_up_to_the_file_and_no_further(outside: str, place: Path) -> None:
    (place.parent / "secret").write_text("step 3 auc: 0.9\n")
    (place / "exp_1").mkdir()
    prefix = build_bundle(place / "exp_1" / "m-3", {"w": np.ones(2, np.float32)})
    (place / "logs").mkdir()
    (place / "logs" / "a.txt").write_text("step 3 auc: 0.7\n")
    declare(place, f'[experiment]\nname = "exp_{{n}}"\n[layout]\nlogs = "{outside}"\n[metric]\nname = "auc"\n')
    if outside.startswith("../../"):
        with pytest.raises(UnsafeError):
            backfill(prefix, Options(from_logs=True))
    else:
        assert backfill(prefix, Options(from_logs=True)).value == 0.7


def test_links_that_lead_out_are_refused(place: Path) -> None:
    (place.parent / "secret.log").write_text("step 3 auc: 0.9\n")
    (place / "train.log").symlink_to(place.parent / "secret.log")
    declare(place, '[layout]\nlogs = "*.log"\n[metric]\nname = "auc"\n')
    with pytest.raises(UnsafeError, match="leads out"):
        backfill(str(place / "m-3"), Options(from_logs=True))
    (place / "ckpt.toml").unlink()
    (place.parent / "other.toml").write_text("[metric]\nname = 'auc'\n")
    (place / "ckpt.toml").symlink_to(place.parent / "other.toml")
    with pytest.raises(UnsafeError, match="link"):
        backfill(str(place / "m-3"), Options(from_logs=True))


def test_a_pattern_that_would_backtrack_for_ever_is_ended(place: Path) -> None:
    (place / "train.log").write_text("a" * 5000 + "\nstep 3 auc: 0.5\n")
    declare(place, "[layout]\nlogs = 'train.log'\n[metric]\nname = 'auc'\nline = '((a+)+)b'\n")
    before = snapshot(place)
    start = time.monotonic()
    with pytest.raises(UnsafeError, match="did not end"):
        backfill(str(place / "m-3"), Options(from_logs=True))
    assert time.monotonic() - start < 30
    assert snapshot(place) == before


def test_output_without_end_is_ended(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_evaluator, "MAX_OUTPUT_BYTES", 1 << 20)
    declare(place, evaluating("while True: print('x' * 1000)"))
    declaring.trust(str(place))
    before = snapshot(place)
    with pytest.raises(UnsafeError, match="printed more"):
        backfill(str(place), Options())
    assert snapshot(place) == before


@pytest.mark.parametrize("declared", [True, False])
def test_a_line_of_a_gigabyte_is_not_read(declared: bool, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(place / "train.log", "wb") as file:
        file.truncate(1 << 30)  # takes no space
    reads: list[int] = []
    monkeypatch.setattr(metric_history, "lines_of", lambda text: reads.append(len(text)) or [])
    if declared:
        declare(place, "[layout]\nlogs = 'train.log'\n[metric]\nname = 'auc'\n")
    with pytest.raises(CkptError):
        backfill(str(place / "m-3"), Options(from_logs=True))
    assert reads == []


def test_escape_codes_reach_no_terminal(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    escape = "\x1b]0;owned\x07\x1b[2J"
    (place / "train.log").write_text(f"step 3 auc{escape}x: 0.5\nstep 3 {escape}hr: 0.4\n")
    declare(place, 'title = "\\u001b[31mred\\u001b]0;x\\u0007"\n[layout]\nbest = "\\u001b[2Jx"\nlogs = "train.log"\n')
    for command in (["inspect"], ["lineage", "test"], ["lineage", "list"], ["resume-check"], ["audit"]):
        ckpt([*command, str(place)])
    ckpt(["backfill", str(place / "m-3"), "--from-logs"])
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "\x07" not in said.out + said.err


@pytest.mark.parametrize(
    "text",
    [
        "x = [" * 20_000,
        "a" * (MAX_BYTES + 1),
        "\x00",
        "[layout]\nbest = 3",
        "[metric]\nscale = inf",
        "[metric]\nline = '(('",
        "[metric]\nline = 'no group'",
        "[metric]\nmode = 'mx'",
        "[metrics]\nname = 'a'",
        "preset = 'dinn'",
        "[experiment]\nname = '(a+)+'",
        "[recognise]\ntensors = '*'",
        "[evaluate]\npattern = '(a)'",
    ],
)
def test_what_is_not_of_the_grammar_is_refused_and_the_checkpoint_can_still_be_inspected(
    text: str, place: Path
) -> None:
    declare(place, text)
    with pytest.raises((UsageError, UnsafeError)):
        backfill(str(place / "m-3"), Options(from_logs=True))
    assert [f.id for f in inspect(str(place / "m-3")).findings] == ["declaration"]


def test_an_error_names_the_line_and_what_may_be_meant() -> None:
    with pytest.raises(UsageError) as caught:
        parse(b"[layout]\n\n# a comment\nbset = 'x'\n", "d/ckpt.toml")
    assert (caught.value.path, caught.value.hint) == ("d/ckpt.toml:4", "did you mean 'best'?")


def test_the_fields_of_a_name() -> None:
    assert fields_in("{dataset}_{model}_lr{rate}", "book_DIN_lr0.1") == {
        "dataset": "book",
        "model": "DIN",
        "rate": "0.1",
    }
    assert fields_in("{a}/{b}", "x/y") == {"a": "x", "b": "y"}
    for name in ("book_DIN", "_DIN_lr1", "book_DIN_lr", "a/b_c_lrd"):
        assert fields_in("{dataset}_{model}_lr{rate}", name) is None
    start = time.process_time()
    fields_in("{a}a{b}a{c}a{d}x", "a" * 100_000)
    assert time.process_time() - start < 1
