"""The made-up course of a training, the same for every trainer here: each model's one weight is its own metric.

So that of any checkpoint it can be told which evaluation it belongs to. What a trainer evaluated and saved is noted
in a file that no guard knows of. As in most public trainers, the best of the run before is forgotten.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Iterator

RUN = sys.argv[1]


def metrics() -> Iterator[float]:
    """The values of this run, each after some training."""
    chance = random.Random(int(os.environ["SEED"]))
    for _ in range(int(os.environ.get("EVALUATIONS", "8"))):
        time.sleep(float(os.environ.get("TRAINING", "0.3")) * chance.uniform(0.8, 1.2))
        yield chance.randrange(1000, 9000) / 10_000


def note(event: str, value: float) -> None:
    with open(os.environ["NOTES"], "a") as file:
        file.write(json.dumps({"event": event, "value": value, "time": time.time()}) + "\n")
