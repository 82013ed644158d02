"""Migration into the trainer's layout: same bits, new names, and TensorFlow restores them."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import EXPERIMENTS, Sample, build_bundle, pick

from ckpt_tools.cli import run
from ckpt_tools.errors import UnsupportedError, UsageError
from ckpt_tools.lineages import identify
from ckpt_tools.lineages.comirec import trainer
from ckpt_tools.lineages.comirec.models import required_variables
from ckpt_tools.operations.migration import migrate, plan_migration
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.runs.ledger import history


def canonical_values(path: str) -> tuple[Any, dict[str, np.ndarray]]:
    with open_checkpoint(path) as checkpoint:
        lineage = identify(checkpoint)
        assert lineage is not None
        return lineage, {name: lineage.read(checkpoint, name) for name in lineage.canonical()}


def test_every_variable_keeps_its_bits(sample: Sample, copy: Callable[..., Path]) -> None:
    prefix = sample.prefix_in(copy(sample))
    before, old = canonical_values(prefix)
    migrate(prefix)
    after, new = canonical_values(prefix)
    assert after.id == "trainer"
    assert (after.model_type, after.variant, after.step) == (before.model_type, before.variant, before.step)
    for name in required_variables(before.model_type, before.variant):
        if name in old:
            assert new[name].tobytes() == old[name].tobytes(), name
    for name in old:  # MIND's projection too, which not every one has
        if name.startswith(("model/", "optimizer/m/", "optimizer/v/")):
            assert name in new, name
            assert new[name].tobytes() == old[name].tobytes(), name
    assert new["state/best_step"] == before.step
    assert after.best_metric.value == before.best_metric.value or before.best_metric.status == "absent"
    for key in ("embedding_dim", "hidden_size", "maxlen", "item_count", "learning_rate", "dataset", "batch_size"):
        assert after.hyper[key] == before.hyper[key], key


def test_weights_are_index_work(copy: Callable[..., Path]) -> None:
    sample = EXPERIMENTS[0]
    prefix = sample.prefix_in(copy(sample))
    size = os.path.getsize(f"{prefix}.data-00000-of-00001")
    plan = plan_migration(prefix).plan
    assert len(plan.shard) < 8192 < size


def test_undo_brings_the_old_layout_back(sample: Sample, copy: Callable[..., Path]) -> None:
    experiment = copy(sample)
    before = {path.name: path.read_bytes() for path in experiment.rglob("*") if path.is_file()}
    migrate(str(experiment))
    assert run(["undo", str(experiment), "--quiet"]) == 0
    after = {path.name: path.read_bytes() for path in experiment.rglob("*") if path.is_file()}
    after.pop("ledger.jsonl")
    assert after == before


def test_to_another_directory_leaves_the_source_alone(copy: Callable[..., Path], tmp_path: Path) -> None:
    sample = EXPERIMENTS[0]
    experiment = copy(sample)
    before = {path: path.read_bytes() for path in experiment.rglob("*") if path.is_file()}
    _, where = migrate(str(experiment), output=str(tmp_path / "out"))
    assert where == str(tmp_path / "out" / "ckpt-1")
    assert canonical_values(str(tmp_path / "out"))[0].id == "trainer"
    assert {path: path.read_bytes() for path in experiment.rglob("*") if path.is_file()} == before
    with pytest.raises(UsageError, match="not empty"):
        migrate(str(experiment), output=str(tmp_path / "out"))


@pytest.mark.tensorflow
def test_tensorflow_restores_the_result(sample: Sample, copy: Callable[..., Path]) -> None:
    import tensorflow as tf

    prefix = sample.prefix_in(copy(sample))
    migrate(prefix)
    _, values = canonical_values(prefix)
    counter = values.pop("save_counter")  # tf.train.Checkpoint has this one by itself
    root: dict[str, Any] = {}
    variables = {}
    for name in values:
        *parents, leaf = name.split("/")
        node = root
        for parent in parents:
            node = node.setdefault(parent, {})
        initial = values[name]
        value = tf.constant(initial.item()) if initial.dtype == object else tf.zeros(initial.shape, initial.dtype)
        node[leaf] = variables[name] = tf.Variable(value if initial.dtype != object else "")

    def build(node: dict[str, Any]) -> tf.train.Checkpoint:
        return tf.train.Checkpoint(**{k: build(v) if isinstance(v, dict) else v for k, v in node.items()})

    checkpoint = build(root)
    status = checkpoint.restore(prefix)
    status.assert_existing_objects_matched()
    assert int(checkpoint.save_counter) == counter
    for name, variable in variables.items():
        assert np.asarray(variable.numpy()).tobytes() == np.asarray(values[name]).tobytes() or (
            variable.dtype == tf.string and variable.numpy() == values[name].item()
        ), name


def test_dry_run_and_json(copy: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    sample = EXPERIMENTS[0]
    experiment = copy(sample)
    before = sorted(experiment.rglob("*"))
    assert run(["migrate", str(experiment), "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert not document["written"]
    assert document["mapped"]
    assert sorted(experiment.rglob("*")) == before


def test_what_is_migrated_is_not_migrated_again(copy: Callable[..., Path]) -> None:
    prefix = EXPERIMENTS[0].prefix_in(copy(EXPERIMENTS[0]))
    migrate(prefix)
    with pytest.raises(UnsupportedError, match="already"):
        migrate(prefix)


def test_the_same_command_again_ends_a_migration_that_could_not_tidy_up(
    copy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = copy(EXPERIMENTS[0])
    prefix = EXPERIMENTS[0].prefix_in(experiment)
    replace = os.replace

    def refuse(source: str, target: str, **folders: int) -> None:
        if folders and ".data-" in str(target):  # into the backup
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target, **folders)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        assert run(["migrate", str(experiment)]) == 5
    said = capsys.readouterr().err
    assert "done, but" in said
    assert "the same command again" in said
    assert len(history(prefix)) == 1, "the ledger is right"
    assert run(["migrate", str(experiment)]) == 0
    assert "brought to its end" in capsys.readouterr().out
    with open_checkpoint(prefix) as checkpoint:
        assert trainer.describe(checkpoint, {}) is not None
    with pytest.raises(UnsupportedError, match="already"):
        migrate(prefix)


def test_undo_finds_the_migration_of_an_experiment_that_has_saved_since(
    copy: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A resume saves its best in a line of its own, or under the next number."""
    for sample in (pick("tf1.15"), pick("tf2.10")):
        experiment = copy(sample)
        prefix = sample.prefix_in(experiment)
        with open_checkpoint(prefix) as checkpoint:
            before = {name: checkpoint.digest(name) for name in checkpoint.tensors}
        migrate(prefix)
        line = experiment / "keras_ckpt"
        line.mkdir(exist_ok=True)
        build_bundle(line / "ckpt-9", {"a": np.arange(3)})
        (line / "checkpoint").write_text('model_checkpoint_path: "ckpt-9"\n')
        assert run(["undo", str(experiment)]) == 0
        assert os.path.basename(prefix) in capsys.readouterr().out
        with open_checkpoint(prefix) as checkpoint:
            assert {name: checkpoint.digest(name) for name in checkpoint.tensors} == before
        shutil.rmtree(experiment)


def test_a_migration_names_what_it_drops_and_invents_no_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    output = tmp_path / "new"
    assert run(["migrate", str(pick("tf2.21", "MIND").path), "--output", str(output), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    called = document["called"]
    assert called == {"optimizer/_learning_rate/.ATTRIBUTES/VARIABLE_VALUE": "optimizer/learning_rate"}
    assert set(called) <= set(document["dropped"])
    assert document["best_metric"] is None
    (finding,) = document["findings"]
    assert (finding["id"], finding["severity"], finding["fix"]) == (
        "best-metric-unset",
        "warning",
        f"ckpt backfill {output} --data DIR",
    )
    assert run(["migrate", str(pick("tf2.21", "MIND").path), "--dry-run"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "best_metric new: never set" in words
    assert "_learning_rate/.ATTRIBUTES/VARIABLE_VALUE (optimizer/learning_rate)" in words
    assert run(["migrate", str(pick("tf2.21", with_best=True).path), "--dry-run", "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["findings"] == []
    assert known["best_metric"] == pytest.approx(pick("tf2.21", with_best=True).best_recall, abs=1e-6)
