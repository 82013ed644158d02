"""Choosing and ordering rows by their columns, as one writes it on a command line.

DNN                 the text is in the path (or the path matches, with * ? [ in it)
model=ComiRec-*     a column matches; != for the others; nothing behind = for what is not known
step>1000           a number: > >= < <=
"""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from ckpt_tools.errors import UsageError

Values = Mapping[str, Any]

_EXPRESSION = re.compile(r"(?P<column>[a-z_]+)\s*(?P<operator>!=|>=|<=|=|>|<)\s*(?P<value>.*)", re.DOTALL)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def matcher(expressions: Iterable[str], columns: Sequence[str]) -> Callable[[Values], bool]:
    """Whether a row satisfies every expression. Raises UsageError for an unknown column or a text that is no number."""
    tests = [_test(expression, columns) for expression in expressions]
    return lambda values: all(test(values) for test in tests)


def ordered(rows: Sequence[Values], column: str, columns: Sequence[str]) -> list[int]:
    """The positions of the rows in the order of a column, ``-COLUMN`` for descending; what is not known comes last.

    Raises UsageError for an unknown column.
    """
    name = _known(column.removeprefix("-"), columns)

    def value(number: int) -> Any:
        found = rows[number][name]
        return len(found) if isinstance(found, list) else found

    known = [number for number in range(len(rows)) if value(number) is not None]
    unknown = [number for number in range(len(rows)) if value(number) is None]
    return sorted(known, key=value, reverse=column.startswith("-")) + unknown


def _test(expression: str, columns: Sequence[str]) -> Callable[[Values], bool]:
    match = _EXPRESSION.fullmatch(expression)
    if match is None:
        pattern = expression if any(sign in expression for sign in "*?[") else f"*{expression}*"
        return lambda values: fnmatch.fnmatchcase(str(values["path"]), pattern)
    column, sign, wanted = _known(match["column"], columns), match["operator"], match["value"]
    if sign in _COMPARE:
        number = _number(expression, wanted)
        compare = _COMPARE[sign]

        def is_so(values: Values) -> bool:
            value = _comparable(values[column])
            return value is not None and compare(value, number)

        return is_so
    positive = sign == "="
    return lambda values: any(fnmatch.fnmatchcase(text, wanted) for text in _texts(values[column])) == positive


def _texts(value: Any) -> list[str]:
    if value is None or value == []:
        return [""]
    if isinstance(value, list):
        return [str(item) for item in value]
    return [str(value), f"{value:g}"] if isinstance(value, float) else [str(value)]


def _comparable(value: Any) -> float | None:
    if isinstance(value, list):
        return len(value)
    return float(value) if isinstance(value, (int, float)) else None


def _number(expression: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"--filter {expression}: {text!r} is not a number") from error


def _meant(column: str, columns: Sequence[str]) -> str:
    near = get_close_matches(column, columns, n=1)
    return f"{f'did you mean {near[0]}? ' if near else ''}columns: {', '.join(columns)}"


def _known(column: str, columns: Sequence[str]) -> str:
    if column not in columns:
        raise UsageError(f"there is no column {column!r}", hint=_meant(column, columns))
    return column
