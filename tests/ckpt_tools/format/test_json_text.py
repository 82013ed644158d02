"""JSON of anybody: one kind of error, and numbers that are floats or integers that fit one."""

from __future__ import annotations

import math

import pytest

from ckpt_tools.format.json_text import parse


def test_integers_that_no_float_holds_are_infinite() -> None:
    assert parse("[" + "9" * 308 + "]") == [10**308 - 1]
    assert parse("9" * 400) == parse("1e999") == math.inf
    assert parse("-" + "9" * 400) == -math.inf
    assert parse("9" * 5000) == math.inf  # over the limit that Python has for integers
    assert parse("-3") == -3


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":' * 100_000, b"\xff", "nul"])
def test_what_cannot_be_parsed_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(text)


def test_objects_are_made_as_told() -> None:
    assert parse('{"a": 1, "a": 2}', pairs=list) == [("a", 1), ("a", 2)]
    assert parse(b'{"a": 1}') == {"a": 1}
