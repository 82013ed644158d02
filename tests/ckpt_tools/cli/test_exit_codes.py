"""Every way to fail has its exit code, in words on stderr and as JSON on stdout."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle, pick

from ckpt_tools import errors
from ckpt_tools.cli import run
from ckpt_tools.fs import durable


def both(ckpt: Callable, code: int, identity: str, *arguments: object) -> str:
    """Fail as text and as JSON; returns what stderr says, unfolded."""
    text = ckpt(*arguments)
    assert (text.code, text.out) == (code, ""), text
    assert text.err.startswith("error[")
    document = ckpt(*arguments, "--json")
    assert document.code == code
    assert document.json["error"]["id"] == identity
    assert document.json["error"]["exit_code"] == code
    assert [finding["id"] for finding in document.json["findings"]] == [identity]
    assert "Traceback" not in text.err + document.err
    return text.err.replace("\n", "")


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return build_bundle(tmp_path / "ckpt", {"a": np.zeros(3)})


@pytest.mark.parametrize("path", ["nowhere", "nowhere/below", "ckpt-9"])
@pytest.mark.parametrize("command", ["inspect", "undo", "backfill"])
def test_not_found(command: str, path: str, tmp_path: Path, ckpt: Callable) -> None:
    assert path in both(ckpt, 3, "not-found", command, tmp_path / path)


def test_an_empty_directory(tmp_path: Path, ckpt: Callable) -> None:
    both(ckpt, 3, "not-found", "inspect", tmp_path)


def test_the_hint_names_what_is_there(prefix: str, tmp_path: Path, ckpt: Callable) -> None:
    assert prefix in both(ckpt, 3, "not-found", "inspect", tmp_path / "ckpt-1")


@pytest.mark.parametrize("content", [b"", b"x" * 100, None])
def test_a_damaged_index(prefix: str, content: bytes | None, ckpt: Callable) -> None:
    index = Path(f"{prefix}.index")
    index.write_bytes(index.read_bytes()[:-1] if content is None else content)
    assert str(index) in both(ckpt, 1, "corrupt", "inspect", prefix)


def test_a_damaged_state_file(prefix: str, tmp_path: Path, ckpt: Callable) -> None:
    (tmp_path / "checkpoint").write_bytes(b"model_chec")
    assert prefix in both(ckpt, 1, "corrupt", "inspect", tmp_path)


def test_unsafe(tmp_path: Path, ckpt: Callable) -> None:
    os.mkfifo(tmp_path / "ckpt.index")
    both(ckpt, 4, "unsafe", "inspect", tmp_path / "ckpt.index")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "../outside"\n')
    both(ckpt, 4, "unsafe", "inspect", tmp_path)


def test_storage(copy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, ckpt: Callable) -> None:
    experiment = copy(pick("tf2.21"))
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    both(ckpt, 5, "storage", "backfill", experiment, "--value", "0.117328")
    both(ckpt, 5, "storage", "undo", experiment)


def test_busy(copy: Callable[..., Path], ckpt: Callable) -> None:
    sample = pick("tf2.21")
    experiment = copy(sample)
    with durable.locked(os.path.dirname(sample.prefix_in(experiment))):
        both(ckpt, 6, "busy", "backfill", experiment, "--value", "0.117328")


def test_unsupported(prefix: str, ckpt: Callable) -> None:
    both(ckpt, 7, "unsupported", "backfill", prefix)  # nothing is known of how it is evaluated


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("inspect",),
        ("inspect", "a", "b"),
        ("inspect", "a", "--nonsense"),
        ("backfill", "a", "--value", "many"),
        ("backfill", "a", "--value", "inf"),
        ("backfill", "a", "--value", "0.5", "--from-logs"),
        ("backfill", "a", "--mode", "up"),
        ("backfill", "a", "--evaluate", "true"),
        ("backfill", "a", "--pattern", "(.)"),
        ("backfill", "a", "--value", "nan"),
        ("backfill", "a", "--top-n", "0"),
        ("backfill", "a", "--split", "train"),
    ],
)
def test_usage(arguments: tuple[str, ...], ckpt: Callable) -> None:
    both(ckpt, 2, "usage", *arguments)


def test_without_arguments_help_is_shown(ckpt: Callable) -> None:
    answer = ckpt()
    assert answer.code in (0, 2)
    assert "inspect" in answer.out + answer.err


@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        (RuntimeError("oops"), 70, "bug in ckpt-tools"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_bugs_and_interruptions(
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failure: BaseException,
    code: int,
    words: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr("ckpt_tools.cli.commands.inspect.ask", fail)
    assert run(["inspect", prefix]) == code
    assert code in (errors.EXIT_BUG, errors.EXIT_INTERRUPTED)
    message = capsys.readouterr().err
    assert words in message
    assert ("Traceback" in message) == (code == errors.EXIT_BUG)
