"""Tensors that TensorFlow can store and numpy or a terminal can not take: every reading command has an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import build_bundle

from ckpt_tools.analysis.difference import diff
from ckpt_tools.errors import UnsupportedError
from ckpt_tools.readers import open_checkpoint

SHAPES = [(0, 1 << 61), (1 << 40, 0, 1 << 20), (1,) * 65, (1,) * 254, (1,) * 64]
COMMANDS = [["inspect"], ["inspect", "--stats"], ["inspect", "--digest"], ["inspect", "--tree"], ["verify"]]
HOSTILE = ["\x1b[31mred\x07", "\u009b31m", "\u202ecba", "a\x7fb", "\u2028", "a\x01\x0bb", "\ufffe"]


def odd(tmp_path: Path, shape: tuple[int, ...], value: Any = None) -> str:
    stored = np.zeros(0 if 0 in shape else 1, np.float32) if value is None else value
    return build_bundle(tmp_path / "odd", {"a": stored}, change={"a": {"shape": shape}})


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{len(shape)} dimensions")
def test_shapes_that_numpy_has_not(shape: tuple[int, ...], tmp_path: Path, ckpt: Callable) -> None:
    prefix = odd(tmp_path, shape)
    for command in COMMANDS:
        assert ckpt(command[0], prefix, *command[1:]).code == 0, command
        assert (
            json.loads(ckpt(command[0], prefix, *command[1:3], "--json").out)["path"] == prefix
            or command[-1] == "--tree"
        )
    assert diff(prefix, prefix).equal
    assert ckpt("report", prefix, "-o", tmp_path / "page.html").code == 0
    with open_checkpoint(prefix) as checkpoint:
        if shape == (1,) * 254:
            with pytest.raises(UnsupportedError, match="numpy has no arrays of 254 dimensions"):
                checkpoint.read("a")


def test_strings_of_such_a_shape(tmp_path: Path) -> None:
    prefix = odd(tmp_path, (1,) * 65, [b"x"])
    assert diff(prefix, prefix).equal


@pytest.mark.parametrize("name", HOSTILE)
def test_no_control_character_of_a_name_is_printed(name: str, tmp_path: Path, ckpt: Callable) -> None:
    prefix = build_bundle(tmp_path / "m", {name: np.ones(3, np.float32), f"{name}/best": np.float32(1)})
    other = build_bundle(tmp_path / "n", {f"{name}x": np.ones(3, np.float32)})
    page = tmp_path / "page.html"
    for arguments in (
        *(["inspect", prefix, *more] for more in ([], ["--json"], ["--tree"], ["--stats", "--json"])),
        *(["diff", prefix, other, *more] for more in ([], ["--json"])),
        ["verify", prefix, "--json"],
        ["report", prefix, "-o", page],
    ):
        answer = ckpt(*arguments)
        assert answer.code in (0, 1)
        printed = answer.out + answer.err + (page.read_text() if page.exists() else "")
        assert all(character.isprintable() or character in "\n\t" for character in printed), arguments
    rows = json.loads(ckpt("inspect", prefix, "--json").out)["tensors"]
    assert {row["name"] for row in rows} == {name, f"{name}/best"}  # JSON has them as they are


@pytest.mark.parametrize(
    "values",
    [
        np.float32([[5.6e15]]),
        np.float64([1.0, np.nextafter(1.0, 2.0)]),
        np.float64([-1.7e308, 1.7e308]),
        np.float64([1.7976931348623157e308]),
        np.float32([5e-324, 1e-45]),
        np.float32([np.nan, np.inf]),
        np.zeros(5, np.float32),
        np.float16([65504, -65504]),
    ],
    ids=str,
)
def test_a_report_draws_values_however_near_or_far(values: np.ndarray, tmp_path: Path, ckpt: Callable) -> None:
    from ckpt_tools.analysis.page_contents import run_contents

    prefix = build_bundle(tmp_path / "m", {"w": values})
    assert ckpt("report", prefix, "-o", tmp_path / "page.html").code == 0
    (histogram,) = run_contents(prefix).histograms
    finite = values[np.isfinite(values)]
    assert (sum(histogram.counts), histogram.odd) == (finite.size, values.size - finite.size)
    if finite.size:
        assert histogram.edges[0] <= finite.min() <= finite.max() <= histogram.edges[-1]
        assert list(histogram.edges) == sorted(set(histogram.edges))
