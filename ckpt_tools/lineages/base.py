"""What is known of a checkpoint once its producer is recognised.

Canonical names are the keys of this project's trainer, without TensorFlow's ``/.ATTRIBUTES/VARIABLE_VALUE``:

    model/item_embedding [n, D]   model/item_bias [n]
    DNN         model/proj/{kernel [D, H], bias [H]}
    GRU4REC     model/gru/{kernel [D, 3H], recurrent_kernel [H, 3H], bias}, gates in the order z r h;
                bias is [3H] in the paper's variant, [2, 3H] in the Keras port's
    MIND        model/capsule/bilinear/{kernel [D, D], bias [D]}, model/capsule/proj/{kernel, bias}
    ComiRec-DR  model/capsule/weights [1, L, K*D, D]
    ComiRec-SA  model/position_embedding [1, L, D], model/attention/{hidden, heads}/{kernel, bias}
    optimizer/m/..., optimizer/v/...: Adam's moments, named as the variable without ``model/``
    optimizer/step int64, optimizer/learning_rate float32, best_metric float32
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ckpt_tools.errors import CorruptError, NotFoundError
from ckpt_tools.lineages.scalars import as_step, is_number, read_number
from ckpt_tools.readers.base import Checkpoint

if TYPE_CHECKING:
    import numpy as np

MODEL = "model/"
ITEM_EMBEDDING = "model/item_embedding"
STEP = "optimizer/step"
LEARNING_RATE = "optimizer/learning_rate"
# Stands for a step that is not known any more: 0.999^1e6 is 0 in float32, so that Adam's bias correction is 1.
UNKNOWN_STEP = 10**6
OLD_MEANING = "recall@N of the validation split; N is not recorded (the old trainers' default is 50)"

_FLOAT32 = struct.Struct("<f")

# The tensor that tells each model from the others.
_TELLING = {
    "model/proj/kernel": "DNN",
    "model/gru/kernel": "GRU4REC",
    "model/capsule/bilinear/kernel": "MIND",
    "model/capsule/weights": "ComiRec-DR",
    "model/attention/hidden/kernel": "ComiRec-SA",
}

# Every variable of each model; the biases in _PAPER_ONLY and the projection are not in every variant.
MODEL_VARIABLES = {
    "DNN": ("model/proj/kernel", "model/proj/bias"),
    "GRU4REC": ("model/gru/kernel", "model/gru/recurrent_kernel", "model/gru/bias"),
    "MIND": ("model/capsule/bilinear/kernel", "model/capsule/bilinear/bias"),
    "ComiRec-DR": ("model/capsule/weights",),
    "ComiRec-SA": (
        "model/position_embedding",
        "model/attention/hidden/kernel",
        "model/attention/hidden/bias",
        "model/attention/heads/kernel",
        "model/attention/heads/bias",
    ),
}
ITEM_BIAS = "model/item_bias"
_PAPER_ONLY = {"model/capsule/bilinear/bias", "model/position_embedding"}


def required_variables(model_type: str, variant: str) -> list[str]:
    """The canonical names that a run cannot go on without: the model's variables, their moments, Adam's step."""
    weights = [name for name in MODEL_VARIABLES[model_type] if variant == "paper" or name not in _PAPER_ONLY]
    trainable = [ITEM_EMBEDDING, *weights]
    moments = [f"optimizer/{slot}/{name.removeprefix(MODEL)}" for slot in ("m", "v") for name in trainable]
    return [ITEM_BIAS, *trainable, *moments, STEP]


@dataclass(frozen=True)
class Source:
    """The stored tensors that a canonical one is made of; ``convert`` is None where it is stored as it is."""

    keys: tuple[str, ...]
    convert: Callable[[Sequence[np.ndarray]], np.ndarray] | None = None


@dataclass(frozen=True)
class OtherBest:
    """A best metric under another name than ``best_metric``, such as ``best_acc``."""

    key: str
    value: float


@dataclass(frozen=True)
class BestMetric:
    """``unset``: the variable is there, but still holds the value it was created with.

    ``others`` are all bests that are stored under other names.
    """

    status: Literal["absent", "unset", "present"]
    value: float | None = None
    key: str | None = None
    meaning: str = ""
    others: tuple[OtherBest, ...] = ()


@dataclass(frozen=True)
class Lineage:
    """Who wrote a checkpoint, with which hyper-parameters, and where each canonical tensor is stored.

    ``hyper`` maps names of hyper-parameters to values (None: the checkpoint does not tell), ``sources`` the same
    names to where each came from, in words. ``step`` is the number of Adam's updates, None when unknown.
    """

    id: str
    producer: str
    variant: Literal["paper", "keras"]
    model_type: str
    hyper: Mapping[str, Any]
    sources: Mapping[str, str]
    step: int | None
    tensors: Mapping[str, Source]
    best_metric: BestMetric

    def canonical(self) -> Iterable[str]:
        return self.tensors.keys()

    def read(self, checkpoint: Checkpoint, name: str) -> np.ndarray:
        """The tensor with a canonical name. Raises NotFoundError when this checkpoint has none."""
        source = self.tensors.get(name)
        if source is None:
            raise NotFoundError(f"this {self.id} checkpoint holds no {name}", path=checkpoint.prefix)
        arrays = [checkpoint.read(key) for key in source.keys]
        return source.convert(arrays) if source.convert else arrays[0]

    def name_of(self, key: str) -> str | None:
        """The canonical name of a stored tensor, None when it has none."""
        for name, source in self.tensors.items():
            if key in source.keys:
                return name
        return None

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "producer": self.producer,
            "variant": self.variant,
            "model_type": self.model_type,
            **self.hyper,
            "sources": dict(self.sources),
        }


def model_type_of(names: Iterable[str]) -> str | None:
    """The model that a set of canonical names belongs to, None when it is not exactly one."""
    found = {_TELLING[name] for name in names if name in _TELLING}
    return found.pop() if len(found) == 1 else None


def shape_hyper(
    checkpoint: Checkpoint, tensors: Mapping[str, Source], model_type: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """The hyper-parameters that the shapes tell, and the words for where each was read.

    Raises CorruptError when the shapes do not belong to one model.
    """
    hyper: dict[str, Any] = {"num_interest": None, "maxlen": None}
    sources: dict[str, str] = {}

    def shape(name: str, rank: int) -> tuple[int, ...]:
        key = tensors[name].keys[0]
        found = checkpoint.tensors[key].shape
        if len(found) != rank:
            raise CorruptError(f"should have rank {rank}, not {len(found)}", path=checkpoint.prefix, key=key)
        return found

    def learn(name: str, **values: int) -> None:
        key = tensors[name].keys[0]
        hyper.update(values)
        sources.update(dict.fromkeys(values, f"shape of {key}"))

    items, dim = shape(ITEM_EMBEDDING, 2)
    learn(ITEM_EMBEDDING, item_count=items, embedding_dim=dim)
    if model_type == "DNN":
        learn("model/proj/kernel", hidden_size=shape("model/proj/kernel", 2)[1])
    elif model_type == "GRU4REC":
        # All forms of it end in one size for each unit: the recurrent part has H rows.
        bias = tensors["model/gru/bias"].keys[-1]
        width = checkpoint.tensors[bias].shape[-1]
        learn("model/gru/bias", hidden_size=width if bias.endswith("candidate/bias") else width // 3)
    elif model_type == "MIND":
        learn("model/capsule/bilinear/kernel", hidden_size=shape("model/capsule/bilinear/kernel", 2)[1])
    elif model_type == "ComiRec-DR":
        _, length, width, _ = shape("model/capsule/weights", 4)
        if dim == 0 or width % dim:
            key = tensors["model/capsule/weights"].keys[0]
            raise CorruptError(f"{width} is not a multiple of the embedding dimension {dim}", key=key)
        learn("model/capsule/weights", hidden_size=dim, num_interest=width // dim, maxlen=length)
    elif model_type == "ComiRec-SA":
        learn("model/attention/hidden/kernel", hidden_size=shape("model/attention/hidden/kernel", 2)[1] // 4)
        learn("model/attention/heads/kernel", num_interest=shape("model/attention/heads/kernel", 2)[1])
        if "model/position_embedding" in tensors:
            learn("model/position_embedding", maxlen=shape("model/position_embedding", 3)[1])
    if model_type in ("DNN", "GRU4REC"):
        learn(ITEM_EMBEDDING, num_interest=1)
        sources["num_interest"] = f"{model_type} has one"
    return hyper, sources


def name_hyper(hyper: dict[str, Any], sources: dict[str, str], fields: Mapping[str, Any]) -> None:
    """Fill in from the experiment's name what the shapes left open. Shapes win: names can be wrong."""
    for key, value in fields.items():
        if key != "model_type" and hyper.get(key) is None:
            hyper[key] = value
            sources[key] = "experiment name"


def scalar(checkpoint: Checkpoint, key: str) -> int | float:
    """The value of a scalar tensor, integers exactly. Raises CorruptError for what is not one number."""
    info = checkpoint.tensors[key]
    if info.shape != () or not is_number(info):
        raise CorruptError(f"should be a scalar number, not {info.dtype} {list(info.shape)}", key=key)
    return read_number(checkpoint, key)


def read_step(checkpoint: Checkpoint, key: str) -> int | None:
    """A stored number of updates; None when it is no whole number. Raises CorruptError for what is not one number."""
    return as_step(scalar(checkpoint, key))


def float32(value: float) -> float:
    """The value as float32 holds it: infinite above its largest one, as IEEE 754 rounds."""
    try:
        rounded: float = _FLOAT32.unpack(_FLOAT32.pack(value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return rounded


def read_best_metric(checkpoint: Checkpoint, key: str | None, meaning: str) -> BestMetric:
    """What a ``best_metric`` variable says; 0 is the value that it is created with."""
    if key is None or key not in checkpoint.tensors:
        return BestMetric("absent", meaning=meaning)
    value = float(scalar(checkpoint, key))
    if value == 0 or not math.isfinite(value):
        return BestMetric("unset", value, key, meaning)
    return BestMetric("present", value, key, meaning)
