"""What a save of the trainer holds, and a line of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toys import small_config

from trainer.checkpoints.run_state import RunState
from trainer.models.variables import initial_variables


def stored(model_type: str = "DNN", **state: Any) -> dict[str, Any]:
    config = small_config(model_type)
    return {
        **initial_variables(config),
        **RunState(**state).to_tensors(),
        "state/config": config.to_json(),
        "state/metric": '{"digest": "d", "name": "recall", "split": "valid", "top_n": 10}',
    }


def line(directory: Path, **options: Any) -> Any:
    from trainer.checkpoints.saving import CheckpointLine

    return CheckpointLine(str(directory), **options)
