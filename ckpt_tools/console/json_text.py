"""A document as one line of JSON that any reader takes and no terminal obeys."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from ckpt_tools.redaction import redacted


def encode_json(document: Mapping[str, Any], *, ascii_only: bool, not_finite: Callable[[float], Any] = str) -> str:
    """The document on one line, secrets in URLs left out, whatever a terminal obeys or a reader is deceived by as
    escapes. ``not_finite`` says what stands for a NaN or an infinity, which JSON has not."""
    whole = redacted(document)
    try:
        text = json.dumps(whole, ensure_ascii=ascii_only, allow_nan=False)
    except (TypeError, ValueError):
        text = json.dumps(_finite(whole, not_finite), ensure_ascii=ascii_only, allow_nan=False)
    return _escaped(text)


def _escaped(text: str) -> str:
    """JSON may hold C1, DEL, changes of direction."""
    if text.isprintable():
        return text
    odd = lambda found: "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in found[0])  # noqa: E731
    return re.sub(r"[^ -~]+", odd, text)


def _finite(value: Any, not_finite: Callable[[float], Any]) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return not_finite(value)
    if isinstance(value, Mapping):
        return {str(key): _finite(item, not_finite) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item, not_finite) for item in value]
    return value
