"""Charts as inline SVG, drawn by pygal. Their colours are variables of the page's style, for light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pygal
from pygal.style import Style

from ckpt_tools.analysis.inspection import Tensor
from ckpt_tools.analysis.page_contents import Histogram, NormBand
from ckpt_tools.runs.curve import Curve

_STYLE = Style(
    background="transparent",
    plot_background="transparent",
    foreground="var(--text)",
    foreground_strong="var(--text)",
    foreground_subtle="var(--line)",
    guide_stroke_color="var(--line)",
    major_guide_stroke_color="var(--line)",
    colors=("var(--one)", "var(--two)", "var(--three)", "var(--four)", "var(--five)"),
    font_family="inherit",
    label_font_size=12,
    major_label_font_size=12,
    legend_font_size=13,
    title_font_size=14,
    opacity=".85",
    opacity_hover="1",
    value_colors=("var(--on)",) * 5,
)
_LARGEST = 30
# Beyond this no scale is drawn.
_HIGHEST = 1e100
# Of a label's letter, in units of a chart: on average, and rather too wide than clipped.
_LETTER_WIDTH, _LINE_HEIGHT = 7.0, 16.0
_DASHES = {"dasharray": "6, 4"}


def _options(**more: Any) -> dict[str, Any]:
    # Without js: pygal would load its script from the network.
    base: dict[str, Any] = {"style": _STYLE, "js": (), "disable_xml_declaration": True, "width": 580, "height": 270}
    base |= {"legend_at_bottom": True, "x_label_rotation": 0, "truncate_label": -1}
    # pygal would make up to 16 graduations, whose labels run into each other in a low chart.
    base |= {"max_scale": 7}
    return {**base, **more}


def _svg(chart: Any) -> str:
    # More columns than entries, and pygal would draw the legend below the edge.
    chart.legend_at_bottom_columns = len(chart.raw_series)
    chart.add_xml_filter(_hover_titles)
    return _without_comments(chart.render(is_unicode=True))


def _without_comments(svg: str) -> str:
    """Without the generator's name, its site and the date, which stand in comments side by side."""
    start, end = svg.index("<!--"), svg.rindex("-->") + 3
    return svg[:start] + svg[end:]


def _hover_titles(root: Any) -> Any:
    """pygal's notes for its script become the titles that browsers show by themselves; the script itself goes."""
    for element in list(root.iter()):
        notes = {note.get("class"): note.text for note in element.findall("desc")}
        words = ": ".join(text for text in (notes.get("label"), notes.get("value")) if text)
        for child in [child for child in element if child.tag in ("desc", "script")]:
            element.remove(child)
        if words:
            title = element.makeelement("title", {})
            title.text = words
            element.insert(0, title)
    # Its own title is its maker's name.
    for title in root.findall("title"):
        root.remove(title)
    return _silent(root)


def _labels_within(root: Any) -> Any:
    """pygal begins a tile's label in the middle of the tile: centre it, and leave out what is wider than its tile."""
    tiles = [tile for tile in root.iter("rect") if "reactive" in tile.get("class", "")]
    for overlay in root.iter("g"):
        for text in [text for text in overlay.findall("text") if "label" in text.get("class", "")]:
            tile = min(tiles, key=lambda tile: _distance(text, tile))
            width, height = (float(tile.get(side)) for side in ("width", "height"))
            if width < len(text.text) * _LETTER_WIDTH or height < _LINE_HEIGHT:
                overlay.remove(text)
            else:
                text.set("style", "text-anchor: middle")
    return root


def _distance(text: Any, tile: Any) -> float:
    """From the start of a text to the middle of a tile."""
    pairs = (("x", "width"), ("y", "height"))
    return sum(abs(float(text.get(at)) - float(tile.get(at)) - float(tile.get(side)) / 2) for at, side in pairs)


def _bare(root: Any) -> Any:
    """Without pygal's own style and script: the page has one style for all its sparklines."""
    for element in [child for child in root if child.tag in ("defs", "title")]:
        root.remove(element)
    return _silent(root)


def _silent(root: Any) -> Any:
    """The page says in words what a chart shows: a screen reader need not spell out its parts."""
    root.set("aria-hidden", "true")
    return root


def curve(found: Curve, names: Sequence[str]) -> str | None:
    """Metrics over the run, the best evaluation and the resumes marked on the first; None when there are no values."""
    exact, axis = found.places, found.axis
    places = [int(float(f"{place:.9g}")) for place in exact]  # as `_drawn`
    series = {name: [_drawn_or_none(getattr(point, name)) for point in found.points] for name in names}
    series = {name: values for name, values in series.items() if any(value is not None for value in values)}
    if not series:
        return None
    chart = pygal.XY(
        **_options(x_title=axis, dots_size=3 if len(places) < 40 else 1.5, value_formatter=lambda value: f"{value:.4g}")
    )
    for name, values in series.items():
        points = [(n, y) for n, y in enumerate(values) if y is not None]
        chart.add(name, [{"value": (places[n], y), "label": f"{axis} {exact[n]}: {name} {y:.6f}"} for n, y in points])
    first = next(iter(series.values()))
    best = [] if found.best is None else [found.best]
    for label, numbers in (("best recall", best), ("resumed", found.resumes)):
        shown = [n for n in numbers if first[n] is not None]
        if shown:
            dots = [{"value": (places[n], first[n]), "label": f"{label}: {axis} {exact[n]}"} for n in shown]
            chart.add(label, dots, stroke=False, dots_size=7)
    return _svg(chart)


def _drawn_or_none(value: float | None) -> float | None:
    return None if value is None else _drawn(value)


def anatomy(tensors: Sequence[Tensor]) -> str:
    """A treemap of the bytes: model, averages, optimizer, state."""
    chart = pygal.Treemap(**_options(width=1000, height=340, print_labels=True))
    chart.add_xml_filter(_labels_within)
    for group in ("model", "average", "optimizer", "state"):
        members = sorted((t for t in tensors if t.group == group and t.nbytes), key=lambda tensor: -tensor.nbytes)
        tiles = [(tensor.canonical or tensor.name, tensor.nbytes) for tensor in members[:_LARGEST]]
        if len(members) > _LARGEST:
            rest = sum(tensor.nbytes for tensor in members[_LARGEST:])
            tiles.append((f"{len(members) - _LARGEST} smaller ones", rest))
        if tiles:
            chart.add(group, [_tile(name, nbytes) for name, nbytes in tiles])
    return _svg(chart)


def _tile(name: str, nbytes: int) -> dict[str, Any]:
    """Its name, printed where there is room for it, and its size, which all have in their title."""
    label = name.removeprefix("model/").removeprefix("optimizer/")
    return {"value": nbytes, "formatter": lambda _: f"{nbytes:,} bytes", "label": label}


def _drawn(value: float) -> float | None:
    """A number as a chart has it: none for one that no scale reaches, 0 for one that no scale tells from it.

    With nine digits: pygal looks for a scale between numbers that are nearly the same, and never ends.
    """
    if not abs(value) <= _HIGHEST:
        return None
    return float(f"{value:.9g}") if abs(value) > 1 / _HIGHEST else 0.0


def histogram(found: Histogram) -> str:
    """Drawn from 0 to 1, and labelled with the values: floats can lie too near or too far for a chart's arithmetic."""
    low, high = found.edges[0], found.edges[-1]

    def value(share: float) -> str:
        return f"{low * (1 - share) + high * share:.4g}"

    chart = pygal.Histogram(
        **_options(
            width=380,
            height=200,
            show_legend=False,
            max_scale=5,
            x_labels=[0.0, 0.5, 1.0],
            x_value_formatter=value,
            value_formatter=lambda value: f"{value:,g}",
        )
    )
    count = len(found.counts)
    chart.add(found.name, [(found.counts[n], n / count, (n + 1) / count) for n in range(count)])
    return _svg(chart)


def norms(bands: Sequence[NormBand]) -> str:
    """The norm of embeddings against how frequent their items are."""
    chart = pygal.XY(
        **_options(
            x_title="item id, most frequent first",
            x_labels=list(range(math.ceil(math.log10(bands[-1].last)) + 1)),
            dots_size=2,
            width=1000,
            value_formatter=lambda value: f"{value:.4g}",
            x_value_formatter=lambda value: f"{10**value:,.0f}",
        )
    )
    for label, name in (("90 %", "high"), ("median", "middle"), ("10 %", "low")):
        points = [
            {
                "value": (math.log10(math.sqrt(band.first * band.last)), _drawn(getattr(band, name))),
                "label": f"items {band.first} to {band.last}, {label}",
            }
            for band in bands
        ]
        chart.add(label, points, stroke_style=None if name == "middle" else _DASHES)
    return _svg(chart)


def sparkline(values: Sequence[float]) -> str:
    """A line without axes, as high as a line of text."""
    chart = pygal.Line(**_options(), show_dots=False)
    chart.add("", [_drawn(value) for value in values])
    chart.add_xml_filter(_bare)
    svg = chart.render_sparkline(width=110, height=24, is_unicode=True, js=(), disable_xml_declaration=True)
    return _without_comments(svg)
