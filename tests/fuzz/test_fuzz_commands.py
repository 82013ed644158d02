"""A short run of every command on odd directories; ``make property`` is the long one."""

from __future__ import annotations

import struct
from pathlib import Path

import fuzz_commands
import numpy as np
import pytest
from checkpoints import build_bundle
from fuzz_commands import KINDS, SUITE, case, ran, require_sound

from ckpt_tools.lineages.base import float32


@pytest.fixture(autouse=True)
def own_typer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `fuzz_commands.prepare` puts there is taken away again."""
    monkeypatch.setattr(fuzz_commands.typer.main, "get_command", fuzz_commands.typer.main.get_command)
    monkeypatch.setattr(fuzz_commands.stability, "let_rest", fuzz_commands.stability.let_rest)
    fuzz_commands.prepare.cache_clear()


@pytest.mark.parametrize("kind", KINDS)
def test_no_command_ends_in_a_bug(kind: str, tmp_path: Path) -> None:
    for number in range(25):
        SUITE.exercise(tmp_path, case(kind, number))


def test_wrong_ends_and_outputs_are_noticed() -> None:
    for code, out in (
        (70, b""),
        (0, b"{}"),
        (0, b"{} {}"),
        (0, b'{"schema_version": 1, "findings": [NaN]}'),
        (0, b"\x9b"),
    ):
        with pytest.raises((AssertionError, KeyError, ValueError)):
            require_sound(["inspect", "m", "--json"], code, out, b"")
    for printed in (b"\x1b[1m", "\u202e".encode(), b"\xff", b"\x7f"):
        with pytest.raises((AssertionError, ValueError)):
            require_sound(["inspect", "m"], 0, printed, b"")


@pytest.mark.parametrize("value", [1e308, -1e300, 3.5e38])
def test_a_value_that_its_type_cannot_hold(value: float, tmp_path: Path) -> None:
    # Found by the long run: a traceback, and exit code 70.
    stored = {"a": np.ones(1, np.float32), "best_metric": np.float32(0.5)}
    for prefix in (build_bundle(tmp_path / "m", stored), build_bundle(tmp_path / "n", {"a": stored["a"]})):
        code, _, err = ran(["backfill", prefix, f"--value={value}", "--force"])
        assert (code, b"does not fit into float32" in err) == (2, True)
    assert float32(value) == np.copysign(np.inf, value)
    assert struct.pack("<f", float32(value))
