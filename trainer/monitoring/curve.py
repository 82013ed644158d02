"""The recall of a run as a picture: ``runs/EXPERIMENT/recall.png``, where matplotlib is there to draw it."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence

from ckpt_tools.fs import durable
from ckpt_tools.runs.logs import LoggedEvaluation

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


def draw(evaluations: Sequence[LoggedEvaluation], title: str, directory: str) -> str | None:
    """Draw recall over steps, the best marked; returns the path, None without matplotlib or with nothing to draw."""
    points = sorted({(evaluation.step, evaluation.recall) for evaluation in evaluations})
    if len(points) < 2:
        return None
    try:
        from matplotlib.figure import Figure
        from matplotlib.font_manager import fontManager
    except ImportError:
        return None
    installed = {font.name for font in fontManager.ttflist}
    family = ["DejaVu Sans", *(name for name in _FONTS if name in installed)]
    steps, recalls = zip(*points, strict=True)
    best = max(range(len(points)), key=lambda place: (recalls[place], -place))
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, recalls, marker=".", linewidth=1)
    axes.plot(steps[best], recalls[best], "o", color="tab:green")
    axes.annotate(f"{recalls[best]:.6f}", (steps[best], recalls[best]), (0, 8), textcoords="offset points", ha="center")
    axes.margins(y=0.15)
    axes.set(xlabel="step", ylabel="recall of the validation users")
    axes.set_title(title, family=family, parse_math=False)
    axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a glyph that no font has is drawn as a box
        figure.savefig(buffer, format="png", dpi=120)
    path = os.path.join(directory, NAME)
    durable.write_atomic(path, buffer.getvalue())
    return path
