"""``ckpt verify``: how much is damaged, in words."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import pick

from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY
from ckpt_tools.readers import Bundle


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    sample = pick("tf2.21")
    shutil.copytree(sample.path, tmp_path / "experiment")
    return sample.prefix_in(tmp_path / "experiment")


def flip(prefix: str, key: str) -> None:
    """Change the last byte of a tensor."""
    with Bundle(prefix) as bundle:
        entry = bundle.entries[key]
    with open(f"{prefix}.data-00000-of-00001", "r+b") as file:
        file.seek(entry.offset + entry.size - 1)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize(
    ("tensors", "graph", "words"),
    [
        (1, False, "damaged: 1 of {n} tensors"),
        (2, True, "damaged: 2 of {n} tensors and the object graph"),
        (0, True, "damaged: the object graph"),
    ],
)
def test_the_object_graph_is_not_counted_among_the_tensors(
    prefix: str, ckpt: Callable[..., Any], tensors: int, graph: bool, words: str
) -> None:
    with Bundle(prefix) as bundle:
        names = list(bundle.tensors)
    for key in [*names[:tensors], *([OBJECT_GRAPH_KEY] if graph else [])]:
        flip(prefix, key)
    answer = ckpt("verify", prefix)
    assert answer.code == 1
    assert f"ckpt-3: {words.format(n=len(names))}\n" in answer.out.replace(prefix, "ckpt-3")
