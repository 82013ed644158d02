"""The rules that a resume follows, each one marked where it is decided: ``@decides(Rule.SETTINGS)``."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


class Rule(Enum):
    """One rule; its value is the rule itself, and `number` its place among them."""

    LINE = (
        "``best`` (the default) continues from the best checkpoint, whoever wrote it; ``latest`` from the newest state "
        "of this trainer. A run of this trainer that was stopped before its first such save has only its best; "
        "``latest`` then means that one. When there is neither, the resume is refused."
    )
    SETTINGS = (
        "Hyper-parameters come from the checkpoint and the experiment's name. A flag that contradicts them is refused; "
        "learning rate, batch size, test-iter, patience and N may change, and each change is reported."
    )
    WORKED_OUT = (
        "What neither tells (N, and MIND's K) comes from flags, else from whichever usual value gives a recall that "
        "the run logged, else from the defaults; which of these it was is reported."
    )
    VARIABLES = "Every variable and both of Adam's moments must be in the checkpoint, by name and with the same shape."
    MEASURED_FIRST = "The weights are measured on the validation split before anything is trained or written."
    STORED_RECALL = (
        "If a recall of these weights is stored, the measured one must equal it within 1e-6. At another N the best is "
        "measured again, which is reported. On another validation split it is so only with leave, and the best of the "
        "old split stays beside the new one; a later resume on the old split finds it again."
    )
    LOGGED_RECALL = (
        "If none is stored, the run's logs must contain the measured recall, within 1e-6; without logs it is taken as "
        "it is. It then becomes the best, and is saved before the first step. With ``--top-n`` they must contain it at "
        "that N or, without noise, at another usual one; the best is then measured again, which is reported."
    )
    NOISE = (
        "MIND of the paper draws noise at each evaluation. A recall that somebody else logged or stored agrees when it "
        "is within that noise over several seeds; this trainer's own measurements repeat exactly."
    )
    LEAVE = (
        "``--accept-metric`` overrides what was stored or logged: what was measured now is believed, and becomes the "
        "best when the best was what disagreed. Training data with another digest than the stored one needs "
        "``--accept-data``."
    )
    STEP = (
        "Adam's moments and step continue. A step that the checkpoint no longer tells (TensorFlow 1 after some 87,000 "
        "updates) counts as 10^6 for Adam, and the best logged step for the run."
    )
    EARLY_STOP = (
        "A run that had run out of patience continues with a larger ``--patience``, or with ``--continue-after-stop``, "
        "which starts the count again. From its best it continues with another seed: the same batches would end the "
        "same way."
    )
    BEST_IN_SIGHT = (
        "A state continues only with its best in sight. When no checkpoint holds that any more, the best that is left "
        "is the best from there on, or these weights are; both are reported."
    )
    NOTHING_WRITTEN = "Nothing has been written until here. Whoever trains locks the experiment first and looks again."

    @property
    def number(self) -> int:
        """Its place, from 1 on."""
        return list(Rule).index(self) + 1


# Which functions decide each rule, as ``module:function``; filled when their modules are imported.
DECIDED: dict[Rule, list[str]] = {rule: [] for rule in Rule}


def decides(*rules: Rule) -> Callable[[Function], Function]:
    """Marks the function in which rules are decided; it stays as it is."""

    def mark(function: Function) -> Function:
        for rule in rules:
            DECIDED[rule].append(f"{function.__module__}:{function.__qualname__}")
        return function

    return mark
