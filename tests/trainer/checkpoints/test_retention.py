"""What stays of a line of checkpoints when a newer one is saved, and what is tidied of saves that were killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from saves import line, stored
from toys import tree

from ckpt_tools.format.filenames import UNFINISHED_SAVE
from ckpt_tools.format.state import decode_state
from ckpt_tools.readers.location import prefixes_in
from ckpt_tools.runs.experiments import Experiment
from trainer.checkpoints.retention import tidy

pytestmark = pytest.mark.tensorflow


def test_the_newest_ones_are_kept(tmp_path: Path) -> None:
    saves = line(tmp_path, keep=2)
    for step in (1, 2, 3, 4):
        saves.save(stored(step=step))
    assert sorted(prefixes_in(str(tmp_path))) == ["ckpt-3", "ckpt-4"]
    assert decode_state((tmp_path / "checkpoint").read_bytes()).all == ("ckpt-3", "ckpt-4")
    assert len(os.listdir(tmp_path)) == 5


@pytest.mark.parametrize("what", ["gone", "cut off", "worse", "as good"])
def test_the_only_holder_of_the_best_is_kept(tmp_path: Path, what: str) -> None:
    experiment = Experiment(str(tmp_path))
    best = stored(step=10, best_metric=0.5, best_step=10, recall=0.5)
    latest = line(tmp_path / "latest", keep=1, experiment=experiment)
    latest.save(best)
    if what != "gone":
        held = stored(step=5, best_metric=0.25, best_step=5, recall=0.25) if what == "worse" else best
        prefix = line(tmp_path / "keras_ckpt").save(held)
        if what == "cut off":
            os.truncate(f"{prefix}.data-00000-of-00001", 10)
    for step in (20, 30):
        latest.save(stored(step=step, best_metric=0.5, best_step=10, recall=0.4))
    kept = ["ckpt-3"] if what == "as good" else ["ckpt-1", "ckpt-3"]
    assert sorted(prefixes_in(str(tmp_path / "latest"))) == kept
    # As soon as a best is safe in its own line again, the old one may go.
    line(tmp_path / "keras_ckpt").save(best)
    latest.save(stored(step=40, best_metric=0.5, best_step=10, recall=0.4))
    assert prefixes_in(str(tmp_path / "latest")) == ["ckpt-4"]


def test_data_without_an_index_that_nobody_can_place_is_never_touched(tmp_path: Path) -> None:
    for name in ("ckpt-1.data-00000-of-00001", "ckpt-7.data-00000-of-00001", "other.data-00000-of-00001"):
        (tmp_path / name).write_bytes(b"somebody's last copy of " + name.encode())
    before = tree(tmp_path)
    saves = line(tmp_path)
    assert [os.path.basename(saves.save(stored(step=step))) for step in (1, 2)] == ["ckpt-8", "ckpt-9"]
    assert before.items() <= tree(tmp_path).items()


def test_data_whose_index_is_among_the_unfinished_goes(tmp_path: Path) -> None:
    saves = line(tmp_path)
    saves.save(stored(step=1))
    (tmp_path / UNFINISHED_SAVE).mkdir()
    (tmp_path / "ckpt-1.index").rename(tmp_path / UNFINISHED_SAVE / "ckpt-1.index")
    (tmp_path / "ckpt-2.data-00000-of-00001").write_bytes(b"of nobody")
    (tmp_path / "checkpoint.tmp-0123abcd").write_bytes(b"half")
    tidy(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["checkpoint", "ckpt-2.data-00000-of-00001"]


def test_a_link_in_the_place_of_the_unfinished_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "ckpt-1.index").write_bytes(b"precious")
    (tmp_path / "line").mkdir()
    (tmp_path / "line" / UNFINISHED_SAVE).symlink_to(victim)
    line(tmp_path / "line").save(stored(step=1))
    assert tree(victim) == {"ckpt-1.index": b"precious"}
    assert prefixes_in(str(tmp_path / "line")) == ["ckpt-1"]


def test_a_clock_that_went_back_deletes_no_newer_state(tmp_path: Path) -> None:
    """Row 43: CheckpointManager goes by time, and forgets what seems to be of the future."""
    saves = line(tmp_path, keep=2)
    for step, when in ((1, 2**31 + 10), (2, 1000), (3, 0)):
        prefix = saves.save(stored(step=step))
        for suffix in ("index", "data-00000-of-00001"):
            os.utime(f"{prefix}.{suffix}", (when, when))
    saves.save(stored(step=4))
    assert sorted(prefixes_in(str(tmp_path))) == ["ckpt-3", "ckpt-4"]
