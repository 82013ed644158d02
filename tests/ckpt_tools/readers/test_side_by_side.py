"""Large bundles are examined by two threads; what comes out is what one would have found."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle

from ckpt_tools.errors import StorageError
from ckpt_tools.fs import local
from ckpt_tools.readers import Bundle, Progress
from ckpt_tools.readers.side_by_side import in_threads

TENSORS = 40
NBYTES = 8000


@pytest.fixture
def damaged(tmp_path: Path) -> str:
    """A bundle in which every third tensor has a wrong byte, and one lies beyond the end."""
    prefix = build_bundle(tmp_path / "m", {f"{n:02}": np.full(NBYTES // 8, float(n)) for n in range(TENSORS)})
    data = Path(f"{prefix}.data-00000-of-00001")
    raw = bytearray(data.read_bytes())
    for number in range(0, TENSORS, 3):
        raw[number * NBYTES + 5] ^= 1
    data.write_bytes(raw[:-1])
    return prefix


@pytest.mark.parametrize("batch", [1, 3 * NBYTES, 10**9])
def test_two_threads_find_what_one_finds(damaged: str, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    with Bundle(damaged) as bundle:
        one = list(bundle.examine())
        monkeypatch.setattr("ckpt_tools.readers.bundle._LARGE", 0)
        monkeypatch.setattr("ckpt_tools.readers.bundle._BATCH", batch)
        two = list(bundle.examine())
    said = [[(step.tensor, step.finding) for step in steps if step.tensor or step.finding] for steps in (one, two)]
    assert said[0] == said[1]
    assert len(said[0]) == TENSORS
    assert sum(step.nbytes for step in one) == sum(step.nbytes for step in two) == (TENSORS - 1) * NBYTES


@pytest.mark.parametrize("number", [0, 1, TENSORS // 2, TENSORS - 2])
def test_what_the_system_refuses_is_raised(damaged: str, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    read = local.RandomAccessFile.read

    def refused(self: local.RandomAccessFile, offset: int, size: int) -> bytes:
        if offset == number * NBYTES and size == NBYTES:
            raise StorageError("the disk is gone")
        return read(self, offset, size)

    monkeypatch.setattr("ckpt_tools.readers.bundle._LARGE", 0)
    monkeypatch.setattr("ckpt_tools.readers.bundle._BATCH", 1)
    before = threading.active_count()
    with Bundle(damaged) as bundle:
        monkeypatch.setattr(local.RandomAccessFile, "read", refused)
        with pytest.raises(StorageError, match="the disk is gone"):
            list(bundle.examine())
    assert threading.active_count() == before


def test_each_thread_takes_what_the_other_has_left() -> None:
    """One waits in its first batch until the other has done all the rest."""
    rest = threading.Semaphore(0)
    threads = set()

    def examine(name: str) -> Iterator[Progress]:
        threads.add(threading.current_thread())
        if name == "slow":
            for _ in range(9):
                assert rest.acquire(timeout=60)
        else:
            rest.release()
        yield Progress(1)
        yield Progress(tensor=name)

    names = ["slow", *map(str, range(9))]
    steps = list(in_threads([[name] for name in names], examine))
    assert [step.tensor for step in steps if step.tensor] == names
    assert sum(step.nbytes for step in steps) == len(names)
    assert len(threads) == 2


def test_who_has_enough_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    steps = in_threads([[str(n)] for n in range(1000)], lambda name: iter([Progress(1), Progress(tensor=name)]))
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
