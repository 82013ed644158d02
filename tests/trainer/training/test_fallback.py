"""A newest or best checkpoint that is damaged: the run goes on from the next that is whole, and says so."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from running import begin, damage, resume, same_bits, tensors
from toys import tree

from ckpt_tools.analysis.newest import newest_whole
from ckpt_tools.errors import CorruptError, UnsafeError
from ckpt_tools.readers.location import latest_in, prefixes_in
from trainer.training.starting_point import resumed_run

pytestmark = pytest.mark.tensorflow


def copy_prefix(prefix: str, target: str) -> None:
    for suffix in ("index", "data-00000-of-00001"):
        shutil.copy(f"{prefix}.{suffix}", f"{target}.{suffix}")


@pytest.mark.parametrize("line", ["best", "latest"])
@pytest.mark.parametrize("what", ["damaged", "gone", "state empty", "state of a moved directory"])
def test_it_goes_on_from_the_newest_that_is_whole(tmp_path: Path, data_dir: str, line: Any, what: str) -> None:
    experiment = begin(tmp_path, data_dir, 20)
    folder = experiment.best_line if line == "best" else experiment.latest_line
    named = experiment.best_prefix() if line == "best" else experiment.latest_prefix()
    assert named is not None
    family = named.rpartition("-")[0]
    for number in (20, 100):  # the larger number is newer, though the name sorts before
        copy_prefix(named, f"{family}-{number}")
    expected = f"{family}-100"
    if what == "damaged":
        damage(named)
    elif what == "gone":
        os.unlink(f"{named}.index")
    elif what == "state empty":
        Path(folder, "checkpoint").write_bytes(b"")
        os.unlink(f"{named}.index")
    else:
        Path(folder, "checkpoint").write_text(f'model_checkpoint_path: "/gone/{os.path.basename(family)}-20"\n')
        expected = f"{family}-20"
    before = tree(tmp_path)
    start = resumed_run(experiment, line, {}, data_dir=data_dir)
    assert start.resumed_from == expected
    found = [finding for finding in start.findings if finding.id == "fallback"]
    if what == "state of a moved directory":
        assert found == [], "its own name is here"
    else:
        assert found[0].severity == "warning"
        assert expected in found[0].message
        assert found[0].fix == f"ckpt repair {folder}"
    assert tree(tmp_path) == before


def test_from_the_state_before_a_damaged_one_the_run_ends_with_the_same_bits(tmp_path: Path, data_dir: str) -> None:
    whole = begin(tmp_path / "whole", data_dir, 50)
    experiment = begin(tmp_path / "run", data_dir, 30)
    latest = experiment.latest_prefix()
    assert latest is not None
    damage(latest)
    resume(experiment, "latest", data_dir, 50)
    same_bits(tensors(whole.latest_prefix()), tensors(experiment.latest_prefix()), but=("save_counter",))
    same_bits(tensors(whole.best_prefix()), tensors(experiment.best_prefix()), but=("save_counter",))


@pytest.mark.parametrize("line", ["best", "latest"])
def test_saves_that_were_killed_before_anything_pointed_to_them(tmp_path: Path, data_dir: str, line: Any) -> None:
    """More than one, and no ``checkpoint`` file yet: the newest counts, and the resume writes the file."""
    whole = begin(tmp_path / "whole", data_dir, 40)
    experiment = begin(tmp_path / "run", data_dir, 20)
    Path(experiment.latest_line, "checkpoint").unlink()
    assert len(os.listdir(experiment.latest_line)) == 4
    resume(experiment, line, data_dir, 20)
    assert experiment.latest_prefix() is not None
    resume(experiment, "latest", data_dir, 40)
    if line == "latest":
        same_bits(tensors(whole.latest_prefix()), tensors(experiment.latest_prefix()), but=("save_counter",))


def test_without_a_whole_one_the_damage_is_said(tmp_path: Path, data_dir: str) -> None:
    experiment = begin(tmp_path, data_dir, 20)
    latest = experiment.latest_prefix()
    assert latest is not None
    for name in prefixes_in(experiment.latest_line):
        damage(os.path.join(experiment.latest_line, name))
    with pytest.raises(CorruptError, match="checksum") as caught:
        resumed_run(experiment, "latest", {}, data_dir=data_dir)
    assert caught.value.hint == f"ckpt repair {latest}"


def test_a_salvaged_one_is_never_taken_by_itself(tmp_path: Path, data_dir: str) -> None:
    experiment = begin(tmp_path, data_dir, 20)
    latest = experiment.latest_prefix()
    assert latest is not None
    names = prefixes_in(experiment.latest_line)
    copy_prefix(latest, f"{latest}-salvaged")
    for name in names:
        damage(os.path.join(experiment.latest_line, name))
    with pytest.raises(CorruptError):
        newest_whole(experiment.latest_line)


def test_a_state_file_that_leads_elsewhere_is_never_followed(tmp_path: Path, data_dir: str) -> None:
    experiment = begin(tmp_path, data_dir, 20)
    Path(experiment.latest_line, "checkpoint").write_text('model_checkpoint_path: "../keras_ckpt/ckpt-1"\n')
    with pytest.raises(UnsafeError):
        resumed_run(experiment, "latest", {}, data_dir=data_dir)


def test_retention_deletes_nothing_that_only_a_state_file_names(tmp_path: Path, data_dir: str) -> None:
    """Row 20: TensorFlow's CheckpointManager deletes whatever the file lists, in whichever directory."""
    experiment = begin(tmp_path / "run", data_dir, 20)
    victim = tmp_path / "victim"
    for line in (experiment.best_line, experiment.latest_line):
        shutil.copytree(line, victim / os.path.basename(line))
        latest = os.path.basename(latest_in(line))
        listed = [f"../../../../victim/{os.path.basename(line)}/{latest}", str(victim / "keras_ckpt" / latest)]
        lines = [f'model_checkpoint_path: "{latest}"', *(f'all_model_checkpoint_paths: "{name}"' for name in listed)]
        Path(line, "checkpoint").write_text("\n".join(lines) + "\n")
    before, touched, watching = tree(victim), [], True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and (event == "open" or event.startswith(("os.", "shutil."))):
            texts = [os.fsdecode(part) for part in arguments if isinstance(part, (str, bytes))]
            touched.extend(text for text in texts if os.path.realpath(text).startswith(str(victim)))

    sys.addaudithook(watch)
    for line in ("best", "latest"):
        resume(experiment, line, data_dir, 60)
    watching = False
    assert touched == []
    assert tree(victim) == before
