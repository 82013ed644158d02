"""Questions about a checkpoint that somebody writes again and again: the old, the new, or busy; never "damaged"."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import EXPERIMENTS, build_bundle, rewrite, stored_best

from ckpt_tools.analysis import stability
from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.analysis.verification import verify
from ckpt_tools.cli import COMMANDS, run
from ckpt_tools.errors import BusyError, CorruptError
from ckpt_tools.operations.repairing import repair
from ckpt_tools.readers.hdf5 import Hdf5File
from ckpt_tools.transactions import undo

SECONDS = 3.0
SAVED = next(sample for sample in EXPERIMENTS if sample.root == "tf2.21" and sample.has_best_metric)


@pytest.fixture(autouse=True)
def impatient() -> None:
    """Here somebody does save meanwhile: the pause is as long as it is for users."""


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


@pytest.mark.parametrize("time_of_files", [None, 1, 2**33], ids=["now", "1970", "2242"])
def test_damage_is_believed_when_nothing_changes_in_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time_of_files: int | None
) -> None:
    """Whatever the clocks say: that of a file server may differ from ours."""
    prefix = build_bundle(tmp_path / "x", tensors(0))
    index = Path(f"{prefix}.index")
    whole = index.read_bytes()
    index.write_bytes(b"")
    if time_of_files is not None:
        os.utime(index, (time_of_files, time_of_files))
        os.utime(tmp_path, (time_of_files, time_of_files))
    waits: list[float] = []
    monkeypatch.setattr(stability.time, "sleep", waits.append)
    with pytest.raises(CorruptError):
        inspect(prefix)
    assert waits == [stability.QUIET_SECONDS]
    # The writer finishes while we wait.
    monkeypatch.setattr(stability.time, "sleep", lambda _: index.write_bytes(whole))
    assert len(inspect(prefix).tensors) == 3


READING = {
    "inspect": ("inspect", "{path}"),
    "inspect --stats": ("inspect", "{path}", "--stats", "--digest"),
    "verify": ("verify", "{path}"),
    "verify --quick": ("verify", "{path}", "--quick"),
    "diff": ("diff", "{path}", "{path}"),
    "resume-check": ("resume-check", "{path}"),
    "repair --dry-run": ("repair", "{path}", "--dry-run"),
    "export": ("export", "{path}", "{out}/x.npz"),
    "why": ("why", "{path}"),
    "explain": ("explain", "Data loss: checksum does not match", "{path}"),
    "audit": ("audit", "{root}"),
    "keep": ("keep", "{root}"),
    "audit --verify": ("audit", "{root}", "--verify"),
    "report": ("report", "{path}", "-o", "{out}/x.html"),
    "report of a shelf": ("report", "{root}", "-o", "{out}/shelf.html"),
}
# What makes other checkpoints plans them first, and looks again before its commit.
WRITING = {"average", "backfill", "grow", "guard", "migrate", "slim", "undo"}
IN_A_TERMINAL = {"browse"}
# Reads no checkpoint.
OF_ITS_OWN = {"demo"}
# Still says what it sees in the middle of a save.
UNSTEADY = {"lineage"}


def test_every_command_that_reads_is_tried() -> None:
    others = WRITING | IN_A_TERMINAL | OF_ITS_OWN | UNSTEADY
    assert {words[0] for words in READING.values()} | others == set(COMMANDS)


@pytest.mark.parametrize("torn", ["index of the next save", "empty index", "no index", "half of the data"])
@pytest.mark.parametrize("name", READING)
def test_whatever_is_asked_in_the_middle_of_a_save_is_answered_behind_it(
    copy: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    torn: str,
) -> None:
    experiment, other = copy(SAVED), copy(SAVED, root="other")
    rewrite(SAVED.prefix_in(experiment), 0.25)
    rewrite(SAVED.prefix_in(other), 0.75)
    index = Path(f"{SAVED.prefix_in(experiment)}.index")
    data = max(index.parent.glob("*.data-*"), key=lambda path: path.stat().st_size)
    files = {path: path.read_bytes() for path in (index, data)}
    (tmp_path / "out").mkdir()
    places = {"path": experiment, "root": experiment.parents[1], "out": tmp_path / "out"}
    words = [word.format_map(places) for word in READING[name]]

    def finish(_: float = 0.0) -> None:
        for path, content in files.items():
            path.write_bytes(content)

    expected = run([*words, "--json"])
    said = json.loads(capsys.readouterr().out)
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").mkdir()
    if torn == "index of the next save":
        index.write_bytes(Path(f"{SAVED.prefix_in(other)}.index").read_bytes())
    elif torn == "half of the data":
        data.write_bytes(files[data][: len(files[data]) // 2])
    elif torn == "no index":
        index.unlink()
    else:
        index.write_bytes(b"")
    monkeypatch.setattr(stability.time, "sleep", finish)
    assert run([*words, "--json"]) == expected
    assert untimed(json.loads(capsys.readouterr().out)) == untimed(said)


def untimed(answer: Any) -> Any:
    """Without what differs between two runs on the same files."""
    if isinstance(answer, dict):
        return {key: untimed(value) for key, value in answer.items() if key not in ("age_days", "bytes")}
    return [untimed(value) for value in answer] if isinstance(answer, list) else answer


def test_a_keras_file_that_is_overwritten_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 has no checksums: values of two saves would pass for those of one."""
    import h5py

    path = tmp_path / "m.weights.h5"

    def save(value: float) -> None:
        with h5py.File(path, "w") as file:
            for name in "ab":
                file[name] = np.full(500, value, np.float32)

    save(1)
    read, reads = Hdf5File.chunks, itertools.count()

    def read_slowly(self: Hdf5File, name: str) -> Iterator[bytes]:
        if next(reads) == 1:
            save(2)
        return read(self, name)

    monkeypatch.setattr(Hdf5File, "chunks", read_slowly)
    digests = {tensor.sha256 for tensor in inspect(str(path), digest=True).tensors}
    assert digests == {hashlib.sha256(np.full(500, 2, np.float32).tobytes()).hexdigest()}


def test_what_never_comes_to_rest_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = build_bundle(tmp_path / "x", tensors(0))
    size = iter(range(1, 100))
    monkeypatch.setattr(stability.time, "sleep", lambda _: Path(f"{prefix}.index").write_bytes(b"x" * next(size)))
    Path(f"{prefix}.index").write_bytes(b"")
    with pytest.raises(BusyError, match="again and again"):
        verify(prefix)
    assert next(size) == 2 * len(stability.PAUSES)  # one wait less, before the first question


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
