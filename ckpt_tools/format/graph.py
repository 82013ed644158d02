"""Names and paths in the object graph of a checkpoint.

The key of a tensor depends on the TensorFlow and Keras versions that wrote it and on which way TensorFlow
happened to walk first; the path from the root through the attributes of the user's own objects does not.
Under Keras 3 a kernel of the model may be stored as ``optimizer/_trainable_variables/1``: only the graph
tells that it is ``model/gru/cell/kernel``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from ckpt_tools.format.object_graph import VARIABLE_VALUE, Node, Slot, decode_graph

# How long all paths together may be: so many times the graph itself, and some for small ones.
_MOST_TIMES, _MOST_FREE = 8, 4 << 20


@dataclass(frozen=True)
class Variable:
    """A variable in the graph: its path from the root, the key of its value, its full name when created."""

    node: int
    path: str
    key: str
    full_name: str


class ObjectGraph:
    """The decoded graph; all walks are iterative and tolerate cycles."""

    def __init__(self, data: bytes) -> None:
        self.nodes: tuple[Node, ...] = decode_graph(data)
        self._most_characters = _MOST_TIMES * len(data) + _MOST_FREE

    def child(self, path: str) -> int | None:
        """The node at ``a/b/c`` below the root, or None."""
        node = 0
        for name in path.split("/"):
            following = self.nodes[node].children.get(name)
            if following is None:
                return None
            node = following
        return node

    def variable(self, path: str) -> Variable | None:
        """The variable at a path, or None when there is no such node or it holds no value."""
        node = self.child(path)
        return None if node is None else self._variable(node, path)

    def variables_below(self, path: str) -> Iterator[Variable]:
        """Every variable that can be reached from a path, nearest first, each once."""
        start = self.child(path)
        if start is not None:
            for node, where in self.walk(start, path):
                variable = self._variable(node, where)
                if variable is not None:
                    yield variable

    @cached_property
    def paths(self) -> dict[str, str]:
        """For each key in the graph the shortest path to its object from the root; see `walk` for those without."""
        return {attribute.key: where for node, where in self.walk(0, "") for attribute in self.nodes[node].attributes}

    @property
    def keys(self) -> Iterator[str]:
        """The keys of all objects that can be reached from the root."""
        return (attribute.key for node in self.reachable(0) for attribute in self.nodes[node].attributes)

    @property
    def slots(self) -> Iterator[Slot]:
        """All slot variables of Keras 2's optimizers."""
        for node in self.nodes:
            yield from node.slots

    @cached_property
    def full_names(self) -> dict[str, str]:
        """For each key the name that its variable was created with; empty where none was stored."""
        return {attribute.key: attribute.full_name for node in self.nodes for attribute in node.attributes}

    def trainable_keys(self) -> set[str]:
        """The keys of the model's own weights that Keras 3's optimizers hold."""
        return {key for weights, _ in self._optimizer_lists() for key in map(self.key_of, weights.values()) if key}

    def moments(self) -> Iterator[tuple[str, tuple[str | None, str]]]:
        """What Keras 3's optimizers keep for each weight: its key, with the key of the weight and the list's name.

        A weight's place in ``_trainable_variables`` is the place of its moments in the other lists of that length; an
        object is told by its node, never by a name.
        """
        for weights, lists in self._optimizer_lists():
            for name, places in lists.items():
                if len(places) == len(weights):
                    for place, node in places.items():
                        key = self.key_of(node)
                        if key is not None and place in weights:
                            yield key, (self.key_of(weights[place]), name.strip("_"))

    def _optimizer_lists(self) -> Iterator[tuple[Mapping[str, int], dict[str, Mapping[str, int]]]]:
        """The numbered children of each optimizer: its weights, and its other lists.

        No two optimizers of Keras have one list of weights: of those that do the first counts.
        """
        seen: set[int] = set()
        for node in self.nodes:
            weights = node.children.get("_trainable_variables")
            if weights is not None and weights not in seen and "_iterations" in node.children:
                seen.add(weights)
                lists = {
                    name: self.nodes[child].children
                    for name, child in node.children.items()
                    if name not in ("_trainable_variables", "_variables") and self.nodes[child].children
                }
                yield self.nodes[weights].children, lists

    def optimizer_keys(self) -> set[str]:
        """The keys of what belongs to an optimizer alone: it cannot be reached but through one.

        Under Keras 3 an optimizer also holds the model's own weights, which are not meant.
        """
        seen = {0}
        queue = deque([0])
        while queue:
            for name, child in self.nodes[queue.popleft()].children.items():
                if child not in seen and not self._is_optimizer(name, child):
                    seen.add(child)
                    queue.append(child)
        every = {number: {attribute.key for attribute in node.attributes} for number, node in enumerate(self.nodes)}
        of_others = {key for number in seen for key in every[number]}
        return {key for keys in every.values() for key in keys} - of_others

    def _is_optimizer(self, name: str, node: int) -> bool:
        found = self.nodes[node]
        return name.endswith("optimizer") or bool(found.slots) or "_iterations" in found.children

    def key_of(self, node: int) -> str | None:
        """The key under which the value of a variable's node is stored."""
        for attribute in self.nodes[node].attributes:
            if attribute.name == VARIABLE_VALUE:
                return attribute.key
        return None

    def walk(self, start: int = 0, path: str = "") -> Iterator[tuple[int, str]]:
        """Each node that can be reached and its path: breadth first, so that the first path found is a shortest one.

        Ends when all paths together are many times as long as the graph itself: objects may be nested as deep as there
        are objects.
        """
        seen = {start}
        queue = deque([(start, path)])
        left = self._most_characters
        while queue:
            node, where = queue.popleft()
            yield node, where
            for name, child in self.nodes[node].children.items():
                left -= 0 if child in seen else len(where) + 1 + len(name)
                if child not in seen and left >= 0:
                    seen.add(child)
                    queue.append((child, f"{where}/{name}" if where else name))

    def reachable(self, *starts: int) -> Iterator[int]:
        """Each node that can be reached from some, themselves included: breadth first, each once."""
        seen = {*starts}
        queue = deque(starts)
        while queue:
            node = queue.popleft()
            yield node
            for child in self.nodes[node].children.values():
                if child not in seen:
                    seen.add(child)
                    queue.append(child)

    def _variable(self, node: int, path: str) -> Variable | None:
        for attribute in self.nodes[node].attributes:
            if attribute.name == VARIABLE_VALUE:
                return Variable(node, path, attribute.key, attribute.full_name)
        return None
