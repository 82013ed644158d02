"""What is found in every fixture: producer, hyper-parameters with their sources, names, step, best metric."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from checkpoints import EXPERIMENTS, Sample, build_bundle

from ckpt_tools.errors import CorruptError, NotFoundError
from ckpt_tools.lineages import identify
from ckpt_tools.readers import open_checkpoint


def test_every_fixture(sample: Sample, golden: Callable[[str, str], None]) -> None:
    with open_checkpoint(sample.full_prefix) as checkpoint:
        lineage = identify(checkpoint)
    assert lineage is not None
    document = {
        **lineage.to_json(),
        "step": lineage.step,
        "best_metric": asdict(lineage.best_metric),
        "tensors": {name: list(source.keys) for name, source in lineage.tensors.items()},
    }
    golden(f"lineages/{sample.id}.json", json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def test_what_the_manifest_says(sample: Sample) -> None:
    with open_checkpoint(sample.full_prefix) as checkpoint:
        lineage = identify(checkpoint)
        assert lineage is not None
        assert lineage.model_type == sample.model_type
        assert lineage.step == sample.best_step
        if sample.has_best_metric:
            assert lineage.best_metric.status == "present"
            assert lineage.best_metric.value == pytest.approx(sample.best_recall, abs=0.5e-6)
        else:
            assert lineage.best_metric.status == "absent"


def test_every_canonical_tensor_can_be_read_and_every_trained_weight_has_moments(sample: Sample) -> None:
    with open_checkpoint(sample.full_prefix) as checkpoint:
        lineage = identify(checkpoint)
        assert lineage is not None
        for name in lineage.canonical():
            value = lineage.read(checkpoint, name)
            # The bias of the items is never trained.
            if name.startswith("model/") and name != "model/item_bias":
                for slot in "mv":
                    moment = lineage.read(checkpoint, f"optimizer/{slot}/{name.removeprefix('model/')}")
                    assert moment.shape == value.shape
            if name.startswith("optimizer/v/"):
                assert (value >= 0).all(), "a second moment is a mean of squares"
        used = [key for source in lineage.tensors.values() if source.convert is None for key in source.keys]
        assert len(used) == len(set(used)), "no stored tensor has two names"
        with pytest.raises(NotFoundError):
            lineage.read(checkpoint, "model/nothing")


def test_names_and_keys_are_each_others_inverse(sample: Sample) -> None:
    with open_checkpoint(sample.full_prefix) as checkpoint:
        lineage = identify(checkpoint)
        assert lineage is not None
        for name, source in lineage.tensors.items():
            # TensorFlow 1 keeps both kernels of a GRU in one tensor.
            if source.convert is None:
                assert {lineage.name_of(key) for key in source.keys} == {name}
        assert lineage.name_of("nothing") is None


def test_every_way_to_keep_moments_is_among_the_fixtures() -> None:
    found = set()
    for sample in EXPERIMENTS:
        with open_checkpoint(sample.full_prefix) as checkpoint:
            found.add(identify(checkpoint).id)  # type: ignore[union-attr]
    assert found == {"comirec-tf1", "comirec-keras2-slots", "comirec-keras2-vars", "comirec-keras3"}


def test_a_checkpoint_of_somebody_else(tmp_path: Path) -> None:
    with open_checkpoint(build_bundle(tmp_path / "x", {"a": np.zeros(1), "step": np.array(1)})) as checkpoint:
        assert identify(checkpoint) is None


TF1 = {
    "mid_embedding_var": np.zeros((7, 4), np.float32),
    "dense/kernel": np.zeros((4, 4), np.float32),
    "beta1_power": np.float32(0.9),
    "beta2_power": np.float32(0.999),
}


def as_arrays(tensors: dict[str, object]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in tensors.items()}


def test_the_original_trainers_names(tmp_path: Path) -> None:
    with open_checkpoint(build_bundle(tmp_path / "x", as_arrays(TF1))) as checkpoint:
        lineage = identify(checkpoint)
    assert lineage is not None
    assert (lineage.id, lineage.model_type, lineage.step) == ("comirec-tf1", "DNN", 0)


def test_two_models_in_one_are_none(tmp_path: Path) -> None:
    both = {**TF1, "self_atten/dense/kernel": np.zeros((4, 16), np.float32)}
    with open_checkpoint(build_bundle(tmp_path / "x", as_arrays(both))) as checkpoint:
        assert identify(checkpoint) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"mid_embedding_var": np.zeros(7, np.float32)},
        {"dense/kernel": np.zeros((4, 4, 4), np.float32)},
        {"beta2_power": np.zeros(2, np.float32)},
        {"beta2_power": np.array(1, np.complex64)},
    ],
)
def test_shapes_that_no_model_has(tmp_path: Path, wrong: dict[str, np.ndarray]) -> None:
    with (
        open_checkpoint(build_bundle(tmp_path / "x", as_arrays({**TF1, **wrong}))) as checkpoint,
        pytest.raises(CorruptError),
    ):
        identify(checkpoint)


@pytest.mark.parametrize(
    ("value", "status"), [(0.0, "unset"), (-0.0, "unset"), (np.nan, "unset"), (np.inf, "unset"), (0.25, "present")]
)
def test_a_best_metric_that_was_never_set(tmp_path: Path, value: float, status: str) -> None:
    tensors = as_arrays({**TF1, "best_metric": np.float32(value)})
    with open_checkpoint(build_bundle(tmp_path / "x", tensors)) as checkpoint:
        lineage = identify(checkpoint)
    assert lineage is not None
    assert lineage.best_metric.status == status
