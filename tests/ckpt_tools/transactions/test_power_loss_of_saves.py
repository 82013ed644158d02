"""Power loss while the trainer saves: in every state that it may leave, the newest is whole, the old or the new."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from power_loss import check

from ckpt_tools.analysis.newest import newest_whole
from ckpt_tools.readers import open_checkpoint

pytestmark = pytest.mark.tensorflow

STEP = "state/step"
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def variables(step: int) -> dict[str, Any]:
    """All that the trainer keeps of a tiny model; its table tells of which step it is."""
    import numpy as np

    from trainer.checkpoints.run_state import RunState
    from trainer.config import default_config, override
    from trainer.models.variables import initial_variables

    config = override(default_config("toys", "DNN", 120), {"embedding_dim": 2, "hidden_size": 2, "maxlen": 6})
    made = initial_variables(config)
    return {
        **made,
        "model/item_embedding": np.full_like(made["model/item_embedding"], step),
        **RunState(step=step).to_tensors(),
        "state/config": config.to_json(),
        "state/metric": "{}",
    }


def step_of(directory: Path) -> int:
    prefix, _ = newest_whole(str(directory))
    with open_checkpoint(prefix) as checkpoint:
        step = int(checkpoint.read(STEP + SUFFIX))
        assert (checkpoint.read("model/item_embedding" + SUFFIX) == step).all()
    return step


def written_in_python(monkeypatch: pytest.MonkeyPatch, elsewhere: Path) -> None:
    """Let TensorFlow write somewhere else, and put its files where it was asked to with calls that are recorded."""
    import tensorflow as tf

    original = tf.train.Checkpoint.write

    def write(self: Any, prefix: str) -> None:
        name = os.path.basename(prefix)
        original(self, str(elsewhere / name))
        for suffix in ("data-00000-of-00001", "index"):
            content = (elsewhere / f"{name}.{suffix}").read_bytes()
            descriptor = os.open(f"{prefix}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(descriptor, content[:40])
            os.write(descriptor, content[40:])
            os.close(descriptor)

    monkeypatch.setattr(tf.train.Checkpoint, "write", write)


@pytest.mark.parametrize("keep", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_save_of_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int) -> None:
    from trainer.checkpoints.saving import CheckpointLine

    root = tmp_path / "root"
    (tmp_path / "elsewhere").mkdir()
    written_in_python(monkeypatch, tmp_path / "elsewhere")
    for step in range(1, keep + 1):
        CheckpointLine(str(root / "latest"), keep=keep).save(variables(step))
    old, new = keep, keep + 1

    def save(place: Path, step: int) -> None:
        CheckpointLine(str(place / "latest"), keep=keep).save(variables(step))

    def examine(work: Path, where: str) -> str:
        found = step_of(work / "latest")
        assert found in (old, new), where
        save(work, 9)
        assert step_of(work / "latest") == 9, where
        assert len(os.listdir(work / "latest")) == 1 + 2 * keep, where
        return str(found)

    outcomes = check(tmp_path, lambda place: save(place, new), examine, monkeypatch)
    assert set(outcomes) == {str(old), str(new)}
    assert sum(outcomes.values()) > 100
