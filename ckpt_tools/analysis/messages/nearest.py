"""The stored name that is meant by a name that is not there.

Names are broken by rules, seldom by typing errors: TensorFlow 1.2 called ``weights`` ``kernel``, Keras numbers layers
that have no name, a program puts its model into a scope or a ``tf.train.Checkpoint(model=...)``. Each rule below is one
of these ways; a name that differs by rules only is found, with the rules, before any name that merely looks alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from ckpt_tools.format.object_graph import VALUE_SUFFIX

# How many names are compared letter by letter: that takes a while for each.
_MOST_COMPARED = 4_000
_ALIKE = 0.75
_MOST_NAMED = 3

Tokens = tuple[str, ...]


@dataclass(frozen=True)
class Nearest:
    """Stored names that may be meant, and why they are called otherwise (empty: they only look alike)."""

    names: tuple[str, ...]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Rule:
    reason: str
    apply: Callable[[Tokens], Tokens]


# ---------------------------------------------------------------------------------------------- the rules

_LEAVES = {
    "weights": "kernel", "weight": "kernel", "w": "kernel", "matrix": "kernel", "dw": "kernel", "kernels": "kernel",
    "biases": "bias", "b": "bias",
    "moving_avg": "moving_mean", "mean": "moving_mean", "running_mean": "moving_mean",
    "var": "moving_variance", "variance": "moving_variance", "moving_var": "moving_variance",
    "running_var": "moving_variance", "scale": "gamma", "offset": "beta", "embedding": "embeddings",
}  # fmt: skip
_ROOTS = ("model_weights", "optimizer_weights")
_AVERAGES = ("exponentialmovingaverage", "ema", "average")
_SLOTS = re.compile(r"(adam|adamw|adamax|nadam|adagrad|adadelta|rmsprop|momentum|ftrl|lars|lamb)(_\d+)?", re.IGNORECASE)
_CELLS = {
    "basiclstmcell": "basic_lstm_cell", "lstmcell": "lstm_cell", "grucell": "gru_cell",
    "basicrnncell": "basic_rnn_cell", "multirnncell": "multi_rnn_cell", "birnn": "bidirectional_rnn", "rnn": "rnn",
}  # fmt: skip
# The order in which Keras 3 numbers the variables of a layer.
_POSITIONS = {
    1: (("kernel", "embeddings", "gamma"),),
    2: (("kernel", "gamma"), ("bias", "beta")),
    3: (("kernel",), ("recurrent_kernel",), ("bias",)),
    4: (("gamma",), ("beta",), ("moving_mean",), ("moving_variance",)),
}


def _without_ending(tokens: Tokens) -> Tokens:
    """``dense/kernel/.ATTRIBUTES/VARIABLE_VALUE``: the path of an object in TensorFlow 2."""
    ending = tuple(VALUE_SUFFIX.strip("/").split("/"))
    return tokens[: -len(ending)] if tokens[-len(ending) :] == ending else tokens


def _without_output(tokens: Tokens) -> Tokens:
    return tuple(re.sub(r":\d+$", "", token) for token in tokens)


def _without_average(tokens: Tokens) -> Tokens:
    return tokens[:-1] if len(tokens) > 1 and tokens[-1].lower() in _AVERAGES else tokens


def _leaf(tokens: Tokens) -> Tokens:
    if not tokens:
        return tokens
    *path, last = tokens
    # Keras 3 keeps some in attributes of its own: _kernel, _embeddings.
    last = last.lstrip("_") or last
    # BasicLSTMCell/Linear/Matrix
    if path and path[-1].lower() == "linear" and last.lower() in ("matrix", "bias"):
        path.pop()
    match = re.fullmatch(r"([A-Za-z_]+?)(_\d+)?", last)
    if match and match[1].lower() in _LEAVES:
        last = _LEAVES[match[1].lower()] + (match[2] or "")
    return (*path, last)


def _cells(tokens: Tokens) -> Tokens:
    found = []
    for token in tokens:
        match = re.fullmatch(r"([A-Za-z]+?)(_?\d+)?", token)
        if match and match[1].lower() in _CELLS:
            token = _CELLS[match[1].lower()] + (match[2] or "")
        # Cell0, cell_0; TensorFlow 1.2 put no scope around the cells of one layer.
        found.append(re.sub(r"^[Cc]ell_?(\d+)$", r"cell_\1", token))
    return tuple(found)


def _case(tokens: Tokens) -> Tokens:
    return tuple(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", token).lower() for token in tokens)


def _containers(tokens: Tokens) -> Tokens:
    """What only tells in which file or list a layer is: ``model_weights``, ``layers``, a layer's name said twice."""
    while tokens and tokens[0] in (*_ROOTS, "", "."):
        tokens = tokens[1:]
    # Keras 3 keeps its layers in `layers`, and under `_layer_checkpoint_dependencies` in older files.
    tokens = (
        tuple(token for token in tokens[:-1] if token not in ("layers", "_layer_checkpoint_dependencies")) + tokens[-1:]
    )
    return tuple(token for n, token in enumerate(tokens) if n == 0 or token != tokens[n - 1])


def _numbers(tokens: Tokens) -> Tokens:
    return tuple(re.sub(r"(?<=[A-Za-z])_\d+$", "", token) for token in tokens)


_RULES = (
    _Rule("TensorFlow 2 stores a variable as KEY/.ATTRIBUTES/VARIABLE_VALUE", _without_ending),
    _Rule("':0' is the name of an output, and part of the stored name here or there", _without_output),
    _Rule("one is the moving average of the other", _without_average),
    _Rule("TensorFlow 1.2 renamed the cells of recurrent layers", _cells),
    _Rule("the case differs", _case),
    _Rule("the variable of a layer has another name: weights and kernel, biases and bias", _leaf),
    _Rule("a Keras file puts its layers into groups", _containers),
    _Rule("layers without a name of their own are numbered, anew in each program", _numbers),
)
_SCOPE = "one is in a scope that the other is not"
_POSITION = "Keras 3 numbers the variables of a layer: vars/0, vars/1"


# -------------------------------------------------------------------------------------------- the search


def find_nearest(wanted: str, stored: Iterable[str]) -> Nearest:
    """The stored names that ``wanted`` may mean, best first; none when nothing is near."""
    names = list(stored)
    tokens = _split(wanted)
    target = _form(tokens)
    if not target:
        return Nearest(())
    forms = {name: _form(_split(name)) for name in names}
    forms |= _positioned(forms)
    same = [name for name, form in forms.items() if form == target]
    if same:
        return _told(tokens, same)
    inner = [(name, form) for name, form in forms.items() if _ends_alike(form, target)]
    if inner:
        closest = min(abs(len(form) - len(target)) for _, form in inner)
        return _told(tokens, [name for name, form in inner if abs(len(form) - len(target)) == closest], scope=True)
    return Nearest(_alike(target, forms))


def base_of_slot(name: str) -> str | None:
    """The variable whose optimizer state or moving average a name is; None when it is neither."""
    tokens = _without_ending(_split(name))
    for n, token in enumerate(tokens):
        # dense/kernel/.OPTIMIZER_SLOT/optimizer/m
        if token == ".OPTIMIZER_SLOT" and n:
            return "/".join(tokens[:n])
    if len(tokens) > 1 and (_SLOTS.fullmatch(tokens[-1]) or tokens[-1].lower() in _AVERAGES):
        return "/".join(tokens[:-1])
    return None


def _split(name: str) -> Tokens:
    return tuple(token for token in name.replace("\\", "/").split("/") if token)


def _form(tokens: Tokens, without: _Rule | None = None) -> Tokens:
    """What is left of a name when all rules but one are applied."""
    for rule in _RULES:
        if rule is not without:
            tokens = rule.apply(tokens)
    return tokens


def _positioned(forms: dict[str, Tokens]) -> dict[str, Tokens]:
    """The forms of ``LAYER/vars/0``, whose variables have numbers instead of names, where their number tells which."""
    layers: dict[Tokens, list[str]] = {}
    for name, form in forms.items():
        if len(form) > 1 and form[-2] == "vars" and form[-1].isdigit():
            layers.setdefault(form[:-2], []).append(name)
    found = {}
    for layer, names in layers.items():
        meanings = _POSITIONS.get(len(names))
        for position, name in enumerate(sorted(names, key=lambda name: int(forms[name][-1]))):
            if meanings:
                found[name] = (*layer, meanings[position][0])
    return found


def _ends_alike(form: Tokens, target: Tokens) -> bool:
    """Whether one is the other in a scope; a lone ``kernel`` is in every scope, and so in none."""
    shorter, longer = sorted((form, target), key=len)
    return 2 <= len(shorter) < len(longer) and longer[-len(shorter) :] == shorter


def _told(tokens: Tokens, names: Sequence[str], scope: bool = False) -> Nearest:
    names = sorted(names, key=lambda name: (-SequenceMatcher(None, "/".join(tokens), name).ratio(), name))[:_MOST_NAMED]
    first = _split(names[0])
    reasons = [rule.reason for rule in _RULES if _needed(rule, tokens, first, scope)]
    if "vars" in first and "vars" not in tokens:
        reasons.append(_POSITION)
    return Nearest(tuple(names), (*reasons, *([_SCOPE] if scope else [])))


def _needed(rule: _Rule, wanted: Tokens, stored: Tokens, scope: bool) -> bool:
    """Whether the two would be different names without a rule."""
    one, other = _form(wanted, rule), _form(stored, rule)
    return one != other and not (scope and _ends_alike(one, other))


def _alike(target: Tokens, forms: dict[str, Tokens]) -> tuple[str, ...]:
    """The names that look most alike. What ends otherwise is no candidate: a bias is never a kernel."""
    wanted = "/".join(target)
    leaves = set(_LEAVES.values())
    scored = []
    for name, form in list(forms.items())[:_MOST_COMPARED]:
        if form and form[-1] != target[-1] and leaves & {form[-1]} and leaves & {target[-1]}:
            continue
        matcher = SequenceMatcher(None, wanted, "/".join(form))
        if matcher.real_quick_ratio() >= _ALIKE and matcher.quick_ratio() >= _ALIKE:
            scored.append((matcher.ratio(), name))
    best = max((ratio for ratio, _ in scored), default=0.0)
    names = sorted(name for ratio, name in scored if ratio == best >= _ALIKE)
    # Where many look alike, none of them is the one.
    return tuple(names) if len(names) <= _MOST_NAMED else ()
