"""What is known of a checkpoint once its producer is recognised: where the tensors of canonical names are stored."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ckpt_tools.errors import CorruptError, NotFoundError
from ckpt_tools.format import json_text
from ckpt_tools.lineages.scalars import as_step, is_number, read_number
from ckpt_tools.readers.base import Checkpoint

if TYPE_CHECKING:
    import numpy as np

# Stands for a step that is not known any more: 0.999^1e6 is 0 in float32, so that Adam's bias correction is 1.
UNKNOWN_STEP = 10**6
_FLOAT32 = struct.Struct("<f")


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

    A producer of several kinds of models adds what tells them apart in a class of its own.

    ``hyper`` maps names of hyper-parameters to values (None: the checkpoint does not tell), ``sources`` the same
    names to where each came from, in words. ``step`` is the number of Adam's updates, None when unknown.
    """

    id: str
    producer: str
    hyper: Mapping[str, Any]
    sources: Mapping[str, str]
    step: int | None
    tensors: Mapping[str, Source]
    best_metric: BestMetric

    @property
    def model(self) -> str:
        """Which of its producer's models it is, in a word; empty where there is one only."""
        return ""

    @property
    def sizes(self) -> str:
        """The model in words, with what tells how large it is; empty where nothing does."""
        return self.model

    def canonical(self) -> Iterable[str]:
        return self.tensors.keys()

    def read(self, checkpoint: Checkpoint, name: str) -> np.ndarray:
        """The tensor with a canonical name. Raises NotFoundError when this checkpoint has none."""
        source = self.tensors.get(name)
        if source is None:
            raise NotFoundError(f"this {self.id} checkpoint holds no {name}", path=checkpoint.prefix)
        arrays = [checkpoint.read(key) for key in source.keys]
        return source.convert(arrays) if source.convert else arrays[0]

    def document(self, checkpoint: Checkpoint, name: str) -> dict[str, Any]:
        """The JSON object that is stored under a canonical name. Raises NotFoundError, CorruptError for no object."""
        return _document(self.read(checkpoint, name), checkpoint, name)

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
            **self.hyper,
            "sources": dict(self.sources),
        }


def scalar(checkpoint: Checkpoint, key: str) -> int | float:
    """The value of a scalar tensor, integers exactly. Raises CorruptError for what is not one number."""
    info = checkpoint.tensors[key]
    if info.shape != () or not is_number(info):
        raise CorruptError(f"should be a scalar number, not {info.dtype} {list(info.shape)}", key=key)
    return read_number(checkpoint, key)


def read_document(checkpoint: Checkpoint, key: str) -> dict[str, Any]:
    """The JSON object that a tensor holds. Raises CorruptError for what is none."""
    return _document(checkpoint.read(key), checkpoint, key)


def _document(stored: np.ndarray, checkpoint: Checkpoint, key: str) -> dict[str, Any]:
    try:
        value = json_text.parse(stored.item())
    except (ValueError, TypeError, AttributeError) as error:  # more than one element, no text, no array
        raise CorruptError("is not JSON", path=checkpoint.prefix, key=key) from error
    if not isinstance(value, dict):
        raise CorruptError("is not a JSON object", path=checkpoint.prefix, key=key)
    return value


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
