"""Each model on the Amazon Video Games sequences, beside what the original trainer reaches in as many steps.

Usage: ``python benchmarks/quality.py DIRECTORY [MODEL ...]`` with ``video_games_{train,valid,test}.txt`` in it. Goal:
the best recall@50 of the validation users, over three seeds, within noise of the original's or above.

The original is THUDM/ComiRec at a576eed with TensorFlow 1.15.5, its own defaults but for a learning rate of 0.005
(batch 128, D = 64, hard readout), evaluated every 100 of 600 steps; seeds 19, 20 and 21. Both draw users, cuts and
negatives in their own way, so a seed is nothing that they share.
"""

from __future__ import annotations

import os
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from trainer.config import default_config, override
from trainer.data.prefetch import Prefetch
from trainer.training.learner import Learner
from trainer.training.resume_outcome import measure
from trainer.training.starting_point import new_run

STEPS, TEST_ITER, SEEDS = 600, 100, (19, 20, 21)
ORIGINAL: dict[str, tuple[float, float, float]] = {
    "DNN": (0.146589, 0.154187, 0.146404),
    "GRU4REC": (0.130992, 0.130318, 0.136250),
    "MIND": (0.099316, 0.093244, 0.095091),
    "ComiRec-DR": (0.080312, 0.089445, 0.088825),
    "ComiRec-SA": (0.147837, 0.140003, 0.135799),
}


def best_recall(directory: str, model_type: str, seed: int) -> float:
    settings = {"learning_rate": 0.005, "seed": seed}
    start = new_run(override(default_config("video_games", model_type, 0, "paper"), settings), directory)
    learner, batches = Learner(start.config, start.variables), Prefetch(start.sampler)
    best = 0.0
    for step in range(STEPS):
        learner.update(batches(step))
        if (step + 1) % TEST_ITER == 0:
            learner.catch_up()
            best = max(best, measure(start.config, learner.weights(), start.valid).recall)
    batches.close()
    return best


def main() -> None:
    directory, *models = sys.argv[1:]
    for model_type in models or ORIGINAL:
        ours = []
        for seed in SEEDS:
            ours.append(best_recall(directory, model_type, seed))
            print(f"{model_type:10}  seed {seed}  {ours[-1]:.4f}", flush=True)
        theirs = ORIGINAL[model_type]
        # Of the difference of two means of three, each with the spread that it shows.
        noise = ((statistics.variance(ours) + statistics.variance(theirs)) / len(SEEDS)) ** 0.5
        gain = statistics.mean(ours) - statistics.mean(theirs)
        print(
            f"{model_type:10}  mean {statistics.mean(ours):.4f}  original {statistics.mean(theirs):.4f}  "
            f"difference {gain:+.4f}, {gain / noise:+.1f} standard errors",
            flush=True,
        )


if __name__ == "__main__":
    main()
