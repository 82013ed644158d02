"""ComiRec's models: which variables each has under canonical names, and what their shapes tell.

model/item_embedding [n, D]   model/item_bias [n]
DNN         model/proj/{kernel [D, H], bias [H]}
GRU4REC     model/gru/{kernel [D, 3H], recurrent_kernel [H, 3H], bias}, gates in the order z r h;
            bias is [3H] in the paper's variant, [2, 3H] in the Keras port's
MIND        model/capsule/bilinear/{kernel [D, D], bias [D]}, model/capsule/proj/{kernel, bias}
ComiRec-DR  model/capsule/weights [1, L, K*D, D]
ComiRec-SA  model/position_embedding [1, L, D], model/attention/{hidden, heads}/{kernel, bias}
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from ckpt_tools.errors import CorruptError
from ckpt_tools.lineages.base import Source
from ckpt_tools.lineages.names import MOMENTS, STEP, moment_name
from ckpt_tools.readers.base import Checkpoint

ITEM_EMBEDDING = "model/item_embedding"
OLD_MEANING = "recall@N of the validation split; N is not recorded (the old trainers' default is 50)"

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
_OPTIONAL = {"MIND": ("model/capsule/proj/kernel", "model/capsule/proj/bias")}
_PAPER_ONLY = {"model/capsule/bilinear/bias", "model/position_embedding"}


def required_variables(model_type: str, variant: str, there: Container[str] = ()) -> list[str]:
    """The canonical names that a run cannot go on without: the model's variables, their moments, Adam's step. Of
    variables that a model may do without, those ``there``: MIND's projection."""
    weights = [name for name in MODEL_VARIABLES[model_type] if variant == "paper" or name not in _PAPER_ONLY]
    weights += [name for name in _OPTIONAL.get(model_type, ()) if name in there]
    trainable = [ITEM_EMBEDDING, *weights]
    moments = [moment_name(moment, name) for moment in MOMENTS for name in trainable]
    return [ITEM_BIAS, *trainable, *moments, STEP]


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
