from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from toys import DATASET, ITEMS
from typer.testing import CliRunner, Result

from trainer import cli
from trainer.data.interactions import Interactions, read_split
from trainer.evaluation.baseline_records import path_of, recalls
from trainer.evaluation.baselines import Method, Settings, fit, histories, memory_needed, rank_by
from trainer.evaluation.measuring import first_true

pytest.importorskip("scipy")

SETTINGS = Settings(neighbors=5, shrink=2.0, regularization=3.0)


def baseline(root: Path, data_dir: str, *arguments: object) -> Result:
    command = ["baseline", "--dataset", DATASET, "--data-dir", data_dir, "--root", root, "--top-n", 10, *arguments]
    return CliRunner().invoke(cli.app, list(map(str, command)))


def matrix(split: Interactions, cuts: np.ndarray) -> np.ndarray:
    """Users by items, in the plain way."""
    dense = np.zeros((len(cuts), ITEMS))
    for user, cut in enumerate(cuts):
        begin = split.offsets[user]
        dense[user, split.items[begin : begin + cut]] = 1
    return dense


def expected(method: Method, seen: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The definitions, in float64 and without blocks."""
    if method == "popularity":
        return np.tile(seen.sum(axis=0), (len(given), 1))
    if method == "ease":
        inverse = np.linalg.inv(seen.T @ seen + SETTINGS.regularization * np.eye(ITEMS))
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0)
        return np.asarray(given @ weights)
    together, counts = seen.T @ seen, seen.sum(axis=0)
    np.fill_diagonal(together, 0)
    similar = together / (np.sqrt(np.outer(counts, counts)) + SETTINGS.shrink)
    for row in similar:
        row[row < np.sort(row)[-SETTINGS.neighbors]] = 0
    return np.asarray(given @ similar.T)


@pytest.mark.parametrize("method", ["popularity", "item-knn", "ease"])
def test_scores_and_recall_are_those_of_the_definitions(
    data_dir: str, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.evaluation.baselines._BLOCK", 7)  # so that there are several blocks
    monkeypatch.setattr("trainer.evaluation.baselines._VALUES_AT_ONCE", 4 * ITEMS)
    train, valid = (read_split(data_dir, DATASET, split) for split in ("train", "valid"))
    cuts = first_true(valid)
    given = matrix(valid, cuts)
    wanted = expected(method, matrix(train, train.lengths), given)
    scores = fit(method, train, ITEMS, SETTINGS)
    np.testing.assert_allclose(scores(histories(valid, cuts, ITEMS)), wanted, atol=1e-5)

    wanted[:, 0] = -np.inf
    hits = []
    for user, cut in enumerate(cuts):
        true = valid.items[valid.offsets[user] + cut : valid.offsets[user + 1]]
        top = np.lexsort((np.arange(ITEMS), -np.round(wanted[user], 6)))[:10]
        hits.append(len(set(top.tolist()) & set(true.tolist())) / len(true))
    found = rank_by(scores, valid, ITEMS, limit=10).at(10)
    assert found.recall == pytest.approx(np.mean(hits), abs=0.02), "ties within float32 aside"
    assert found.users == len(valid.users)


def test_the_command_keeps_its_figures_and_says_them_as_json(tmp_path: Path, data_dir: str) -> None:
    result = baseline(tmp_path, data_dir, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    figures = {(one["method"], one["split"]): one["recall"] for one in document["baselines"]}
    assert set(figures) == {(m, s) for m in ("popularity", "item-knn", "ease") for s in ("valid", "test")}
    train, valid = (read_split(data_dir, DATASET, split) for split in ("train", "valid"))
    with open(path_of(str(tmp_path), DATASET), "a") as file:
        file.write('no json\n[1]\n{"method": "ease", "recall": NaN}\n')
    kept = recalls(str(tmp_path), DATASET, train.digest, valid.digest, 10)
    assert kept == {method: figures[method, "valid"] for method in ("popularity", "item-knn", "ease")}
    assert recalls(str(tmp_path), DATASET, train.digest, valid.digest, 20) == {}
    assert recalls(str(tmp_path), DATASET, valid.digest, valid.digest, 10) == {}


def test_what_needs_too_much_memory_is_left_out_or_refused(tmp_path: Path, data_dir: str) -> None:
    asked = baseline(tmp_path, data_dir, "--method", "ease", "--memory", "0.000001")
    assert asked.exit_code == 4, asked.output
    needed = float(re.search("--memory ([0-9.]+) allows it", asked.stderr)[1])  # type: ignore[index]
    assert baseline(tmp_path, data_dir, "--method", "ease", "--memory", needed, "--json").exit_code == 0
    shutil.rmtree(tmp_path / "baselines")
    assert "--method item-knn" not in asked.stderr, "it needs more too"
    assert baseline(tmp_path, data_dir, "--memory", 0).exit_code == 4, "nothing was measured"
    (tmp_path / "file").touch()
    elsewhere = baseline(tmp_path / "file", data_dir)
    assert (elsewhere.exit_code, elsewhere.stdout) == (5, ""), "found before anything is measured"
    assert not (tmp_path / "baselines").exists()
    unknown = baseline(tmp_path, data_dir, "--method", "svd")
    assert unknown.exit_code == 2
    assert "popularity, item-knn, ease" in unknown.stderr
    # Between what popularity and what EASE needs.
    between = memory_needed("popularity", ITEMS, SETTINGS) / 2**30
    by_itself = baseline(tmp_path, data_dir, "--memory", between, "--json")
    assert by_itself.exit_code == 0, by_itself.output
    document = json.loads(by_itself.stdout)
    assert {one["method"] for one in document["baselines"]} == {"popularity"}
    assert [finding["id"] for finding in document["findings"]] == ["left-out", "left-out"]


def test_memory_is_stated_for_the_paper_s_books() -> None:
    assert memory_needed("ease", 367_983, Settings()) > 500 * 2**30
    assert memory_needed("item-knn", 367_983, Settings()) < 12 * 2**30
