"""The full report on a model: several N at once, both definitions of NDCG, diversity, controllable re-ranking.

Recall, hit rate and NDCG come from counting; diversity and re-ranking need the lists themselves, through faiss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trainer.data.interactions import Interactions
from trainer.evaluation.measuring import OnProgress, first_true, rank, true_pairs, vectors_of
from trainer.evaluation.ranking_metrics import Metrics, Published, metrics_at
from trainer.models.recommenders import Recommender

_USERS_AT_ONCE = 256


@dataclass(frozen=True)
class Line:
    """The figures at one N. ``published``: by the definitions of the paper's own figures, None for lists that were
    re-ranked. ``diversity``: the share of pairs in a list whose categories differ, None without them. ``coverage``: the
    share of the items that are in anybody's list, None where no lists were made."""

    top_n: int
    metrics: Metrics
    published: Published | None
    diversity: float | None
    coverage: float | None

    def to_json(self) -> dict[str, Any]:
        published = {} if self.published is None else asdict(self.published)
        as_published = {f"{name}_as_published": published.get(name) for name in ("recall", "ndcg")}
        rest = {"diversity": self.diversity, "coverage": self.coverage}
        return {"top_n": self.top_n, **asdict(self.metrics), **as_published, **rest}


def report(
    model: Recommender,
    split: Interactions,
    *,
    maxlen: int,
    top_n: Sequence[int],
    categories: Mapping[int, int] | None,
    coef: float | None = None,
    progress: OnProgress | None = None,
) -> list[Line]:
    """One line for each N. With ``coef`` the lists are re-ranked, which needs ``categories``; a model with one vector
    for each user is not re-ranked, as in the original."""
    count = len(np.asarray(model.item_embedding))
    lines = []
    if coef is None or not model.excludes_padding:
        ranking = rank(model, split, maxlen=maxlen, limit=max(top_n), progress=progress)
        longest = None
        if categories is not None and not model.padding_takes_a_place:
            longest = list(lists_of(model, split, maxlen=maxlen, top_n=max(top_n)))
        for n in top_n:
            lists = None if longest is None else [(items[:n], scores[:n]) for items, scores in longest]
            if categories is not None and lists is None:
                # Where the padding item takes a place, a shorter list is not the beginning of a longer one.
                lists = list(lists_of(model, split, maxlen=maxlen, top_n=n))
            lines.append(Line(n, ranking.at(n), ranking.as_published(n), *_of_lists(lists, categories, count)))
        return lines
    assert categories is not None
    for n in top_n:
        candidates = lists_of(model, split, maxlen=maxlen, top_n=n, candidates=True, progress=progress)
        lists = [(rerank(items, scores, categories, n, coef), scores) for items, scores in candidates]
        lines.append(Line(n, from_lists(lists, split, n), None, *_of_lists(lists, categories, count)))
    return lines


def lists_of(
    model: Recommender,
    split: Interactions,
    *,
    maxlen: int,
    top_n: int,
    candidates: bool = False,
    progress: OnProgress | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each user's items, best first, and their scores. Each interest fetches its own top N; merged by score.

    The list is cut at N; with ``candidates`` it is not: all that the interests have fetched, N each, the padding item
    among them, as the original has it.
    """
    import faiss

    items = np.ascontiguousarray(model.item_embedding, np.float32)
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)
    cuts = first_true(split)
    for start in range(0, len(cuts), _USERS_AT_ONCE):
        users = np.arange(start, min(start + _USERS_AT_ONCE, len(cuts)))
        vectors = vectors_of(model, split, users, cuts[users], maxlen).astype(np.float32)
        # One more than N where the padding item may be among them and takes nobody's place.
        spare = model.excludes_padding and not candidates and not model.padding_takes_a_place
        scores, found = index.search(vectors.reshape(-1, vectors.shape[2]), min(top_n + spare, len(items)))
        for ids, values in zip(found.reshape(len(users), -1), scores.reshape(len(users), -1), strict=True):
            order = np.lexsort((ids, -values))
            ids, values = ids[order], values[order]
            _, first = np.unique(ids, return_index=True)
            first = np.sort(first)
            if model.excludes_padding:
                first = first[ids[first] != 0]
            kept = first if candidates else first[:top_n]
            yield ids[kept], values[kept]
        if progress is not None:
            progress(int(users[-1]) + 1, len(cuts))


def rerank(items: np.ndarray, scores: np.ndarray, categories: Mapping[int, int], top_n: int, coef: float) -> np.ndarray:
    """The paper's aggregation module (section 3.4) as its trainer has it: greedily the item with the largest score,
    less ``coef`` for each item of its category that is in the list already. Items without a category are left out."""
    known = np.array([int(item) in categories for item in items], bool)
    items, scores = items[known], scores[known].astype(np.float64)
    group = np.unique([categories[int(item)] for item in items], return_inverse=True)[1].ravel()
    chosen = []
    for _ in range(min(top_n, len(items))):
        best = int(np.argmax(scores))
        chosen.append(items[best])
        scores[group == group[best]] -= coef
        scores[best] = -np.inf
    return np.array(chosen, np.int64)


def from_lists(lists: Sequence[tuple[np.ndarray, np.ndarray]], split: Interactions, top_n: int) -> Metrics:
    """The metrics of given lists, by the definitions of ``metrics_at``."""
    cuts = first_true(split)
    owner, wanted = true_pairs(split, cuts)
    ranks = np.full(len(wanted), top_n, np.int64)
    for pair, (user, item) in enumerate(zip(owner, wanted, strict=True)):
        place = np.flatnonzero(lists[user][0][:top_n] == item)
        if len(place):
            ranks[pair] = place[0]
    return metrics_at(ranks, owner, split.lengths - cuts, top_n)


def diversity(items: np.ndarray, categories: Mapping[int, int]) -> float:
    """The share of pairs with different categories (paper, section 4.5); an item without one differs from all."""
    count = len(items)
    if count < 2:
        return 0.0
    groups = Counter(categories.get(int(item), -1 - place) for place, item in enumerate(items))
    alike = sum(size * (size - 1) for size in groups.values())
    return 1 - alike / (count * (count - 1))


def _of_lists(
    lists: Sequence[tuple[np.ndarray, np.ndarray]] | None, categories: Mapping[int, int] | None, count: int
) -> tuple[float | None, float | None]:
    """Mean diversity of the lists, and the share of the ``count`` items that are in any of them."""
    if lists is None or categories is None:
        return None, None
    anywhere = np.unique(np.concatenate([items for items, _ in lists]))
    return float(np.mean([diversity(items, categories) for items, _ in lists])), len(anywhere) / count
