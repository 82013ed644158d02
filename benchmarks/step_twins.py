"""A training step of this trainer beside the two that one would use instead: the Keras port's, and PyTorch's.

Usage: ``python benchmarks/step_twins.py [MODEL ...]``. For 12,112 and 367,983 items, D = 64, batch 128, 1,280
negatives: the port's models, trained by

- this trainer, batches and the rows they need made in its own thread meanwhile, which is counted;
- the Keras port (``step_port``), with the installed TensorFlow and Keras, its batches made beforehand, its negatives
  drawn within the step as it does;
- PyTorch (``step_torch``) with sparse gradients and SparseAdam, batches and negatives made beforehand. Left out where
  torch is not installed; nothing else here needs it (measured with ``pip install torch==2.13.0``, for the CPU);
- and, as what no step can be faster than, ``products``: the matrix products of the layers and of the loss alone, each
  once forwards and twice backwards, by numpy on numbers that are there already.

Each is a process of its own, so that none has the others' threads and settings; they take turns, some steps each, for
several rounds. Before that the three compute the same: from the same weights and batch their losses agree, and this
trainer's and the port's, whose Adam is the same too, do so for three steps.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from made_up import BOOKS, interactions

from trainer.config import MODEL_TYPES, TrainConfig, default_config, override
from trainer.data.prefetch import Prefetch
from trainer.data.sampling import Batch, BatchSampler
from trainer.models.variables import initial_variables

CATALOGUES = (12_112, BOOKS)
ROUNDS, STEPS, WARM, COMPARED = 8, 10, 7, 3
# Before each turn, so that threads which the others leave waiting are asleep, and its own are awake: in training a step
# follows a step.
PAUSE, AWAKE = 0.2, 20
TRAIN = "--train"
PRODUCTS = "products"
TOLERANCE = 1e-4  # of a loss, in float32
# New weights are so small that any model has the loss of guessing. These are not.
SCALE = 20


def main() -> None:
    names = ["ours", "port"]
    if importlib.util.find_spec("torch"):
        names.append("torch")
    else:
        print("torch is not installed: without its column")
    names.append(PRODUCTS)
    running = {name: Contender(name) for name in names}
    for items in CATALOGUES:
        for model_type in sys.argv[1:] or MODEL_TYPES:
            print(f"{items:,} items, {model_type}")
            compare(model_type, items, running)
    for contender in running.values():
        contender.end()


def compare(model_type: str, items: int, running: Mapping[str, Contender]) -> None:
    losses = {name: contender.begin(model_type, items) for name, contender in running.items()}
    require_same({name: found for name, found in losses.items() if name != PRODUCTS})
    for _ in range(ROUNDS):
        for contender in running.values():
            contender.run()
    ours = running["ours"]
    for name, contender in running.items():
        line = f"  {name:8}"
        for label, value in contender.figures().items():
            times = "" if contender is ours else f" ({value / ours.figures()[label]:5.2f} times ours)"
            line += f"  {label} {value:7.2f} ms{times}"
        print(line, flush=True)


def require_same(losses: Mapping[str, list[float]]) -> None:
    """That all compute the same, from the same weights and batches."""
    for name, theirs in losses.items():
        count = COMPARED if name == "port" else 1
        for step, (expected, found) in enumerate(zip(losses["ours"][:count], theirs, strict=False), 1):
            if not math.isclose(expected, found, rel_tol=TOLERANCE):
                raise SystemExit(f"the loss of step {step} differs: ours {expected}, {name} {found}")


class Contender:
    """A process that trains when it is told to."""

    def __init__(self, name: str) -> None:
        self._times: list[tuple[float, float]] = []
        self._process = subprocess.Popen(
            [sys.executable, __file__, TRAIN, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def begin(self, model_type: str, items: int) -> list[float]:
        """The losses of its first steps."""
        self._times = []
        losses: list[float] = self._answer([model_type, items])
        return losses

    def run(self) -> None:
        self._times += self._answer(None)

    def figures(self) -> dict[str, float]:
        """Milliseconds of a step: elapsed, and of all the process's threads."""
        elapsed, processor = zip(*self._times, strict=True)
        return {
            "median": 1000 * statistics.median(elapsed),
            "least": 1000 * min(elapsed),
            "processor": 1000 * statistics.median(processor),
        }

    def end(self) -> None:
        self._process.communicate()

    def _answer(self, order: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"ended: {self._process.args}")
        return json.loads(line)


def train(name: str) -> None:
    """A contender's process. For each line of input: begin with a model and a catalogue, or go on."""
    for line in sys.stdin:
        if order := json.loads(line):
            model_type, items = order
            # As the port trains; MIND ends in its dense layer for the dataset of this name.
            config = override(default_config("book", model_type, items, "keras"), {"learning_rate": 0.005})
            step, compared = made(name, config, BatchSampler(interactions(items, 20_000), config))
            answer: list[Any] = [compared(number) for number in range(COMPARED)]
            number = COMPARED + WARM
            for warming in range(COMPARED, number):
                step(warming)
        else:
            answer = []
            time.sleep(PAUSE)
            for waking in range(number, number + AWAKE):
                step(waking)
            for number in range(number + AWAKE, number + AWAKE + STEPS):  # noqa: B020
                elapsed, processor = time.perf_counter(), time.process_time()
                step(number)
                answer.append((time.perf_counter() - elapsed, time.process_time() - processor))
            number += 1
        print(json.dumps(answer), flush=True)


def made(
    name: str, config: TrainConfig, sampler: BatchSampler
) -> tuple[Callable[[int], float], Callable[[int], float]]:
    """A step by its number, and one with the sampler's negatives."""
    if name == PRODUCTS:
        return (products(config),) * 2
    variables = initial_variables(config)
    variables["model/item_embedding"] *= SCALE
    if name == "ours":
        from trainer.training.learner import Learner

        learner, ahead = Learner(config, variables), Prefetch(sampler)
        return (lambda number: learner.update(ahead(number)),) * 2
    ready: list[Batch] = [sampler(number) for number in range(COMPARED + WARM + ROUNDS * (AWAKE + STEPS))]
    contender: Any
    if name == "port":
        from step_port import Port

        contender = Port(config, variables)
    else:
        from step_torch import Torch

        contender = Torch(config, variables)
    return (lambda number: contender.step(ready[number])), (lambda number: contender.compared(ready[number]))


def products(config: TrainConfig) -> Callable[[int], float]:
    """Multiplies what a step has to multiply, and returns nothing of interest."""
    users, length, dim, interests = config.batch_size, config.maxlen, config.embedding_dim, config.num_interest
    items = users * length
    layers: dict[str, list[tuple[int, int, int, int]]] = {  # how many, rows, inner, columns
        "DNN": [(1, users, dim, dim)],
        "GRU4REC": [(1, items, dim, 3 * dim), (length, users, dim, 3 * dim)],
        "MIND": [(1, items, dim, dim), (1, users * interests, dim, dim)],
        "ComiRec-DR": [(length, users, dim, interests * dim)],
        "ComiRec-SA": [(1, items, dim, 4 * dim), (1, items, 4 * dim, interests)],
    }
    shapes = [*layers[config.model_type], (1, users, dim, config.sample_size)]
    random = np.random.default_rng(0)
    factors = [
        [random.standard_normal((count, *shape)).astype(np.float32) for shape in ((m, k), (k, n), (m, n))]
        for count, m, k, n in shapes
    ]

    def multiply(number: int) -> float:  # noqa: ARG001
        for left, right, upstream in factors:
            for one in range(len(left)):
                left[one] @ right[one], upstream[one] @ right[one].T, left[one].T @ upstream[one]
        return 0.0

    return multiply


if __name__ == "__main__":
    if sys.argv[1:2] == [TRAIN]:
        train(sys.argv[2])
    else:
        main()
