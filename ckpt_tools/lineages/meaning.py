"""What a stored best value means, as this project writes it beside the value: JSON with the fields of `FIELDS`."""

from __future__ import annotations

from typing import Any

from ckpt_tools.format import json_text
from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.format.strings import decode_strings
from ckpt_tools.lineages.names import BEST_METRIC_MEANING
from ckpt_tools.lineages.scalars import is_close
from ckpt_tools.readers.base import Checkpoint

FIELDS = ("name", "mode", "unit", "step", "value", "evidence")
MOST_BYTES = 1 << 16
_MOST_SHOWN = 200


def meaning_beside(checkpoint: Checkpoint, key: str) -> str | None:
    """The JSON that is stored beside the variable ``key`` of a bundle; None where there is none.

    Raises what reading raises.
    """
    ending = VALUE_SUFFIX if key.endswith(VALUE_SUFFIX) else ""
    stored = f"{key.removesuffix(ending).rpartition('/')[0]}/{BEST_METRIC_MEANING}".lstrip("/") + ending
    info = checkpoint.tensors.get(stored)
    if info is None or info.dtype != "string" or info.shape != () or not checkpoint.format.startswith("bundle"):
        return None
    if info.nbytes > MOST_BYTES:
        return None
    (text,), _ = decode_strings(b"".join(checkpoint.chunks(stored)), 1)
    return text.decode("utf-8", "replace")


def describe(text: str | None, value: float) -> str | None:
    """A sentence for a stored meaning; None where it says nothing.

    A trainer may have gone on and replaced the value: step and evidence are then of another one, and left out.
    """
    try:
        said: Any = json_text.parse(text or "null")
    except ValueError:
        return None
    if not isinstance(said, dict) or not any(said.get(field) is not None for field in FIELDS):
        return None
    own = isinstance(said.get("value"), (int, float)) and is_close(said["value"], value)
    name, mode, unit = (_shown(said.get(field)) for field in ("name", "mode", "unit"))
    words = [name or "a metric without a name"]
    words += [f"{_shown(said['split'])} split"] if said.get("split") else []
    words += [f"top {_shown(said['top_n'])}"] if said.get("top_n") else []
    words += [f"in {unit}"] if unit else []
    sentence = ", ".join(words) + (f" ({mode})" if mode else "")
    if own:
        step, evidence = said.get("step"), _shown(said.get("evidence"))
        sentence += f", at step {step}" if isinstance(step, int) else ""
        sentence += f"; {evidence}" if evidence else ""
    return sentence


def _shown(found: Any) -> str:
    if found is None or isinstance(found, (dict, list)):
        return ""
    text = " ".join(str(found).split())
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."
