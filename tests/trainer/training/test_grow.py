"""`ckpt grow`: old items score as they did, new ones start as in a new run, and training goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import faulty
import numpy as np
import pytest
from checkpoints import OF_EACH_LINEAGE, Sample, contents, pick
from old_experiments import DATA
from toys import Recorder

from ckpt_tools.cli import run
from ckpt_tools.errors import CorruptError, MismatchError, UnsupportedError, UsageError
from ckpt_tools.lineages import identify
from ckpt_tools.operations.growing import grow, read_item_map
from ckpt_tools.operations.migration import migrate
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.runs.experiments import Experiment
from trainer.models.variables import initial_variables
from trainer.settings import settings_of
from trainer.training.starting_point import resumed_run

LINES = ("train", "valid", "test")


def items_of(prefix: str) -> int:
    with open_checkpoint(prefix) as checkpoint:
        lineage = identify(checkpoint)
        assert lineage is not None
        return int(lineage.hyper["item_count"])


def write_map(path: Path, ids: dict[str, int]) -> str:
    path.write_text(
        "".join(f'"{name}",{number}\n' if "," in name else f"{name},{number}\n" for name, number in ids.items())
    )
    return str(path)


def renumbered(folder: Path, ids: np.ndarray) -> str:
    """The fixtures' data with other ids of items."""
    folder.mkdir()
    for split in LINES:
        rows = [line.split(",") for line in (Path(DATA) / f"book_{split}.txt").read_text().splitlines()]
        text = "".join(f"{user},{ids[int(item)]},{time}\n" for user, item, time in rows)
        (folder / f"book_{split}.txt").write_text(text)
    return str(folder)


def grown(sample: Sample, prefix: str, tmp_path: Path, ids: np.ndarray, more: int = 0) -> tuple[str, str]:
    """The checkpoint with its items renumbered, in an experiment of its own, and the old item_count."""
    old = {f"item, {number}": number for number in range(1, len(ids))}
    new = {f"item, {number}": int(ids[number]) for number in range(1, len(ids))}
    new |= {f"new {number}": len(ids) + number for number in range(more)}
    maps = write_map(tmp_path / "old.txt", old), write_map(tmp_path / "new.txt", new)
    home = tmp_path / "grown" / "best_model" / sample.experiment
    out = str(home / "model.ckpt") if sample.name_based else str(home / "keras_ckpt" / "ckpt-1")
    grow(prefix, *maps, out)
    return out, str(home)


def canonical(prefix: str) -> dict[str, np.ndarray]:
    with open_checkpoint(prefix) as checkpoint:
        assert [finding for finding in checkpoint.verify() if finding.severity != "note"] == []
        lineage = identify(checkpoint)
        assert lineage is not None
        return {name: lineage.read(checkpoint, name) for name in lineage.canonical()}


def permutation(items: int) -> np.ndarray:
    """New ids by old ones; 0, the padding, stays."""
    return np.concatenate([[0], 1 + np.random.default_rng(3).permutation(items - 1)])


@pytest.mark.parametrize("sample", OF_EACH_LINEAGE, ids=lambda sample: sample.id)
def test_the_recall_of_items_that_are_only_renumbered_is_the_same(sample: Sample, tmp_path: Path) -> None:
    ids = permutation(items_of(sample.full_prefix))
    _, home = grown(sample, sample.full_prefix, tmp_path, ids)
    start = resumed_run(Experiment.at(home), "best", {}, data_dir=renumbered(tmp_path / "data", ids))
    assert f"{start.first.recall:.6f}" == f"{sample.best_recall:.6f}"


@pytest.mark.parametrize("sample", OF_EACH_LINEAGE, ids=lambda sample: sample.id)
def test_rows_and_moments_move_and_new_ones_start_as_the_trainer_does(sample: Sample, tmp_path: Path) -> None:
    before = contents(sample.path)
    ids = permutation(items_of(sample.full_prefix))
    out, _ = grown(sample, sample.full_prefix, tmp_path, ids, more=5)
    assert contents(sample.path) == before
    old, new = canonical(sample.full_prefix), canonical(out)
    items = len(ids)
    tables = {name for name, value in old.items() if value.shape[:1] == (items,)}
    assert {"model/item_embedding", "model/item_bias", "optimizer/m/item_embedding"} <= tables
    for name, value in old.items():
        if name in tables:
            assert new[name].shape == (items + 5, *value.shape[1:])
            assert new[name][ids].tobytes() == value.tobytes(), name
        elif name != "best_metric":
            assert new[name].tobytes() == value.tobytes(), name
    assert "best_metric" not in new
    assert not new["optimizer/v/item_embedding"][items:].any()
    with open_checkpoint(out) as checkpoint:
        lineage = identify(checkpoint)
        assert lineage is not None
        config = settings_of(checkpoint, lineage, {}).config
    fresh = initial_variables(config)["model/item_embedding"]
    assert new["model/item_embedding"][items:].tobytes() == fresh[items:].tobytes()


def test_items_that_are_gone_take_their_rows_with_them(tmp_path: Path) -> None:
    sample = pick("tf2.10")
    items = items_of(sample.full_prefix)
    old = {str(number): number for number in range(1, items - 2)}
    new = {name: place for place, name in enumerate(list(old)[::-2], start=1)}
    maps = write_map(tmp_path / "old.txt", old), write_map(tmp_path / "new.txt", new)
    done = grow(sample.full_prefix, *maps, str(tmp_path / "out" / "ckpt"))
    assert (done.rows.kept, done.rows.gone) == (len(new), len(old) - len(new))
    assert (done.rows.added, done.rows.nameless) == (0, 2)
    table, before = (canonical(path)["model/item_embedding"] for path in (done.output, sample.full_prefix))
    assert len(table) == len(new) + 1
    assert all(np.array_equal(table[number], before[int(name)]) for name, number in {**new, "0": 0}.items())


def test_killed_at_each_change_it_leaves_nothing_or_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside another checkpoint, and in a directory of its own; the same command again makes it."""
    prefix = build_bundle_of(tmp_path / "run")
    ids = {"a": 1, "b": 2}
    maps = write_map(tmp_path / "old.txt", ids), write_map(tmp_path / "new.txt", {"b": 1, "a": 2})
    before = contents(tmp_path / "run")
    for out in (tmp_path / "run" / "grown.ckpt", tmp_path / "out" / "model.ckpt"):
        calls = faulty.run(lambda out=out: grow(prefix, *maps, str(out)), monkeypatch).calls  # type: ignore[misc]
        made = canonical(str(out))["model/item_embedding"]
        outcomes = set()
        for number in (n for n, name in enumerate(calls) if name in faulty.CHANGING):
            for folder in ("run", "out"):
                shutil.rmtree(tmp_path / folder, ignore_errors=True)
            build_bundle_of(tmp_path / "run")
            fault = faulty.Fault(number, "killed")
            faulty.run(lambda out=out: grow(prefix, *maps, str(out)), monkeypatch, fault)  # type: ignore[misc]
            assert before.items() <= contents(tmp_path / "run").items(), number
            there = out.with_name(f"{out.name}.index").exists()
            outcomes.add(there)
            if not there:
                grow(prefix, *maps, str(out))
            assert canonical(str(out))["model/item_embedding"].tobytes() == made.tobytes(), number
        assert outcomes == {True, False}


def build_bundle_of(folder: Path) -> str:
    """The smallest of the fixtures, alone in a directory."""
    sample = pick("tf1.15")
    folder.mkdir()
    for path in sample.path.glob("model.ckpt.*"):
        shutil.copyfile(path, folder / path.name)
    return str(folder / "model.ckpt")


@pytest.mark.tensorflow
def test_training_goes_on_in_the_trainers_layout(tmp_path: Path, copy: Callable[..., Path]) -> None:
    from oracle import read_all

    from trainer.training.loop import train

    sample = pick("tf2.21")
    experiment = copy(sample)
    migrate(str(experiment))
    prefix = Experiment.at(str(experiment)).best_prefix()
    ids = permutation(items_of(prefix))
    out, home = grown(sample, prefix, tmp_path, ids, more=3)
    assert set(read_all(out)) >= {"best_metric/.ATTRIBUTES/VARIABLE_VALUE"}
    data = renumbered(tmp_path / "data", ids)
    start = resumed_run(Experiment.at(home), "best", {"test_iter": 10}, data_dir=data)
    assert start.config.item_count == len(ids) + 3
    assert start.run_state.step == sample.best_step
    log = Recorder()
    train(start, Experiment.at(home), start.run_state.step + 10, log)
    assert log.rows[-1].step == sample.best_step + 10
    assert Experiment.at(home).best_prefix() != out


def test_nothing_is_written_where_the_maps_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = pick("tf1.15")
    items = items_of(sample.full_prefix)
    good = write_map(tmp_path / "good.txt", {"a": 1, "b": 2})
    other = write_map(tmp_path / "other.txt", {"c": 1})
    large = write_map(tmp_path / "large.txt", {"a": items})
    out = str(tmp_path / "out" / "model.ckpt")
    for maps in ((large, good), (good, other)):
        with pytest.raises(MismatchError):
            grow(sample.full_prefix, *maps, out)
    for number, text in enumerate(
        ("a\n", "a,0\n", "a,1\na,2\n", "a,1\nb,1\n", "", "a,1,2\n", "a,99999999999999999999\n", 'a,"1')
    ):
        path = tmp_path / f"bad-{number}.txt"
        path.write_text(text)
        if text.endswith('"1'):
            assert read_item_map(str(path)) == {"a": 1}
            continue
        with pytest.raises(CorruptError):
            grow(sample.full_prefix, good, str(path), out)
    from checkpoints import build_bundle

    with pytest.raises(UnsupportedError):
        grow(build_bundle(tmp_path / "x", {"w": np.zeros((3, 2), "f")}), good, good, out)
    assert not (tmp_path / "out").exists()
    assert run(["grow", sample.full_prefix, out, "--map", good, good, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == {"kept": 2, "added": 0, "gone": 0, "nameless": items - 3}
    assert not (tmp_path / "out").exists()
    assert run(["grow", sample.full_prefix, out, "--map", good, good]) == 0
    with pytest.raises(UsageError):
        grow(sample.full_prefix, good, good, out)
    shutil.rmtree(tmp_path / "out")
