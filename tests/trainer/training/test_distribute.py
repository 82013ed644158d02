"""Runs shared by several processes on this machine, or by several devices of one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import begin, resume, rows, same_bits, tensors
from toys import SMALL

from ckpt_tools.errors import UsageError
from ckpt_tools.runs.experiments import Experiment
from trainer.training.cluster import Task, task_of

STEPS = 60
RUN = "toys_ComiRec-DR_b16_lr0.01_d4_len6_run"

# The command, as its user starts it, with a signal to itself at one step. DEVICES: as many logical CPUs.
PROGRAM = """
import os, sys
from trainer import cli
from trainer.cli import console
shown = console.Console.updated
def updated(self, standing, max_steps, patience):
    shown(self, standing, max_steps, patience)
    if f"{standing.step}" == os.environ.get("SIGNAL_AT"):
        os.kill(os.getpid(), int(os.environ["SIGNAL"]))
console.Console.updated = updated
if "DEVICES" in os.environ:
    import tensorflow as tf
    devices = [tf.config.LogicalDeviceConfiguration()] * int(os.environ["DEVICES"])
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
sys.argv = ["trainer", "train", *sys.argv[1:]]
cli.main()
"""
NEW = ["--dataset=toys", "--recipe=paper", "--model-type=ComiRec-DR", "--exp-name=run", "--item-count=120"]
FLAGS = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]


@dataclass(frozen=True)
class Ended:
    """How a process ended. ``home``: where it was started, and what it calls its root."""

    code: int
    out: str
    err: str
    home: Path

    @property
    def experiment(self) -> Experiment:
        return Experiment.at(self.home / "best_model" / RUN)


def start(home: Path, arguments: list[str], **environment: str) -> subprocess.Popen[str]:
    home.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments, "--distribute"],
        cwd=home,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], home: Path) -> Ended:
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    return Ended(process.returncode, out, err, home)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for found in sockets:
        found.bind(("127.0.0.1", 0))
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


def together(
    homes: list[Path],
    data_dir: str,
    *more: str,
    each: dict[int, list[str]] | None = None,
    signals: dict[int, tuple[int, int]] | None = None,
) -> list[Ended]:
    """A worker in each of ``homes``, the first of them the chief. ``signals``: by worker, (signal, step)."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(len(homes))]}
    processes = []
    for number, home in enumerate(homes):
        config = {"cluster": cluster, "task": {"type": "worker", "index": number}}
        environment = {"TF_CONFIG": json.dumps(config)}
        if signals and number in signals:
            sent, step = signals[number]
            environment |= {"SIGNAL": str(int(sent)), "SIGNAL_AT": str(step)}
        arguments = [*more, *(each or {}).get(number, []), f"--data-dir={data_dir}", f"--max-steps={STEPS}"]
        processes.append(start(home, arguments, **environment))
    return [finish(process, home) for process, home in zip(processes, homes, strict=True)]


def require_almost_the_same(one: Experiment, other: Experiment) -> None:
    """The same mathematics in another order of the sums: float32 rounds differently, and Adam, which divides by the
    root of the second moment, passes differences of 1e-7 on at about their relative size. So weights agree to 1e-5 of
    their largest value after 60 steps, and recall can differ where two items score the same to as many digits: by one
    of the 25 users' true items, 2 or 3 each.
    """
    expected, found = tensors(one.latest_prefix()), tensors(other.latest_prefix())
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        if name.startswith(("model/", "optimizer/m")):
            assert np.abs(found[name] - value).max() <= 1e-5 * np.abs(value).max(), name
    for row, again in zip(rows(one), rows(other), strict=True):
        assert (row["event"], row["step"]) == (again["event"], again["step"])
        assert abs(row["recall"] - again["recall"]) <= 0.5 / 25
        if row["loss"] is not None:
            assert abs(row["loss"] - again["loss"]) <= 1e-5


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, data_dir: str) -> Experiment:
    """The run of a single process with the same batches."""
    return begin(tmp_path_factory.mktemp("alone"), data_dir, STEPS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data_dir: str) -> list[Ended]:
    """Two workers that nobody disturbs."""
    root = tmp_path_factory.mktemp("whole")
    return together([root / "chief", root / "worker"], data_dir, *NEW, *FLAGS, "--json")


# ------------------------------------------------------------------------------------------ two processes


@pytest.mark.tensorflow
def test_two_workers_make_the_run_of_one_process(whole: list[Ended], alone: Experiment) -> None:
    chief, worker = whole
    assert (chief.code, worker.code) == (0, 0), chief.err + worker.err
    require_almost_the_same(alone, chief.experiment)
    told, also = json.loads(chief.out), json.loads(worker.out)
    for key in ("best_metric", "best_step", "step", "trials", "stopped", "first_evaluation"):
        assert told[key] == also[key]  # decided alike, because by the same numbers


@pytest.mark.tensorflow
def test_only_the_chief_writes(whole: list[Ended], alone: Experiment) -> None:
    chief, worker = whole
    assert list(worker.home.iterdir()) == []

    def names(experiment: Experiment) -> set[str]:
        files = [path for folder in (experiment.path, experiment.runs) for path in Path(folder).rglob("*")]
        kinds = {path.name for path in files if path.is_file() and "tfevents" not in path.name}
        return {name for name in kinds if not name.startswith("ckpt-")}

    assert names(chief.experiment) == names(alone) | {"recall.png"}


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_killed_worker_leaves_a_run_that_goes_on(
    tmp_path: Path, data_dir: str, whole: list[Ended], alone: Experiment
) -> None:
    homes = [tmp_path / "chief", tmp_path / "worker"]
    chief, worker = together(homes, data_dir, *NEW, *FLAGS, signals={1: (signal.SIGKILL, 25)})
    assert worker.code == -signal.SIGKILL
    assert chief.code == 5, chief.err
    assert "a worker is gone, or does not answer" in chief.err
    assert "--resume --from latest" in chief.err
    assert "Traceback" not in chief.err
    assert tensors(chief.experiment.latest_prefix())["state/step"] == 20
    # Alone, from a copy: the state is that of any run.
    shutil.copytree(homes[0], tmp_path / "copy")
    copy = Experiment.at(tmp_path / "copy" / "best_model" / RUN)
    resume(copy, "latest", data_dir, STEPS)
    assert tensors(copy.latest_prefix())["state/step"] == STEPS
    require_almost_the_same_end(alone, copy)
    # Together, where the state is: the bits of the run that nobody disturbed, since a sum of two has one order.
    arguments = [str(chief.experiment.path), "--resume", "--from=latest"]
    again = together(homes, data_dir, *arguments)
    assert [ended.code for ended in again] == [0, 0], again[0].err + again[1].err
    assert list(homes[1].iterdir()) == []
    one, other = whole[0].experiment, chief.experiment
    same_bits(tensors(one.latest_prefix()), tensors(other.latest_prefix()), but=("save_counter",))
    same_bits(tensors(one.best_prefix()), tensors(other.best_prefix()), but=("save_counter",))
    logged = [[row for row in rows(run.experiment) if row["event"] == "eval"] for run in (whole[0], chief)]
    assert logged[0] == logged[1]


def require_almost_the_same_end(one: Experiment, other: Experiment) -> None:
    expected, found = tensors(one.latest_prefix()), tensors(other.latest_prefix())
    for name in ("model/item_embedding", "model/capsule/weights"):
        assert np.abs(found[name] - expected[name]).max() <= 1e-5 * np.abs(expected[name]).max(), name


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_killed_chief_ends_the_others(tmp_path: Path, data_dir: str) -> None:
    homes = [tmp_path / "chief", tmp_path / "worker"]
    chief, worker = together(homes, data_dir, *NEW, *FLAGS, signals={0: (signal.SIGKILL, 25)})
    assert (chief.code, worker.code) == (-signal.SIGKILL, 5), worker.err
    assert "a worker is gone, or does not answer" in worker.err
    resume(chief.experiment, "latest", data_dir, STEPS)
    assert tensors(chief.experiment.latest_prefix())["state/step"] == STEPS


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("number", [0, 1])
def test_one_that_is_interrupted_stops_all(tmp_path: Path, data_dir: str, whole: list[Ended], number: int) -> None:
    homes = [tmp_path / "chief", tmp_path / "worker"]
    chief, worker = together(homes, data_dir, *NEW, *FLAGS, signals={number: (signal.SIGTERM, 25)})
    assert (chief.code, worker.code) == (130, 130), chief.err + worker.err
    assert tensors(chief.experiment.latest_prefix())["state/step"] == 26
    assert list(homes[1].iterdir()) == []
    again = together(homes, data_dir, str(chief.experiment.path), "--resume", "--from=latest")
    assert [ended.code for ended in again] == [0, 0], again[0].err + again[1].err
    same_bits(
        tensors(whole[0].experiment.latest_prefix()),
        tensors(chief.experiment.latest_prefix()),
        but=("save_counter",),
    )


@pytest.mark.slow
@pytest.mark.tensorflow
def test_workers_that_begin_differently_are_refused(tmp_path: Path, data_dir: str) -> None:
    homes = [tmp_path / "chief", tmp_path / "worker"]
    ended = together(homes, data_dir, *NEW, *FLAGS, each={1: ["--seed=8"]})
    for process in ended:
        assert process.code == 1
        assert "worker 1 does not begin as the chief does: it has other hyper-parameters, weights" in process.err
        assert list(process.home.iterdir()) == []


@pytest.mark.slow
@pytest.mark.tensorflow
def test_an_error_of_the_chief_ends_the_others(tmp_path: Path, data_dir: str) -> None:
    """Its directory is locked: the others, who write nothing, would wait for it."""
    from ckpt_tools.fs import durable

    homes = [tmp_path / "chief", tmp_path / "worker"]
    folder = homes[0] / "best_model" / RUN
    folder.mkdir(parents=True)
    with durable.locked(folder):
        chief, worker = together(homes, data_dir, *NEW, *FLAGS)
    assert (chief.code, worker.code) == (6, 5), chief.err + worker.err


# ------------------------------------------------------------------------------------------ one process


@pytest.mark.tensorflow
def test_two_devices_of_one_process_make_the_run_of_one(tmp_path: Path, data_dir: str) -> None:
    """As the port trains, which takes more of a batch to be shared than a sum of gradients."""
    ways = {"readout": "soft-padding", "repeated_rows": "apart"}
    alone = begin(tmp_path / "alone", data_dir, STEPS, **ways)
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in ways.items()]
    arguments = [*NEW, *FLAGS, *flags, f"--data-dir={data_dir}", f"--max-steps={STEPS}"]
    ended = finish(start(tmp_path / "home", arguments, DEVICES="2"), tmp_path / "home")
    assert ended.code == 0, ended.err
    assert "each batch is shared by 2 replicas" in ended.out
    require_almost_the_same(alone, ended.experiment)


@pytest.mark.slow
@pytest.mark.tensorflow
def test_two_devices_multiply_in_bfloat16_too(tmp_path: Path, data_dir: str) -> None:
    alone = begin(tmp_path / "alone", data_dir, STEPS, precision="bfloat16")
    arguments = [*NEW, *FLAGS, "--precision=bfloat16", f"--data-dir={data_dir}", f"--max-steps={STEPS}"]
    ended = finish(start(tmp_path / "home", arguments, DEVICES="2"), tmp_path / "home")
    assert ended.code == 0, ended.err
    for row, again in zip(rows(alone), rows(ended.experiment), strict=True):
        assert row["step"] == again["step"]
        assert row["loss"] is None or abs(row["loss"] - again["loss"]) <= 5e-3 * row["loss"]


@pytest.mark.tensorflow
def test_a_batch_that_cannot_be_shared_equally_is_refused(tmp_path: Path, data_dir: str) -> None:
    arguments = [*NEW, *FLAGS, f"--data-dir={data_dir}", f"--max-steps={STEPS}", "--batch-size=15"]
    ended = finish(start(tmp_path / "home", arguments, DEVICES="2"), tmp_path / "home")
    assert ended.code == 2
    assert "a batch of 15 users cannot be shared equally by 2 replicas" in ended.err
    assert "--batch-size 14" in ended.err
    assert list(ended.home.iterdir()) == []


def test_the_task_is_found_in_the_cluster() -> None:
    def found(cluster: Any, kind: str, index: Any) -> Task | None:
        return task_of({"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})})

    workers = {"worker": ["a:1", "b:1", "c:1"]}
    assert task_of({}) is None
    assert found(workers, "worker", 2) == Task(2, 3)
    assert found({**workers, "chief": ["d:1"]}, "chief", 0) == Task(0, 4)
    assert found({**workers, "chief": ["d:1"]}, "worker", 0) == Task(1, 4)
    assert Task(0, 4).is_chief
    assert not Task(1, 4).is_chief
    for cluster, kind, index, why in (
        (workers, "worker", 3, "worker 3, which is not in its cluster"),
        (workers, "worker", -1, "worker -1, which is not in its cluster"),
        (workers, "chief", 0, "chief 0, which is not in its cluster"),
        ({**workers, "ps": ["e:1"]}, "worker", 0, "tasks of the kind 'ps'"),
        ({"worker": ["a:1", "a:1"]}, "worker", 0, "the same address"),
        ({"worker": 5}, "worker", 0, "is not a cluster and a task"),
        (7, "worker", 0, "is not a cluster and a task"),
        (workers, "worker", None, "is not a cluster and a task"),
    ):
        with pytest.raises(UsageError, match=why):
            found(cluster, kind, index)
    for text in ("{", "[]", "{}", "[" * 100_000):
        with pytest.raises(UsageError, match="is not a cluster and a task"):
            task_of({"TF_CONFIG": text})
