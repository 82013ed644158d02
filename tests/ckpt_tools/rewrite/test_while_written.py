"""Questions about a checkpoint that somebody writes again and again: the old, the new, or busy; never "damaged"."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle, rewrite, stored_best

from ckpt_tools import steady
from ckpt_tools.errors import BusyError, CorruptError, NotFoundError
from ckpt_tools.inspection import inspect
from ckpt_tools.repair import repair
from ckpt_tools.rewrite import undo
from ckpt_tools.verify import verify

SECONDS = 3.0


@contextmanager
def meanwhile(work: Callable[[int], object]) -> Iterator[Callable[[], bool]]:
    """Do some work again and again beside the body; yields whether it still goes on."""
    end = time.monotonic() + SECONDS
    failed: list[BaseException] = []

    def loop() -> None:
        number = 0
        try:
            while time.monotonic() < end:
                number += 1
                work(number)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield thread.is_alive
    finally:
        end = 0.0
        thread.join()
    if failed:
        raise failed[0]


def tensors(number: int) -> dict[str, np.ndarray]:
    """All of one save is of one number: values of two would be seen."""
    return {name: np.full(500, number, np.float32) for name in ("a", "b", "c")}


def ask_all_the_time(path: str, alive: Callable[[], bool]) -> Counter[str]:
    """How often which answer came. Damage, and tensors of two saves side by side, fail."""
    answers: Counter[str] = Counter()
    while alive():
        try:
            found = inspect(path, digest=True)
            digests = {tensor.sha256 for tensor in found.tensors if tensor.name in "abc"}
            assert found.findings == ()
            assert len(digests) == 1, "tensors of two saves"
            assert verify(path).whole
            answers["whole"] += 1
        except BusyError:
            answers["busy"] += 1
    return answers


def overwrite_like_tensorflow(prefix: str) -> Callable[[int], None]:
    """What TensorFlow 2 does to a prefix that is there already: the data is replaced, then the index written anew."""
    made = f"{prefix}-made"

    def save(number: int) -> None:
        build_bundle(made, tensors(number))
        os.replace(f"{made}.data-00000-of-00001", f"{prefix}.data-00000-of-00001")
        time.sleep(0.002)
        index = Path(f"{made}.index").read_bytes()
        with open(f"{prefix}.index", "wb", buffering=0) as file:
            time.sleep(0.002)
            for start in range(0, len(index), 100):
                file.write(index[start : start + 100])
        time.sleep(0.02)

    return save


def test_a_prefix_that_tensorflow_overwrites(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "best", tensors(0))
    with meanwhile(overwrite_like_tensorflow(prefix)) as alive:
        answers = ask_all_the_time(prefix, alive)
    assert set(answers) <= {"whole", "busy"}
    assert answers["whole"] > 5


def test_a_line_of_checkpoints_that_keeps_only_the_newest(tmp_path: Path) -> None:
    def save(number: int) -> None:
        build_bundle(tmp_path / f"ckpt-{number}", tensors(number))
        new = tmp_path / "checkpoint.new"
        new.write_text(f'model_checkpoint_path: "ckpt-{number}"\n')
        new.replace(tmp_path / "checkpoint")
        for name in ("index", "data-00000-of-00001"):
            (tmp_path / f"ckpt-{number - 1}.{name}").unlink(missing_ok=True)
        time.sleep(0.002)

    save(0)
    with meanwhile(save) as alive:
        answers = ask_all_the_time(str(tmp_path), alive)
    assert answers["whole"] > 5


def test_a_checkpoint_that_is_rewritten_again_and_again(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "x", tensors(0))
    with meanwhile(lambda number: rewrite(prefix, float(number % 7))) as alive:
        answers = ask_all_the_time(prefix, alive)
    assert answers["whole"] > 5
    assert stored_best(prefix) is not None


def test_damage_of_old_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = build_bundle(tmp_path / "x", tensors(0))
    os.truncate(f"{prefix}.data-00000-of-00001", 100)
    for path in (*tmp_path.iterdir(), tmp_path):
        os.utime(path, (1, 1))
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited"))
    assert not verify(prefix).whole
    with pytest.raises(NotFoundError):
        inspect(str(tmp_path / "y"))


def test_damage_of_this_moment_is_looked_at_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = build_bundle(tmp_path / "x", tensors(0))
    whole = Path(f"{prefix}.index").read_bytes()
    Path(f"{prefix}.index").write_bytes(b"")
    waits: list[float] = []
    monkeypatch.setattr(steady.time, "sleep", waits.append)
    with pytest.raises(CorruptError):
        inspect(prefix)
    assert waits == [steady.PAUSES[0]]
    # The writer finishes while we wait.
    monkeypatch.setattr(steady.time, "sleep", lambda _: Path(f"{prefix}.index").write_bytes(whole))
    assert len(inspect(prefix).tensors) == 3


def test_what_never_comes_to_rest_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = build_bundle(tmp_path / "x", tensors(0))
    size = iter(range(1, 100))
    monkeypatch.setattr(steady.time, "sleep", lambda _: Path(f"{prefix}.index").write_bytes(b"x" * next(size)))
    Path(f"{prefix}.index").write_bytes(b"")
    with pytest.raises(BusyError, match="again and again"):
        verify(prefix)
    assert next(size) == len(steady.PAUSES) + 1


def rewritten(prefix: str) -> Callable[[], object]:
    return lambda: rewrite(prefix, 0.5)


def taken_back(prefix: str) -> Callable[[], object]:
    rewrite(prefix, 0.5)
    return lambda: undo(prefix)


@pytest.mark.parametrize(("prepare", "least"), [(rewritten, 15), (taken_back, 8)])
def test_a_save_during_a_change_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[str], Callable[[], object]], least: int
) -> None:
    """The trainer takes no lock: between whichever steps of a change it saves, its files are what stays."""
    saved = build_bundle(tmp_path / "saved", tensors(7))
    points = 0
    while True:
        folder = tmp_path / f"run-{points}"
        folder.mkdir()
        prefix = build_bundle(folder / "x", tensors(0))
        change = prepare(prefix)
        if not change_with_a_save_at(points, change, prefix, saved, monkeypatch):
            break
        for name in ("index", "data-00000-of-00001"):
            assert Path(f"{prefix}.{name}").read_bytes() == Path(f"{saved}.{name}").read_bytes(), (points, name)
        assert verify(prefix).whole
        points += 1
    assert points > least


def change_with_a_save_at(
    point: int, change: Callable[[], object], prefix: str, saved: str, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Make a change, with a save before the N-th call that links, renames or syncs; whether there were so many.

    Only the rename that commits has no such point: nothing can come between it and the last look.
    """
    originals = {name: getattr(os, name) for name in ("link", "replace", "fsync")}
    calls = 0

    def counted(name: str) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal calls
            if arguments[1:] != (f"{prefix}.index",):
                calls += 1
                if calls == point + 1:
                    for file in ("data-00000-of-00001", "index"):
                        shutil.copyfile(f"{saved}.{file}", f"{prefix}.{file}.new")
                        originals["replace"](f"{prefix}.{file}.new", f"{prefix}.{file}")
            return originals[name](*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in originals:
            patch.setattr(os, name, counted(name))
        with suppress(BusyError):
            change()
    return calls > point


@pytest.mark.parametrize("point", range(5))  # what is synced before the rename: four directories and the draft
def test_a_state_file_written_during_a_repair_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: int
) -> None:
    build_bundle(tmp_path / "x-1", tensors(0))
    state = tmp_path / "checkpoint"
    state.write_bytes(b"")
    written = b'model_checkpoint_path: "x-1"\n'
    sync, calls = os.fsync, itertools.count()

    def save_meanwhile(descriptor: int) -> None:
        if next(calls) == point:
            (tmp_path / "new").write_bytes(written)
            (tmp_path / "new").replace(state)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", save_meanwhile)
    with pytest.raises(BusyError, match="changed while it was looked at"):
        repair(str(tmp_path))
    assert state.read_bytes() == written
    assert not list(tmp_path.glob("checkpoint.tmp*"))
