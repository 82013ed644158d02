"""``ckpt inspect``."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ckpt_tools.analysis.inspection import Inspection, Tensor
from ckpt_tools.analysis.inspection import inspect as ask
from ckpt_tools.cli.app import PathArgument, app
from ckpt_tools.cli.completion import complete_tensor
from ckpt_tools.console import render
from ckpt_tools.console.escapes import safe
from ckpt_tools.console.language import said
from ckpt_tools.console.output import Output
from ckpt_tools.console.program import Json, Quiet, epilog, finish
from ckpt_tools.findings import exit_code
from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.lineages import Lineage
from ckpt_tools.lineages.names import BEST_METRIC
from ckpt_tools.runs.declared_run import DeclaredRun

if TYPE_CHECKING:
    from ckpt_tools.graphs.needs import Needs

_FORMATS = {
    "bundle-object": "TensorFlow 2 checkpoint (tensor bundle with an object graph)",
    "bundle-name": "TensorFlow 1 checkpoint (tensor bundle of named variables)",
    "v1": "TensorFlow checkpoint of version 1 (before 0.12, or of a saver asked for it)",
    "saved-model": "variables of a SavedModel (tensor bundle)",
    "keras-h5": "Keras in HDF5 (weights or a whole model)",
    "keras-weights-h5": "Keras 3 weights in HDF5",
    "keras-zip": "Keras 3 model (.keras archive)",
    "safetensors": "safetensors file",
    "orbax": "Orbax checkpoint (Keras 3, JAX)",
}
_GROUPS = ("model", "average", "optimizer", "state")
# Of longer lists the columns are laid out here: a table of rich takes a millisecond for two rows.
_MOST_ROWS = 1000
_WIDEST = 160
# Names that are nested deeper are not cut any further: each level is drawn in front of all below it.
_DEEPEST = 64
# Of a hundred variables called best nobody reads more.
_MOST_OTHERS = 8
_MOST_STEPS = 12


@app.command(
    epilog=epilog("ckpt inspect best_model/book_DNN_b128_lr0.005_d64_len20_test85", "ckpt inspect ckpt-3.index --stats")
)
def inspect(
    path: PathArgument,
    digest: Annotated[bool, typer.Option("--digest", help="Add the SHA-256 of each tensor's value.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Add minimum, maximum, mean, NaN count.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="Show the stored names as a tree.")] = False,
    filter: Annotated[
        str | None,
        typer.Option(
            "--filter",
            metavar="GLOB",
            help="Only tensors whose name matches, e.g. '*embedding*'.",
            autocompletion=complete_tensor,
        ),
    ] = None,
    graph: Annotated[
        bool, typer.Option("--graph", help="Show what the graph beside it (.meta) is fed and offers, not the tensors.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what a checkpoint holds: format, producer, model, step, best_metric, tensors."""
    output = Output("inspect", path, json=json, quiet=quiet)

    def body() -> int:
        with output.progress("reading") if digest or stats else contextlib.nullcontext() as progress:
            found = ask(path, digest=digest, stats=stats, filter=filter, graph=graph, progress=progress)
        code = exit_code(found.findings)
        output.result(found.to_json(), lambda: _text(found, tree=tree), wrong=bool(code))
        return code

    finish(output, body)


def _text(found: Inspection, *, tree: bool) -> Iterator[RenderableType]:
    """The header, the tensors by group, the findings with what to do next."""
    yield Text(safe(found.prefix), style="bold")
    header = Table.grid(padding=(0, 2))
    header.add_column(style="dim", no_wrap=True)
    header.add_column(overflow="fold")
    header.add_row(said("format"), safe(said(_format(found))))
    header.add_row(said("lineage"), Text(safe(said(_lineage(found.lineage, found.declared)))))
    if found.lineage:
        header.add_row(said("model"), Text(safe(found.lineage.sizes)))
    elif found.declared and found.declared.fields:
        header.add_row(
            said("run"), Text(safe(", ".join(f"{name} {value}" for name, value in found.declared.fields.items())))
        )
    header.add_row(said("step"), said("unknown") if found.step is None else str(found.step))
    header.add_row(BEST_METRIC, render.best_metric(found.best_metric))
    others = [f"{_bare(other.key)} {other.value:g}" for other in found.best_metric.others[:_MOST_OTHERS]]
    if found.best_metric.status == "absent" and others:
        header.add_row(said("other bests"), Text(safe(", ".join(others))))
    if found.steps:
        header.add_row(said("steps"), Text(safe(_steps(found))))
    if found.stopping:
        kept = [f"{_bare(key)} {value!s:.24}" for key, value in list(found.stopping.items())[:_MOST_OTHERS]]
        header.add_row(said("stopping"), Text(safe(", ".join(kept))))
    if found.optimizers and not found.lineage:
        header.add_row(said("optimizer"), Text(safe(", ".join(found.optimizers))))
    name, history = _history(found)
    if history:
        header.add_row(safe(name), Text(said(history)))
    header.add_row(
        said("size"), f"{render.count(found.totals['tensors'], 'tensor')}, {render.size(found.totals['bytes'])}"
    )
    yield Padding(header, (0, 0, 0, 2), expand=False)
    if found.graph is not None:
        yield from _graph(found.graph)
    elif tree:
        yield _tree(found.tensors)
    else:
        for group in _GROUPS:
            tensors = [tensor for tensor in found.tensors if tensor.group == group]
            if tensors:
                yield _group(group, tensors)
    yield from render.findings(found.findings)


def _graph(graph: Needs) -> Iterator[RenderableType]:
    """What is fed, what may be a score with all that it needs, and what is not interpreted."""
    yield Text(f"\n  {said('is fed')}", style="bold")
    for each in graph.fed:
        shape = said("of any shape") if each.shape is None else f"[{', '.join(str(n or '?') for n in each.shape)}]"
        yield Text(f"    {safe(each.name)}  {safe(each.dtype or said('unknown'))} {shape}")
    yield Text(f"\n  {said('may be a score')}", style="bold")
    for offer in graph.offers:
        needs = f"{said('needs')} {', '.join(offer.needs)}" if offer.needs else said("needs nothing")
        missing = f"; {said('not interpreted')}: {', '.join(offer.missing)}" if offer.missing else ""
        drawn = f"; {said('depends on a draw')}" if offer.draws else ""
        yield Text(safe(f"    {offer.name}  {offer.op}, {needs}{missing}{drawn}"))
    missing = safe(", ".join(graph.missing)) if graph.missing else said("none")
    yield Text(f"\n  {said('operations not interpreted')}: {missing}")


def _steps(found: Inspection) -> str:
    """Each step with its metrics; of many the newest."""
    shown = found.steps[-_MOST_STEPS:]
    before = "" if len(shown) == len(found.steps) else f"{len(found.steps) - len(shown)} before, then "
    rows = []
    for step in shown:
        metrics = ", ".join(f"{name} {value:.6g}" for name, value in list(step.metrics.items())[:_MOST_OTHERS])
        rows.append(f"{step.step}{f' ({metrics})' if metrics else ''}")
    return before + ", ".join(rows)


def _history(found: Inspection) -> tuple[str, str]:
    """The metric that the run's logs tell, and its values in one line, the best with its step."""
    if found.declared is None:
        return "recall", render.history(found.evidence)
    best = found.chosen.best if found.chosen else None
    if found.chosen is None or best is None:
        return "", ""
    values = [each.value for each in found.chosen.evaluations if math.isfinite(each.value)]
    return found.chosen.name, f"{render.sparkline(values)}  best logged {best.value:g}{best.where}"


def _format(found: Inspection) -> str:
    if found.format == "keras-weights-h5" and not found.keras_version:
        return "HDF5 (no sign that Keras wrote it)"
    if found.keras_version and found.format == "keras-h5":
        return f"Keras {found.keras_version} in HDF5 (weights or a whole model)"
    return _FORMATS.get(found.format, found.format)


def _bare(key: str) -> str:
    return key.removesuffix(VALUE_SUFFIX)


def _lineage(lineage: Lineage | None, declared: DeclaredRun | None) -> str:
    if lineage or declared is None:
        return f"{lineage.id}: {lineage.producer}" if lineage else "not one of the known trainers"
    return f"{declared.declaration.id}: {declared.declaration.title}"


def _group(group: str, tensors: list[Tensor]) -> RenderableType:
    total = render.size(sum(tensor.nbytes for tensor in tensors))
    title = f"{group}: {render.count(len(tensors), 'tensor')}, {total}"
    with_stats, with_digests = any(tensor.stats for tensor in tensors), any(tensor.sha256 for tensor in tensors)
    if len(tensors) > _MOST_ROWS and not with_stats:
        return _Columns(title, tensors)
    table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left", min_width=len(title))
    table.title_style = "bold"
    table.show_header = with_stats
    table.add_column("name", overflow="fold", ratio=None)
    table.add_column("dtype", style="cyan", no_wrap=True)
    table.add_column("shape", no_wrap=True)
    if with_stats:
        for name in ("min", "max", "mean", "NaN"):
            table.add_column(name, justify="right", no_wrap=True)
    if with_digests:
        table.add_column("sha256", style="dim", overflow="fold")
    for tensor in tensors:
        row: list[RenderableType] = [Text(safe(_short(tensor))), tensor.dtype, str(list(tensor.shape))]
        if with_stats:
            row += _stats(tensor)
        if with_digests:
            row.append(tensor.sha256 or "")
        table.add_row(*row)
    return Padding(table, (1, 0, 0, 2), expand=False)


class _Columns:
    """A long list in columns as wide as their widest, which the terminal may break."""

    def __init__(self, title: str, tensors: list[Tensor]) -> None:
        self._title = title
        self._rows = [(safe(_short(t)), t.dtype, str(list(t.shape)), t.sha256 or "") for t in tensors]

    # Not cropped at the width of the terminal, nor looked through for where to break.
    soft_wrap = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        # The few that are wider stand out: all others are not filled up to them.
        name, dtype, shape = (min(_WIDEST, max(len(row[column]) for row in self._rows)) for column in range(3))
        yield Segment(f"\n  {self._title}\n", console.get_style("bold"))
        # One piece for the console instead of a hundred thousand.
        lines = (f"  {row[0]:{name}}  {row[1]:{dtype}}  {row[2]:{shape}}  {row[3]}".rstrip() for row in self._rows)
        yield Segment("\n".join(lines) + "\n")


def _short(tensor: Tensor) -> str:
    """The canonical name where there is one, for stored names move with every Keras version; else the full name too."""
    if tensor.canonical:
        return tensor.canonical
    name = _bare(tensor.name)
    return f"{name} ({tensor.full_name})" if tensor.full_name and _is_numbered(name) else name


def _is_numbered(name: str) -> bool:
    """Whether a name only counts: ``variables/4``, ``layer_with_weights-0/kernel``."""
    return any(part.isdigit() or part.rpartition("-")[2].isdigit() for part in name.split("/"))


def _stats(tensor: Tensor) -> list[str]:
    stats = tensor.stats
    if stats is None:
        return ["", "", "", ""]
    numbers = ["" if value is None else f"{value:.4g}" for value in (stats.min, stats.max, stats.mean)]
    return [*numbers, str(stats.nan)]


def _tree(tensors: Iterable[Tensor]) -> RenderableType:
    root = Tree("stored names", guide_style="dim")
    branches: dict[tuple[int, str], Tree] = {}
    for tensor in tensors:
        *parents, leaf = tensor.name.removesuffix(VALUE_SUFFIX).split("/", _DEEPEST)
        branch = root
        for name in parents:
            where = id(branch), name
            if where not in branches:
                branches[where] = branch.add(Text(safe(name), style="bold"))
            branch = branches[where]
        label = Text.assemble(safe(leaf), (f"  {tensor.dtype} {list(tensor.shape)}", "cyan"))
        if tensor.canonical and tensor.canonical != tensor.name.removesuffix(VALUE_SUFFIX):
            label.append(f"  = {safe(tensor.canonical)}", style="dim")
        branch.add(label)
    return Padding(root, (1, 0, 0, 2), expand=False)
