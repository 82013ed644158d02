"""Which part of a graph makes scores, what that part needs, and what it offers. Nothing is run.

What counts are the operations that are computed from what is fed (placeholders, queues, iterators), with all that these
need, without what only trains, saves or reports: gradients, optimizers, savers, initializers, summaries, losses and
metrics.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ckpt_tools.errors import CkptError
from ckpt_tools.format.graph_def import GraphDef, Node, Output, ShapeAttribute, TypeName
from ckpt_tools.graphs.interpreter import INTERPRETED
from ckpt_tools.graphs.ops import DRAWS
from ckpt_tools.graphs.order import plan

_FED = re.compile(r"Placeholder|PlaceholderWithDefault|.*QueueDequeue.*|IteratorGetNext|ParseExample.*|Reader.*")
# What changes or reports: never part of what a score needs.
_ACTS = re.compile(
    r"(Resource|Sparse)?(Sparse)?Apply\w+|Assign\w*|Scatter(Update|Add|Sub)|Save\w*|Restore\w*|MergeV2Checkpoints|"
    r"\w*Summary\w*|ShardedFilename|NoOp|Assert|Print|.*Initializer|.*EnqueueV?2?|.*Enqueue(Many)?V2|.*Dataset\w*|"
    r"MakeIterator"
)
_ASIDE = re.compile(
    r"(^|/)(gradients?|save(_\d+)?|train(ing)?_?op|optimi[sz]ers?|optimizer|Adam\w*|clip_by_global_norm|global_norm|"
    r"loss(es)?|cost|accuracy|metrics?|evaluation|report_uninitialized\w*|init(ializer)?|Initializer|summar\w+)"
    r"(_\d+)?(/|$)"
)
# Losses that stand under names of their own: what they take may be a score.
_OF_LOSSES = re.compile(r"(^|/)\w*(loss|sampled|cross_entropy)\w*(/|$)")
# What only speaks of shapes, or holds a value: no score.
_NO_SCORES = frozenset({"Shape", "ShapeN", "Size", "Rank", "Const", "Switch", "Enter", "Range", "LoopCond"})
_SPOKEN = re.compile(
    r"pred|score|logit|prob|softmax|sigmoid|output|user_eb|accuracy|auc|recall|loss|cost", re.IGNORECASE
)
_MOST_OFFERS = 16
_MOST_OUTPUTS = 16


@dataclass(frozen=True)
class Fed:
    """A value that has to be fed: ``dtype`` and ``shape`` as the graph says them, None where it does not."""

    name: str
    op: str
    dtype: str | None
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Offer:
    """A value that may be a score or a metric. ``needs`` are the names to be fed for it, ``missing`` the operations
    that are not interpreted, ``draws`` the nodes that draw random numbers for it."""

    name: str
    op: str
    needs: tuple[str, ...]
    missing: tuple[str, ...]
    draws: tuple[str, ...]


@dataclass(frozen=True)
class Needs:
    """What a graph takes and offers. ``missing``: the operations of its inference that are not interpreted."""

    nodes: int
    fed: tuple[Fed, ...]
    offers: tuple[Offer, ...]
    missing: tuple[str, ...]
    signatures: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]]

    def to_json(self) -> dict[str, Any]:
        row = {**asdict(self)}
        row["signatures"] = {
            name: {"inputs": dict(taken), "outputs": dict(given)} for name, (taken, given) in self.signatures.items()
        }
        return row


def needs_of(graph: GraphDef) -> Needs:
    """What a graph needs and offers."""
    nodes = graph.nodes
    found = inference(nodes)
    fed = [name for name in nodes if name in found and is_fed(nodes[name]) and not _saves(name)]
    missing = {nodes[name].op for name in found if not is_fed(nodes[name])} - INTERPRETED
    offers = [_offer(name, nodes) for name in offered(nodes)]
    return Needs(
        len(nodes),
        tuple(each for name in fed for each in _outputs_fed(nodes[name])),
        tuple(offers),
        tuple(sorted(missing)),
        graph.signatures,
    )


def inference(nodes: Mapping[str, Node]) -> set[str]:
    """The names of the nodes that are computed from what is fed, and of all that they need."""
    return _closure(_computed(nodes), lambda name: _needed(nodes[name], nodes))


def is_fed(node: Node) -> bool:
    """Whether values can be given in place of a node: a placeholder, a queue, an iterator."""
    return _FED.fullmatch(node.op) is not None


def offered(nodes: Mapping[str, Node]) -> list[str]:
    """The nodes that may be a score or a metric: what is called so, then what nothing else of the inference uses."""
    computed = _computed(nodes, _OF_LOSSES)
    used = {each.node for name in computed for each in nodes[name].inputs}
    ends = [name for name in nodes if name in computed and name not in used and not is_fed(nodes[name])]
    spoken = [name for name in _of_feeds(nodes) if _SPOKEN.search(name.rpartition("/")[2]) and "/cond/" not in name]
    both = dict.fromkeys(name for name in (*spoken, *ends) if nodes[name].op not in _NO_SCORES)
    fed = {Output(each, number) for each in nodes if is_fed(nodes[each]) for number in range(_MOST_OUTPUTS)}
    given = (name for name in both if not _saves(name) and not is_fed(nodes[name]) and _gives(name, nodes, fed))
    return list(itertools.islice(given, _MOST_OFFERS))


def _gives(name: str, nodes: Mapping[str, Node], fed: Collection[Output]) -> bool:
    """Whether a node stands in no loop: what a loop computes leaves it by its exits only."""
    try:
        return not plan(nodes, [Output(name)], fed).frames[name]
    except CkptError:
        return False


def _of_feeds(nodes: Mapping[str, Node]) -> list[str]:
    """All that is computed from what is fed, metrics and losses with it; not what trains."""
    found = _forward(nodes, lambda name: "gradients" not in name and "Summary" not in nodes[name].op)
    return [name for name in nodes if name in found and _ACTS.fullmatch(nodes[name].op) is None]


def _computed(nodes: Mapping[str, Node], aside: re.Pattern[str] = _ASIDE) -> set[str]:
    return _forward(
        nodes, lambda name: not any((_ACTS.fullmatch(nodes[name].op), _ASIDE.search(name), aside.search(name)))
    )


def _forward(nodes: Mapping[str, Node], counts: Callable[[str], bool]) -> set[str]:
    after: dict[str, list[str]] = {}
    for name, node in nodes.items():
        for each in node.inputs:
            after.setdefault(each.node, []).append(name)
    fed = [name for name, node in nodes.items() if is_fed(node)]
    return _closure(fed, lambda name: (each for each in after.get(name, ()) if counts(each)))


def _needed(node: Node, nodes: Mapping[str, Node]) -> list[str]:
    """What is fed needs nothing: in place of a queue or an iterator values can be given."""
    return [] if is_fed(node) else [each.node for each in node.inputs if each.node in nodes]


def _closure(start: Iterable[str], following: Callable[[str], Iterable[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(following(name))
    return found


def _saves(name: str) -> bool:
    return re.match(r"save(_\d+)?/", name) is not None


def _offer(name: str, nodes: Mapping[str, Node]) -> Offer:
    needed = _closure([name], lambda each: _needed(nodes[each], nodes))
    inner = [each for each in nodes if each in needed]
    return Offer(
        f"{name}:0",
        nodes[name].op,
        tuple(each for each in inner if is_fed(nodes[each]) and nodes[each].op != "PlaceholderWithDefault"),
        tuple(sorted({nodes[each].op for each in inner if not is_fed(nodes[each])} - INTERPRETED)),
        tuple(each for each in inner if nodes[each].op in DRAWS),
    )


def _outputs_fed(node: Node) -> list[Fed]:
    types = node.attributes.get("output_types") or node.attributes.get("component_types")
    shapes = node.attributes.get("output_shapes") or node.attributes.get("shapes") or []
    if not isinstance(types, list):
        types, shapes = [node.attributes.get("dtype")], [node.attributes.get("shape")]
    shapes = [*shapes, *[None] * len(types)] if isinstance(shapes, list) else [None] * len(types)
    return [
        Fed(
            str(Output(node.name, number)),
            node.op,
            dtype.name if isinstance(dtype, TypeName) else None,
            shape.dims if isinstance(shape, ShapeAttribute) else None,
        )
        for number, (dtype, shape) in enumerate(zip(types, shapes, strict=False))
    ]
