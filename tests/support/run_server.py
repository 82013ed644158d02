"""Whole runs in processes that can be killed: TensorFlow is imported once, and each run is made by a fork.

    python run_server.py

Takes ``[ROOT, DATA_DIR]``, see `forking`: begins the run of ROOT, or goes on with it from its newest state.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import Any

import tensorflow as tf
from forking import serve
from toys import Recorder, small_config

from ckpt_tools.errors import NotFoundError
from ckpt_tools.runs.experiments import Experiment
from trainer.config import experiment_name
from trainer.training.loop import train
from trainer.training.starting_point import StartingPoint, new_run, resumed_run

STEPS = 30
CONFIG = small_config("DNN")


def experiment_in(root: Any) -> Experiment:
    return Experiment(os.path.join(str(root), "best_model", experiment_name(CONFIG, "run")))


def go_on(root: Any, data_dir: str) -> bool:
    """Run to the end, with ``--resume --from latest`` where anything was ever saved; returns whether that was so."""
    # Without graphs, which would take longer to trace than all steps together.
    tf.config.run_functions_eagerly(True)
    experiment = experiment_in(root)
    start: StartingPoint
    try:
        start = resumed_run(experiment, "latest", {}, data_dir=data_dir)
    except NotFoundError:
        start = new_run(CONFIG, data_dir)
    train(start, experiment, STEPS, Recorder())
    return start.resumed_from is not None


if __name__ == "__main__":
    serve(go_on)
