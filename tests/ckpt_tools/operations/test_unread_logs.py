"""A log that is there and cannot be read is not an absent one: what a shorter history would give is not written."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import build_bundle, contents, pick

from ckpt_tools.errors import CkptError, StorageError
from ckpt_tools.operations.backfilling import Options, backfill
from ckpt_tools.operations.bulk_backfilling import backfill_all
from ckpt_tools.operations.declaring import draft
from ckpt_tools.operations.repairing import repair
from ckpt_tools.operations.workers import Done
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.logs import collect

CODES = ["EMFILE", "EIO", "ESTALE"]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """From now on a call of the system fails for paths that end so."""

    def make(call: str, ending: str, code: str) -> None:
        number = getattr(errno, code)
        real = getattr(os, call)

        def refused(path: Any, *arguments: Any, **options: Any) -> Any:
            if str(path).endswith(ending):
                raise OSError(number, os.strerror(number))
            return real(path, *arguments, **options)

        monkeypatch.setattr(os, call, refused)

    return make


def some_run(tmp_path: Path) -> str:
    (tmp_path / "logs").mkdir()
    (tmp_path / "train.log").write_text("step 100 auc: 0.5\nstep 200 auc: 0.61\n")
    (tmp_path / "logs" / "later.log").write_text("step 300 auc: 0.7\nstep 400 auc: 0.65\n")
    return build_bundle(tmp_path / "model.ckpt-200", {"w": np.ones(2, np.float32), "global_step": np.int64(200)})


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(("call", "ending"), [("open", "later.log"), ("stat", "later.log"), ("listdir", "logs")])
def test_of_any_trainer(call: str, ending: str, code: str, tmp_path: Path, refuse: Callable[..., None]) -> None:
    prefix = some_run(tmp_path)
    before = contents(tmp_path)
    refuse(call, ending, code)
    with pytest.raises(StorageError, match=os.strerror(getattr(errno, code))):
        backfill(prefix, Options(from_logs=True, metric="auc"))
    assert contents(tmp_path) == before
    # A value that was given depends on no log.
    assert backfill(prefix, Options(value=0.61, metric="auc", mode="max")).written


@pytest.mark.parametrize("code", [*CODES, "EACCES"])
@pytest.mark.parametrize(("call", "ending"), [("open", "later.log"), ("listdir", "logs")])
def test_no_description_is_drafted_of_half_the_logs(
    call: str, ending: str, code: str, tmp_path: Path, refuse: Callable[..., None]
) -> None:
    some_run(tmp_path)
    refuse(call, ending, code)
    with pytest.raises(StorageError, match=os.strerror(getattr(errno, code))):
        draft(str(tmp_path))
    assert not (tmp_path / "ckpt.toml").exists()


class InThisProcess:
    """As `Processes` does, in this process, where a call can be refused."""

    def run(self, work: Any, items: Sequence[Any], progress: Any = None) -> Iterator[Done[Any]]:  # noqa: ARG002
        for number, item in enumerate(items):
            try:
                yield Done(number, work(item, lambda *_: None))
            except CkptError as error:
                yield Done(number, error=error)


def test_of_all_runs_it_is_the_runs_own(tmp_path: Path, refuse: Callable[..., None]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        some_run(tmp_path / name)
    before = contents(tmp_path / "two")
    refuse("open", "two/logs/later.log", "EIO")
    options = Options(from_logs=True, metric="auc")
    rows = {row.outcome.path: row for row in backfill_all(str(tmp_path), options, InThisProcess()).rows}
    good, bad = (next(row for path, row in rows.items() if name in path) for name in ("one", "two"))
    assert (good.status, bad.status) == ("written", "failed")
    assert isinstance(bad.outcome.error, StorageError)
    assert contents(tmp_path / "two") == before


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("call", ["open", "stat"])
def test_of_a_known_trainer(call: str, code: str, copy: Callable[..., Path], refuse: Callable[..., None]) -> None:
    experiment = copy(pick("tf2.10"))
    runs = experiment.parents[1] / "runs" / experiment.name
    log = next(path for path in sorted(runs.iterdir()) if path.name == "train.log" or ".tfevents." in path.name)
    before = contents(experiment)
    refuse(call, log.name, code)
    found = collect(Experiment(str(experiment)))
    assert found.unread is not None
    assert "log-unreadable" in {finding.id for finding in found.findings}
    with pytest.raises(StorageError, match=os.strerror(getattr(errno, code))):
        backfill(str(experiment), Options(from_logs=True))
    assert contents(experiment) == before


@pytest.mark.parametrize("code", CODES)
def test_a_state_file_is_not_written_anew_because_a_look_was_refused(
    code: str, tmp_path: Path, refuse: Callable[..., None]
) -> None:
    build_bundle(tmp_path / "m-1", {"a": np.ones(1, np.float32)})
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{tmp_path}/linked/m-1"\n')
    (tmp_path / "linked").symlink_to(".")
    before = (tmp_path / "checkpoint").read_bytes()
    refuse("stat", "linked", code)
    with pytest.raises(StorageError):
        repair(str(tmp_path))
    assert (tmp_path / "checkpoint").read_bytes() == before


def test_a_log_that_is_gone_stops_nothing(copy: Callable[..., Path]) -> None:
    experiment = copy(pick("tf2.10"))
    shutil.rmtree(experiment.parents[1] / "runs")
    assert collect(Experiment(str(experiment))).unread is None
