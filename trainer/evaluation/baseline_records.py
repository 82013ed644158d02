"""Where a model stands: the figures of the baselines on the same data, kept in ``ROOT/baselines/DATASET.jsonl``.

One line for each measurement, appended. A figure is compared with a model's when the training data, the users that it
was measured on and N are the same; of several by one method the last one counts.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ckpt_tools.format import json_text
from ckpt_tools.fs import durable, local
from trainer.evaluation.baselines import METHODS
from trainer.evaluation.ranking_metrics import Metrics

_MAX_BYTES = 1 << 26


@dataclass(frozen=True)
class Measured:
    """A baseline's figures on one split. ``train`` and ``digest``: of the training data and of the split."""

    method: str
    settings: Mapping[str, float]
    train: str
    split: str
    digest: str
    top_n: int
    metrics: Metrics

    def to_json(self) -> dict[str, Any]:
        return {**{key: value for key, value in asdict(self).items() if key != "metrics"}, **asdict(self.metrics)}


def path_of(root: str, dataset: str) -> str:
    return os.path.join(root, "baselines", f"{dataset}.jsonl")


def keep(root: str, dataset: str, measured: Measured) -> str:
    """Add a measurement; returns the file's path. Raises StorageError."""
    path = path_of(root, dataset)
    durable.make_directory(os.path.dirname(path))
    durable.append_line(path, json.dumps(measured.to_json(), sort_keys=True, allow_nan=False))
    return path


def recalls(root: str, dataset: str, train: str, digest: str, top_n: int) -> dict[str, float]:
    """The recall of each baseline that was measured on this data, by method; lines that say nothing are passed over.

    Raises StorageError, UnsafeError for a file that no baseline made so large.
    """
    path = path_of(root, dataset)
    if not local.is_file(path, follow=True):
        return {}
    data, found = (train, digest, top_n), {}
    for line in local.read_file(path, limit=_MAX_BYTES).decode(errors="replace").splitlines():
        try:
            row = json_text.parse(line)
        except ValueError:
            continue
        if not isinstance(row, dict) or (row.get("train"), row.get("digest"), row.get("top_n")) != data:
            continue
        recall = row.get("recall")
        if row.get("method") in METHODS and isinstance(recall, float) and math.isfinite(recall):
            found[row["method"]] = recall
    return {method: found[method] for method in METHODS if method in found}
