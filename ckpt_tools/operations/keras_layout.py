"""Where Keras looks for each weight, found in the object graph of a checkpoint.

    NAME.weights.h5   Keras 3: the attributes of the model lead to a layer, its variables are numbered
                      gru/cell/vars/1     layers/dense_1/vars/0 (lists of layers are numbered by class)
    NAME.h5           Keras 1 to 3: the layers in their order, by whatever name, and the weights of each in theirs

The order of a layer's variables is that of their creation, in which the object graph has them; those that are trained
come first. What the graph does not tell is a *doubt*: the layout is then the most probable one, and says so.

Sources: keras/src/saving/saving_lib.py (_walk_saveable, _load_container_state), keras/src/layers/layer.py
(save_own_variables), keras/src/legacy/saving/legacy_h5_format.py.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from ckpt_tools.format.graph import ObjectGraph
from ckpt_tools.format.keras_classes import MAY_BE_EMPTY, NOT_TRAINED, Made, class_like, class_named, snake_case
from ckpt_tools.lineages.names import SAVE_COUNTER
from ckpt_tools.readers.base import TensorInfo

# Beyond these a graph is no model.
_MOST_PATHS = 16
_MOST_WORLDS = 64
_MOST_DEPTH = 64

# What belongs to a model, and is no layer of it.
_OTHERS = re.compile(
    r"keras_api|save_counter|root|signatures|_default_save_signature|__call__|call_and_return.*|.*optimizer|variables"
    r"|trainable_variables|non_trainable_variables|regularization_losses|train_function|train_tf_function|test_function"
    r"|predict_function|_losses|_losses_override|_inbound_nodes|_outbound_nodes|_tracked|call_signature_parameters"
    r"|_call_has_context_arg|_trainable_variables|_non_trainable_variables|_seed_generators|_metrics|_loss_tracker"
    r"|_compile_metrics|_compile_loss|_self_.*"
)
_LAYER = re.compile(r"layer-(\d+)")
_LAYER_LISTS = ("_operations", "_layers")
_NUMBERED = re.compile(r"layer(_with_weights)?-\d+")


class Doubt(NamedTuple):
    """What the checkpoint does not tell; ``of_class`` when only the names of the groups of Keras 3 depend on it."""

    message: str
    of_class: bool = False


@dataclass
class Layout:
    """``groups``: the keys of the variables of each group, in order; ``doubts``: what the checkpoint does not tell."""

    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    doubts: dict[Doubt, None] = field(default_factory=dict)

    def doubt(self, message: str, *, of_class: bool = False) -> None:
        self.doubts[Doubt(message, of_class)] = None


@dataclass(frozen=True)
class _Layer:
    """A layer, taken apart: its own variables in the order of the graph, then the layers of its attributes."""

    own: tuple[tuple[str, int], ...]
    members: tuple[int, ...] | None
    attributes: tuple[tuple[str, int], ...]


class KerasModel:
    """The model in a checkpoint's object graph.

    Args:
        graph: the object graph.
        tensors: the tensors of the checkpoint; variables without a value are no weights.
        classes: the classes of layers, by path in the graph, where a file tells them.
        child: which child of the root is the model; by default it is found.
    """

    def __init__(
        self,
        graph: ObjectGraph,
        tensors: Mapping[str, TensorInfo],
        classes: Mapping[str, str] | None = None,
        child: str | None = None,
    ) -> None:
        self.graph = graph
        self._tensors = tensors
        self._classes = {
            node: name for path, name in (classes or {}).items() if (node := _find(graph, path)) is not None
        }
        self._layers: dict[int, _Layer] = {}
        self._makes: dict[int, Made] = {}
        self._trained = self._with_slots() | self._listed_as_trained()
        self.root, self._root_paths = self._start(child)

    # ------------------------------------------------------------------------------------- the two layouts

    def by_class(self) -> Layout:
        """The groups of a ``.weights.h5`` of Keras 3: each path to the group that holds ``vars``."""
        found = Layout()
        owners: dict[str, int] = {}
        seen: set[int] = set()
        stack: list[tuple[int, tuple[str, ...], int]] = [(self.root, self._root_paths, 0)]
        while stack:
            node, paths, depth = stack.pop()
            if node in seen or depth > _MOST_DEPTH:
                continue
            seen.add(node)
            layer = self._layer(node)
            keys = self._ordered(node, found)
            for path in paths if keys else ():
                if owners.setdefault(path, node) != node:
                    found.doubt(f"two layers would be called {path}")
                found.groups[path] = keys
            following = [(each, names, depth + 1) for each, names in self._children(node, paths, layer, found)]
            stack.extend(reversed(following))
        self._complete(found, seen)
        return found

    def by_position(self) -> tuple[list[tuple[str, tuple[str, ...]]], list[Doubt]]:
        """The layers of a legacy ``.h5`` in their order, and what is doubtful about them.

        A layer is a name and the keys of its weights; the model's own weights come last, without a name.
        """
        found = Layout()
        rows: list[tuple[str, tuple[str, ...]]] = []
        seen: set[int] = {self.root}
        top = self._layer(self.root)
        members = top.members
        if members is None:
            members = tuple(each for _, node in top.attributes for each in self._flat(node))
            for name, node in top.attributes:
                if self._may_be_dict(node) and "keras_api" not in self.graph.nodes[0].children:
                    found.doubt(f"{name}: is one layer, or a dict of several")
        for number, member in enumerate(members):
            if member in seen:
                continue
            trained, rest = self._all_below(member, seen, found)
            if trained or rest:
                rows.append((self._own_name(member) or f"layer_{number}", (*trained, *rest)))
        if own := self._ordered(self.root, found):
            rows.append(("", own))
            found.doubt(
                "Keras 2 loads the weights that are the model's own, of no layer, from a .h5, but Keras 3 fails"
            )
        self._complete(found, seen)
        return rows, list(found.doubts)

    def _all_below(self, start: int, seen: set[int], found: Layout) -> tuple[list[str], list[str]]:
        """The keys of all weights of a layer, those that are trained and the others, as Keras lists them."""
        trained: list[str] = []
        rest: list[str] = []
        stack = [start]
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            ordered = self._ordered(node, found)
            names = {self.graph.key_of(number): name for name, number in self._layer(node).own}
            idle = self._idle(node)
            trained += [key for key in ordered if names[key] not in idle]
            rest += [key for key in ordered if names[key] in idle]
            layer = self._layer(node)
            below = layer.members if layer.members is not None else [child for _, child in layer.attributes]
            stack.extend(reversed([each for child in below for each in self._flat(child)]))
        return trained, rest

    # ------------------------------------------------------------------------------------- the model

    def _start(self, child: str | None) -> tuple[int, tuple[str, ...]]:
        """The model's node, and what stands before the paths of its groups."""
        children = self.graph.nodes[0].children
        if child is not None:
            node = self.graph.child(child)
            return (0 if node is None else node), ("",)
        if "root" in children or "keras_api" in children or self._layer(0).members is not None:
            return 0, ("",)
        if "model" in children and self._has_weights(children["model"]):
            return children["model"], ("",)
        parts = [(name, node) for name, node in self._layer(0).attributes if self._has_weights(node)]
        if len(parts) == 1 and not _is_variable(self.graph, parts[0][1]):
            name, node = parts[0]
            # The root is a Checkpoint whose child is the model, or a model with one layer: Keras looks in one place or
            # in the other.
            return node, ("",) if SAVE_COUNTER in children else ("", name)
        return 0, ("",)

    @property
    def parts(self) -> list[str]:
        """The children of the root that may each be a model, when it is a Checkpoint of several."""
        children = self.graph.nodes[0].children
        if self.root or SAVE_COUNTER not in children:
            return []
        return [name for name, node in self._layer(0).attributes if self._has_weights(node)]

    def _layer(self, node: int) -> _Layer:
        if node not in self._layers:
            self._layers[node] = self._apart(node)
        return self._layers[node]

    def _apart(self, node: int) -> _Layer:
        children = self.graph.nodes[node].children
        own: dict[int, str] = {}
        attributes: list[tuple[str, int]] = []
        inner = children.get("_functional")
        members = self._listed(children) if inner is None else self._listed(self.graph.nodes[inner].children)
        for name, child in children.items():
            if _OTHERS.fullmatch(name) or child == node or name == "_functional":
                continue
            if members is not None and (_NUMBERED.fullmatch(name) or name in _LAYER_LISTS):
                continue
            if _is_variable(self.graph, child):
                own.setdefault(child, name)
            elif self._is_list(child) and self._of_variables(child):
                for number, variable in self.graph.nodes[child].children.items():
                    own.setdefault(variable, f"{name}/{number}")
            elif self._has_weights(child):
                attributes.append((name, child))
        if any(not name.startswith("_") for name, _ in attributes):
            # Keras 3 keeps a list of the same layers.
            attributes = [(name, child) for name, child in attributes if name not in _LAYER_LISTS]
        return _Layer(tuple((name, child) for child, name in own.items()), members, tuple(attributes))

    def _listed(self, children: Mapping[str, int]) -> tuple[int, ...] | None:
        """The layers of a Sequential or functional model, in their order; None for other objects."""
        numbered = sorted(
            (int(match[1]), child) for name, child in children.items() if (match := _LAYER.fullmatch(name))
        )
        if numbered:
            return tuple(child for _, child in numbered)
        if "_operations" in children:
            return tuple(self._in_order(children["_operations"]))
        return None

    def _in_order(self, node: int) -> list[int]:
        children = self.graph.nodes[node].children
        return [
            child for _, child in sorted((int(name), child) for name, child in children.items() if name.isdecimal())
        ]

    def _is_list(self, node: int) -> bool:
        children = self.graph.nodes[node].children
        return bool(children) and all(name.isdecimal() for name in children)

    def _of_variables(self, node: int) -> bool:
        return all(_is_variable(self.graph, child) for child in self.graph.nodes[node].children.values())

    def _may_be_dict(self, node: int) -> bool:
        """Whether a node without variables of its own may be a dict of layers, which looks like a layer of layers."""
        layer = self._layer(node)
        children = self.graph.nodes[node].children
        if "keras_api" in self.graph.nodes[0].children:
            return "keras_api" not in children and not self._is_list(node) and bool(layer.attributes)
        if layer.own or layer.members is not None or not layer.attributes or self._is_list(node):
            return False
        if class_like(self._made(node)) is not None:
            return False
        return all(name in children and not name.startswith("_") for name, _ in layer.attributes)

    def _flat(self, node: int) -> Iterator[int]:
        """The layers that a node is: itself, or those of a list or dict."""
        stack = [(node, 0)]
        while stack:
            each, depth = stack.pop()
            if (self._is_list(each) or (not depth and self._may_be_dict(each))) and depth < _MOST_DEPTH:
                inner = self._in_order(each) if self._is_list(each) else [n for _, n in self._layer(each).attributes]
                stack.extend(reversed([(child, depth + 1) for child in inner]))
            else:
                yield each

    def _has_weights(self, node: int) -> bool:
        """Whether any variable with a value can be reached without going through what is no layer."""
        return node in self._leads_to_weights

    @cached_property
    def _leads_to_weights(self) -> set[int]:
        above: dict[int, list[int]] = {}
        for number, node in enumerate(self.graph.nodes):
            for name, child in node.children.items():
                if not _OTHERS.fullmatch(name):
                    above.setdefault(child, []).append(number)
        found = {number for number in range(len(self.graph.nodes)) if self.graph.key_of(number) in self._tensors}
        stack = list(found)
        while stack:
            for number in above.get(stack.pop(), ()):
                if number not in found:
                    found.add(number)
                    stack.append(number)
        return found

    # ------------------------------------------------------------------------------------- variables

    def _listed_as_trained(self) -> set[int]:
        """The variables in a list of those that are trained: what is not in it, is not."""
        trained: set[int] = set()
        for node in self.graph.nodes:
            listed = node.children.get("_trainable_variables")
            if listed is not None and any(
                name.startswith("_iterations") or name == "iterations" for name in node.children
            ):
                trained |= set(self.graph.nodes[listed].children.values())
            every, some = node.children.get("variables"), node.children.get("trainable_variables")
            if every is not None and some is not None:
                trained |= set(self.graph.nodes[some].children.values())
        return trained

    def _with_slots(self) -> set[int]:
        """The variables that the optimizer keeps something of: they are trained; one that is not in it may be, too.

        Keras 2 makes no slot of a variable that never had a gradient.
        """
        found = {slot.variable for slot in self.graph.slots}
        named: set[str] = set()
        for node in self.graph.nodes:
            if "_iterations" in node.children and "_variables" in node.children:
                # Keras 2.11 to 2.15 calls a moment after its variable: Adam/m/dense/kernel.
                moments = self.graph.nodes[node.children["_variables"]].children.values()
                parts = (self._full_name(number).split("/", 2) for number in moments)
                named |= {each[2] for each in parts if len(each) == 3}
        if named:
            found |= {number for number in range(len(self.graph.nodes)) if self._full_name(number) in named}
        return found

    def _idle(self, node: int) -> set[str]:
        """The names of a layer's own variables that are not trained."""
        own = self._layer(node).own
        made = self._made(node)
        like = class_like(made)
        idle = {name for name, _ in own if like in NOT_TRAINED and _public(name) in NOT_TRAINED[like]}
        if any(number in self._trained for _, number in own):
            idle |= {name for name, number in own if number not in self._trained}
        return idle

    def _ordered(self, node: int, found: Layout) -> tuple[str, ...]:
        """The keys of a layer's own variables: those that are trained first, then as they were created."""
        layer = self._layer(node)
        idle = self._idle(node)
        keys: list[str] = []
        places = self._places(node)
        for name, number in sorted(layer.own, key=lambda pair: places[pair[1]] if places else pair[0] in idle):
            key = self.graph.key_of(number)
            if key is None or key not in self._tensors:
                found.doubt(f"{self._called(node)}: {name} has no value in the checkpoint")
            else:
                keys.append(key)
        self._doubt_order(node, found)
        return tuple(keys)

    def _places(self, node: int) -> dict[int, int]:
        """The places of all of a layer's own variables in its list of weights, which a SavedModel has; else nothing.

        Those that are trained come first there, as they were created; and they still do once the layer is frozen.
        Source: keras/engine/base_layer.py of Keras 2 (weights, non_trainable_weights).
        """
        children = self.graph.nodes[node].children
        if "trainable_variables" not in children or "variables" not in children:
            return {}
        places = {number: place for place, number in enumerate(self._in_order(children["variables"]))}
        return places if all(number in places for _, number in self._layer(node).own) else {}

    def _doubt_order(self, node: int, found: Layout) -> None:
        """Two variables of one shape in a layer that Keras does not have: which of them are trained is not stored."""
        layer = self._layer(node)
        if len(layer.own) < 2 or class_like(self._made(node)) is not None:
            return
        own = {number for _, number in layer.own}
        if self._places(node) or own & self._listed_as_trained():
            return
        alike = [list(group) for _, group in itertools.groupby(sorted(layer.own, key=self._shape), key=self._shape)]
        if own & self._trained:
            self._doubt_slots(node, alike, found)
            return
        names = ", ".join(name for group in alike if len(group) > 1 for name, _ in group)
        if names:
            found.doubt(
                f"{self._called(node)}: {names} have one shape, and the checkpoint holds no state of an optimizer that "
                "would tell which of them are trained; they are put in the order of their creation, which is wrong if "
                "one of them is not trained"
            )

    def _doubt_slots(self, node: int, alike: Sequence[Sequence[tuple[str, int]]], found: Layout) -> None:
        """A variable goes behind another of its shape for want of a slot, which may be all that it lacks."""
        for group in alike:
            without = [name for name, number in group if number not in self._trained]
            others = [name for name, number in group if number in self._trained]
            places = [number in self._trained for _, number in group]
            # Where those without a slot come last anyway, the order is the same either way.
            if without and others and places != sorted(places, reverse=True):
                one, other = ", ".join(others), ", ".join(without)
                found.doubt(
                    f"{self._called(node)}: {one} and {other} have one shape; the checkpoint holds state of the "
                    f"optimizer for {one} and none for {other}, put behind as Keras puts what is not trained; that is "
                    "wrong if only that state is missing"
                )

    def _shape(self, pair: tuple[str, int]) -> tuple[int, ...]:
        info = self._tensors.get(self.graph.key_of(pair[1]) or "")
        return info.shape if info else ()

    # ------------------------------------------------------------------------------------- names

    def _children(
        self, node: int, paths: tuple[str, ...], layer: _Layer, found: Layout
    ) -> Iterable[tuple[int, tuple[str, ...]]]:
        """The layers below, as Keras goes through them, each with its paths."""
        if layer.members is not None:
            yield from self._in_container(layer.members, _joined(paths, ("layers",)), found)
        # Private attributes are visited last.
        for name, child in sorted(layer.attributes, key=lambda item: f"~{item[0]}" if item[0][0] == "_" else item[0]):
            # Keras 3 has given some of them a public name, under which it looks first.
            names = (name, _public(name)) if _public(name) not in self.graph.nodes[node].children else (name,)
            inner = _joined(paths, tuple(dict.fromkeys(names)))
            if self._is_list(child):
                yield from self._in_container(self._in_order(child), inner, found)
            elif self._may_be_dict(child):
                members = [each for _, each in self._layer(child).attributes]
                in_dict = dict(self._in_container(members, inner, found))
                for key, each in self._layer(child).attributes:
                    yield each, (*_joined(inner, (key,)), *in_dict.get(each, ()))
            else:
                yield child, inner

    def _in_container(
        self, members: Sequence[int], paths: tuple[str, ...], found: Layout, depth: int = 0
    ) -> Iterator[tuple[int, tuple[str, ...]]]:
        """The layers of a list, called by their classes and numbered."""
        candidates = [self._candidates(member, members[:number], found) for number, member in enumerate(members)]
        every = math.prod(len(each) for each in candidates)
        names = _numbered(
            itertools.product(*candidates) if every <= _MOST_WORLDS else [tuple(e[0] for e in candidates)]
        )
        if names is None:
            found.doubt(f"{paths[0]}: Sequential and functional models among the layers look alike", of_class=True)
            names = _numbered([tuple(each[0] for each in candidates)]) or []
        for member, called in zip(members, names, strict=True):
            inner = _joined(paths, called)
            if self._is_list(member) and depth < _MOST_DEPTH:
                yield from self._in_container(self._in_order(member), inner, found, depth + 1)
            elif self._has_weights(member):
                yield member, inner

    def _candidates(self, node: int, before: Sequence[int], found: Layout) -> tuple[str, ...]:
        """The classes that a member of a list may be of, the most probable first; "" for what needs no name."""
        if node in self._classes:
            return (snake_case(self._classes[node]),)
        if self._is_list(node):
            return ("container",)
        if not self._has_weights(node):
            self._doubt_emptiness(node, found)
            return ("",)
        layer = self._layer(node)
        children = self.graph.nodes[node].children
        if layer.members is not None:
            if "_functional" in children:
                return ("sequential",)
            if "_operations" in children:
                return ("functional",)
            # A functional model begins with its inputs, which have no weights; so may a Sequential.
            return ("sequential",) if self._has_weights(layer.members[0]) else ("functional", "sequential")
        made = self._made(node)
        name = self._own_name(node)
        known = class_named(name, made) if name else None
        if known is not None:
            if known in MAY_BE_EMPTY and any(self._is_leaf(each) for each in before[1:] if each not in self._classes):
                found.doubt(
                    f"{self._called(node)}: a layer before it, without weights, may be a {known} as well", of_class=True
                )
            return (known,)
        guess = class_like(made) or re.sub(r"_\d+$", "", name or "layer")
        found.doubt(f"{self._called(node)}: its class is not in the checkpoint; it is called {guess}", of_class=True)
        return (guess,)

    def _doubt_emptiness(self, node: int, found: Layout) -> None:
        """A layer around a cell has weights, wherever they are."""
        if {"cell", "forward_layer", "_query_dense"} & set(self.graph.nodes[node].children):
            found.doubt(f"{self._called(node)}: the checkpoint holds no values of its weights")

    def _is_leaf(self, node: int) -> bool:
        return not self.graph.nodes[node].children

    def _made(self, node: int) -> Made:
        if node not in self._makes:
            self._makes[node] = self._make(node)
        return self._makes[node]

    def _make(self, node: int) -> Made:
        layer = self._layer(node)
        own = {_public(name): self._shape((name, number)) for name, number in layer.own}
        below = frozenset(_public(name) for name, _ in layer.attributes)
        cell = dict(layer.attributes).get("cell") if below == {"cell"} else None
        inner = None
        if cell is not None:
            mine = self._layer(cell)
            inner = Made(
                {_public(name): self._shape((name, number)) for name, number in mine.own},
                frozenset(_public(name) for name, _ in mine.attributes),
            )
        return Made(own, below, inner)

    def _own_name(self, node: int) -> str | None:
        """What the layer was called when its variables were created: the part of their names that is its own."""
        levels = 1
        for _ in range(_MOST_DEPTH):
            layer = self._layer(node)
            if layer.own:
                key_node = layer.own[0][1]
                scopes = self._full_name(key_node).split("/")[:-1]
                # Of some wrappers the layer inside has no part of its own.
                return (scopes[-levels] if levels <= len(scopes) else scopes[0]) if scopes else None
            if layer.members is not None or not layer.attributes:
                return None
            node = layer.attributes[0][1]
            while self._is_list(node):
                node = self._in_order(node)[0]
            levels += 1
        return None

    def _full_name(self, node: int) -> str:
        attributes = self.graph.nodes[node].attributes
        return attributes[0].full_name.split(":")[0] if attributes else ""

    def _called(self, node: int) -> str:
        """A layer in a sentence."""
        name = self._own_name(node)
        if name is not None:
            return f"layer {name!r}"
        path = self._paths.get(node, "")
        return f"layer at {path!r}" if path else "the model"

    def _complete(self, found: Layout, seen: set[int]) -> None:
        """Doubt what is stored and was not placed: weights that only the optimizer of Keras 3 still knows."""
        error_context = {number for node in seen for _, number in self._layer(node).own}
        lost = [number for number in sorted(self._trained - error_context) if _is_variable(self.graph, number)]
        lost = [number for number in lost if self.graph.key_of(number) in self._tensors and self._is_of_model(number)]
        if lost:
            names = ", ".join(self._full_name(number) or str(self.graph.key_of(number)) for number in lost[:4])
            found.doubt(f"{len(lost)} weights are of no layer in the object graph: {names}")

    def _is_of_model(self, variable: int) -> bool:
        """Whether no other part of the checkpoint holds a variable."""
        return variable not in self._of_others

    @cached_property
    def _of_others(self) -> set[int]:
        if not self.root:
            return set()
        children = self.graph.nodes[0].children
        others = [node for name, node in children.items() if node != self.root and not _OTHERS.fullmatch(name)]
        return set(self.graph.reachable(*others))

    @cached_property
    def _paths(self) -> dict[int, str]:
        return dict(self.graph.walk())


def _is_variable(graph: ObjectGraph, node: int) -> bool:
    return graph.key_of(node) is not None


def _public(name: str) -> str:
    return name.lstrip("_") or name


def _find(graph: ObjectGraph, path: str) -> int | None:
    return graph.child(path) if path else 0


def _joined(paths: tuple[str, ...], names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{path}/{name}" if path else name for path in paths for name in names)[:_MOST_PATHS]


def _numbered(worlds: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]] | None:
    """The names that each member has in any of the worlds; None when one name is not of one member alone."""
    owners: dict[str, int] = {}
    names: list[dict[str, None]] = []
    for world in worlds:
        counts: dict[str, int] = {}
        names = names or [{} for _ in world]
        for number, name in enumerate(world):
            count = counts.get(name, 0)
            counts[name] = count + 1
            called = f"{name}_{count}" if count else name
            if name and owners.setdefault(called, number) != number:
                return None
            names[number][called] = None
    return [tuple(each) for each in names]
