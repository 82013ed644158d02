"""Names that fit: of those of runs the beginnings are alike, and the ends tell them apart."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

ELLIPSIS = "…"
# Of a name beside a bar, and of one in a table that has no room, in cells.
NAME_WIDTH, NARROWEST = 32, 16
_PADDING = 2


def middle(text: str, width: int) -> str:
    """Text in so many cells of a terminal: of a longer one the beginning and the end, and ``…`` for the rest."""
    if cell_len(text) <= width:
        return text
    if width < 2:
        return ELLIPSIS[:width]
    # More of the end: there is what the runs of one experiment differ in.
    head = (width - 1) // 3
    return set_cell_size(text, head).rstrip() + ELLIPSIS + _end(text, width - 1 - head)


def _end(text: str, width: int) -> str:
    """The last letters that fit into so many cells."""
    start = len(text)
    while start > 0 and cell_len(text[start - 1 :]) <= width:
        start -= 1
    return text[start:]


def told_apart(names: Sequence[str], width: int) -> list[str]:
    """The names in so many cells each, equal only where the names are: where they do not fit, what they differ in.

    ``book_DNN_b128_lr0.005_k3_DNN`` beside ``book_MIND_b128_lr0.005_k3_MIND`` is ``DNN``.
    """
    if all(cell_len(name) <= width for name in names):
        return list(names)
    common = _shared(names)
    for shorter in (_differences(names), names, [ELLIPSIS + name[common:] for name in names]):
        short = [middle(name, width) for name in shorter]
        if all(short) and len({*short}) == len({*names}):
            return short
    return list(names)


def _differences(names: Sequence[str]) -> list[str]:
    """Of each name the words that not all have, each once, with ``…`` for what lies between them."""
    if len({*names}) < 2:
        return list(names)
    words = [_WORDS.split(name) for name in names]
    common = {*words[0]}.intersection(*words[1:])
    found = []
    for name in words:
        seen = {*common}
        kept = []
        for word in name:
            kept.append(ELLIPSIS if word in seen else word)
            seen.add(word)
        found.append(_JOIN.sub(ELLIPSIS, "_".join(kept)).strip(ELLIPSIS))
    return found


# What names of runs and their paths are made of.
_WORDS = re.compile(r"[_/]")
_JOIN = re.compile(rf"(?:_?{ELLIPSIS}_?)+")


def _shared(names: Sequence[str]) -> int:
    """How many letters all of several names begin with."""
    first, last = min(names), max(names)
    return next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def room(titles: Sequence[str], rows: Sequence[Sequence[object]], width: int) -> int:
    """How many cells of a terminal are left for the names of a table beside its other columns."""
    columns = [[title, *(str(row[number]) for row in rows)] for number, title in enumerate(titles)]
    taken = sum(max(map(cell_len, column)) + _PADDING for column in columns)
    return max(NARROWEST, width - taken - _PADDING)
