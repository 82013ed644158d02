"""``ckpt_tools.open``: a mapping of lazy arrays, and how it looks in a notebook."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from checkpoints import EXPERIMENTS, Sample, build_bundle

import ckpt_tools as ct
from ckpt_tools.errors import NotFoundError, UnsupportedError, UsageError
from ckpt_tools.readers import open_checkpoint


def test_a_mapping_of_what_is_stored(sample: Sample) -> None:
    with ct.open(sample.path) as opened, open_checkpoint(sample.full_prefix) as checkpoint:
        assert dict(opened.items()).keys() == checkpoint.tensors.keys()
        for name, tensor in opened.items():
            assert (tensor.name, tensor.shape) == (name, checkpoint.tensors[name].shape)
            assert np.asarray(tensor).tobytes() == checkpoint.read(name).tobytes()


def test_canonical_names_are_understood(sample: Sample) -> None:
    with ct.open(sample.path) as opened:
        assert opened["model/item_embedding"].read().shape == (1400, 8)
        assert opened.step == sample.best_step
        assert "model/item_embedding" in {record["canonical"] for record in opened.to_records()}


def test_an_unknown_name_is_a_key_error() -> None:
    with ct.open(EXPERIMENTS[0].path) as opened, pytest.raises(KeyError):
        opened["nobody"]


def test_an_unknown_name_is_told_what_is_near() -> None:
    with ct.open(EXPERIMENTS[0].path) as opened, pytest.raises(KeyError, match="did you mean"):
        opened[f"{next(iter(opened))}x"]


def test_tensors_say_how_large_they_are(tmp_path: Path) -> None:
    with ct.open(build_bundle(tmp_path / "ckpt", {"a": np.ones((3, 5), np.int16), "b": np.float32(1)})) as opened:
        a, b = opened["a"], opened["b"]
        assert (a.ndim, a.size, a.nbytes, len(a), a.shape) == (2, 15, 30, 3, (3, 5))
        assert (b.ndim, b.size, b.shape) == (0, 1, ())
        assert [tensor.name for tensor in opened.glob("[a]")] == ["a"]
        assert opened.glob("c*") == []
        assert {name: value.shape for name, value in opened.to_numpy().items()} == {"a": (3, 5), "b": ()}


def test_what_inspect_says_of_it(sample: Sample) -> None:
    with ct.open(sample.path) as opened:
        found = ct.inspect(sample.path)
        assert (opened.tensors, opened.lineage, opened.best_metric) == (found.tensors, found.lineage, found.best_metric)
        assert {tensor.name for tensor in opened.glob("model/*")} >= {opened["model/item_embedding"].name}
        history = opened.history
        assert history.recalls == [point.recall for point in history.points]
        assert history.recalls
        assert history.best is not None
        assert history.points[history.best].step == sample.best_step


def test_closed_means_closed(sample: Sample) -> None:
    with ct.open(sample.path) as opened:
        tensor = opened["model/item_embedding"]
    assert "closed" in repr(opened)
    assert tensor.shape == (1400, 8)
    questions = [
        lambda: tensor.read(),
        lambda: tensor[:2],
        lambda: np.asarray(tensor),
        lambda: opened["model/item_embedding"],
        lambda: list(opened),
        lambda: len(opened),
        lambda: opened.glob("*"),
        lambda: opened.history,
        lambda: opened.tensors,
        lambda: opened.to_records(),
        lambda: opened.__enter__(),
    ]
    for question in questions:
        with pytest.raises(UsageError, match="was closed") as caught:
            question()
        assert isinstance(caught.value, ValueError)
    opened.close()


def test_without_pandas_it_says_what_to_install(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with ct.open(sample.path) as opened, pytest.raises(UnsupportedError, match="needs pandas") as caught:
        opened.to_pandas()
    assert caught.value.hint == "pip install pandas"


def test_pandas_takes_the_records(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = SimpleNamespace(DataFrame=lambda rows: ("frame", rows))
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    with ct.open(sample.path) as opened:
        assert opened.to_pandas() == ("frame", opened.to_records())


def test_a_wrong_path_is_one_of_our_errors(tmp_path: object) -> None:
    with pytest.raises(NotFoundError):
        ct.open(f"{tmp_path}/nothing")


def test_a_notebook_shows_a_table_and_escapes_names() -> None:
    with ct.open(EXPERIMENTS[0].path) as opened:
        page = opened._repr_html_()
        assert page.count("<tr>") == len(opened) + 1
        assert EXPERIMENTS[0].experiment in page
        assert "checkpoint" in repr(opened)


def test_a_notebook_is_not_flooded(tmp_path: Path) -> None:
    prefix = build_bundle(tmp_path / "ckpt", {f"layer{number}": np.zeros(2, np.float32) for number in range(250)})
    with ct.open(prefix) as opened:
        page = opened._repr_html_()
        assert page.count("<td>layer") == 200
        assert "50 more" in page
        assert len(opened.to_records()) == 250


def test_step_and_best_of_anybodys_checkpoint(tmp_path: Path) -> None:
    prefix = build_bundle(
        tmp_path / "m", {"w": np.ones(3), "global_step:0": np.int64(2**60 + 1), "best_acc": np.float32(0.5)}
    )
    with ct.open(prefix) as checkpoint:
        assert checkpoint.step == 2**60 + 1
        assert (checkpoint.best_metric.status, checkpoint.best_metric.value) == ("present", 0.5)
        assert "best_metric 0.500000" in checkpoint._repr_html_()
