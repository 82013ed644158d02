"""``trainer evaluate`` and ``trainer export`` on what the older trainers left behind."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from old_experiments import DATA, LEFT_BEHIND, path_of
from toys import small_config
from typer.testing import CliRunner

from trainer import cli
from trainer.data.interactions import read_categories, read_split
from trainer.evaluation.full_report import diversity, from_lists, lists_of, report, rerank
from trainer.evaluation.measuring import evaluate, numpy_model
from trainer.models.variables import initial_variables

DR = next(entry for entry in LEFT_BEHIND if (entry["root"], entry["model_type"]) == ("tf2.10", "ComiRec-DR"))


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, [*map(str, arguments)])


def test_several_n_of_an_old_checkpoint() -> None:
    result = run("evaluate", path_of(DR), "--data-dir", DATA, "--top-n", 50, "--top_n", 10, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    ten, fifty = document["metrics"]
    assert (ten["top_n"], fifty["top_n"]) == (10, 50)
    assert "top_n" not in {**document["config"], **document["sources"]}, "where its training measured"
    assert f"{fifty['recall']:.6f}" == DR["best"]["recall"]
    assert f"{fifty['ndcg_hits_ideal']:.6f}" == DR["best"]["ndcg"]
    assert 0 < fifty["ndcg_truth_ideal"] < fifty["ndcg_hits_ideal"]
    assert 0 < ten["recall"] < fifty["recall"]
    assert 0 < fifty["diversity"] <= 1
    text = run("evaluate", path_of(DR), "--data-dir", DATA, "--split", "test", "--coef", 0.1)
    assert text.exit_code == 0, text.output
    assert "@50  recall 0." in text.stdout


@pytest.mark.parametrize("model_type", ["DNN", "ComiRec-DR"])
def test_lists_and_counting_give_the_same_figures(data_dir: str, model_type: str) -> None:
    config = small_config(model_type)
    model = numpy_model(config, initial_variables(config))
    valid = read_split(data_dir, "toys", "valid")
    lists = list(lists_of(model, valid, maxlen=6, top_n=10))
    assert from_lists(lists, valid, 10) == evaluate(model, valid, maxlen=6, top_n=10)


def test_a_coefficient_of_zero_changes_no_list_and_a_large_one_mixes(data_dir: str) -> None:
    config = small_config()
    model = numpy_model(config, initial_variables(config))
    valid, categories = read_split(data_dir, "toys", "valid"), read_categories(data_dir, "toys")
    flags: dict[str, Any] = {"maxlen": 6, "top_n": [8], "categories": categories}
    (plain,), (zero,), (large,) = (report(model, valid, coef=coef, **flags) for coef in (None, 0.0, 100.0))
    assert replace(plain, published=None) == zero
    fetched = lists_of(model, valid, maxlen=6, top_n=8, candidates=True)
    assert all(len(items) <= 2 * 8 for items, _ in fetched), "N for each interest, not N + 1"
    # 8 items of 4 categories, 2 of each, where the interests have fetched so many.
    assert plain.diversity < 0.83 < large.diversity <= 24 / 28


def test_measuring_test_users_needs_no_validation_file(tmp_path: Path) -> None:
    for name in ("book_test.txt", "book_item_cate.txt"):
        shutil.copy(Path(DATA, name), tmp_path / name)
    result = run("evaluate", path_of(DR), "--data-dir", tmp_path, "--split", "test", "--top-n", 20)
    assert result.exit_code == 0, result.output
    assert "@20  recall 0." in result.stdout
    assert "--top-n 50" not in result.stderr, "20 was asked for, and nothing else"


def test_without_faiss_there_is_no_diversity_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer import extras

    original = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "faiss" else original(name))
    result = run("evaluate", path_of(DR), "--data-dir", DATA)
    assert result.exit_code == 0, result.output
    assert "diversity and coverage need faiss" in result.stderr
    assert "diversity" not in result.stdout
    assert run("evaluate", path_of(DR), "--data-dir", DATA, "--coef", 0.1).exit_code == 7


def test_one_vector_is_not_re_ranked(data_dir: str) -> None:
    """As in the original: its lists are what the index returns."""
    config = small_config("DNN")
    model = numpy_model(config, initial_variables(config))
    valid, categories = read_split(data_dir, "toys", "valid"), read_categories(data_dir, "toys")
    flags: dict[str, Any] = {"maxlen": 6, "top_n": [8], "categories": categories}
    assert report(model, valid, coef=1.0, **flags) == report(model, valid, coef=None, **flags)


def test_re_ranking_is_greedy() -> None:
    items, scores = np.array([1, 2, 3, 4, 5]), np.array([1.0, 0.9, 0.8, 0.5, 0.1])
    categories = {1: 7, 2: 7, 3: 7, 4: 8}
    assert rerank(items, scores, categories, 4, 0.0).tolist() == [1, 2, 3, 4]
    assert rerank(items, scores, categories, 3, 0.45).tolist() == [1, 4, 2]


def test_diversity_counts_pairs() -> None:
    assert diversity(np.array([1, 2, 3, 4]), {1: 0, 2: 0, 3: 1}) == pytest.approx(5 / 6)
    assert diversity(np.array([1]), {}) == 0


def test_export(tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    users = tmp_path / "histories.txt"
    users.write_text("9,3,1\n9,4,2\n2,7,1\n")
    out = tmp_path / "out"
    result = run("export", path_of(DR), out, "--index", "flat", "--users", users, "--json")
    assert result.exit_code == 0, result.output
    names = [Path(path).name for path in json.loads(result.stdout)["written"]]
    assert names == ["item_vectors.npy", "user_vectors.npy", "user_ids.npy", "items.faiss"]
    items, vectors = np.load(out / "item_vectors.npy"), np.load(out / "user_vectors.npy")
    assert (items.shape, vectors.shape) == ((1400, 8), (2, 4, 8))
    assert np.load(out / "user_ids.npy").tolist() == [2, 9]
    scores, _ = faiss.read_index(str(out / "items.faiss")).search(vectors[0], 3)
    np.testing.assert_allclose(scores[:, 0], (vectors[0] @ items.T).max(axis=1), rtol=1e-5)
    assert run("export", path_of(DR), out, "--users", tmp_path / "none").exit_code == 3
    assert run("export", path_of(DR), out).exit_code == 0, "the same items: the index is still theirs"
    before = (out / "item_vectors.npy").read_bytes()
    another = next(entry for entry in LEFT_BEHIND if (entry["root"], entry["model_type"]) == ("tf2.15", "ComiRec-DR"))
    refused = run("export", path_of(another), out)
    assert refused.exit_code == 2
    assert "items.faiss, user_vectors.npy, user_ids.npy of other item vectors would stay beside these" in refused.stderr
    assert (out / "item_vectors.npy").read_bytes() == before
    assert run("export", path_of(another), out, "--index", "flat", "--users", users).exit_code == 0
