"""`ckpt slim PATH OUT` and `ckpt average ... OUT`, killed or refused at each change of a file: whole, or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import faulty
import numpy as np
import pytest
from checkpoints import build_bundle, contents, pick
from gzipped import make

from ckpt_tools.errors import CorruptError, NotFoundError, UsageError
from ckpt_tools.operations.averaging import average
from ckpt_tools.operations.migration import migrate
from ckpt_tools.operations.slimming import slim
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.transactions import pending

Command = Callable[[], object]


def sources(folder: Path, kind: str) -> list[str]:
    folder.mkdir()
    if kind == "keras":
        return [str(make(folder / f"model{number}.weights.h5")) for number in range(2)]
    found = []
    for number in range(2):
        weights = {"w": np.full((4, 3), number, np.float32), "w/Adam": np.ones((4, 3), np.float32)}
        found.append(build_bundle(folder / f"ckpt-{number}", {**weights, "global_step": np.int64(number)}))
    return found


def values(out: str) -> dict[str, bytes] | None:
    """What a checkpoint holds; None where there is none. Damage fails the test."""
    try:
        with open_checkpoint(out) as checkpoint:
            assert [finding for finding in checkpoint.verify() if finding.severity == "damage"] == []
            return {name: checkpoint.read(name).tobytes() for name in checkpoint.tensors}
    except NotFoundError:
        return None


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("command", ["slim", "average"])
@pytest.mark.parametrize(("kind", "out"), [("bundle", "new/ckpt"), ("bundle", "run/new"), ("keras", "new.weights.h5")])
def test_whole_or_not_there_and_the_same_command_ends_it(
    command: str, kind: str, out: str, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    paths = sources(place / "run", kind)
    target = str(place / out)
    start = faulty.seen(place)
    before = {name: row for name, row in contents(place).items() if name.startswith("run/")}

    def once() -> object:
        return slim(paths[0], target) if command == "slim" else average(paths, target)

    calls = faulty.run(once, monkeypatch).calls
    expected = values(target)
    assert expected is not None
    assert sum(call in faulty.CHANGING for call in calls) > 8
    ended = set()
    for fault, where in faulty.faults(calls, every, last=6):
        faulty.build(start, place)
        done = faulty.run(once, monkeypatch, fault)
        found = values(target)
        assert found in (None, expected), where
        ended.add(found is not None)
        after = contents(place)
        assert {name: after.get(name) for name in before} == before, where
        if not done.finished:
            again = faulty.run(once, monkeypatch)
            assert again.finished or isinstance(again.error, UsageError), where  # which says that it is there
        assert values(target) == expected, where
        assert pending(str(place / "run")) is None, where
    assert ended == {True, False}
    shutil.rmtree(place)


@pytest.mark.parametrize("command", ["slim", "average", "migrate"])
def test_a_system_that_loses_what_it_says_it_wrote_is_found_out_before_the_checkpoint_has_its_name(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "out" / "ckpt-1")
    paths = sources(tmp_path / "run", "bundle")
    commands: dict[str, Command] = {
        "slim": lambda: slim(paths[0], out),
        "average": lambda: average(paths, out),
        "migrate": lambda: migrate(pick("tf2.21").full_prefix, output=os.path.dirname(out)),
    }
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:-1]) + 1)
    with pytest.raises(CorruptError, match="reads back differently"):
        commands[command]()
    assert not list(tmp_path.glob("out/*.index"))
