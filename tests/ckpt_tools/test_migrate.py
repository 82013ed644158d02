"""Migration into the trainer's layout: same bits, new names, and TensorFlow restores them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import EXPERIMENTS, Sample

from ckpt_tools.cli import run
from ckpt_tools.errors import UnsupportedError, UsageError
from ckpt_tools.lineages import identify
from ckpt_tools.lineages.base import required_variables
from ckpt_tools.migrate import migrate, plan_migration
from ckpt_tools.readers import open_checkpoint


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
