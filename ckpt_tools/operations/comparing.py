"""Whether a checkpoint that was made from others is better than each of them, and by more than noise.

Measured by somebody's own program, as often as asked for: the noise is that of the program (`analysis.repeated`). Or
user by user, by what an installed package offers: the noise is that of having just these users (`analysis.bootstrap`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ckpt_tools.analysis import repeated
from ckpt_tools.analysis.bootstrap import paired_difference
from ckpt_tools.errors import MismatchError, UnsupportedError
from ckpt_tools.lineages import identify
from ckpt_tools.lineages.tensor_names import tell_roles
from ckpt_tools.lineages.unknown import step_of
from ckpt_tools.operations.command_evaluator import CommandEvaluation, measure
from ckpt_tools.operations.evaluators import OnProgress, UserMeasurement, find_user_evaluator
from ckpt_tools.readers import Checkpoint
from ckpt_tools.runs.metric_lines import Mode

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ByProgram:
    """Measure with somebody's own program or function. ``mode`` says which value is better."""

    evaluation: CommandEvaluation
    mode: Mode


@dataclass(frozen=True)
class ByUsers:
    """Measure recall user by user, as ``ckpt why --significance`` does."""

    data_dir: str
    split: str = "valid"
    top_n: int = 50


@dataclass(frozen=True)
class Lead:
    """The new checkpoint's ``lead`` over one that it was made from, positive when it is better. ``low`` and ``high``
    are the ends of its 95 % interval, equal to it where there is no noise, or where nothing tells any."""

    prefix: str
    value: float
    lead: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Comparison:
    """What was measured of the new checkpoint, its lead over the best of the others, and over each of them.

    ``measurements`` is how often each was measured, ``users`` how many were compared; None where that has no meaning.
    """

    metric: str
    mode: Mode
    value: float
    leads: tuple[Lead, ...]
    measurements: int | None = None
    users: int | None = None

    @property
    def best(self) -> Lead:
        """The best of those that it was made from."""
        return min(self.leads, key=lambda lead: lead.value if self.mode == "min" else -lead.value)

    @property
    def better(self) -> bool:
        """Whether it leads the best of the others by more than noise."""
        return self.best.low > 0

    @property
    def sentence(self) -> str:
        best = self.best
        margin = (best.high - best.low) / 2
        verb = "leads" if best.lead > 0 else "trails" if best.lead < 0 else "equals"
        lead = f" by {abs(best.lead):.6g} ± {margin:.2g}" if best.lead else ""
        if self.measurements == 1:
            noise = ": each was measured once, so that nothing is known of noise"
        else:
            noise = ", within noise" if best.low <= 0 <= best.high and margin else ""
        return f"{self.metric} {self.value:.6g} {verb} {best.value:.6g} of {best.prefix}{lead}{noise}"

    def to_json(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "mode": self.mode,
            "value": self.value,
            "measurements": self.measurements,
            "users": self.users,
            "best": self.best.prefix,
            "better": self.better,
            "sources": [lead.to_json() for lead in self.leads],
            "sentence": self.sentence,
        }


class WithValues:
    """An open checkpoint in which some tensors have other values: what it was made from still tells what it is."""

    def __init__(self, checkpoint: Checkpoint, values: Mapping[str, np.ndarray]) -> None:
        self._checkpoint = checkpoint
        self._values = values

    @staticmethod
    def of(checkpoint: Checkpoint, values: Mapping[str, np.ndarray]) -> Checkpoint:
        return cast("Checkpoint", WithValues(checkpoint, values))

    def read(self, name: str) -> np.ndarray:
        return self._values[name] if name in self._values else self._checkpoint.read(name)

    def rows(self, name: str, first: int, count: int) -> np.ndarray:
        if name in self._values:
            return self._values[name][first : first + count]
        return self._checkpoint.rows(name, first, count)

    def chunks(self, name: str) -> Iterator[bytes]:
        return iter([self._values[name].tobytes()]) if name in self._values else self._checkpoint.chunks(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._checkpoint, name)


def compare(
    new: Checkpoint,
    others: Sequence[Checkpoint],
    how: ByProgram | ByUsers,
    metric: str,
    progress: OnProgress | None = None,
) -> Comparison:
    """Measure a checkpoint and those that it was made from.

    Raises:
        UnsupportedError: nothing installed measures user by user what the first of ``others`` is.
        MismatchError: a measurement failed, or two are of other users.
        and what `command_evaluator.measure` raises.
    """
    told = progress or (lambda *_: None)
    if isinstance(how, ByUsers):
        return _by_users(new, others, how, told)
    measured = []
    for done, checkpoint in enumerate((new, *others), start=1):
        step = step_of(checkpoint, tell_roles(checkpoint.tensors, checkpoint.graph))
        measured.append(measure(checkpoint, how.evaluation, step))
        told(done, len(others) + 1)
    sign = -1 if how.mode == "min" else 1
    leads = []
    for checkpoint, found in zip(others, measured[1:], strict=True):
        lead, margin = repeated.lead(measured[0].values, found.values)
        leads.append(Lead(checkpoint.prefix, found.value, sign * lead, sign * lead - margin, sign * lead + margin))
    return Comparison(metric, how.mode, measured[0].value, tuple(leads), measurements=how.evaluation.repeat)


def _by_users(new: Checkpoint, others: Sequence[Checkpoint], how: ByUsers, told: OnProgress) -> Comparison:
    """What the new checkpoint is, the first of the others tells: the new one may lack what its name or state told."""
    first = identify(others[0])
    if first is None:
        raise UnsupportedError(
            "not a checkpoint of a known producer: nothing installed measures it",
            path=others[0].prefix,
            hint="measure it with a program of yours: --evaluate COMMAND --pattern REGEX --mode max",
        )
    measured: list[UserMeasurement] = []
    for done, checkpoint in enumerate((new, *others), start=1):
        lineage = first if checkpoint is new else identify(checkpoint)
        if lineage is None:
            raise UnsupportedError("not a checkpoint of a known producer", path=checkpoint.prefix)
        evaluator = find_user_evaluator(lineage)
        found = evaluator.measure_users(checkpoint, lineage, data_dir=how.data_dir, split=how.split, top_n=how.top_n)
        if measured and (found.digest, len(found.values)) != (measured[0].digest, len(measured[0].values)):
            raise MismatchError("was measured on other users", path=checkpoint.prefix)
        measured.append(found)
        told(done, len(others) + 1)
    own = measured[0]
    leads = []
    for checkpoint, found in zip(others, measured[1:], strict=True):
        drawn = paired_difference(own.values, found.values)
        leads.append(Lead(checkpoint.prefix, found.value, drawn.mean, drawn.low, drawn.high))
    return Comparison(f"{own.metric}@{own.top_n}", "max", own.value, tuple(leads), users=len(own.values))
