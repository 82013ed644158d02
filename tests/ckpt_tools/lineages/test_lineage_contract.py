"""Each lineage keeps the contract of all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoints import EXPERIMENTS, Sample, build_bundle, pick
from contracts import LineageContract

from ckpt_tools.lineages import identify
from ckpt_tools.operations.migration import migrate
from ckpt_tools.readers import Checkpoint, open_checkpoint


class OfTheFixtures(LineageContract):
    """Each model that a TensorFlow of the fixtures wrote."""

    root: str

    @pytest.fixture(params=sorted({sample.model_type for sample in EXPERIMENTS}))
    def checkpoint(self, request: pytest.FixtureRequest) -> Iterator[Checkpoint]:
        with open_checkpoint(pick(self.root, request.param).full_prefix) as opened:
            yield opened


class TestTensorFlow1(OfTheFixtures):
    id, root = "comirec-tf1", "tf1.15"


class TestKeras2Slots(OfTheFixtures):
    id, root = "comirec-keras2-slots", "tf2.10"


class TestKeras2Vars(OfTheFixtures):
    id, root = "comirec-keras2-vars", "tf2.15"


class TestKeras3(OfTheFixtures):
    id, root = "comirec-keras3", "tf2.21"


class TestTrainer(LineageContract):
    """What was migrated into the layout of this project's trainer."""

    id = "trainer"

    @pytest.fixture(params=["tf1.15", "tf2.21"])
    def checkpoint(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Checkpoint]:
        sample: Sample = pick(request.param, "ComiRec-DR")
        _, prefix = migrate(str(sample.path), output=str(tmp_path / "new"))
        assert prefix is not None
        with open_checkpoint(prefix) as opened:
            yield opened


def test_a_stranger_is_nobodys(tmp_path: Path) -> None:
    with open_checkpoint(build_bundle(tmp_path / "ckpt", {"dense/kernel": np.ones((2, 3), np.float32)})) as opened:
        assert identify(opened) is None
