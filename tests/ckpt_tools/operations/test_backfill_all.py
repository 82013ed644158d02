"""Backfilling a whole directory, with processes and on a Dask cluster."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from checkpoints import EXPERIMENTS, FIXTURES, build_bundle, pick, snapshot, stored_best

from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.analysis.run_audit import audit
from ckpt_tools.cli import run
from ckpt_tools.errors import MismatchError, NotFoundError, StorageError, UsageError
from ckpt_tools.fs import durable
from ckpt_tools.operations import bulk_backfilling
from ckpt_tools.operations.backfilling import Options, backfill
from ckpt_tools.operations.bulk_backfilling import BulkRow, Listener, Summary, backfill_all
from ckpt_tools.operations.command_evaluator import CommandEvaluation
from ckpt_tools.operations.workers import Cluster, Processes, Report, available_cores
from ckpt_tools.runs.sharding import Shard
from trainer.evaluation import evaluator

Copy = Callable[..., Path]
DATA = str(FIXTURES / "data")


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A copy of all experiments."""
    shutil.copytree(FIXTURES / "experiments", tmp_path / "shelf")
    return tmp_path / "shelf"


def statuses(found: Summary) -> dict[str, str]:
    return {os.path.relpath(row.outcome.path, found.root): row.status for row in found.rows}


def require_logged_recalls(found: Summary) -> None:
    for sample in EXPERIMENTS:
        where = os.path.relpath(sample.path, FIXTURES / "experiments")
        (row,) = (row for row in found.rows if os.path.relpath(row.outcome.path, found.root) == where)
        assert row.status == ("had-it" if sample.has_best_metric else "written")
        assert row.outcome.value == pytest.approx(sample.best_recall, abs=6e-7)


class Record(Listener):
    def __init__(self) -> None:
        self.begun: list[str] = []
        self.reports: list[tuple[int, int, int]] = []
        self.ended: list[tuple[int, str]] = []

    def begins(self, paths: Sequence[str]) -> None:
        self.begun += paths

    def works(self, number: int, done: int, total: int) -> None:
        self.reports.append((number, done, total))

    def ends(self, number: int, row: BulkRow) -> None:
        self.ended.append((number, row.status))


def test_every_run_gets_the_logged_recall_and_only_once(shelf: Path) -> None:
    listener = Record()
    found = backfill_all(str(shelf), Options(DATA), Processes(2), listener)
    require_logged_recalls(found)
    needed = sum(not sample.has_best_metric for sample in EXPERIMENTS)
    assert sorted(listener.ended) == [(number, "written") for number in range(needed)]
    # Each run said when it had seen all its users.
    assert {number for number, done, total in listener.reports if done == total} == set(range(needed))
    assert {row.verdict for row in audit(str(shelf)).rows} == {"safe"}
    before = snapshot(shelf)
    again = backfill_all(str(shelf), Options(DATA), Processes(2))
    assert set(statuses(again).values()) == {"had-it"}
    assert snapshot(shelf) == before


def test_a_process_reads_the_data_once(copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = shutil.copytree(DATA, tmp_path / "data")
    reads: list[str] = []
    read = evaluator.read_split
    monkeypatch.setattr(evaluator, "read_split", lambda *what: reads.append(what[2]) or read(*what))
    options = Options(str(data), dry_run=True)
    for sample in (pick("tf2.21"), pick("tf2.10"), pick("tf2.15", "ComiRec-DR")):
        assert backfill(str(copy(sample)), options).agreement == "match"
    assert reads == ["valid"]
    valid = data / "book_valid.txt"
    valid.write_text("".join(reversed(valid.read_text().splitlines(keepends=True)[:-20])))
    with pytest.raises(MismatchError):
        backfill(str(tmp_path / "root" / "best_model" / pick("tf2.21").experiment), options)
    assert reads == ["valid", "valid"]


def test_from_logs_needs_no_data(shelf: Path) -> None:
    require_logged_recalls(backfill_all(str(shelf), Options(from_logs=True), Processes(1)))


def test_dry_run_writes_nothing(copy: Copy, tmp_path: Path) -> None:
    copy(pick("tf2.21"))
    before = snapshot(tmp_path)
    found = backfill_all(str(tmp_path), Options(DATA, dry_run=True), Processes(1))
    assert found.totals == {"would-write": 1}
    assert snapshot(tmp_path) == before


def test_each_run_is_in_one_share(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(from_logs=True, dry_run=True)
    whole = statuses(backfill_all(str(shelf), options, Processes(1)))
    parts = [statuses(backfill_all(str(shelf), options, Processes(1), shard=Shard(n, 3))) for n in (1, 2, 3)]
    assert sum(map(len, parts)) == len(whole)
    assert {path: status for part in parts for path, status in part.items()} == whole
    monkeypatch.chdir(shelf)  # the share goes by the path below the root, not by where that is
    assert statuses(backfill_all(".", options, Processes(1), shard=Shard(2, 3))).keys() == parts[1].keys()


def test_a_directory_that_another_worker_is_changing_is_waited_for(tmp_path: Path) -> None:
    """Two checkpoints of one directory go to two workers: each holds its lock for one change."""
    prefix = build_bundle(tmp_path / "m-3", {"a": np.ones(2, np.float32)})
    held = contextlib.ExitStack()
    held.enter_context(durable.locked(tmp_path))
    threading.Timer(0.1, held.close).start()
    options = Options(value=0.5, metric="auc", mode="max")
    assert bulk_backfilling._work(prefix, lambda *_: None, options=options).written
    assert stored_best(prefix) == 0.5


def test_what_fails_is_told_and_does_not_stop_the_others(copy: Copy, tmp_path: Path) -> None:
    good, cut, garbled = copy(pick("tf2.21")), copy(pick("tf2.10")), copy(pick("tf2.15"))
    data = next((cut / "keras_ckpt").glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:1000])
    (garbled / "keras_ckpt" / "checkpoint").write_bytes(b"\xff")
    (good.parent / "empty").mkdir()
    build_bundle(tmp_path / "other", {"w": np.zeros(3, np.float32)})
    found = backfill_all(str(tmp_path), Options(DATA), Processes(2))
    assert statuses(found) == {
        f"root/best_model/{good.name}": "written",
        f"root/best_model/{cut.name}": "failed",
        f"root/best_model/{garbled.name}": "failed",
        "root/best_model/empty": "skipped",
        "other": "skipped",
    }
    assert {finding.severity for finding in found.findings} == {"damage"}
    assert len(found.findings) == 2


def test_an_older_checkpoint_of_an_experiment_is_left_alone(copy: Copy, tmp_path: Path) -> None:
    line = copy(pick("tf2.21")) / "keras_ckpt"
    for suffix in (".index", ".data-00000-of-00001"):
        shutil.copy(line / f"ckpt-3{suffix}", line / f"ckpt-2{suffix}")
    assert len(backfill_all(str(tmp_path), Options(DATA), Processes(1)).rows) == 1


def test_options_for_one_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        backfill_all(str(tmp_path), Options(value=0.1), Processes(1))
    with pytest.raises(UsageError):
        Processes(0)
    with pytest.raises(NotFoundError):
        backfill_all(str(tmp_path / "nowhere"), Options(DATA), Processes(1))
    assert not backfill_all(str(tmp_path), Options(DATA), Processes(1)).rows


def test_killed_half_way_it_goes_on(shelf: Path) -> None:
    """Killed as soon as the first run is written, and started again: every run ends with its recall."""
    command = [sys.executable, "-m", "ckpt_tools", "backfill", "--all", str(shelf), "--data", DATA, "--workers", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("✓")
        os.killpg(process.pid, signal.SIGKILL)
    found = backfill_all(str(shelf), Options(DATA), Processes(2))
    assert set(found.totals) == {"had-it", "written"}
    assert found.totals["had-it"] > sum(sample.has_best_metric for sample in EXPERIMENTS)
    assert {row.verdict for row in audit(str(shelf), verify=True).rows} == {"safe"}


class TestCommand:
    def test_json(self, shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["backfill", "--all", str(shelf), "--data", DATA, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert len(document["experiments"]) == len(EXPERIMENTS)
        assert document["totals"] == {
            "written": sum(not sample.has_best_metric for sample in EXPERIMENTS),
            "had-it": sum(sample.has_best_metric for sample in EXPERIMENTS),
        }

    def test_text_and_exit_code(self, copy: Copy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        copy(pick("tf2.21"))
        (copy(pick("tf2.10")) / "keras_ckpt" / "checkpoint").write_bytes(b"\xff")
        assert run(["backfill", "--all", str(tmp_path), "--data", DATA]) == 1
        text = capsys.readouterr().out
        assert "2 runs: " in text
        assert "1 written" in text
        assert "1 failed" in text
        assert "agrees with the log" in text

    @pytest.mark.parametrize("extra", [["second"], ["--workers", "2", "--scheduler", "tcp://x:1"], ["--value", "0.1"]])
    def test_usage(self, tmp_path: Path, extra: list[str]) -> None:
        assert run(["backfill", "--all", str(tmp_path), *extra]) == 2
        assert run(["backfill", str(tmp_path), "--workers", "2"]) == 2


# ------------------------------------------------------------------------------------ workers


def _square(item: int, report: Report) -> int:
    report(item, 10)
    return item * item


def _fail(item: int, report: Report) -> int:
    if item == 1:
        raise MismatchError("one", path="/one", hint="none")
    if item == 2:
        raise ZeroDivisionError("two")
    return _square(item, report)


def _die(item: int, report: Report) -> int:  # noqa: ARG001
    os._exit(1)


def _die_talking(item: int, report: Report) -> int:  # noqa: ARG001
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL)).start()
    while True:
        report(1, 1)


def _threads(item: int, report: Report) -> str:  # noqa: ARG001
    # What the process was started with: numpy may be loaded before anything of ours runs.
    started_with = Path("/proc/self/environ").read_bytes().split(b"\0")
    return next(entry.partition(b"=")[2].decode() for entry in started_with if entry.startswith(b"OMP_NUM_THREADS="))


def _sleep(item: int, report: Report) -> int:  # noqa: ARG001
    time.sleep(item)
    return item


def _say_and_sleep(item: str, report: Report) -> None:  # noqa: ARG001
    Path(item, str(os.getpid())).touch()
    time.sleep(300)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class TestProcesses:
    def test_results_reports_and_errors(self) -> None:
        reports: list[tuple[int, int, int]] = []
        done = sorted(Processes(2).run(_fail, range(4), lambda *report: reports.append(report)), key=lambda d: d.number)
        assert [d.result for d in done] == [0, None, None, 9]
        mismatch, bug = done[1].error, done[2].error
        assert isinstance(mismatch, MismatchError)
        assert (mismatch.path, mismatch.hint, str(mismatch)) == ("/one", "none", "/one: one")
        assert bug is not None
        assert "ZeroDivisionError: two" in bug.message
        assert sorted(reports) == [(0, 0, 10), (3, 3, 10)]

    def test_a_process_that_dies_is_an_error_of_its_items(self) -> None:
        done = list(Processes(1).run(_die, range(3)))
        assert sorted(d.number for d in done) == [0, 1, 2]
        assert all(isinstance(d.error, StorageError) for d in done)

    def test_a_process_that_is_killed_while_it_reports_stops_nobody(self) -> None:
        # Whatever it held just then: it is one of these times that a lock would be among it.
        for _ in range(5):
            (done,) = Processes(1).run(_die_talking, [0])
            assert isinstance(done.error, StorageError)

    def test_processes_end_when_the_one_that_started_them_is_killed(self, tmp_path: Path) -> None:
        start = "import sys; sys.path[:0] = sys.argv[1:]; from test_backfill_all import _say_and_sleep; "
        start += "from ckpt_tools.operations.workers import Processes; "
        start += "list(Processes(2).run(_say_and_sleep, [sys.argv[1]] * 2))"
        command = [sys.executable, "-c", start, str(tmp_path), str(Path(__file__).parent), *sys.path]
        with subprocess.Popen(command, start_new_session=True) as parent:
            deadline = time.monotonic() + 60
            while len(started := [int(path.name) for path in tmp_path.iterdir()]) < 2 and time.monotonic() < deadline:
                time.sleep(0.05)
            parent.kill()
        assert len(started) == 2
        while any(map(_runs, started)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(_runs, started))

    def test_the_cores_are_shared(self) -> None:
        before = dict(os.environ)
        assert [d.result for d in Processes(4).run(_threads, range(2))] == ["2", "2"]
        assert dict(os.environ) == before
        assert available_cores() >= 1

    def test_who_has_enough_does_not_wait(self) -> None:
        start = time.monotonic()
        running = Processes(2).run(_sleep, [0, 60, 60, 60])
        assert next(running).result == 0
        running.close()
        assert time.monotonic() - start < 30

    def test_nothing_to_do(self) -> None:
        assert not list(Processes(1).run(_square, []))


@contextlib.contextmanager
def dask(folder: Path, *, workers: int) -> Iterator[str]:
    """The address of a cluster in processes of its own, which are killed at the end, however they are."""
    pytest.importorskip("distributed", reason="needs the extra 'cluster'")
    contact = folder / "scheduler.json"
    common = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", contact]
    commands = [["scheduler", "--port", "0"]]
    if workers:
        commands.append(["worker", "--nworkers", str(workers), "--nthreads", "1", "--local-directory", str(folder)])
    with (folder / "log").open("w") as log, contextlib.ExitStack() as stack:
        for command in commands:
            whole = [sys.executable, "-m", "dask", *command, *common]
            process = stack.enter_context(subprocess.Popen(whole, stderr=log, stdout=log, start_new_session=True))
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
        until(lambda: contact.exists() and contact.stat().st_size > 0)
        yield json.loads(contact.read_text())["address"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with dask(tmp_path_factory.mktemp("cluster"), workers=2) as address:
        yield address


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


MEASURE = """
import os, sys
print("auc:", 0.5 + len(os.path.basename(sys.argv[1])) / 100)
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs of an unknown trainer, one of them a Keras file, and the program beside them that evaluates both."""
    root = tmp_path / "root"
    for name in ("one", "two"):
        (root / name).mkdir(parents=True)
    build_bundle(root / "one" / "model", {"dense/kernel": np.ones((2, 3), np.float32)})
    with h5py.File(root / "two" / "weights.h5", "w") as file:
        file["dense/kernel"] = np.ones((2, 3), np.float32)
    place = tmp_path / "place"
    place.mkdir()
    (place / "measure.py").write_text(MEASURE)
    (place / "measuring.py").write_text("def auc(checkpoint):\n    return 0.5 + len(checkpoint.tensors) / 10\n")
    monkeypatch.chdir(place)
    return root


def of_a_command() -> Options:
    command = f"{shlex.quote(sys.executable)} measure.py {{prefix}}"
    return Options(evaluation=CommandEvaluation(command, "auc: ([0-9.]+)", repeat=2), metric="auc", mode="max")


def require_measured(root: Path, found: Summary, values: Sequence[float]) -> None:
    assert statuses(found) == {"one/model": "written", "two/weights.h5": "written"}
    for path, value in zip((root / "one" / "model", root / "two" / "weights.h5"), values, strict=True):
        best = inspect(str(path)).best_metric
        assert best.value == pytest.approx(value)
        assert best.meaning.startswith("auc (max); measured with --evaluate")


@pytest.mark.parametrize("options", [of_a_command, lambda: Options(evaluation=CommandEvaluation("measuring:auc"))])
def test_runs_of_any_trainer_are_evaluated_by_its_program(foreign: Path, options: Callable[[], Options]) -> None:
    found = backfill_all(str(foreign), options(), Processes(2))
    assert statuses(found) == {"one/model": "written", "two/weights.h5": "written"}
    again = backfill_all(str(foreign), options(), Processes(2))
    assert statuses(again) == {"one/model": "had-it", "two/weights.h5": "had-it"}


def test_without_a_way_to_find_a_value_they_are_left_alone(foreign: Path) -> None:
    assert statuses(backfill_all(str(foreign), Options(), Processes(1))) == {"one/model": "skipped"}


class TestCluster:
    def test_an_evaluation_on_workers_that_started_elsewhere(self, address: str, foreign: Path) -> None:
        found = backfill_all(str(foreign), of_a_command(), Cluster(address))
        require_measured(foreign, found, (0.55, 0.6))
        ledger = [json.loads(line) for line in (foreign / "one" / ".ckpt-tools" / "ledger.jsonl").open()]
        assert ledger[0]["evidence"]["measured"]["values"] == [0.55, 0.55]

    def test_every_run_gets_the_logged_recall(self, address: str, shelf: Path) -> None:
        listener = Record()
        found = backfill_all(str(shelf), Options(DATA), Cluster(address), listener)
        require_logged_recalls(found)
        assert len(listener.ended) == len(listener.begun)
        assert listener.reports

    def test_failures_come_back_with_their_reasons(self, address: str, copy: Copy, tmp_path: Path) -> None:
        data = next((copy(pick("tf2.10")) / "keras_ckpt").glob("*.data-*"))
        data.write_bytes(data.read_bytes()[:1000])
        copy(pick("tf2.21"))
        assert run(["backfill", "--all", str(tmp_path), "--data", DATA, "--scheduler", address, "--quiet"]) == 1

    def test_a_cluster_without_workers_is_said_and_waited_for(
        self, shelf: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        class SaidError(Exception):
            pass

        def waiting() -> None:
            raise SaidError

        with dask(tmp_path_factory.mktemp("empty"), workers=0) as address, pytest.raises(SaidError):
            backfill_all(str(shelf), Options(DATA), Cluster(address, waiting))

    def test_no_scheduler_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("distributed", reason="needs the extra 'cluster'")
        monkeypatch.setattr("ckpt_tools.operations.workers._CONNECT_SECONDS", 1)
        with pytest.raises(StorageError):
            backfill_all(str(tmp_path), Options(DATA), Cluster("tcp://127.0.0.1:1"))


def test_a_machine_that_has_no_processes_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")  # where semaphores are: /dev/shm

    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", refuse)
    with pytest.raises(StorageError, match="cannot start the processes that do the work: no space"):
        list(Processes(1).run(abs, [1]))
