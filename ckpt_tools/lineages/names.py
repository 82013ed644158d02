"""The contract of canonical names: what every producer's tensors are called once they are recognised. They are the keys
of this project's trainer, without TensorFlow's ``/.ATTRIBUTES/VARIABLE_VALUE``.

    model/...                       the weights of a model; which there are, each kind of models says
    optimizer/m/... optimizer/v/... Adam's first and second moments, named as the variable without ``model/``
    optimizer/step int64, optimizer/learning_rate float32
    best_metric float32             the best value that a run has reached
    state/...                       what else a continuation needs
"""

from __future__ import annotations

from ckpt_tools.format import stored_best

MODEL = "model/"
MOMENTS = ("m", "v")
STEP = "optimizer/step"
LEARNING_RATE = "optimizer/learning_rate"
BEST_METRIC = stored_best.BEST_METRIC
# Beside a best that was backfilled: a scalar string of JSON that says what the value measures.
BEST_METRIC_MEANING = stored_best.BEST_METRIC_MEANING
SAVE_COUNTER = "save_counter"
METRIC, CONFIG, DATA = "state/metric", "state/config", "state/data"


def moment_name(moment: str, variable: str) -> str:
    """``optimizer/m/proj/kernel`` for ``model/proj/kernel``."""
    return f"optimizer/{moment}/{variable.removeprefix(MODEL)}"
