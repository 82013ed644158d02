"""In which order the nodes of a graph are run that some wanted values need, and in which loop each of them stands.

A loop of TensorFlow 1 is a frame: values come in through ``Enter`` and leave through ``Exit``; each of its variables is
a ``Merge`` of what came in and of what ``NextIteration`` brings from the round before. All edges but that one point
forwards, so that one order of all nodes can be had; what cannot be ordered is no graph of TensorFlow.

Source: tensorflow/core/ops/control_flow_ops.cc; "Implementation of Control Flow in TensorFlow" (2017).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ckpt_tools.errors import CorruptError, UnsafeError
from ckpt_tools.format.graph_def import Node, Output

# The names of the loops around a node, the outermost first.
Frame = tuple[str, ...]

_DEEPEST = 16
SWITCH = frozenset({"Switch", "RefSwitch"})
MERGE = frozenset({"Merge", "RefMerge"})
ENTER = frozenset({"Enter", "RefEnter"})
EXIT = frozenset({"Exit", "RefExit"})
NEXT = frozenset({"NextIteration", "RefNextIteration"})
_TAKES_ONE = ENTER | EXIT | NEXT
# The value of an input that is fed is there before anything is run.
_ALIVE = frozenset({"Identity", "RefIdentity"}) | SWITCH


@dataclass(frozen=True)
class Plan:
    """``order``: the nodes of each frame, in an order in which each comes after what it needs. ``frames``: where each
    node stands. ``guards``: of each node those that it only runs beside, if they do."""

    order: Mapping[Frame, Sequence[str]]
    frames: Mapping[str, Frame]
    guards: Mapping[str, tuple[Output, ...]]


def plan(nodes: Mapping[str, Node], wanted: Iterable[Output], fed: Collection[Output]) -> Plan:
    """The plan for some values; ``fed`` are those that are there already.

    Raises CorruptError for an input that is nowhere, a circle, loops that are not nested; UnsafeError for loops that
    are nested deeper than any.
    """
    guards: dict[str, tuple[Output, ...]] = {}
    needs: dict[str, list[str]] = {}
    waiting = [output.node for output in wanted if output not in fed]
    while waiting:
        name = waiting.pop()
        if name in needs:
            continue
        node = nodes.get(name)
        if node is None:
            raise CorruptError(f"there is no node {name!r:.200} in the graph")
        if node.op in _TAKES_ONE and len(node.inputs) != 1:
            raise CorruptError(f"node {name!r:.200} ({node.op}) has {len(node.inputs)} inputs")
        guards[name] = tuple(_guards(node, nodes))
        needs[name] = [each.node for each in (*node.inputs, *guards[name]) if each not in fed]
        waiting += needs[name]
    order = _ordered(nodes, needs)
    frames: dict[str, Frame] = {}
    by_frame: dict[Frame, list[str]] = {}
    for name in order:
        frames[name] = _frame(nodes[name], [frames[each] for each in needs[name] if each in frames])
        by_frame.setdefault(frames[name], []).append(name)
    return Plan(by_frame, frames, guards)


def _guards(node: Node, nodes: Mapping[str, Node]) -> Iterable[Output]:
    """Of what has to be run before those that say which branch of a condition a node stands in.

    In a loop the node of its condition says so too, which only means "each round"; but of a constant nothing else says
    which loop it stands in.
    """
    for name in node.before:
        before = nodes.get(name)
        if before is None or before.op not in _ALIVE or not before.inputs:
            continue
        switch = before if before.op in SWITCH else nodes.get(before.inputs[0].node)
        if switch is None or switch.op not in SWITCH or len(switch.inputs) != 2:
            continue
        chosen = nodes.get(switch.inputs[1].node)
        if chosen is not None and (chosen.op != "LoopCond" or not node.inputs):
            yield Output(name)


def _ordered(nodes: Mapping[str, Node], needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Kahn's order, without the edges from one round of a loop to the next."""
    missing: dict[str, int] = {}
    after: dict[str, list[str]] = {}
    for name in needs:
        before = [each for each in needs[name] if not (nodes[name].op in MERGE and nodes[each].op in NEXT)]
        missing[name] = len(before)
        for each in before:
            after.setdefault(each, []).append(name)
    ready = [name for name, count in missing.items() if not count]
    order = []
    while ready:
        name = ready.pop()
        order.append(name)
        for each in after.get(name, ()):
            missing[each] -= 1
            if not missing[each]:
                ready.append(each)
    if len(order) < len(needs):
        stuck = min(name for name, count in missing.items() if count)
        raise CorruptError(f"the graph runs in a circle through {stuck!r:.200}")
    return order


def _frame(node: Node, around: Sequence[Frame]) -> Frame:
    deepest = max(around, key=len, default=())
    if any(deepest[: len(each)] != each for each in around):
        raise CorruptError(f"node {node.name!r:.200} has inputs of two loops")
    if node.op in ENTER:
        name = node.attributes.get("frame_name", b"")
        deepest = (*deepest, str(name))
        if len(deepest) > _DEEPEST:
            raise UnsafeError(f"loops nested deeper than {_DEEPEST}")
    elif node.op in EXIT:
        if not deepest:
            raise CorruptError(f"node {node.name!r:.200} leaves a loop that it is not in")
        deepest = deepest[:-1]
    return deepest
