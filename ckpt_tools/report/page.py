"""Contents to HTML: Jinja2 with everything escaped but our own SVG. Nothing on a page comes from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ckpt_tools.analysis.page_contents import RunContents, ShelfContents
from ckpt_tools.analysis.run_audit import Row
from ckpt_tools.redaction import without_secrets
from ckpt_tools.report import charts
from ckpt_tools.version import __version__

_ENVIRONMENT = Environment(
    loader=PackageLoader("ckpt_tools.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=lambda value: without_secrets(value) if type(value) is str else value,
)


def _size(number: float) -> str:
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def _metric(value: float | None) -> str:
    return "–" if value is None else f"{value:.6f}"


_ENVIRONMENT.filters["size"] = _size
_ENVIRONMENT.filters["metric"] = _metric


def _asset(name: str) -> Markup:
    return Markup((resources.files(__package__) / "templates" / name).read_text("utf-8"))


def _page(template: str, script: str, **values: Any) -> str:
    """A page that may run this one script, and load nothing."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    if script:
        policy += f"; script-src 'sha256-{digest}'"
    page = _ENVIRONMENT.get_template(template).render(
        policy=policy, style=_asset("style.css"), script=Markup(script), version=__version__, **values
    )
    return _visible(page)


def _visible(page: str) -> str:
    """Control characters in names, which HTML must not have, and changes of direction as their escapes."""

    def escaped(found: re.Match[str]) -> str:
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in found[0])

    return re.sub(r"[^ -~\n\t\r]+", escaped, page)


_CAPTIONS = {"recall": "recall, NDCG, hit rate", "loss": "loss"}


def run_page(found: RunContents) -> str:
    """The page about one run."""
    best = found.evidence.best
    curves = [(names, charts.curve(found.curve, names)) for names in (("recall", "ndcg", "hitrate"), ("loss",))]
    return _page(
        "run.html.j2",
        "",
        found=found,
        best=best,
        curves=[(_CAPTIONS[names[0]], Markup(svg)) for names, svg in curves if svg],
        anatomy=Markup(charts.anatomy(found.inspection.tensors)) if found.inspection.totals["bytes"] else None,
        histograms=[(h, Markup(charts.histogram(h)) if h.counts else None) for h in found.histograms],
        norms=Markup(charts.norms(found.norms)) if found.norms else None,
    )


def shelf_page(found: ShelfContents) -> str:
    """The page about all runs."""
    rows = found.audit.rows
    return _page(
        "shelf.html.j2",
        _asset("shelf.js"),
        found=found,
        sparklines={row.path: Markup(charts.sparkline(row.curve.recalls)) for row in rows if row.curve.points},
        choices=[(name, sorted({str(_value(row, name)) for row in rows})) for name in _CHOICES],
        titles=_CHOICES,
        value=_value,
    )


# What can be chosen, and the column that shows it.
_CHOICES = {"model": "model", "health": "state", "verdict": "resume", "best": "best"}


def _value(row: Row, name: str) -> Any:
    value = getattr(row, name)
    return "–" if value is None else value
