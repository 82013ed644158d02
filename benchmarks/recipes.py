"""Recipes beside each other and beside what needs no training: recall@50 on valid and test, several seeds, one run.

Usage: ``python benchmarks/recipes.py DATASET DIRECTORY [STEPS [MODEL [ROW ...]]]`` with
``DATASET_{train,valid,test}.txt`` in DIRECTORY; ROW: the names of those of ROWS that are run, ``references`` for what
needs no training; all without one.
Goals on Amazon Video Games, D = 64, at most 6,000 steps: the best recipe of ComiRec-SA with four interests at least
0.19 on valid, and above the same recipe with one.

Each run is evaluated ten times; the best by valid counts, and its recall on test is given beside. ``best``, ``paper``
and ``port`` are as ``trainer train --recipe`` has them, the older two with the learning rate of the best recipe: their
own 0.001 has not arrived anywhere after so few steps. The references are measured first.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from trainer.config import UNKNOWN_ITEM_COUNT, new_config, override
from trainer.data.interactions import items_needed, read_split
from trainer.data.prefetch import Prefetch
from trainer.evaluation import baselines
from trainer.originals import MULTI_INTEREST
from trainer.training.learner import Learner
from trainer.training.resume_outcome import measure
from trainer.training.starting_point import new_run

SEEDS, EVALUATIONS, TOP_N = (19, 20, 21), 10, 50
ROWS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("best", "best", {}),
    ("best, one interest", "best", {"num_interest": 1}),
    ("best without dropout", "best", {"history_dropout": 0.0}),
    ("best, targets from the fifth item on", "best", {"min_history": 4}),
    ("best by the target's interest", "best", {"readout": "target"}),
    ("best, routing regularization 10", "best", {"routing_regularization": 10.0}),
    ("best, hard negatives, beta 0.5", "best", {"hard_negatives": 0.5}),
    ("paper", "paper", {}),
    ("paper, one interest", "paper", {"num_interest": 1}),
    ("port", "port", {}),
)
# Rows about several interests, of which DNN and GRU4REC have one.
ABOUT_INTERESTS = {"num_interest", "readout", "routing_regularization"}


def references(dataset: str, directory: str) -> None:
    splits = [read_split(directory, dataset, split) for split in ("train", "valid", "test")]
    count, settings = items_needed(*splits), baselines.Settings()
    for method in baselines.METHODS:
        scores = baselines.fit(method, splits[0], count, settings)
        valid, test = (baselines.rank_by(scores, split, count, limit=TOP_N).at(TOP_N).recall for split in splits[1:])
        print(f"{method:38} valid {valid:.4f}  test {test:.4f}", flush=True)


def best_of_run(
    dataset: str, directory: str, model_type: str, recipe: str, changes: Mapping[str, Any], seed: int, steps: int
) -> tuple[float, float, int]:
    """Recall on valid and on test, and the step, of the run's best evaluation."""
    config = new_config(recipe, None, dataset, model_type, UNKNOWN_ITEM_COUNT)
    rate = new_config("best", None, dataset, model_type, UNKNOWN_ITEM_COUNT).learning_rate
    start = new_run(override(config, {"learning_rate": rate, **changes, "seed": seed, "top_n": TOP_N}), directory)
    test = read_split(directory, dataset, "test")
    learner, batches = Learner(start.config, start.variables), Prefetch(start.sampler)
    best = (0.0, 0.0, 0)
    for step in range(1, steps + 1):
        learner.update(batches(step - 1))
        if step % (steps // EVALUATIONS) == 0:
            learner.catch_up()
            recall = measure(start.config, learner.weights(), start.valid).recall
            if recall > best[0]:
                best = recall, measure(start.config, learner.weights(), test).recall, step
    batches.close()
    return best


def main() -> None:
    dataset, directory = sys.argv[1:3]
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 2500
    model_type = sys.argv[4] if len(sys.argv) > 4 else "ComiRec-SA"
    print(f"{dataset}, {model_type}, {steps} steps, seeds {', '.join(map(str, SEEDS))}")
    chosen = sys.argv[5:]
    if not chosen or "references" in chosen:
        references(dataset, directory)
    for name, recipe, changes in ROWS:
        about_interests = ABOUT_INTERESTS & changes.keys()
        if (chosen and name not in chosen) or (about_interests and model_type not in MULTI_INTEREST):
            continue
        begun, found = time.perf_counter(), []
        for seed in SEEDS:
            found.append(best_of_run(dataset, directory, model_type, recipe, changes, seed, steps))
        valid, test, at = zip(*found, strict=True)
        figures = "  ".join(
            f"{split} {statistics.mean(recalls):.4f} ± {statistics.stdev(recalls):.4f}"
            for split, recalls in (("valid", valid), ("test", test))
        )
        seconds = (time.perf_counter() - begun) / len(SEEDS)
        print(f"{name:38} {figures}  steps {', '.join(map(str, at))}  {seconds:.0f} s a run", flush=True)


if __name__ == "__main__":
    main()
