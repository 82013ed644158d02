"""ComiRec-DR on the Amazon Video Games sequences: 600 steps at a learning rate of 0.005, D = 64.

Usage: ``python benchmarks/video_games.py DIRECTORY`` with ``video_games_{train,valid,test}.txt`` in it. Goal: recall@50
of the validation users at least 0.10, within 30 seconds of training and evaluating. The original trainer has 0.1056
after 600 steps, in 4 minutes 14 on two cores.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from trainer.ahead import Ahead
from trainer.config import default_config, override
from trainer.learner import Learner
from trainer.start import measure, new_run

STEPS, TEST_ITER = 600, 100


def main() -> None:
    config = override(default_config("video_games", "ComiRec-DR", 0), {"learning_rate": 0.005})
    begun = time.perf_counter()
    start = new_run(config, sys.argv[1])
    learner, batches = Learner(start.config, start.variables), Ahead(start.sampler)
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
    print(f"best recall {best:.6f} (goal 0.10) in {seconds:.1f} s (goal 30): {254 / seconds:.1f} times the original")


if __name__ == "__main__":
    main()
