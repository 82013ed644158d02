"""Whole runs of the trainer, killed at random operations on files, and resumed with ``--from latest``.

However often a run is killed, and wherever, the best of it always loads and never gets worse, and the run ends with
the bits, and the log, of one that nobody killed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import run_server
from running import same_bits, tensors
from strace import Server

from ckpt_tools.analysis.newest import newest_whole
from ckpt_tools.errors import NotFoundError
from ckpt_tools.readers.location import prefixes_in
from ckpt_tools.runs.experiments import Experiment
from trainer.checkpoints.retention import KEEP

pytestmark = [pytest.mark.tensorflow]

# How often a resumed run is killed once more.
AGAIN = 0.3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(run_server.__file__, tmp_path_factory.mktemp("server") / "errors")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, server: Server, data_dir: str) -> tuple[Path, list[Any]]:
    """The run that nobody interrupts, and its operations on files."""
    root = tmp_path_factory.mktemp("whole")
    points = server.operations(root, root.with_name("log"), root, data_dir)
    assert len(points) > 500
    return root, points


@pytest.fixture(autouse=True)
def without_graphs() -> Iterator[None]:
    import tensorflow as tf

    yield
    tf.config.run_functions_eagerly(False)


def logged(experiment: Experiment) -> list[dict[str, Any]]:
    lines = Path(experiment.runs, "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["event"] == "eval"]


def best_now(experiment: Experiment) -> float | None:
    """The best metric of what the best line holds, when every byte of it is whole and TensorFlow reads it too."""
    import tensorflow as tf

    try:
        prefix, findings = newest_whole(experiment.best_line)
    except NotFoundError:
        return None
    assert findings == ()
    reader = tf.train.load_checkpoint(prefix)
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    return float(values["best_metric/.ATTRIBUTES/VARIABLE_VALUE"])


def check_run(
    server: Server, whole: tuple[Path, list[Any]], root: Path, data_dir: str, chance: random.Random
) -> Counter[str]:
    """Begin a run, kill it once or more, let it go on to its end."""
    uninterrupted, points = whole
    expected, found = run_server.experiment_in(uninterrupted), run_server.experiment_in(root)
    outcomes: Counter[str] = Counter()
    where = []
    best = None
    while True:
        call, number = chance.choice(points)
        code = server.disturbed(call, number, "signal=KILL", root, data_dir)
        where.append((call, number))
        assert code in (0, -signal.SIGKILL), where
        outcomes["killed" if code else "ended"] += 1
        before, best = best, best_now(found)
        assert before is None or (best is not None and best >= before), where
        if code == 0 or chance.random() > AGAIN:
            break
    # The state that a run begins with is saved before its first step: there may be no best yet.
    saved = best is not None or (os.path.isdir(found.latest_line) and bool(prefixes_in(found.latest_line)))
    resumed = run_server.go_on(root, data_dir)
    assert resumed == saved, where
    outcomes["resumed" if resumed else "begun anew"] += 1
    for one, other in (
        (expected.latest_prefix(), found.latest_prefix()),
        (expected.best_prefix(), found.best_prefix()),
    ):
        # How often it was saved is the one thing that may differ.
        same_bits(tensors(one), tensors(other), but=("save_counter",))
    assert logged(found) == logged(expected), where
    for line, kept in ((found.best_line, 1), (found.latest_line, KEEP)):
        names = prefixes_in(line)
        # Those that a killed save was about to retire go with the next one.
        assert len(names) <= kept + len(where), where
        files = {f"{name}.{suffix}" for name in names for suffix in ("index", "data-00000-of-00001")}
        assert set(os.listdir(line)) == {"checkpoint", *files}, where
    return outcomes


def check_runs(server: Server, whole: tuple[Path, list[Any]], tmp_path: Path, data_dir: str, kills: int) -> None:
    chance = random.Random(17)
    outcomes: Counter[str] = Counter()
    with (tmp_path / "outcomes").open("w") as log:
        while outcomes["killed"] < kills:
            root = tmp_path / "run"
            shutil.rmtree(root, ignore_errors=True)
            outcomes += check_run(server, whole, root, data_dir, chance)
            print(dict(outcomes), file=log, flush=True)
    assert outcomes["resumed"] > kills / 3


def test_runs_killed_at_some_operations(
    server: Server, whole: tuple[Path, list[Any]], tmp_path: Path, data_dir: str
) -> None:
    check_runs(server, whole, tmp_path, data_dir, 5)


@pytest.mark.slow
def test_runs_killed_at_two_hundred_operations(
    server: Server, whole: tuple[Path, list[Any]], tmp_path: Path, data_dir: str
) -> None:
    check_runs(server, whole, tmp_path, data_dir, 200)
