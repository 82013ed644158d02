"""Which tensor of one checkpoint is which of another: by what names say they are, never by where they stand.

The variables first, by the surest evidence that both have:

    1  the trainer's canonical name, where both are of known lineages
    2  one place in both object graphs, or one stored name; where the names that they were created with do not
       contradict: ``layer_with_weights-0/kernel`` is the same variable only if both are called alike
    3  a name that one has in any form and the other in any: a path, a full name, a name in an HDF5 file
    4  the same without what only some versions write: a root such as ``model/``, Keras 3's ``_kernel``, the name of
       the model in front of ``dense/kernel``; the shapes must agree then

Then what belongs to variables: a slot of a variable is the slot of that name of the same variable, and nothing else.
A name that only counts (``optimizer/_variables/3``) says something only where both lists are the same throughout.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from ckpt_tools.lineages.naming import Named

Pair = tuple[Named, Named]

_COUNTING = re.compile(r"(?:^|/|-|_layers/)\d+(?=/|$)")
_NUMBER_BEHIND = re.compile(r"_\d+(?=/|$)")
# What optimizers call the same thing: Keras 2 and 3, TensorFlow 1, BERT.
_SAME_SLOTS = {
    **dict.fromkeys(("m", "adam", "adam_m", "momentums", "exp_avg", "first_moment"), "m"),
    **dict.fromkeys(("v", "adam_1", "adam_v", "velocity", "velocities", "exp_avg_sq", "second_moment"), "v"),
    **dict.fromkeys(("vhat", "velocity_hat", "velocity_hats"), "vhat"),
    **dict.fromkeys(("accumulator", "accumulators", "adagrad"), "accumulator"),
    **dict.fromkeys(("rms", "rmsprop"), "rms"),
}
_SCALARS = {
    **dict.fromkeys(("iter", "_iterations", "iterations", "iteration"), "iterations"),
    **dict.fromkeys(("learning_rate", "_learning_rate", "lr"), "learning_rate"),
}


def pair(a: Mapping[str, Named], b: Mapping[str, Named]) -> list[Pair]:
    """The pairs of tensors that are one in both; a tensor is in one pair at most. In the order of ``a``."""
    found: dict[str, str] = {}
    taken: set[str] = set()

    def meet(key_of: Callable[[Named], Iterable[str]], agree: Callable[[Named, Named], bool]) -> None:
        left = _unique(key_of, (tensor for name, tensor in a.items() if name not in found))
        right = _unique(key_of, (tensor for name, tensor in b.items() if name not in taken))
        for key, tensor in left.items():
            other = right.get(key)
            if other is None or tensor.name in found or other.name in taken or not agree(tensor, other):
                continue
            if _known(tensor) and _known(other) and tensor.canonical != other.canonical:
                continue
            found[tensor.name] = other.name
            taken.add(other.name)

    alike = _lists_that_are_alike(a, b)

    def by_place(tensor: Named) -> Iterator[str]:
        yield from tensor.places

    def same_place(left: Named, right: Named) -> bool:
        if left.owner is not None or right.owner is not None:
            return False
        place = next(place for place in left.places if place in right.places)
        return not _COUNTING.search(place) or (_called_alike(left, right) and _list_of(place) in alike)

    meet(lambda tensor: [tensor.canonical] if tensor.canonical else [], lambda *_: True)
    meet(by_place, same_place)
    meet(lambda tensor: () if tensor.owner else _said(tensor.names), lambda *_: True)
    meet(lambda tensor: () if tensor.owner else {*map(_without_roots, _said(tensor.names))}, _same_shape)
    meet(lambda tensor: () if tensor.owner else _ends(tensor.names, 3), _same_shape)
    meet(lambda tensor: () if tensor.owner else _ends(tensor.names, 2), _same_shape)

    owners_a, owners_b = _by_key(a), _by_key(b)
    numbers = {key: f"#{number}" for number, key in enumerate(found)}
    owner_numbers = {found[name]: number for name, number in numbers.items()}

    adams = _with_velocity(a) | _with_velocity(b)

    def slot_of(tensor: Named) -> Iterator[str]:
        if tensor.owner is None or tensor.slot is None:
            return
        owner = owners_a.get(tensor.owner) if a.get(tensor.name) is tensor else owners_b.get(tensor.owner)
        number = None if owner is None else (numbers if a.get(tensor.name) is tensor else owner_numbers).get(owner)
        if number is not None:
            yield f"{tensor.slot} of {number}"
            yield f"{_slot_kind(tensor, adams)} of {number}"

    def same_owner(left: Named, right: Named) -> bool:
        one, other = owners_a.get(left.owner or ""), owners_b.get(right.owner or "")
        return one is None or other is None or found.get(one) == other

    meet(slot_of, lambda *_: True)
    meet(lambda tensor: _said(tensor.names), same_owner)
    # The same file of the same program: what only counts is then the same too.
    meet(
        by_place,
        lambda left, right: _same_shape(left, right) and _called_alike(left, right) and _all_alike(left, alike),
    )
    meet(_scalar_of_optimizer, _same_shape)
    return [(a[name], b[found[name]]) for name in a if name in found]


def _known(tensor: Named) -> bool:
    return tensor.canonical is not None


def _unique(key_of: Callable[[Named], Iterable[str]], tensors: Iterable[Named]) -> dict[str, Named]:
    """The tensors by what identifies them; what identifies two identifies none."""
    by_key: dict[str, Named | None] = {}
    for tensor in tensors:
        for key in dict.fromkeys(key_of(tensor)):
            by_key[key] = None if key in by_key else tensor
    return {key: tensor for key, tensor in by_key.items() if tensor is not None}


def _same_shape(left: Named, right: Named) -> bool:
    return left.shape == right.shape


def _said(names: Iterable[str]) -> list[str]:
    """The names that say something: not those that only count."""
    return [name for name in names if not _COUNTING.search(name)]


def _without_roots(name: str) -> str:
    """``dense/kernel`` of ``model/dense/_kernel``: without the attribute of the model, and Keras 3's underscores."""
    parts = [part.lstrip("_") or part for part in name.split("/")]
    if len(parts) > 1 and parts[0] in ("model", "net", "network", "module", "root"):
        parts = parts[1:]
    return "/".join(parts)


def _ends(names: Iterable[str], depth: int) -> set[str]:
    """The last parts of the names that have so many."""
    plain = [_without_roots(name).split("/") for name in _said(names)]
    return {"/".join(parts[-depth:]) for parts in plain if len(parts) >= depth}


def _called_alike(left: Named, right: Named) -> bool:
    """Whether two variables were created with one name, but for the numbers that Keras adds; unless one has none."""
    one, other = left.full_name, right.full_name
    return not one or not other or _NUMBER_BEHIND.sub("", one) == _NUMBER_BEHIND.sub("", other)


def _list_of(place: str) -> str:
    """The path of the list that a place counts in."""
    match = _COUNTING.search(place)
    return place[: match.start()] if match else place


def _lists_that_are_alike(a: Mapping[str, Named], b: Mapping[str, Named]) -> set[str]:
    """The lists that have the same members in both, with the same types and shapes."""
    members: tuple[dict[str, set[object]], dict[str, set[object]]] = ({}, {})
    for side, tensors in zip(members, (a, b), strict=True):
        for tensor in tensors.values():
            for place in tensor.places:
                if _COUNTING.search(place):
                    # A table may have grown: then it is the same variable with another shape.
                    shape = tensor.shape if len(tensor.shape) != 2 else tensor.shape[1:]
                    side.setdefault(_list_of(place), set()).add((place, tensor.dtype, shape))
    return {name for name, found in members[0].items() if members[1].get(name) == found}


def _all_alike(tensor: Named, alike: set[str]) -> bool:
    return all(_list_of(place) in alike for place in tensor.places if _COUNTING.search(place))


def _by_key(tensors: Mapping[str, Named]) -> dict[str, str]:
    return {key: name for name, tensor in tensors.items() for key in tensor.keys}


def _slot_kind(tensor: Named, adams: set[tuple[str, ...]]) -> str:
    """What a slot is, whatever its optimizer calls it: Keras 3 calls Adam's first moment a momentum, as SGD its own."""
    slot = (tensor.slot or "").lower()
    return "m" if slot == "momentum" and tensor.keys in adams else _SAME_SLOTS.get(slot, slot)


def _with_velocity(tensors: Mapping[str, Named]) -> set[tuple[str, ...]]:
    """The keys of the momentums of variables that also have a velocity: they are Adam's first moments."""
    owners = {tensor.owner for tensor in tensors.values() if tensor.slot in ("velocity", "velocities")}
    return {tensor.keys for tensor in tensors.values() if tensor.slot == "momentum" and tensor.owner in owners}


def _scalar_of_optimizer(tensor: Named) -> Iterator[str]:
    if tensor.group == "optimizer" and tensor.owner is None and tensor.shape == ():
        for name in tensor.names:
            leaf = name.rpartition("/")[2]
            if leaf in _SCALARS:
                yield _SCALARS[leaf]
