"""A change that was killed, and whose checkpoint its trainer then removed, as it does with old ones: what else lies in
the directory can be changed all the same."""

from __future__ import annotations

from pathlib import Path

import faulty
import numpy as np
import pytest
from checkpoints import build_bundle, rewrite, stored_best
from faulty import Fault

from ckpt_tools.errors import BusyError, NotFoundError
from ckpt_tools.operations.undoing import undo


def two(folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    return [Path(build_bundle(folder / f"m-{number}", {"a": np.full(3, number)})) for number in (2, 3)]


def test_the_rest_of_the_directory_is_not_held_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, old = two(tmp_path / "run")
    start = faulty.seen(tmp_path / "run")
    calls = faulty.run(lambda: rewrite(str(old), 0.5), monkeypatch).calls
    changing = [number for number, call in enumerate(calls) if call in faulty.CHANGING]
    changing = [*changing[::4], *changing[-6:]]
    back = 0
    for number in changing:
        faulty.build(start, tmp_path / "run")
        faulty.run(lambda: rewrite(str(old), 0.5), monkeypatch, Fault(number, "killed"))
        kept = list(old.parent.rglob("backup/*/*.data-*")) and list(old.parent.rglob("pending.json"))
        for path in old.parent.glob("m-3.*[0-9x]"):
            path.unlink()
        monkeypatch.chdir(old.parent)
        if kept:  # the whole of it is there: it stays until somebody says what becomes of it
            undo(old.name)
            assert stored_best(str(old)) is None
            back += 1
        else:
            with pytest.raises((NotFoundError, BusyError)):
                undo(old.name)
        rewrite(str(other), 0.25)
        assert stored_best(str(other)) == 0.25
        assert not list(tmp_path.rglob("pending.json"))
    assert 0 < back < len(changing)
