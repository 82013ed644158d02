"""Small generated data with structure in it, and short runs on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainer.config import TrainConfig, default_config, override

DATASET = "toys"
ITEMS = 120
SMALL: dict[str, Any] = {
    "embedding_dim": 4,
    "hidden_size": 4,
    "num_interest": 2,
    "maxlen": 6,
    "batch_size": 16,
    "neg_num": 3,
    "learning_rate": 0.01,
    "seed": 7,
    "test_iter": 10,
    "top_n": 10,
}


def small_config(model_type: str = "ComiRec-DR", **changes: Any) -> TrainConfig:
    return override(default_config(DATASET, model_type, ITEMS), {**SMALL, **changes})


def write_split(path: Path, users: dict[int, list[int]]) -> None:
    lines = [f"{user},{item},{time}\n" for user, items in users.items() for time, item in enumerate(items)]
    path.write_text("".join(lines))


def make_users(first: int, count: int, random: np.random.Generator) -> dict[int, list[int]]:
    """Users who stay within one of four groups of items, frequent ids first."""
    users = {}
    for user in range(first, first + count):
        group = random.integers(4)
        length = random.integers(5, 15)
        users[user] = [int(4 * min(random.geometric(0.1), 29) + group) for _ in range(length)]
    return users


@dataclass
class Recorder:
    """A listener that remembers."""

    rows: list[Any] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    on_step: Callable[[int], None] | None = None

    def evaluated(self, row: Any) -> None:
        self.rows.append(row)

    def updated(self, run_state: Any, max_steps: int, patience: int) -> None:  # noqa: ARG002
        self.steps.append(run_state.step)
        if self.on_step is not None:
            self.on_step(run_state.step)


def tree(root: str | Path) -> dict[str, bytes]:
    """Every file below a directory, by relative path."""
    files = (path for path in sorted(Path(root).rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}
