"""The experiments in ``fixtures/experiments``, which the older trainers left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[2] / "fixtures"
EXPERIMENTS = FIXTURES / "experiments"
DATA = str(FIXTURES / "data")
LEFT_BEHIND: list[dict[str, Any]] = json.loads((EXPERIMENTS / "manifest.json").read_text())
IDS = [f"{entry['root']}-{entry['experiment'].split('_')[-2]}-{entry['model_type']}" for entry in LEFT_BEHIND]


def path_of(entry: dict[str, Any], root: Path = EXPERIMENTS) -> Path:
    return root / entry["root"] / "best_model" / entry["experiment"]
