"""Which class of Keras a layer is, by its name and by what it is made of.

Keras 3 calls the groups of a ``.weights.h5`` by the classes of the layers: ``layers/dense_1``. A checkpoint of
TensorFlow holds no classes. It holds the names of the variables, which begin with that of their layer, and Keras names
a layer by its class unless the program does: such a name is believed when the layer is also made as that class makes
it.

Source: keras/src/layers, keras/src/utils/naming.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Made:
    """What a layer is made of: the shapes of its own variables by name, and the attributes that are layers."""

    own: Mapping[str, Shape]
    below: frozenset[str]
    cell: Made | None = None


_Test = Callable[[Made], bool]


def _of(*needed: str, rank: int | None = None, also: Sequence[str] = ()) -> _Test:
    """Has these variables, of this rank the first, and no others than ``also``."""

    def test(made: Made) -> bool:
        own = made.own
        if made.below or not set(needed) <= set(own) <= {*needed, *also}:
            return False
        return rank is None or len(own[needed[0]]) == rank

    return test


def _any_of(*names: str) -> _Test:
    return lambda made: not made.below and bool(made.own) and set(made.own) <= set(names)


def _holds(*below: str) -> _Test:
    return lambda made: not made.own and set(below) <= made.below


def _cell(gates: int, rank: int = 2) -> _Test:
    """A recurrent cell: the last sizes of its two kernels are so many times its units."""

    def test(made: Made) -> bool:
        if made.below or not {"kernel", "recurrent_kernel"} <= set(made.own) <= {"kernel", "recurrent_kernel", "bias"}:
            return False
        shape = made.own["recurrent_kernel"]
        return len(shape) == rank and shape[-1] == gates * shape[-2] and made.own["kernel"][-1:] == shape[-1:]

    return test


def _around(cell: _Test) -> _Test:
    return lambda made: not made.own and made.below == {"cell"} and made.cell is not None and cell(made.cell)


_BIAS = ("bias",)
_CLASSES: dict[str, _Test] = {
    "dense": _of("kernel", rank=2, also=_BIAS),
    "embedding": _of("embeddings", rank=2),
    "conv1d": _of("kernel", rank=3, also=_BIAS),
    "conv2d": _of("kernel", rank=4, also=_BIAS),
    "conv3d": _of("kernel", rank=5, also=_BIAS),
    "conv1d_transpose": _of("kernel", rank=3, also=_BIAS),
    "conv2d_transpose": _of("kernel", rank=4, also=_BIAS),
    "conv3d_transpose": _of("kernel", rank=5, also=_BIAS),
    "separable_conv1d": _of("depthwise_kernel", "pointwise_kernel", rank=3, also=_BIAS),
    "separable_conv2d": _of("depthwise_kernel", "pointwise_kernel", rank=4, also=_BIAS),
    "depthwise_conv1d": lambda made: (
        _of("depthwise_kernel", rank=3, also=_BIAS)(made) or _of("kernel", rank=3, also=_BIAS)(made)
    ),
    "depthwise_conv2d": lambda made: (
        _of("depthwise_kernel", rank=4, also=_BIAS)(made) or _of("kernel", rank=4, also=_BIAS)(made)
    ),
    "einsum_dense": _of("kernel", also=_BIAS),
    "batch_normalization": _of("moving_mean", "moving_variance", rank=1, also=("gamma", "beta")),
    "layer_normalization": _any_of("gamma", "beta"),
    "group_normalization": _any_of("gamma", "beta"),
    "rms_normalization": _of("scale"),
    "normalization": lambda made: (
        set(made.own) in ({"mean", "variance", "count"}, {"adapt_mean", "adapt_variance", "count"})
    ),
    "p_re_lu": _of("alpha"),
    "attention": _of("scale", rank=0, also=("concat_score_weight",)),
    "additive_attention": _of("scale", rank=1),
    "multi_head_attention": _holds("query_dense", "key_dense", "value_dense", "output_dense"),
    "lstm": _around(_cell(4)),
    "gru": _around(_cell(3)),
    "simple_rnn": _around(_cell(1)),
    "conv_lstm1d": _around(_cell(4, 3)),
    "conv_lstm2d": _around(_cell(4, 4)),
    "conv_lstm3d": _around(_cell(4, 5)),
    "rnn": lambda made: not made.own and made.below == {"cell"},
    "lstm_cell": _cell(4),
    "gru_cell": _cell(3),
    "simple_rnn_cell": _cell(1),
    "stacked_rnn_cells": _holds("cells"),
    "bidirectional": _holds("forward_layer", "backward_layer"),
    "time_distributed": _holds("layer"),
}
# Layers of these classes may have no variables, so that one that has none may be counted too.
MAY_BE_EMPTY = ("attention",)
# What is not trained of the layers that Keras has.
NOT_TRAINED = {
    "batch_normalization": ("moving_mean", "moving_variance"),
    "normalization": ("mean", "variance", "adapt_mean", "adapt_variance", "count"),
}


def class_named(name: str, made: Made) -> str | None:
    """The class of a layer that Keras has called so by itself: ``dense_3`` is of ``dense``; None when it was not."""
    base = re.sub(r"_\d+$", "", name)
    test = _CLASSES.get(base)
    return base if test is not None and test(made) else None


def class_like(made: Made) -> str | None:
    """The most usual class that is made so; None when Keras has none."""
    return next((name for name, test in _CLASSES.items() if test(made)), None)


def snake_case(name: str) -> str:
    """A class as Keras writes it in names: ``SeparableConv2D`` is ``separable_conv2d``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
