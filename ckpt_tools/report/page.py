"""Contents to HTML: Jinja2 with everything escaped but our own scripts. Nothing on a page comes from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ckpt_tools.analysis.inspection import Tensor
from ckpt_tools.analysis.page_contents import RunContents, ShelfContents
from ckpt_tools.analysis.run_audit import Row
from ckpt_tools.console.json_text import encode_json
from ckpt_tools.console.language import chinese, said
from ckpt_tools.console.widths import told_apart
from ckpt_tools.redaction import without_secrets
from ckpt_tools.report import figures
from ckpt_tools.version import __version__

_LARGEST = 8
_LEGEND_WIDTH = 38
_GROUPS = ("model", "average", "optimizer", "state")


def _size(number: float) -> str:
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def _metric(value: float | None) -> str:
    return "–" if value is None else f"{value:.6f}"


_ENVIRONMENT = Environment(
    loader=PackageLoader("ckpt_tools.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=lambda value: without_secrets(value) if type(value) is str else value,
)
_ENVIRONMENT.filters["size"] = _size
_ENVIRONMENT.filters["metric"] = _metric
_ENVIRONMENT.globals["_"] = said


def _asset(*name: str) -> str:
    return resources.files(__package__).joinpath(*name).read_text("utf-8")


def _page(template: str, scripts: Sequence[str], data: Any, **values: Any) -> str:
    """A page that may run these scripts, and load nothing. ``data`` is what they draw."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {allowed}"
    page = _ENVIRONMENT.get_template(template).render(
        policy=policy,
        style=Markup(_asset("vendor", "uplot", "uPlot.min.css") + _asset("templates", "style.css")),
        scripts=[Markup(script) for script in scripts],
        # No tag of HTML begins in it.
        data=Markup(encode_json({"figures": data}, ascii_only=True).replace("<", "\\u003c")),
        language="zh" if chinese() else "en",
        version=__version__,
        python=platform.python_version(),
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        **values,
    )
    return _visible(page)


def _visible(page: str) -> str:
    """Control characters in names, which HTML must not have, and changes of direction as their escapes."""

    def escaped(found: re.Match[str]) -> str:
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in found[0])

    return re.sub(r"[^ -~\n\t\r]+", escaped, page)


def _charts() -> tuple[str, ...]:
    return _asset("vendor", "uplot", "uPlot.iife.min.js"), _asset("templates", "charts.js")


# ------------------------------------------------------------------------------------------------ one run


@dataclass(frozen=True)
class Tile:
    """One figure that is seen first; ``tone`` is good, warn, bad, or empty."""

    label: str
    value: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class PagePart:
    """A part of a checkpoint, with the largest of its tensors; ``share`` is of all bytes."""

    group: str
    nbytes: int
    share: float
    largest: tuple[Tensor, ...]
    others: int


def run_page(found: RunContents, home: str | None = None) -> str:
    """The page about one run; ``home`` is the page of all."""
    curves = [*figures.curve_panels(found.curve)]
    if declared := figures.declared_panel(found.declared):
        curves.append(declared)
    histograms = [(each, figures.histogram_panel(each)) for each in found.histograms]
    norms = figures.norm_panel(found.norms)
    panels = [*curves, *(panel for _, panel in histograms if panel), *([norms] if norms else [])]
    numbers = {id(panel): number for number, panel in enumerate(panels)}
    return _page(
        "run.html.j2",
        _charts() if panels else (),
        [panel.figure for panel in panels],
        found=found,
        home=home,
        tiles=_tiles(found),
        curves=curves,
        points=figures.kept(found.curve),
        declared=declared,
        parts=_parts(found),
        histograms=histograms,
        norms=norms,
        number=lambda panel: numbers[id(panel)],
    )


_TONES = {"safe": "good", "at-risk": "warn", "blocked": "bad"}


def _tiles(found: RunContents) -> list[Tile]:
    it, best = found.inspection, found.evidence.best
    tiles = []
    if it is not None:
        stored = it.best_metric
        if stored.status == "present" and stored.value is not None:
            tiles.append(Tile(said("best stored"), f"{stored.value:.6f}", "", "good"))
        else:
            tiles.append(Tile(said("best stored"), said(stored.status), said("no best in the checkpoint"), "warn"))
    logged = found.declared.best if found.declared else None
    if found.declared and logged:
        counted, number = ("step", logged.step) if logged.step is not None else ("epoch", logged.epoch)
        where = "" if number is None else f", {said(counted)} {number}"
        tiles.append(Tile(said("best logged"), f"{logged.value:g}", found.declared.name + where))
    elif best is not None:
        tiles.append(
            Tile(said("best logged"), f"{best.recall:.6f}", f"{said('step')} {best.step}" if best.step else "")
        )
        for name, label in (("ndcg", "NDCG"), ("hitrate", "hit rate")):
            if (value := getattr(best, name)) is not None:
                tiles.append(Tile(said(label), f"{value:.6f}", said("at the best")))
    if it is not None:
        tiles.append(Tile(said("step"), said("unknown") if it.step is None else f"{it.step:,}"))
    if found.outlook is not None:
        verdict = found.outlook.verdict
        tiles.append(Tile(said("resume"), said(verdict), "", _TONES[verdict]))
    if it is not None:
        size = f"{_size(it.totals['bytes'])}, {said('tensors')}: {it.totals['tensors']}"
        state = ("damaged", "bad") if found.is_damaged else ("whole", "good")
        tiles.append(Tile(said("bytes"), said(state[0]), size, state[1]))
    else:
        tiles.append(Tile(said("bytes"), said("damaged"), said("it cannot be opened"), "bad"))
    return tiles


def _parts(found: RunContents) -> list[PagePart]:
    tensors = found.inspection.tensors if found.inspection else ()
    total = sum(tensor.nbytes for tensor in tensors)
    parts = []
    for group in _GROUPS:
        members = sorted(
            (each for each in tensors if each.group == group and each.nbytes), key=lambda each: -each.nbytes
        )
        if members:
            nbytes = sum(each.nbytes for each in members)
            largest = tuple(members[:_LARGEST])
            parts.append(PagePart(group, nbytes, nbytes / total, largest, len(members) - len(largest)))
    return parts


# ------------------------------------------------------------------------------------------------ all runs


def shelf_page(found: ShelfContents) -> str:
    """The page about all runs."""
    rows = found.audit.rows
    drawn = {row.path: number for number, row in enumerate(row for row in rows if row.curve.points)}
    names = told_apart([row.path for row in rows if row.curve.points], _LEGEND_WIDTH)
    overlaid = [figures.overlaid(row.curve) for row in rows if row.curve.points]
    curves = [{"name": name, **curve} for name, curve in zip(names, overlaid, strict=True)]
    return _page(
        "shelf.html.j2",
        (*_charts()[:1], _asset("templates", "charts.js"), _asset("templates", "shelf.js")),
        [{"kind": "overlay", "axis": said("step"), "label": said("recall"), "runs": curves}],
        found=found,
        drawn=drawn,
        sparklines={row.path: figures.sparkline(row.curve.recalls) for row in rows if row.curve.points},
        choices=[(name, sorted({str(_value(row, name)) for row in rows})) for name in _CHOICES],
        titles=_CHOICES,
        value=_value,
    )


# What can be chosen, and the column that shows it.
_CHOICES = {"model": "model", "health": "state", "verdict": "resume", "best": "best"}


def _value(row: Row, name: str) -> Any:
    value = getattr(row, name)
    return "–" if value is None else value
