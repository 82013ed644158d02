"""A small batch is computed in parts, each operation in one thread; that changes how fast a step is, nothing else."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import small_config

from trainer.config import MODEL_TYPES
from trainer.data.interactions import Interactions
from trainer.data.sampling import BatchSampler
from trainer.models.variables import initial_variables

pytestmark = pytest.mark.tensorflow

ITEMS = 300


def users(count: int = 60) -> Interactions:
    random = np.random.default_rng(3)
    offsets = np.concatenate([[0], np.cumsum(random.integers(6, 14, count))])
    return Interactions("random", np.arange(count), offsets, random.integers(1, ITEMS, offsets[-1]).astype(np.int32))


@pytest.mark.parametrize("settings", [
    {},
    {"batch_size": 7},
    {"batch_size": 1},
    {"negatives": "mixed", "repeated_rows": "apart", "clip_norm": 0.5},
    {"readout": "max", "hard_negatives": 0.5, "routing_regularization": 0.1},
    {"variant": "keras", "readout": "soft-padding"},
])  # fmt: skip
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_two_parts_are_the_step_of_one(
    model_type: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.training import learner

    given = dict(settings)
    if model_type in ("DNN", "GRU4REC"):
        given.pop("routing_regularization", None)
    config = small_config(model_type, item_count=ITEMS, **{"batch_size": 16, **given})
    sampler, start = BatchSampler(users(), config), initial_variables(config)
    start["model/item_embedding"] = start["model/item_embedding"] * 5
    found = []
    for shared_from in (learner._SHARED_FROM, 0):
        monkeypatch.setattr(learner, "_SHARED_FROM", shared_from)
        one = learner.Learner(config, start)
        losses = [one.update(sampler(step)) for step in range(3)]
        one.catch_up()
        stored = one.stored()
        found.append((losses, {name: np.asarray(stored[name]) for name in stored if name.startswith("optimizer/m/")}))
    (losses, moments), (expected, others) = found
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    # Of weights whose gradient is zero but for rounding, Adam makes whole steps: so the gradients are compared.
    largest = max(float(np.abs(value).max()) for value in others.values())
    for name, value in others.items():
        np.testing.assert_allclose(moments[name], value, atol=1e-5 * largest, rtol=0, err_msg=name)


@pytest.mark.parametrize(("places", "chosen", "threads"), [(128, None, 1), (4096, None, None), (128, "2", None)])
def test_only_small_operations_get_one_thread_and_none_where_somebody_chose(
    places: int, chosen: str | None, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    from trainer.training.learner import _settle_threads

    asked: list[int] = []
    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", asked.append)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    if chosen:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", chosen)
    _settle_threads(small_config("DNN", item_count=100_000, batch_size=places, maxlen=20, embedding_dim=64))
    assert asked == ([] if threads is None else [threads])


def test_threads_stay_as_they_are_where_tensorflow_runs_already() -> None:
    import tensorflow as tf

    from trainer.training.learner import _settle_threads

    tf.constant(1) + 1
    before = tf.config.threading.get_intra_op_parallelism_threads()
    _settle_threads(small_config("DNN"))
    assert tf.config.threading.get_intra_op_parallelism_threads() == before


def test_nothing_is_left_in_the_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow writes a file there for each function that it translates for us, seconds long, and none is needed."""
    from trainer.training.learner import Learner

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = small_config("ComiRec-DR", item_count=ITEMS, batch_size=16)
    learner = Learner(config, initial_variables(config))
    learner.update(BatchSampler(users(), config)(0))
    learner.stored()
    learner.catch_up()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_products_of_bfloat16_are_almost_those_of_float32(model_type: str) -> None:
    from trainer.training.learner import Learner

    losses: dict[str, list[float]] = {}
    for precision in ("float32", "bfloat16"):
        config = small_config(model_type, item_count=ITEMS, batch_size=16, precision=precision, readout="max")
        start, sampler = initial_variables(config), BatchSampler(users(), config)
        start["model/item_embedding"] = start["model/item_embedding"] * 5
        learner = Learner(config, start)
        losses[precision] = [learner.update(sampler(step)) for step in range(5)]
        assert {value.dtype for value in learner.weights().values()} == {np.dtype(np.float32)}
    assert losses["float32"] != losses["bfloat16"]
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=5e-3)
