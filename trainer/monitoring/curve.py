"""The history of a run as a picture: ``runs/EXPERIMENT/recall.png``, where matplotlib is there to draw it."""

from __future__ import annotations

import io
import os
import warnings
from typing import TYPE_CHECKING

from ckpt_tools.fs import durable
from ckpt_tools.runs.curve import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "recall.png"
# Fonts with Chinese, Japanese and Korean letters, where a system has one: names of experiments may hold them.
_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Arial Unicode MS",
)


_PANELS = {"recall": "recall", "ndcg": "NDCG", "hitrate": "hit rate", "loss": "training loss"}


def draw(curve: Curve, title: str, directory: str) -> str | None:
    """Draw recall, NDCG, hit rate and loss over the whole run, the best and the resumes marked.

    Returns the path, None without matplotlib or with nothing to draw.
    """
    if len(curve.points) < 2:
        return None
    try:
        from matplotlib.figure import Figure
        from matplotlib.font_manager import fontManager
    except ImportError:
        return None
    installed = {font.name for font in fontManager.ttflist}
    family = ["DejaVu Sans", *(name for name in _FONTS if name in installed)]
    names = [name for name in _PANELS if any(getattr(point, name) is not None for point in curve.points)]
    figure = Figure(figsize=(8, 3 + 1.6 * len(names)), layout="constrained")
    heights = [2.0, *[1.0] * (len(names) - 1)]
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for name, axes in zip(names, panels, strict=True):
        values = [float("nan") if (value := getattr(point, name)) is None else value for point in curve.points]
        known = [(place, value) for place, value in zip(curve.places, values, strict=True) if value == value]
        axes.plot(*zip(*known, strict=True), marker=".", linewidth=1)
        for number in curve.resumes:
            axes.axvline(curve.places[number], color="tab:gray", linestyle="--", linewidth=1, label="resumed")
        if curve.best is not None:
            axes.plot(curve.places[curve.best], values[curve.best], "o", color="tab:green", label="best recall")
        axes.set(ylabel=_PANELS[name])
        axes.margins(y=0.15)
        axes.grid(alpha=0.3)
    _describe_best(panels[0], curve)
    panels[-1].set(xlabel=curve.axis)
    panels[0].set_title(title, family=family, parse_math=False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a glyph that no font has is drawn as a box
        figure.savefig(buffer, format="png", dpi=120)
    path = os.path.join(directory, NAME)
    durable.write_atomic(path, buffer.getvalue())
    return path


def _describe_best(axes: Axes, curve: Curve) -> None:
    """The value beside the mark of the best, and what the marks mean."""
    if curve.best is not None:
        recall = curve.points[curve.best].recall
        where = curve.places[curve.best], recall
        axes.annotate(f"{recall:.6f}", where, (0, 8), textcoords="offset points", ha="center")
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(handles.values(), handles.keys(), loc="lower right")
