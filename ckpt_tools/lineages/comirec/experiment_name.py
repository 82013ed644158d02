"""What the name of a ComiRec experiment says.

EXPERIMENT = {dataset}_{model_type}_b{batch_size}_lr{learning_rate}_d{embedding_dim}_len{maxlen}_{name}
"""

from __future__ import annotations

import os
import re
from typing import Any

from ckpt_tools.fs import paths

# Its checkpoints lie in the experiment's folder, or in a line of their own within it.
_LEVELS = 2

_NAME = re.compile(
    r"(?P<dataset>.+?)_(?P<model_type>DNN|GRU4REC|MIND|ComiRec-DR|ComiRec-SA)_b(?P<batch_size>\d+)"
    r"_lr(?P<learning_rate>[-+.\deE]+)_d(?P<embedding_dim>\d+)_len(?P<maxlen>\d+)_(?P<name>.+)"
)
_CONVERT = {"batch_size": int, "learning_rate": float, "embedding_dim": int, "maxlen": int}


def parse_name(experiment: str) -> dict[str, Any]:
    """The hyper-parameters in an experiment's name; empty when it is not of the usual form."""
    match = _NAME.fullmatch(experiment)
    if match is None:
        return {}
    try:
        return {key: _CONVERT.get(key, str)(text) for key, text in match.groupdict().items()}
    except ValueError:
        return {}


def fields_above(prefix: str) -> dict[str, Any]:
    """The hyper-parameters in the name of the experiment that a checkpoint lies in; empty when it lies in none."""
    folder = paths.absolute(prefix)
    for _ in range(_LEVELS):
        folder = paths.parent(folder)
        fields = parse_name(os.path.basename(folder))
        if fields:
            return fields
    return {}
