"""Columns of numbers in a whole document: what libraries write at the end of a run, or again after each epoch.

A list of numbers is a value for each epoch, in order (``{"validation": {"combined": {"loss": [...]}}}``: Ludwig, and
History of Keras); beside a list of ``steps`` a list of ``values`` has those (Sacred's ``metrics.json``). The way to a
list is its name. pandas writes a list as an object. Pure: from what a parser made of a text to columns.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_MOST_DEEP = 6
# What Python's repr of a dict of lists has, and a parser of literals is quick with.
_MOST_LITERAL = 1 << 22
_LITERAL = re.compile(r"\s*\{\s*['\"][^'\"\n]{1,200}['\"]\s*:\s*[\[{]")
# numpy's repr of a number, and what no literal is.
_WRAPPED = re.compile(r"\bnp\.float(?:16|32|64)\((?P<value>[-+\w.]{1,40})\)")
_ODD = re.compile(r"\b(?:nan|inf)\b")


@dataclass(frozen=True)
class Column:
    """The values of one metric; ``steps`` where the document counts them itself."""

    name: str
    values: tuple[float, ...]
    steps: tuple[int, ...] | None = None


def columns_of(document: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[Column]:
    """The columns of an object and of those in it."""
    steps, values = _whole(document.get("steps")), _numbers(document.get("values"))
    if prefix and steps is not None and values is not None and len(steps) == len(values):
        yield Column(prefix.removesuffix("/"), values, steps)
        return
    if not prefix and (frame := _of_frame(document)) is not None:
        yield from frame
        return
    for name, value in document.items():
        if isinstance(value, Mapping) and depth < _MOST_DEEP:
            yield from columns_of(value, f"{prefix}{name}/", depth + 1)
        elif (numbers := _numbers(value)) is not None:
            yield Column(f"{prefix}{name}", numbers)


def _of_frame(document: Mapping[str, Any]) -> list[Column] | None:
    """The columns of Keras' history as pandas writes a DataFrame of it, each an object of ``"0"``, ``"1"``, ...

    What is counted so may be classes as well: a history has a metric of the training and of the validation.
    """
    found: list[Column] = []
    for name, value in document.items():
        whole = isinstance(value, Mapping) and list(value) == [str(number) for number in range(len(value))]
        numbers = _numbers([*value.values()]) if whole else None
        if numbers is None:
            return None
        found.append(Column(name, numbers))
    return found if any(f"val_{column.name}" in document for column in found) else None


def literal(text: str) -> dict[str, Any] | None:
    """The dict of lists that a text is Python's repr of: ``str(history.history)``. None for any other text."""
    if len(text) > _MOST_LITERAL or not _LITERAL.match(text) or not text.rstrip().endswith("}"):
        return None
    plain = _ODD.sub(lambda found: "1e999" if found[0] == "inf" else "None", _WRAPPED.sub(r"\g<value>", text))
    try:
        found = ast.literal_eval(plain.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, dict) and all(isinstance(name, str) for name in found) else None


def _numbers(value: Any) -> tuple[float, ...] | None:
    """A list of numbers; what is missing in it is NaN."""
    if not isinstance(value, (list, tuple)) or not value:
        return None
    if not all(each is None or (isinstance(each, (int, float)) and not isinstance(each, bool)) for each in value):
        return None
    if all(each is None for each in value):
        return None
    try:
        return tuple(float("nan") if each is None else float(each) for each in value)
    except OverflowError:
        return None


def _whole(value: Any) -> tuple[int, ...] | None:
    numbers = _numbers(value)
    if numbers is None or not all(each.is_integer() for each in numbers):
        return None
    return tuple(int(each) for each in numbers)
