"""JSON that anybody may have written: what a parser cannot take is an error of one kind, numbers are finite or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

# More digits than the largest float has.
_MOST_DIGITS = 308


def parse(text: str | bytes, *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """What a JSON text says. An integer that no float holds is infinite, as one that is written with an exponent is.

    Args:
        pairs: makes what stands for an object of its names and values, in their order; a dict by default.

    Raises ValueError for what is no JSON, and for lists in lists in lists deeper than Python recurses.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs, parse_int=_integer)  # noqa: TID251 - the one place
    except RecursionError:
        raise ValueError("nested too deep") from None


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _MOST_DIGITS else float(text)
