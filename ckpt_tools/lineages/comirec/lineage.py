"""What ComiRec's lineages know beyond any other: the type of the model, and in which of two variants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ckpt_tools.lineages.base import Lineage

_SIZES = (("embedding_dim", "D"), ("hidden_size", "H"), ("num_interest", "K"), ("maxlen", "L"))


@dataclass(frozen=True)
class ComiRecLineage(Lineage):
    """``variant`` is ``paper`` for models as the original trainer builds them, ``keras`` for those of the Keras port.

    ``hyper`` has ``item_count`` and ``embedding_dim``, which the shape of the item table tells, in any case.
    """

    variant: Literal["paper", "keras"]
    model_type: str

    @property
    def item_count(self) -> int:
        """The rows of the item table, the one of padding too."""
        return int(self.hyper["item_count"])

    @property
    def model(self) -> str:
        return self.model_type

    @property
    def sizes(self) -> str:
        known = [f"{label} {self.hyper[name]}" for name, label in _SIZES if self.hyper.get(name) is not None]
        return f"{self.model_type} ({self.variant} variant), {self.item_count} items, {', '.join(known)}"

    def to_json(self) -> dict[str, Any]:
        row = super().to_json()
        own = {"id": row.pop("id"), "producer": row.pop("producer")}
        return {**own, "variant": self.variant, "model_type": self.model_type, **row}


def name_hyper(hyper: dict[str, Any], sources: dict[str, str], fields: Mapping[str, Any]) -> None:
    """Fill in from the experiment's name what the shapes left open. Shapes win: names can be wrong."""
    for key, value in fields.items():
        if key != "model_type" and hyper.get(key) is None:
            hyper[key] = value
            sources[key] = "experiment name"
