"""What the charts of a page show, as JSON for uPlot: places on an axis and values, None where there is none.

Values come from files, and a browser must end what it begins: numbers that no scale reaches are left out, nearly equal
ones are told apart by nine digits at most, and of very long histories only some points are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ckpt_tools.analysis.distributions import Histogram, NormBand
from ckpt_tools.console.language import said
from ckpt_tools.runs.curve import Curve
from ckpt_tools.runs.metric_history import Chosen

# Beyond this uPlot has no graduations.
_HIGHEST = 1e30
_MOST_POINTS = 2000
_MOST_OVERLAID = 150


@dataclass(frozen=True)
class Panel:
    """One chart: its caption, what a screen reader says of it, and the figure as JSON."""

    caption: str
    spoken: str
    figure: dict[str, Any]


def drawn(value: float | None) -> float | None:
    """A number as a chart has it: None for one that no scale reaches, 0 for one that no scale tells from it.

    With nine digits: between numbers that are nearly the same there are no graduations.
    """
    if value is None or not abs(value) <= _HIGHEST:
        return None
    return float(f"{value:.9g}") if abs(value) > 1 / _HIGHEST else 0.0


def _place(number: int) -> float:
    """A step as a place on the axis."""
    return float(f"{min(number, 10**18):.9g}")


def kept(curve: Curve, most: int = _MOST_POINTS) -> list[int]:
    """The numbers of the points of a curve that are drawn: all, or of a long one each so many-th, the best, the ends
    and those at which it was resumed."""
    count = len(curve.points)
    if count <= most:
        return list(range(count))
    step = math.ceil(count / most)
    resumes = curve.resumes[:: max(1, math.ceil(len(curve.resumes) / most))]
    best = curve.best
    return sorted({*range(0, count, step), count - 1, *resumes, *([] if best is None else [best])})


_MEASURES = {"recall": "recall", "ndcg": "NDCG", "hitrate": "hit rate", "loss": "loss"}


def curve_panels(curve: Curve) -> list[Panel]:
    """The metrics of a run, and its loss, over its steps: resumes and the best marked."""
    numbers = kept(curve)
    points = [curve.points[number] for number in numbers]
    exact, top = curve.places, curve.best
    place_of = {number: _place(exact[number]) for number in numbers}
    panels = []
    for names in (("recall", "ndcg", "hitrate"), ("loss",)):
        values = {name: [drawn(getattr(point, name)) for point in points] for name in names}
        series = [
            {"label": said(_MEASURES[name]), "values": column}
            for name, column in values.items()
            if any(value is not None for value in column)
        ]
        if not series:
            continue
        best = top if names[0] == "recall" else None
        caption = ", ".join(str(each["label"]) for each in series)
        panels.append(
            Panel(
                caption,
                said(f"Curve of {caption}; its values are in the table below."),
                {
                    "kind": "lines",
                    "axis": said(curve.axis),
                    "x": list(place_of.values()),
                    "shown": [str(point.step) for point in points],
                    "series": series,
                    "resumes": [place_of[number] for number in curve.resumes if number in place_of],
                    "best": None if best is None else {"x": place_of[best], "word": said("best")},
                    "word": said("resumed"),
                },
            )
        )
    return panels


def declared_panel(found: Chosen | None) -> Panel | None:
    """The metric that another trainer's logs tell, in the order of the log."""
    rows = [] if found is None else [row for row in found.evaluations if drawn(row.value) is not None]
    if found is None or not rows:
        return None
    rows = rows[:: math.ceil(len(rows) / _MOST_POINTS)]
    steps = [row.step if row.step is not None else row.epoch for row in rows]
    known = [step for step in steps if step is not None]
    rises = len(known) == len(steps) and all(before < after for before, after in pairwise(known))
    places: list[float] = [_place(step) for step in known] if rises else [float(n + 1) for n in range(len(rows))]
    axis = ("step" if rows[0].step is not None else "epoch") if rises else "evaluation"
    best = found.best
    at = next((place for place, row in zip(places, rows, strict=True) if row is best), None)
    figure = {
        "kind": "lines",
        "axis": said(axis),
        "x": places,
        "shown": [str(int(place)) for place in places],
        "series": [{"label": found.name, "values": [drawn(row.value) for row in rows]}],
        "resumes": [],
        "best": None if at is None else {"x": at, "word": said("best")},
        "word": said("resumed"),
    }
    return Panel(found.name, said(f"Curve of {found.name}; its values are in the table below."), figure)


def histogram_panel(found: Histogram) -> Panel | None:
    """Drawn bin beside bin, and labelled with the values: floats can lie too near or too far for a scale."""
    if not found.counts:
        return None
    low, high = found.edges[0], found.edges[-1]
    caption = found.name
    if found.odd:
        caption += f", {said('not finite')}: {found.odd}"
    return Panel(
        caption,
        said(f"Histogram of {found.name}, from {low:.4g} to {high:.4g}."),
        {
            "kind": "bars",
            "counts": list(found.counts),
            "labels": [f"{edge:.4g}" for edge in (low, low / 2 + high / 2, high)],
        },
    )


def norm_panel(bands: Sequence[NormBand]) -> Panel | None:
    """The norms of the item embeddings against the place of their items, most frequent first."""
    if not bands:
        return None
    return Panel(
        said("Norms of the item embeddings against frequency (ids are in order of falling frequency)"),
        said("Norms of the item embeddings against frequency; the values are in the table below."),
        {
            "kind": "lines",
            "axis": said("item id, most frequent first"),
            # Ids fall in frequency as a power: their logarithms are evenly spread.
            "x": [round(math.log10(math.sqrt(band.first * band.last)), 6) for band in bands],
            "log": True,
            "shown": [f"{band.first} – {band.last}" for band in bands],
            "series": [
                {"label": "90 %", "values": [drawn(band.high) for band in bands], "dashed": True, "colour": 7},
                {"label": said("median"), "values": [drawn(band.middle) for band in bands], "colour": 0},
                {"label": "10 %", "values": [drawn(band.low) for band in bands], "dashed": True, "colour": 7},
            ],
            "resumes": [],
            "best": None,
            "word": "",
        },
    )


def overlaid(curve: Curve) -> dict[str, Any]:
    """The recall of one of several runs, to be drawn over that of others; by step, the last of those with the same."""
    by_step = {
        _place(curve.points[number].step): drawn(curve.points[number].recall) for number in kept(curve, _MOST_OVERLAID)
    }
    rows = sorted((step, value) for step, value in by_step.items() if value is not None)
    return {"x": [step for step, _ in rows], "y": [value for _, value in rows]}


def sparkline(values: Sequence[float], width: int = 110, height: int = 24) -> str:
    """The points of a line as high as a line of text, for SVG's ``polyline``; empty without values."""
    shown = [value for value in map(drawn, values) if value is not None]
    shown = shown[:: max(1, math.ceil(len(shown) / width))]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    across = (width - 4) / max(1, len(shown) - 1)
    up = (height - 4) / (high - low) if high > low else 0.0
    return " ".join(f"{2 + n * across:.1f},{height - 2 - (value - low) * up:.1f}" for n, value in enumerate(shown))
