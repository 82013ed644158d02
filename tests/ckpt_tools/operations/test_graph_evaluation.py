"""``ckpt backfill RUN --evaluate graph`` for a run that a ``ckpt.toml`` describes."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import FIXTURES

from ckpt_tools.errors import CkptError, CorruptError, MismatchError, NotFoundError, UnsafeError, UsageError
from ckpt_tools.format.npy import decode_npy, decode_npz
from ckpt_tools.operations.backfill_options import Options
from ckpt_tools.operations.backfilling import Outcome, backfill
from ckpt_tools.operations.bulk_backfilling import backfill_all
from ckpt_tools.operations.declaring import draft
from ckpt_tools.operations.graph_measures import measure_of
from ckpt_tools.operations.workers import Processes
from ckpt_tools.runs.ledger import read_ledger

DECLARED = """
[graph]
scores = "probabilities"
targets = "valid.npz:labels"
measure = "accuracy"
batch = 3
[graph.feeds]
input_x = "valid.npz:x"
keep_prob = 1.0
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of the text CNN that TensorFlow 1.15 made, with four rows of data of which three are as it says."""
    directory = tmp_path / "run"
    directory.mkdir()
    for name in ("index", "data-00000-of-00001", "meta"):
        shutil.copy(FIXTURES / "graphs" / f"textcnn.{name}", directory / f"model.ckpt.{name}")
    with np.load(FIXTURES / "graphs" / "textcnn.npz") as stored:
        labels = stored["out|label:0"].copy()
        labels[2] = (labels[2] + 1) % 3
        np.savez(directory / "valid.npz", x=stored["feed|input_x:0"], labels=labels)
    (directory / "ckpt.toml").write_text(DECLARED)
    return directory


def measured(run: Path, **options: Any) -> Outcome:
    return backfill(str(run / "model.ckpt"), Options(graph=True, **options))


def rewritten(run: Path, *pairs: tuple[str, str]) -> Path:
    text = (run / "ckpt.toml").read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    (run / "ckpt.toml").write_text(text)
    return run


def test_the_measure_is_written_with_its_evidence(run: Path) -> None:
    plan = measured(run, dry_run=True)
    assert plan.value == 0.75
    assert not plan.written
    assert plan.sentence.startswith(
        "would write best_metric accuracy 0.75 (max); measured by its own graph, accuracy of"
    )
    done = measured(run)
    assert done.written
    entry = read_ledger(str(run))[-1]
    found = entry.to_json()["evidence"]["measured"]
    assert found["value"] == 0.75
    assert len(found["graph"]) == 64
    assert list(found["files"]) == ["valid.npz"]
    assert found["draws"] == ["dropout/random_uniform/RandomUniform"]


def test_a_declared_graph_measures_where_nothing_else_is_asked_for(run: Path) -> None:
    assert backfill(str(run / "model.ckpt"), Options(dry_run=True)).value == 0.75


def test_arrays_may_lie_elsewhere(run: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (run / "valid.npz").rename(tmp_path / "data" / "valid.npz")
    with pytest.raises(NotFoundError, match="no such file"):
        measured(run)
    assert measured(run, data_dir=str(tmp_path / "data"), dry_run=True).value == 0.75


def test_a_fetched_number_is_the_metric_itself(run: Path) -> None:
    (run / "ckpt.toml").write_text('[metric]\nname = "best"\nmode = "max"\n[graph]\nfetch = "ArgMax/dimension"\n')
    with pytest.raises(CorruptError, match="no node 'ArgMax/dimension'"):
        measured(run)
    (run / "ckpt.toml").write_text('[metric]\nname = "best"\nmode = "max"\n[graph]\nfetch = "label/dimension"\n')
    assert measured(run, dry_run=True).value == 1
    (run / "ckpt.toml").write_text('[graph]\nfetch = "embedding/read"\n')
    with pytest.raises(MismatchError, match="no single number"):
        measured(run)


def test_what_depends_on_a_draw_is_not_written_but_as_a_mean(run: Path) -> None:
    rewritten(run, ("keep_prob = 1.0", "keep_prob = 0.1"), ("accuracy", "mse"), ("valid.npz:labels", "scores.npy"))
    np.save(run / "scores.npy", np.zeros((4, 3), np.float32))
    with pytest.raises(MismatchError, match=r"depends on what dropout/random_uniform/RandomUniform draws"):
        measured(run)
    done = measured(run, repeat=4, dry_run=True)
    assert "the mean of 4 (deviation" in done.sentence


WRONG = {
    "no rows for the targets": ((("valid.npz:x", "three.npy"),), MismatchError, "there are 4"),
    "a feed that is missing": ((("keep_prob = 1.0\n", ""),), UsageError, "'keep_prob'.*has to be fed"),
    "a feed of no node": ((("keep_prob", "keep"),), UsageError, "no node 'keep' to be fed"),
    "no such member": ((("valid.npz:x", "valid.npz:y"),), NotFoundError, "no array 'y'"),
    "an array of objects": ((("valid.npz:x", "objects.npy"),), UnsafeError, "only numbers are read"),
    "a link that leads out": ((("valid.npz:x", "link.npy"),), UnsafeError, "leads out of the directory"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_declared_wrongly_writes_nothing(run: Path, tmp_path: Path, case: str) -> None:
    np.save(run / "three.npy", np.zeros((3, 9), np.int32))
    np.save(run / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "out.npy", np.zeros((4, 9), np.int32))
    os.symlink(tmp_path / "out.npy", run / "link.npy")
    pairs, error, message = WRONG[case]
    before = (run / "model.ckpt.index").read_bytes()
    with pytest.raises(error, match=message):
        measured(rewritten(run, *pairs))
    assert (run / "model.ckpt.index").read_bytes() == before


def test_without_a_graph_section_it_says_where_to_look(run: Path) -> None:
    (run / "ckpt.toml").unlink()
    with pytest.raises(UsageError, match=r"\[graph\] of a ckpt.toml") as caught:
        measured(run)
    assert caught.value.hint is not None
    assert caught.value.hint.endswith("--graph tells what it takes and offers")


def test_many_runs_are_measured_and_those_without_a_graph_left_alone(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("index", "data-00000-of-00001"):
        shutil.copy(run / f"model.ckpt.{name}", other / f"model.ckpt.{name}")
    found = backfill_all(str(tmp_path), Options(graph=True, dry_run=True), Processes(1))
    assert found.totals == {"would-write": 1, "skipped": 1}


def test_a_draft_names_what_is_fed(run: Path) -> None:
    text = draft(str(run), write=False).text
    assert '# scores = "probabilities:0"' in text or '"probabilities:0"' in text
    assert '# "input_x:0" = "FILE.npy"  # int32 [0, 9]' in text
    assert '# "keep_prob:0" = 1.0  # float32' in text


# ------------------------------------------------------------------------------------------------ measures


@pytest.mark.parametrize(
    ("name", "scores", "targets", "value"),
    [
        ("accuracy", [[0.1, 0.9], [0.8, 0.2]], [1, 1], 0.5),
        ("accuracy", [[0.1, 0.9], [0.8, 0.2]], [[0, 1], [1, 0]], 1.0),
        ("accuracy", [3, 2, 1], [3, 2, 2], 2 / 3),
        ("auc", [0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.75),
        ("auc", [[0.9, 0.1], [0.6, 0.4], [0.65, 0.35], [0.2, 0.8]], [0, 0, 1, 1], 0.75),
        ("auc", [0.5, 0.5], [0, 1], 0.5),
        ("mae", [1.0, 3.0], [2.0, 1.0], 1.5),
        ("mse", [[1.0], [3.0]], [2.0, 1.0], 2.5),
        ("rmse", [1.0, 3.0], [3.0, 1.0], 2.0),
        ("recall@2", [[0.1, 0.5, 0.4], [0.9, 0.5, 0.1]], [[2, 0], [2, -1]], 0.25),
        ("hitrate@2", [[0.1, 0.5, 0.4], [0.9, 0.5, 0.1]], [[2, 0], [2, -1]], 0.5),
        ("recall@1", [[0.5, 0.5]], [0], 1.0),
        ("recall@1", [[0.5, 0.5]], [1], 0.0),
        ("ndcg@3", [[0.9, 0.5, 0.1]], [[0, 2]], (1 + 0.5) / (1 + 1 / np.log2(3))),
        ("ndcg@1", [[0.9, 0.5, 0.1]], [[0, 2]], 1.0),
    ],
)
def test_a_measure_is_what_its_name_says(name: str, scores: list[Any], targets: list[Any], value: float) -> None:
    assert measure_of(name, np.array(scores), np.array(targets)) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "scores", "targets"),
    [
        ("accuracy", [0.5, 0.6], [0, 1]),
        ("accuracy", [[0.5, 0.6]], [0, 1]),
        ("auc", [0.5, 0.6], [1, 1]),
        ("auc", [0.5, 0.6], [1, 2]),
        ("auc", [0.5, float("nan")], [1, 0]),
        ("mse", [0.5, 0.6], [[1, 0], [2, 3]]),
        ("recall@2", [[0.5, 0.6]], [2]),
        ("recall@2", [[0.5, 0.6]], [-1]),
        ("recall@2", [0.5], [0]),
        ("mae", [], []),
    ],
)
def test_what_does_not_fit_has_no_measure(name: str, scores: list[Any], targets: list[Any]) -> None:
    with pytest.raises(MismatchError):
        measure_of(name, np.array(scores), np.array(targets))


# ------------------------------------------------------------------------------------------------ files of arrays


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_arrays_are_read_as_numpy_wrote_them() -> None:
    for array in (np.arange(6).reshape(2, 3), np.asfortranarray(np.eye(3, 2)), np.float32(2), np.array([1], ">i2")):
        found = decode_npy(saved(np.asarray(array)))
        assert found.dtype == np.asarray(array).dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", CorruptError),
        (saved(np.arange(3))[:-1], CorruptError),
        (saved(np.arange(3)).replace(b"(3,)", b"(9,)"), CorruptError),
        (saved(np.arange(3)).replace(b"(3,)", b"(-3)"), CorruptError),
        (saved(np.arange(3)).replace(b"'<i8'", b"'|O' "), UnsafeError),
        (saved(np.array(["text"])), UnsafeError),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(data: bytes, error: type[CkptError]) -> None:
    with pytest.raises(error):
        decode_npy(data)


def test_a_member_has_a_limit() -> None:
    file = io.BytesIO()
    np.savez_compressed(file, big=np.zeros(10_000))
    with pytest.raises(UnsafeError, match="larger than the limit"):
        decode_npz(file.getvalue(), "big", limit=1000)
    with pytest.raises(CorruptError):
        decode_npz(b"PK what", "big", limit=1000)
