"""An experiment of an older trainer goes on here as it goes on there: from the same checkpoint, with the same batches
and negatives, the loss of every further step beside that of the older trainer's own code.

Usage: ``python benchmarks/continuation.py EXPERIMENT DATA CODE PYTHON [STEPS]``: a directory below ``best_model``, its
data, the older trainer's ``src`` (THUDM/ComiRec at a576eed; LittleGreen3/comirec at 48bc6fa, its Keras port) and an
interpreter with the TensorFlow that wrote the checkpoint, 1.15 with Python 3.7 for the original.

Printed are the step up to which losses agree within 1e-6 of each other, the largest difference, and the mean loss of
each hundred steps. Beside it stands what a difference in the last digit comes to by itself: this trainer again, from an
item table whose every number is the next larger float32. A choice among interests may turn, and Adam makes steps of
full length from gradients that are nothing but rounding.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from ckpt_tools.lineages.comirec.models import ITEM_EMBEDDING
from ckpt_tools.runs.experiments import Experiment
from trainer.training.learner import Learner
from trainer.training.starting_point import StartingPoint, resumed_run

STEPS, HUNDRED, SAME = 300, 100, 1e-6
COLUMNS = ("history", "mask", "target", "sampled", "target_count", "sampled_count", "noise")


def here(start: StartingPoint, steps: int, batches: Path | None = None) -> list[float]:
    """The losses of this trainer; what it was given goes to ``batches``."""
    learner, losses, given = Learner(start.config, start.variables), [], []
    for step in range(steps):
        batch = start.sampler(step)
        given.append({name: value for name in COLUMNS if (value := getattr(batch, name)) is not None})
        losses.append(learner.update(batch))
    if batches is not None:
        np.savez(batches, **{name: np.stack([each[name] for each in given]) for name in given[0]})
    return losses


def nudged(start: StartingPoint) -> StartingPoint:
    """With every number of the item table one float32 further."""
    table = start.variables[ITEM_EMBEDDING]
    return replace(start, variables={**start.variables, ITEM_EMBEDDING: np.nextafter(table, np.float32(np.inf))})


def there(start: StartingPoint, steps: int, batches: Path, experiment: str, code: str, python: str) -> list[float]:
    """The losses of the older trainer's own code, given the same."""
    run, losses = batches.with_name("run.json"), batches.with_name("losses.json")
    run.write_text(json.dumps(asdict(start.config) | {"steps": steps}))
    script = Path(__file__).with_name("continuation_original.py")
    # TensorFlow 2 tells its children to behave as it does.
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TF2_BEHAVIOR")}
    command = [python, str(script), code, experiment, str(run), str(batches), str(losses)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: list[float] = json.loads(losses.read_text())
    return found


def main() -> None:
    experiment, data, code, python = sys.argv[1:5]
    steps = int(sys.argv[5]) if len(sys.argv) > 5 else STEPS
    start = resumed_run(Experiment.at(experiment), "best", {}, data_dir=data)
    with tempfile.TemporaryDirectory() as directory:
        batches = Path(directory, "batches.npz")
        ours = here(start, steps, batches)
        theirs = there(start, steps, batches, experiment, code, python)
    print(f"{Path(experiment).name}: {apart(ours, theirs)}")
    print(f"  a last digit by itself: {apart(ours, here(nudged(start), steps))}")
    for first in range(0, steps, HUNDRED):
        mean, other = (statistics.fmean(losses[first : first + HUNDRED]) for losses in (ours, theirs))
        print(f"  steps {first + 1} to {min(first + HUNDRED, steps)}: {mean:.6f}, its own trainer {other:.6f}")


def apart(losses: list[float], others: list[float]) -> str:
    differences = [abs(one - other) for one, other in zip(losses, others, strict=True)]
    same = next((step for step, difference in enumerate(differences) if difference > SAME), len(differences))
    return f"within {SAME:g} for {same} of {len(losses)} steps, at most {max(differences):.1e} apart"


if __name__ == "__main__":
    main()
