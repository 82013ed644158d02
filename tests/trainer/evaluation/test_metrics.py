"""The vectorised metrics against a literal transcription of the definition."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import ITEMS, small_config, write_split

from ckpt_tools.errors import MismatchError
from ckpt_tools.lineages.comirec.models import ITEM_EMBEDDING
from trainer.data.interactions import read_split
from trainer.evaluation.measuring import evaluate, numpy_model, rank
from trainer.evaluation.ranking_metrics import metrics_at
from trainer.evaluation.retrieval import Catalogue, ranks_of
from trainer.models.variables import initial_variables


def retrieved(vectors: np.ndarray, items: np.ndarray, top_n: int, exclude_first: bool) -> list[int]:
    """Each interest fetches its own top N; merged by score, repeats and padding dropped, cut at N."""
    fetched = []
    for vector in vectors:
        scores = items.astype(np.float64) @ vector
        best = sorted(range(len(items)), key=lambda item: (-scores[item], item))[: top_n + exclude_first]
        fetched += [(-scores[item], item) for item in best]
    found: list[int] = []
    for _, item in sorted(fetched):
        if item not in found and not (exclude_first and item == 0):
            found.append(item)
    return found[:top_n]


def retrieved_by_the_originals(vectors: np.ndarray, items: np.ndarray, top_n: int) -> list[int]:
    """As their evaluate_full has it: N for each interest with the padding item among them, which is dropped then."""
    fetched = []
    for vector in vectors:
        scores = items.astype(np.float64) @ vector
        fetched += [(-scores[item], item) for item in sorted(range(len(items)), key=lambda i: (-scores[i], i))[:top_n]]
    found: list[int] = []
    for _, item in sorted(fetched):
        if item not in found and item != 0:
            found.append(item)
    return found[:top_n]


def published(lists: list[list[int]], truths: list[list[int]]) -> tuple[float, float]:
    """Recall and NDCG as the branch ``paper`` of the original computes them."""
    recall = ndcg = 0.0
    for found, true in zip(lists, truths, strict=True):
        places = [place for place, item in enumerate(true) if item in set(found)]
        recall += len(places) / len(true)
        if places:
            ndcg += sum(1 / math.log2(p + 2) for p in places) / sum(1 / math.log2(p + 2) for p in range(len(places)))
    return recall / len(truths), ndcg / len(truths)


def slow_metrics(lists: list[list[int]], truths: list[list[int]]) -> tuple[float, float, float]:
    recall = ndcg = hitrate = 0.0
    for found, true in zip(lists, truths, strict=True):
        hits = [place for place, item in enumerate(found) if item in set(true)]
        recall += len(hits) / len(true)
        if hits:
            hitrate += 1
            ndcg += sum(1 / math.log2(p + 2) for p in hits) / sum(1 / math.log2(p + 2) for p in range(len(hits)))
    return recall / len(truths), ndcg / len(truths), hitrate / len(truths)


@pytest.mark.parametrize("model_type", ["DNN", "GRU4REC", "ComiRec-DR", "ComiRec-SA"])
def test_an_evaluation_is_the_literal_one(data_dir: str, model_type: str) -> None:
    config = small_config(model_type)
    model = numpy_model(config, initial_variables(config))
    valid = read_split(data_dir, "toys", "valid")
    lists, truths = [], []
    for user, (start, end) in enumerate(zip(valid.offsets[:-1], valid.offsets[1:], strict=True)):
        items = valid.items[start:end].tolist()
        cut = int(len(items) * 0.8)
        window = valid.windows(np.array([user]), np.array([cut]), config.maxlen)
        vectors = model.user_vectors(*window)[0]
        lists.append(retrieved(vectors, model.item_embedding, 10, model.excludes_padding))
        truths.append(items[cut:])
    metrics = evaluate(model, valid, maxlen=config.maxlen, top_n=10)
    assert (metrics.recall, metrics.ndcg_hits_ideal, metrics.hitrate) == pytest.approx(slow_metrics(lists, truths))
    assert metrics.recall > 0
    assert metrics.users == 25


@pytest.mark.parametrize("model_type", ["MIND", "ComiRec-DR", "ComiRec-SA"])
@pytest.mark.parametrize("top_n", [3, 10, 119])
def test_the_padding_item_takes_a_place_as_in_the_originals(data_dir: str, model_type: str, top_n: int) -> None:
    config = small_config(model_type, variant="keras", num_interest=3)
    config = replace(config, padding_place=True)
    weights = initial_variables(config)
    random = np.random.default_rng(5)
    weights[ITEM_EMBEDDING] = random.standard_normal(weights[ITEM_EMBEDDING].shape).astype(np.float32)
    weights[ITEM_EMBEDDING][0] *= 5  # first in the lists of half of all interests
    model = numpy_model(config, weights)
    valid = read_split(data_dir, "toys", "valid")
    lists, exact, truths = [], [], []
    for user, (start, end) in enumerate(zip(valid.offsets[:-1], valid.offsets[1:], strict=True)):
        items = valid.items[start:end].tolist()
        cut = int(len(items) * 0.8)
        vectors = model.user_vectors(*valid.windows(np.array([user]), np.array([cut]), config.maxlen))[0]
        lists.append(retrieved_by_the_originals(vectors, model.item_embedding, top_n))
        exact.append(retrieved(vectors, model.item_embedding, top_n, True))
        truths.append(items[cut:])
    assert model_type != "MIND" or lists != exact, "its interests are all alike, so that a place is missing"
    ranking = rank(model, valid, maxlen=config.maxlen, limit=119)
    metrics = ranking.at(top_n)
    assert (metrics.recall, metrics.ndcg_hits_ideal, metrics.hitrate) == pytest.approx(slow_metrics(lists, truths))
    assert metrics == evaluate(model, valid, maxlen=config.maxlen, top_n=top_n)
    found = ranking.as_published(top_n)
    assert (found.recall, found.ndcg) == pytest.approx(published(lists, truths))


def test_published_figures_count_repeats_and_go_by_the_users_own_order(tmp_path: Path) -> None:
    """Of two true items the second is found, twice; the ranking is not asked where."""
    config = small_config("ComiRec-DR", maxlen=6)
    write_split(tmp_path / "toys_valid.txt", {1: [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 90, 7, 7]})
    weights = initial_variables(config)
    weights[ITEM_EMBEDDING][7] = 1000 * weights[ITEM_EMBEDDING][3]
    weights[ITEM_EMBEDDING][90] = -weights[ITEM_EMBEDDING][3]
    split = read_split(tmp_path, "toys", "valid")
    ranking = rank(numpy_model(config, weights), split, maxlen=6, limit=5)
    lists = [[7] if ranking.ranks_at(5)[0] < 5 else []]
    found = ranking.as_published(5)
    assert (found.recall, found.ndcg) == pytest.approx(published(lists, [[90, 7, 7]]))
    if lists[0]:
        assert found.recall == pytest.approx(2 / 3)
        assert ranking.at(5).recall == pytest.approx(1 / 3)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    users=st.integers(1, 6),
    interests=st.integers(1, 3),
    count=st.integers(2, 60),
    limit=st.integers(1, 20),
    exclude_first=st.booleans(),
    block=st.integers(1, 70),
)
def test_ranks_are_exact_whatever_the_blocks(
    seed: int, users: int, interests: int, count: int, limit: int, exclude_first: bool, block: int
) -> None:
    random = np.random.default_rng(seed)
    # Small integers: many items score the same, and products are exact.
    vectors = random.integers(-2, 3, (users, interests, 2)).astype(np.float64)
    items = random.integers(-2, 3, (count, 2)).astype(np.float32)
    owner = np.repeat(np.arange(users), 3)
    wanted = random.integers(0, count, users * 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.evaluation.retrieval._SMALLEST_BLOCK", block)
        patch.setattr("trainer.evaluation.retrieval._LARGEST_BLOCK", block)
        ranks = ranks_of(vectors, Catalogue.of(items), owner, wanted, limit=limit, exclude_first=exclude_first)
    for user, item, found_rank in zip(owner, wanted, ranks, strict=True):
        found = retrieved(vectors[user], items, limit, exclude_first)
        assert found_rank == (found.index(item) if item in found else limit)


def test_repeats_in_the_truth_count_below_the_line_only() -> None:
    metrics = metrics_at(np.array([0]), np.array([0]), np.array([2]), 10)
    assert metrics.recall == 0.5
    assert metrics.ndcg_hits_ideal == metrics.hitrate == 1.0


def test_the_ideal_counts_the_hits_found() -> None:
    metrics = metrics_at(np.array([1, 99]), np.array([0, 0]), np.array([2]), 10)
    assert metrics.ndcg_hits_ideal == pytest.approx(1 / math.log2(3))


def test_a_user_without_history_is_measured(tmp_path: Path) -> None:
    write_split(tmp_path / "toys_valid.txt", {1: [5], 2: [7, 8]})
    config = small_config()
    model = numpy_model(config, initial_variables(config))
    metrics = evaluate(model, read_split(tmp_path, "toys", "valid"), maxlen=6, top_n=10)
    # Without history all scores are equal, and ids decide: 1 to 10 are the list.
    assert metrics.recall >= 0.5


def test_data_that_the_table_has_no_row_for_is_refused(data_dir: str) -> None:
    config = small_config()
    weights = initial_variables(config)
    weights[ITEM_EMBEDDING] = weights[ITEM_EMBEDDING][: ITEMS // 2]
    with pytest.raises(MismatchError, match="has no row in the item table, which has 60"):
        evaluate(numpy_model(config, weights), read_split(data_dir, "toys", "valid"), maxlen=6, top_n=10)


def test_progress_ends_at_all_users(data_dir: str) -> None:
    config = small_config()
    seen: list[tuple[int, int]] = []
    valid = read_split(data_dir, "toys", "valid")
    model = numpy_model(config, initial_variables(config))
    evaluate(model, valid, maxlen=6, top_n=10, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (25, 25)
