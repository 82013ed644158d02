"""Two programs that want to change the same checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
import rewrite_worker
from checkpoints import build_bundle, rewrite, snapshot, stored_best

from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.errors import BusyError
from ckpt_tools.fs import durable, local
from ckpt_tools.readers import Checkpoint, open_checkpoint
from ckpt_tools.runs.ledger import read_ledger
from ckpt_tools.runs.opening import open_meant
from ckpt_tools.transactions import pending, undo


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return build_bundle(tmp_path / "x", {"a": np.arange(3)})


def start(*command: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, rewrite_worker.__file__, *command]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)


def test_while_another_program_holds_the_lock(prefix: str, tmp_path: Path) -> None:
    rewrite(prefix, 0.25)
    before = snapshot(tmp_path)
    with durable.locked(tmp_path):
        for change in (lambda: rewrite(prefix, 0.5), lambda: undo(prefix)):
            with pytest.raises(BusyError, match="another program"):
                change()
        process = start("rewrite", prefix, "0.5")
        _, message = process.communicate(timeout=30)
        assert process.returncode == 6, message
    assert snapshot(tmp_path) == before


def test_who_is_patient_waits_for_a_lock_and_no_longer(prefix: str, tmp_path: Path) -> None:
    held = ExitStack()
    held.enter_context(durable.locked(tmp_path))
    with durable.patient(0.05), pytest.raises(BusyError):
        rewrite(prefix, 0.25)
    timer = threading.Timer(0.1, held.close)
    timer.start()
    with durable.patient(60):
        rewrite(prefix, 0.5)
    timer.join()
    assert stored_best(prefix) == 0.5


def test_a_lock_ends_with_its_process_however_it_ends(prefix: str, tmp_path: Path) -> None:
    hold = "import sys, time\nfrom ckpt_tools.fs import durable\n"
    hold += "with durable.locked(sys.argv[1]):\n    print('held', flush=True)\n    time.sleep(60)\n"
    process = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(BusyError):
        rewrite(prefix, 0.5)
    process.kill()
    process.wait()
    process.stdout.close()
    rewrite(prefix, 0.5)
    assert stored_best(prefix) == 0.5


def test_a_race(prefix: str, tmp_path: Path) -> None:
    values = [0.125 * number for number in range(1, 7)]
    processes = {value: start("rewrite", prefix, str(value)) for value in values}
    messages = {value: process.communicate(timeout=60)[1] for value, process in processes.items()}
    codes = {value: process.returncode for value, process in processes.items()}
    assert set(codes.values()) <= {0, 6}, messages
    won = [value for value, code in codes.items() if code == 0]
    assert won
    assert stored_best(prefix) in won
    assert len(read_ledger(str(tmp_path))) == len(won)
    assert not os.path.exists(tmp_path / ".ckpt-tools" / "pending.json")
    undo(prefix, to=read_ledger(str(tmp_path))[0].id)
    assert stored_best(prefix) is None


def test_a_journal_that_ends_between_two_looks_is_none(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(prefix, 0.25)
    monkeypatch.setattr(local, "is_there", lambda *_: True)  # as it was a moment ago
    assert pending(str(tmp_path)) is None


def test_readers_see_the_old_or_the_new_while_it_is_rewritten(prefix: str) -> None:
    process = start("rewrite", prefix, "0.5")
    seen = set()
    while process.poll() is None:
        with suppress(BusyError):
            seen.add(stored_best(prefix))
    _, message = process.communicate()
    assert process.returncode == 0, message
    assert seen <= {None, 0.5}
    assert stored_best(prefix) == 0.5


def test_a_reader_whose_index_was_replaced_says_that_it_is_busy_not_that_data_is_missing(prefix: str) -> None:
    with open_checkpoint(prefix) as checkpoint:
        rewrite(prefix, 0.5)
        for question in (checkpoint.read, checkpoint.digest):
            with pytest.raises(BusyError, match="while it was read"):
                question("a")
        with pytest.raises(BusyError):
            list(checkpoint.verify())
    with open_checkpoint(prefix) as checkpoint:
        assert checkpoint.read("a").tolist() == [0, 1, 2]


def test_a_reader_that_has_opened_the_data_goes_on_with_the_old(prefix: str) -> None:
    with open_checkpoint(prefix) as checkpoint:
        before = checkpoint.digest("a")
        rewrite(prefix, 0.5)
        assert checkpoint.digest("a") == before
        assert "best_metric" not in checkpoint.tensors


def test_an_inspection_in_the_middle_of_a_rewrite_is_busy(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def rewritten_first(path: str) -> Checkpoint:
        checkpoint = open_meant(path)
        rewrite(prefix, 0.5)
        return checkpoint

    monkeypatch.setattr("ckpt_tools.analysis.inspection.open_meant", rewritten_first)
    with pytest.raises(BusyError):
        inspect(prefix, digest=True)
