"""Runs of the trainer in this process, and what they left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toys import Recorder, small_config

from ckpt_tools.readers import open_checkpoint
from ckpt_tools.runs.experiments import Experiment
from trainer.naming import new_experiment
from trainer.training.starting_point import new_run, resumed_run

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def begin(root: Path, data_dir: str, steps: int, model_type: str = "ComiRec-DR", **changes: Any) -> Experiment:
    from trainer.training.loop import train

    config = small_config(model_type, **changes)
    experiment = new_experiment(str(root), config, "run")
    # A run of no steps has a best only if its fresh weights may be one.
    train(new_run(config, data_dir, untrained_best=steps == 0), experiment, steps, Recorder())
    return experiment


def resume(
    experiment: Experiment, line: Any, data_dir: str, steps: int, recorder: Recorder | None = None, **options: Any
) -> Any:
    from trainer.training.loop import train

    start = resumed_run(experiment, line, options.pop("given", {}), data_dir=data_dir, **options)
    return train(start, experiment, steps, recorder or Recorder())


def tensors(prefix: str | None) -> dict[str, Any]:
    assert prefix is not None
    with open_checkpoint(prefix) as checkpoint:
        return {name.removesuffix(SUFFIX): checkpoint.read(name) for name in checkpoint.tensors}


def same_bits(one: Mapping[str, Any], other: Mapping[str, Any], *, but: tuple[str, ...] = ()) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if name not in but and _bytes(one[name]) != _bytes(other[name])]
    assert not different


def _bytes(value: Any) -> bytes:
    return value.item() if value.dtype == object else value.tobytes()


def rows(experiment: Experiment) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(experiment.runs, "metrics.jsonl").read_text().splitlines()]


def flip_first_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def damage(prefix: str) -> None:
    flip_first_byte(Path(f"{prefix}.data-00000-of-00001"))
