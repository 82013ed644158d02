"""A short run of what commands cost on files that grow; ``make cost`` is the long one."""

from __future__ import annotations

import time
from pathlib import Path

import fuzz_commands
import fuzz_costs
import pytest
from fuzz_costs import KINDS, SUITE, Growing, case


@pytest.fixture(autouse=True)
def own_typer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `fuzz_commands.prepare` puts there is taken away again; and files stay small."""
    monkeypatch.setattr(fuzz_commands.typer.main, "get_command", fuzz_commands.typer.main.get_command)
    monkeypatch.setattr(fuzz_commands.stability, "let_rest", fuzz_commands.stability.let_rest)
    monkeypatch.setattr(fuzz_costs, "SIZES", (0.25, 0.5, 1))
    fuzz_commands.prepare.cache_clear()


@pytest.mark.parametrize("kind", KINDS)
def test_no_command_costs_more_than_its_bytes(kind: str, tmp_path: Path) -> None:
    SUITE.exercise(tmp_path, case(kind, 0))


def test_more_than_linear_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(place: Path, command: list[str], size: int) -> float:  # noqa: ARG001
        start = time.process_time()
        sum(1 for _ in range(len((place / "f").read_bytes()) ** 2 // 4))
        return time.process_time() - start

    monkeypatch.setattr(fuzz_costs, "seconds", slow)
    monkeypatch.setattr(fuzz_costs, "SECONDS", 0.01)
    with pytest.raises(AssertionError, match="inspect"):
        SUITE.exercise(tmp_path, Growing(lambda size: {"f": b"x" * int(4000 * size)}, ["inspect", "f"]))
