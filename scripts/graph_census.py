"""Which operations the inference part of TensorFlow 1 graphs is made of.

    python scripts/graph_census.py FILE.meta ...

A ``.meta`` file is a MetaGraphDef. What is counted are the operations that are computed from what is fed (placeholders,
queues, iterators), with all that these need, without what only trains, saves or reports: gradients, optimizers, savers,
initializers, summaries, losses and metrics. Nothing is run.

    MetaGraphDef  graph_def=2{node=1{name=1 op=2 input=3 attr=5} library=2{function=1}}

Source: tensorflow/core/protobuf/meta_graph.proto, tensorflow/core/framework/graph.proto, node_def.proto.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ckpt_tools.format.wire import fields

FED = re.compile(r"Placeholder|PlaceholderWithDefault|.*QueueDequeue.*|IteratorGetNext|ParseExample.*|Reader.*")
# What changes or reports: never part of what a score needs.
_ACTS = re.compile(
    r"(Resource|Sparse)?(Sparse)?Apply\w+|Assign\w*|Scatter(Update|Add|Sub)|Save\w*|Restore\w*|MergeV2Checkpoints|"
    r"\w*Summary\w*|ShardedFilename|NoOp|Assert|Print|.*Initializer|.*EnqueueV?2?|.*Enqueue(Many)?V2|.*Dataset\w*|"
    r"MakeIterator"
)
_ASIDE = re.compile(
    r"(^|/)(gradients?|save|train(ing)?_?op|optimi[sz]ers?|optimizer|Adam\w*|clip_by_global_norm|global_norm|loss(es)?|"
    r"cost|accuracy|metrics?|evaluation|report_uninitialized\w*|init(ializer)?|Initializer|summar\w+)(_\d+)?(/|$)"
)


@dataclass(frozen=True)
class Node:
    """``inputs`` are names of nodes, without their output's number; those that only have to be run before are not
    among them."""

    op: str
    inputs: tuple[str, ...]


def read_graph(data: bytes) -> dict[str, Node]:
    """The nodes of a graph by name. Raises CorruptError for what is no MetaGraphDef."""
    nodes = {}
    for part in fields(data):
        if part.number != 2:
            continue
        for row in fields(part.content()):
            if row.number == 1:
                name, node = _node(row.content())
                nodes[name] = node
    return nodes


def _node(data: bytes) -> tuple[str, Node]:
    name = op = ""
    inputs = []
    for row in fields(data):
        if row.number == 1:
            name = row.text()
        elif row.number == 2:
            op = row.text()
        elif row.number == 3 and not row.text().startswith("^"):
            inputs.append(row.text().partition(":")[0])
    return name, Node(op, tuple(inputs))


def inference(nodes: Mapping[str, Node]) -> set[str]:
    """The names of the nodes that are computed from what is fed, and of all that they need."""
    forward: dict[str, list[str]] = {}
    for name, node in nodes.items():
        for each in node.inputs:
            forward.setdefault(each, []).append(name)
    fed = [name for name, node in nodes.items() if FED.fullmatch(node.op)]
    computed = _closure(fed, lambda name: (each for each in forward.get(name, ()) if _counts(each, nodes[each])))
    return _closure(computed, lambda name: _needed(nodes[name], nodes))


def _needed(node: Node, nodes: Mapping[str, Node]) -> list[str]:
    """What is fed needs nothing: in place of a queue or an iterator values can be given."""
    return [] if FED.fullmatch(node.op) else [each for each in node.inputs if each in nodes]


def _counts(name: str, node: Node) -> bool:
    return not _ACTS.fullmatch(node.op) and not _ASIDE.search(name)


def _closure(start: Iterable[str], following: Callable[[str], Iterable[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(following(name))
    return found


def covered(kinds: Mapping[str, set[str]]) -> Iterator[tuple[str, int]]:
    """The graphs in the order in which each needs the fewest operations more, with how many are needed by then."""
    known: set[str] = set()
    left = dict(kinds)
    while left:
        name = min(left, key=lambda name: (len(left[name] - known), name))
        known |= left.pop(name)
        yield name, len(known)


def main(paths: Sequence[str]) -> None:
    counts: dict[str, Counter[str]] = {}
    sizes = {}
    for path in paths:
        nodes = read_graph(Path(path).read_bytes())
        counts[Path(path).stem] = Counter(nodes[name].op for name in inference(nodes))
        sizes[Path(path).stem] = len(nodes), len({node.op for node in nodes.values()})
    kinds = {name: set(found) for name, found in counts.items()}
    print("| graph | nodes | operations | nodes of inference | operations of inference | needed so far |")
    print("|---|---|---|---|---|---|")
    for name, needed in covered(kinds):
        found = counts[name]
        print(f"| {name} | {sizes[name][0]} | {sizes[name][1]} | {found.total()} | {len(found)} | {needed} |")
    in_graphs = Counter(op for found in kinds.values() for op in found)
    print()
    for number in sorted(set(in_graphs.values()), reverse=True):
        ops = sorted(op for op, count in in_graphs.items() if count == number)
        print(f"- in {number}: {', '.join(ops)}")


if __name__ == "__main__":
    main(sys.argv[1:])
