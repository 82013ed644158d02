"""Saves in processes that can be killed: TensorFlow is imported once, and each save is made by a fork.

    python save_server.py

Takes ``[DIRECTORY, STEP]``, see `forking`.
"""

from __future__ import annotations

from typing import Any

from forking import serve
from toys import small_config

from trainer.checkpoints.run_state import RunState
from trainer.checkpoints.saving import CheckpointLine
from trainer.models.variables import initial_variables


def variables(step: int) -> dict[str, Any]:
    """All that the trainer keeps of a tiny model; ``step`` tells one save from another."""
    config = small_config("DNN")
    return {
        **initial_variables(config),
        **RunState(step=step, best_metric=step / 16).to_tensors(),
        "state/config": config.to_json(),
        "state/metric": '{"digest": "d", "name": "recall", "split": "valid", "top_n": 10}',
    }


def save(directory: str, step: int) -> None:
    CheckpointLine(directory).save(variables(step))


if __name__ == "__main__":
    serve(save)
