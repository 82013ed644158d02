"""ComiRec-DR on the Amazon Video Games sequences: 600 steps at a learning rate of 0.005, D = 64.

Usage: ``python benchmarks/video_games.py DIRECTORY`` with ``video_games_{train,valid,test}.txt`` in it. Goal: recall@50
of the validation users at least 0.10, within 30 seconds of training and evaluating. The original trainer
(THUDM/ComiRec at a576eed, TensorFlow 1.15.5, its own defaults) has after 600 steps, run again with the seeds 19, 20 and
21: 0.0803, 0.0893 and 0.0888; with a batch of 256 and seed 19: 0.0935. So both settings are shown: the original's, and
the Keras port's start with the larger batch. How fast the original is, this run does not measure, and does not say.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from trainer.config import default_config, override
from trainer.data.prefetch import Prefetch
from trainer.training.learner import Learner
from trainer.training.resume_outcome import measure
from trainer.training.starting_point import new_run

STEPS, TEST_ITER = 600, 100


def best_recall(variant: str, batch_size: int) -> None:
    settings = {"learning_rate": 0.005, "batch_size": batch_size}
    config = override(default_config("video_games", "ComiRec-DR", 0, variant), settings)
    print(f"{variant}, batch {batch_size}")
    begun = time.perf_counter()
    start = new_run(config, sys.argv[1])
    learner, batches = Learner(start.config, start.variables), Prefetch(start.sampler)
    best = 0.0
    for step in range(STEPS):
        learner.update(batches(step))
        if (step + 1) % TEST_ITER == 0:
            learner.catch_up()
            recall = measure(start.config, learner.weights(), start.valid).recall
            best = max(best, recall)
            print(f"step {step + 1}  recall {recall:.6f}  {time.perf_counter() - begun:.1f} s", flush=True)
    batches.close()
    seconds = time.perf_counter() - begun
    print(f"best recall {best:.6f} (goal 0.10) in {seconds:.1f} s (goal 30)")


def main() -> None:
    for variant, batch_size in (("paper", 128), ("keras", 256)):
        best_recall(variant, batch_size)


if __name__ == "__main__":
    main()
