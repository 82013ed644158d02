"""JSON in a checkpoint, as this project's trainer keeps it there, that somebody else wrote: an error, never a bug."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import build_bundle
from fuzz_commands import ran, require_sound
from objects import object_graph

from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY
from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.lineages.names import BEST_METRIC, BEST_METRIC_MEANING, CONFIG, METRIC

GOOD = b'{"model_type": "DNN", "variant": "paper", "name": "recall", "digest": "d"}'
DOCUMENTS: dict[str, Any] = {
    "deep": [b"[" * 50_000],
    "cut off": [b'{"a":'],
    "a list": [b"[1]"],
    "two": [GOOD, GOOD],
    "a number": np.float32(3),
    "a list of numbers": np.ones(3, np.float32),
    "400 digits": [b'{"value": ' + b"9" * 400 + b', "name": "recall", "mode": "max", "step": ' + b"9" * 400 + b"}"],
    "odd fields": [b'{"value": NaN, "name": [1], "mode": {"a": 1}, "split": 1e999, "top_n": "x", "variant": [1]}'],
}


def stored(path: Path, documents: dict[str, Any]) -> str:
    names = dict.fromkeys((*documents, "model/item_emb", BEST_METRIC), ("", None))
    tensors = {name + VALUE_SUFFIX: value for name, value in documents.items()}
    tensors |= {"model/item_emb" + VALUE_SUFFIX: np.ones((4, 2), np.float32), BEST_METRIC + VALUE_SUFFIX: np.float32(1)}
    tensors[OBJECT_GRAPH_KEY] = [object_graph(dict.fromkeys(names, ""))]
    scalars = {name + VALUE_SUFFIX: {"shape": ()} for name, value in documents.items() if _is_one(value)}
    return build_bundle(path, tensors, change={OBJECT_GRAPH_KEY: {"shape": ()}, **scalars})


def _is_one(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_no_command_ends_in_a_bug(kind: str, tmp_path: Path) -> None:
    odd = DOCUMENTS[kind]
    for name in (CONFIG, METRIC, BEST_METRIC_MEANING):
        prefix = stored(tmp_path / "m", {CONFIG: [GOOD], METRIC: [GOOD], BEST_METRIC_MEANING: [GOOD], name: odd})
        for words in (
            ["inspect", prefix],
            ["resume-check", prefix],
            ["why", prefix],
            ["verify", prefix],
            ["backfill", prefix, "--value=0.5", "--dry-run"],
            ["migrate", prefix, "--to", "trainer", "--dry-run"],
            ["grow", prefix, str(tmp_path / "o"), "--map", prefix, prefix],
        ):
            require_sound([*words, "--json"], *ran([*words, "--json"]))
