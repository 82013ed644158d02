"""What several commands show in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from ckpt_tools.console.escapes import safe
from ckpt_tools.console.language import chinese, label, said
from ckpt_tools.findings import Finding

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckpt_tools.analysis.mending import Mending
    from ckpt_tools.lineages import BestMetric
    from ckpt_tools.runs.logs import Evidence

SEVERITY = {"note": "cyan", "warning": "yellow", "error": "bold red", "damage": "bold red"}


def best_metric(best: BestMetric) -> Text:
    if best.status == "absent":
        return Text(said("absent"), style="bold yellow")
    if best.status == "unset":
        return Text(said(f"there, but never set ({best.value:g})"), style="bold yellow")
    text = Text(f"{best.value:.6f}", style="bold green")
    return text.append(f"  {safe(said(best.meaning))}", style="not bold dim") if best.meaning else text


def findings(found: Iterable[Finding]) -> Iterator[RenderableType]:
    for finding in found:
        place = " ".join(safe(part) for part in (finding.path, finding.key) if part and finding.fails)
        # assemble, not +: a sum of Texts has the style of the first all over.
        level = (label(finding.severity, finding.id), SEVERITY[finding.severity])
        yield Text.assemble(level, f"{place}: " if place else "", safe(said(finding.message)))
        if finding.fix:
            yield next_step(finding.fix)


def next_step(step: str) -> Text:
    """The line that says what to do, or the command to run."""
    return Text.assemble((f"  {said('next')}: ", "bold"), safe(said(step)))


def next_of_many(found: Mending) -> Text:
    """The one command that mends most of many runs."""
    what = said(f"one command mends {found.runs} of them") if found.runs > 1 else said("this mends one of them")
    return Text.assemble((what, "dim"), "\n", next_step(found.command))


def count(number: int, noun: str) -> str:
    if chinese():
        return f"{number} 个{said(noun)}"
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def history(evidence: Evidence | None) -> str:
    """The one curve of a run in a line: the best with its step, and where the run was resumed; empty without logs."""
    if evidence is None or evidence.best is None:
        return ""
    curve = evidence.curve
    steps = sorted({curve.points[number].step for number in curve.resumes})
    shown = ", ".join(map(str, steps[-_MOST_RESUMES:]))
    shown = f"..., {shown}" if len(steps) > _MOST_RESUMES else shown
    resumed = said(f"; resumed at step {shown}") if steps else ""
    where = said(f" at step {evidence.best.step}") if evidence.best.step else ""
    return f"{sparkline(curve.recalls)}  {said(f'best logged {evidence.best.recall:.6f}')}{where}{resumed}"


_MOST_RESUMES = 3
_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """A history in one line of text; of a longer one the highest value of each stretch."""
    count = min(width, len(values))
    tops = [max(values[n * len(values) // count : (n + 1) * len(values) // count]) for n in range(count)]
    # Halved, because two finite numbers may be infinitely far apart.
    halves = [top / 2 for top in tops]
    low, span = min(halves, default=0.0), max(halves, default=0.0) - min(halves, default=0.0)
    return "".join(_BLOCKS[round((half - low) / span * (len(_BLOCKS) - 1)) if span else 0] for half in halves)


def size(number: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError("unreachable")
