"""What can be told of a checkpoint whose producer is not known: its step, its best metric, its early stopping."""

from __future__ import annotations

from ckpt_tools.lineages.base import BestMetric, OtherBest
from ckpt_tools.lineages.meaning import describe, meaning_beside
from ckpt_tools.lineages.names import BEST_METRIC
from ckpt_tools.lineages.scalars import as_step, is_number, is_start_value, read_number
from ckpt_tools.lineages.tensor_names import Roles, bare
from ckpt_tools.readers.base import Checkpoint

# A best is the one that is meant when it is called so, or when there is no other.
_PLAIN = (BEST_METRIC, "best_value", "best_score", "best")
# More than any trainer keeps, and no more than can be shown.
_MOST = 32


def step_of(checkpoint: Checkpoint, roles: Roles) -> int | None:
    """The first stored step that is a whole number; None when there is none. Raises what reading raises."""
    for key in roles.steps[:_MOST]:
        if is_number(checkpoint.tensors[key]):
            step = as_step(read_number(checkpoint, key))
            if step is not None:
                return step
    return None


def best_of(checkpoint: Checkpoint, roles: Roles, declared: str | None = None) -> BestMetric:
    """The best metric, under whatever name; of several none is preferred unless its name says nothing else.

    What is kept beside the tensors of a Keras file goes before them: only a backfill writes it there. ``declared`` is
    the key of the one that is meant, where somebody wrote that down.

    Raises what reading raises.
    """
    keys = [key for key in roles.bests if is_number(checkpoint.tensors[key])][:_MOST]
    values = {key: read_number(checkpoint, key) for key in keys}
    names = {key: _name(key, roles) for key in keys}
    others = tuple(OtherBest(key, float(values[key])) for key in keys if names[key] != BEST_METRIC)
    beside = checkpoint.best
    if beside is not None:
        words = describe(beside.meaning, beside.value) or "what it measures is not recorded"
        return BestMetric("present", beside.value, beside.key, words, others)
    meant = next((key for key in keys if names[key] in _PLAIN), keys[0] if len(keys) == 1 else None)
    meant = declared if declared in keys else meant
    if meant is None:
        return BestMetric("absent", others=others)
    value = float(values[meant])
    meaning = describe(meaning_beside(checkpoint, meant), value) if names[meant] == BEST_METRIC else None
    return BestMetric(
        "unset" if is_start_value(values[meant]) else "present",
        value,
        meant,
        meaning or f"a variable named {names[meant]}; what it measures is not recorded",
        others,
    )


def stopping_of(checkpoint: Checkpoint, roles: Roles) -> dict[str, int | float | bool]:
    """What else an early stopping keeps, by key: patience, the step of the best, whether it has stopped."""
    keys = [key for key in roles.stops if is_number(checkpoint.tensors[key])][:_MOST]
    return {key: read_number(checkpoint, key) for key in keys}


def _name(key: str, roles: Roles) -> str:
    name = bare(key).rpartition("/")[2]
    full = roles.full_names.get(key, "").rpartition("/")[2]
    return name if "best" in name.lower() or not full else full
