"""The door for programs that can measure a checkpoint again.

``ckpt`` itself runs no model. A package that can registers a class under the entry point group
``ckpt_tools.evaluators``; this project's trainer registers ``comirec``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ckpt_tools.errors import UnsupportedError
from ckpt_tools.lineages import Lineage
from ckpt_tools.readers import Checkpoint

if TYPE_CHECKING:
    import numpy as np

    from ckpt_tools.runs.run_graph import RunGraph

GROUP = "ckpt_tools.evaluators"
# (done, total) in whatever unit the evaluator counts.
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Measurement:
    """A metric of one checkpoint on one split, and the identity that makes two of them comparable.

    ``digest`` is the SHA-256 of the split, ``details`` are other figures of the same pass. A model that draws noise
    when it is measured has ``recall_mean``, ``recall_deviation``, ``recall_low`` and ``recall_high`` among them, over
    several seeds. ``graph`` is the SHA-256 of the graph that computed it, where the trainer's own did.
    """

    metric: str
    value: float
    top_n: int
    split: str
    digest: str
    users: int
    details: Mapping[str, float] = field(default_factory=dict)
    graph: str | None = None

    def within_noise(self, value: float) -> bool:
        """Whether another measurement of the same weights may have given this value: within four deviations."""
        if "recall_mean" not in self.details:
            return False
        margin = 4 * self.details["recall_deviation"]
        low = min(self.details["recall_low"], self.details["recall_mean"] - margin)
        high = max(self.details["recall_high"], self.details["recall_mean"] + margin)
        return low <= value <= high

    def to_json(self) -> dict[str, Any]:
        row = asdict(self)
        row["name"] = row.pop("metric")
        if self.graph is None:
            del row["graph"]
        return row


@dataclass(frozen=True)
class UserMeasurement:
    """A metric of one checkpoint for each user of a split: ``values`` float64 [U], in the order of the split, which
    ``digest`` tells."""

    metric: str
    top_n: int
    split: str
    digest: str
    values: np.ndarray

    @property
    def value(self) -> float:
        """The mean over the users."""
        return float(self.values.mean())


class Evaluator(Protocol):
    """What an entry point's class offers."""

    def accepts(self, lineage: Lineage) -> bool:
        """Whether it can measure checkpoints of this lineage and model."""
        ...

    def measure(
        self,
        checkpoint: Checkpoint,
        lineage: Lineage,
        *,
        data_dir: str,
        split: str,
        top_n: int,
        progress: OnProgress | None = None,
    ) -> Measurement:
        """Measure the checkpoint on a split of the data. Raises CkptError when data and checkpoint do not fit."""
        ...


@runtime_checkable
class UserEvaluator(Protocol):
    """What an entry point's class may offer too: the same measurement, user by user."""

    def measure_users(
        self, checkpoint: Checkpoint, lineage: Lineage, *, data_dir: str, split: str, top_n: int
    ) -> UserMeasurement:
        """Raises what `Evaluator.measure` raises."""
        ...


@runtime_checkable
class GraphEvaluator(Protocol):
    """What an entry point's class offers when it can measure with the graph of the trainer itself."""

    def measure_graph(
        self,
        checkpoint: Checkpoint,
        lineage: Lineage,
        graph: RunGraph,
        *,
        data_dir: str,
        split: str,
        top_n: int,
        progress: OnProgress | None = None,
    ) -> Measurement:
        """Raises what `Evaluator.measure` raises, and UnsupportedError for a graph that it cannot do it with."""
        ...


def find_graph_evaluator(lineage: Lineage) -> GraphEvaluator:
    """The evaluator of a lineage, if it can measure with a graph. Raises UnsupportedError when there is none."""
    found = find_evaluator(lineage)
    if not isinstance(found, GraphEvaluator):
        raise UnsupportedError(f"what evaluates {lineage.model or 'a model'} of {lineage.id} takes no graph")
    return found


def find_user_evaluator(lineage: Lineage) -> UserEvaluator:
    """The evaluator of a lineage, if it measures user by user. Raises UnsupportedError when there is none."""
    found = find_evaluator(lineage)
    if not isinstance(found, UserEvaluator):
        raise UnsupportedError(
            f"what evaluates {lineage.model or 'a model'} of {lineage.id} does not tell each user's value"
        )
    return found


def find_evaluator(lineage: Lineage) -> Evaluator:
    """The first registered evaluator that accepts a lineage. Raises UnsupportedError when there is none."""
    failures = []
    for entry in entry_points(group=GROUP):
        try:
            evaluator: Evaluator = entry.load()()
        except ImportError as error:
            failures.append(f"{entry.name} ({error})")
            continue
        if evaluator.accepts(lineage):
            return evaluator
    tried = f"; could not be loaded: {', '.join(failures)}" if failures else ""
    raise UnsupportedError(
        f"nothing installed can evaluate {lineage.model or 'a model'} of {lineage.id}{tried}",
        hint="pip install 'ckpt-tools[trainer]', or give the value yourself with --value",
    )
