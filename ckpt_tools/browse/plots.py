"""Pictures of letters: a curve of dots, a histogram of bars."""

from __future__ import annotations

import math

from rich.text import Text

from ckpt_tools.analysis.distributions import Histogram
from ckpt_tools.runs.curve import Curve

# Bits of the dots of a braille letter, two columns of four rows.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BRAILLE = 0x2800
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LABEL = 10
_HIGHEST = 1e100


def curve_picture(curve: Curve, width: int, height: int) -> Text:
    """Recall over the run, the best marked with ``◆``, resumes with ``│``, in so many columns and rows."""
    values = [value if abs(value) < _HIGHEST else None for value in curve.recalls]
    known = [value for value in values if value is not None]
    columns, rows = max(4, width - _LABEL), max(2, height - 2)
    if not known:
        return Text("No evaluation is logged.")
    places = curve.places
    first, last = places[0], places[-1]
    low, high = min(known), max(known)

    def across(place: int) -> int:
        return round((place - first) / (last - first) * (columns * 2 - 1)) if last > first else 0

    def down(value: float) -> int:
        return round((high - value) / (high - low) * (rows * 4 - 1)) if high > low else rows * 2

    cells = [[0] * columns for _ in range(rows)]
    before: tuple[int, int] | None = None
    for place, value in zip(places, values, strict=True):
        if value is None:
            continue
        here = across(place), down(value)
        for x, y in _between(before or here, here):
            cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
        before = here
    letters = [[chr(_BRAILLE + cell) if cell else " " for cell in row] for row in cells]
    for number in curve.resumes:
        for row in letters:
            column = across(places[number]) // 2
            row[column] = "│" if row[column] == " " else row[column]
    best = curve.best
    if best is not None and values[best] is not None:
        letters[down(curve.recalls[best]) // 4][across(places[best]) // 2] = "◆"
    picture = Text()
    for number, row in enumerate(letters):
        label = f"{high:.6f}" if number == 0 else f"{low:.6f}" if number == rows - 1 else ""
        picture.append(f"{label:>{_LABEL - 2}} ┤", style="dim").append("".join(row).rstrip() + "\n")
    picture.append(" " * (_LABEL - 1) + "└" + "─" * (columns - 1) + "\n", style="dim")
    ends = f"{curve.axis} {first}"
    picture.append(" " * _LABEL + ends + f"{last:>{max(1, columns - len(ends))}}", style="dim")
    return picture


def _between(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots of a line."""
    (x0, y0), (x1, y1) = start, end
    count = max(abs(x1 - x0), abs(y1 - y0), 1)
    return [(round(x0 + (x1 - x0) * n / count), round(y0 + (y1 - y0) * n / count)) for n in range(count + 1)]


def histogram_picture(found: Histogram, width: int, height: int) -> Text:
    """A bar for each bin, or for each few of them where there are fewer rows."""
    if not found.counts:
        return Text(f"No finite value among {found.odd}.")
    together = math.ceil(len(found.counts) / max(1, height))
    counts = [sum(found.counts[n : n + together]) for n in range(0, len(found.counts), together)]
    edges = [found.edges[n * together] for n in range(len(counts))]
    most, room = max(counts), max(4, width - 24)
    picture = Text()
    for edge, count in zip(edges, counts, strict=True):
        picture.append(f"{edge:>11.4g} ", style="dim").append(_bar(count / most * room), style="cyan")
        picture.append(f" {count:,}\n", style="dim")
    if found.odd:
        picture.append(f"{found.odd:,} values are not finite\n", style="bold red")
    return picture


def _bar(length: float) -> str:
    whole = int(length)
    part = _EIGHTHS[round((length - whole) * 8)].strip()
    return "█" * whole + part


def evaluations(curve: Curve, most: int) -> Text:
    """The last evaluations as a table, the best (``◆``) among them; resumes with ``│``."""
    text = Text(f"  {'step':>7} {'recall':>8} {'NDCG':>8} {'hit rate':>8} {'loss':>8}\n", style="bold")
    count = len(curve.points)
    shown = sorted({*range(max(0, count - most), count), *([] if curve.best is None else [curve.best])})
    for number in shown:
        point = curve.points[number]
        cells = [_cell(value) for value in (point.recall, point.ndcg, point.hitrate, point.loss)]
        mark = "◆" if number == curve.best else "│" if number in curve.resumed else " "
        text.append(f"{mark} {point.step:>7} {' '.join(cells)}\n", style="green" if number == curve.best else "")
    return text


def _cell(value: float | None) -> str:
    return f"{'–':>8}" if value is None else f"{value:>8.5g}"
