"""Which operations the inference part of TensorFlow 1 graphs is made of, and whether ours give what TensorFlow gives.

    python scripts/graph_census.py FILE.meta ...
    python scripts/graph_census.py --reference PYTHON [--page PAGE] FILE.meta ...

Without a reference nothing is run. With one, a Python that has TensorFlow 1.15, all values of each graph's inference
that TensorFlow gives out are compared with those of ``ckpt_tools.graphs``: on the same made-up inputs, and on the
checkpoint's weights where they lie beside the graph, else on random ones. A graph may be given as ``NAME=FILE.meta``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ckpt_tools.errors import CkptError, UsageError
from ckpt_tools.format.graph_def import (
    GraphDef,
    Node,
    Output,
    TypeName,
    decode_meta_graph,
    parse_output,
)
from ckpt_tools.graphs.call import numpy_type
from ckpt_tools.graphs.interpreter import INTERPRETED, Interpreter
from ckpt_tools.graphs.needs import inference, is_fed, needs_of
from ckpt_tools.graphs.ops import DRAWS
from ckpt_tools.graphs.order import plan
from ckpt_tools.graphs.weights import VARIABLES, own_name, part_of, stored_names
from ckpt_tools.readers import open_checkpoint

_REFERENCE = Path(__file__).with_name("graph_reference.py")
_BATCH, _LENGTH, _IDS = 6, 20, 20
# Draws whose numbers TensorFlow makes first; both sides are fed them.
_DRAWN = DRAWS | {"LogUniformCandidateSampler", "ComputeAccidentalHits"}
_BEGIN, _END = "<!-- census begin -->\n", "<!-- census end -->\n"


def covered(kinds: Mapping[str, set[str]]) -> Iterator[tuple[str, int]]:
    """The graphs in the order in which each needs the fewest operations more, with how many are needed by then."""
    known: set[str] = set()
    left = dict(kinds)
    while left:
        name = min(left, key=lambda name: (len(left[name] - known), name))
        known |= left.pop(name)
        yield name, len(known)


@dataclass(frozen=True)
class Comparison:
    """``absolute``: the largest difference of a value; ``relative``: of one, as a part of the largest of its array."""

    values: int
    arrays: int
    absolute: float
    relative: float
    worst: str
    weights: str
    refused: tuple[str, ...]
    unlike: tuple[str, ...]


def compare(meta: Path, graph: GraphDef, python: str) -> Comparison:
    """The values of a graph's inference, beside those of TensorFlow 1.15."""
    nodes = graph.nodes
    rng = np.random.default_rng(2026)
    weights, said = _weights(meta, nodes, rng)
    feeds = _feeds(graph, rng)
    names = sorted(name for name in inference(nodes) if not is_fed(nodes[name]))
    order = plan(nodes, [Output(name) for name in names], [parse_output(name) for name in feeds])
    wanted = [
        n for n in names if order.frames.get(n) == () and nodes[n].op not in {*VARIABLES, *_DRAWN, "TensorArrayV3"}
    ]
    drawn = [
        f"draw|{Output(n, k)}" for n in names if nodes[n].op in _DRAWN and order.frames.get(n) == () for k in range(3)
    ]
    with tempfile.TemporaryDirectory() as place:
        here = Path(place)
        given = {f"var|{name}": value for name, value in weights.items()}
        np.savez(here / "in.npz", **given, **{f"feed|{name}": value for name, value in feeds.items()})
        (here / "wanted").write_text("\n".join([*drawn, *(f"{name}:0" for name in wanted)]))
        files = [str(here / "in.npz"), str(here / "wanted"), str(here / "out.npz")]
        subprocess.run([python, str(_REFERENCE), str(meta), *files], check=True, capture_output=True)
        with np.load(here / "out.npz", allow_pickle=True) as archive:
            expected = {name: archive[name] for name in archive.files}
    inputs = {parse_output(name): value for name, value in feeds.items()}
    inputs |= {parse_output(n[5:]): value for n, value in expected.items() if n.startswith("draw|")}
    # What is drawn in a loop cannot be fed; of what is dropped there all is kept (`_feeds`): nothing depends on it.
    interpreter = Interpreter(nodes, lambda node: weights[node.name], draws=rng)
    absolute = relative = 0.0
    worst, refused, unlike, values, arrays = "", [], [], 0, 0
    compared = [name for name in wanted if f"{name}:0" in expected]
    for name, found in _values(interpreter, compared, inputs):
        reference = np.asarray(expected[f"{name}:0"])
        if isinstance(found, UsageError):  # an array of tensors, which is no value
            continue
        if isinstance(found, CkptError):
            refused.append(f"{nodes[name].op}: {found}")
            continue
        if found.shape != reference.shape or found.dtype != reference.dtype:
            unlike.append(f"{name}: {found.dtype} {found.shape}, not {reference.dtype} {reference.shape}")
            continue
        arrays += 1
        values += found.size
        if reference.dtype.kind != "f":
            if not np.array_equal(found, reference):
                unlike.append(f"{name} ({nodes[name].op})")
            continue
        if not np.array_equal(np.isfinite(found), np.isfinite(reference)):
            unlike.append(f"{name} ({nodes[name].op})")
            continue
        kept = np.isfinite(reference)
        apart = float(np.abs(found[kept] - reference[kept]).max(initial=0))
        part = apart / max(float(np.abs(reference[kept]).max(initial=0)), 1e-30) if apart else 0.0
        absolute = max(absolute, apart)
        if part > relative:
            relative, worst = part, name
    return Comparison(values, arrays, absolute, relative, worst, said, tuple(refused), tuple(unlike))


def _values(
    interpreter: Interpreter, names: Sequence[str], inputs: Mapping[Output, np.ndarray]
) -> Iterator[tuple[str, np.ndarray | CkptError]]:
    """Many at once, which shares what they need; by halves where one of them has no value."""
    try:
        yield from zip(names, interpreter.run([Output(name) for name in names], inputs), strict=True)
    except CkptError as error:
        if len(names) == 1:
            yield names[0], error
            return
        yield from _values(interpreter, names[: len(names) // 2], inputs)
        yield from _values(interpreter, names[len(names) // 2 :], inputs)


def _weights(meta: Path, nodes: Mapping[str, Node], rng: np.random.Generator) -> tuple[dict[str, np.ndarray], str]:
    """The value of each variable of the graph: the checkpoint's where it is there, else random ones."""
    variables = [node for node in nodes.values() if node.op in VARIABLES]
    names = stored_names(nodes)
    try:
        with open_checkpoint(str(meta.with_suffix(""))) as checkpoint:
            found = {}
            for node in variables:
                stored = names.get(node.name)
                key = stored.key if stored else own_name(node)
                if key in checkpoint.tensors:
                    value = checkpoint.read(key)
                    found[node.name] = part_of(value, stored) if stored else value
            return found, "checkpoint"
    except CkptError:
        return {node.name: _random(node, rng) for node in variables}, "random"


def _random(node: Node, rng: np.random.Generator) -> np.ndarray:
    shape = node.attributes["shape"].dims
    dtype = numpy_type(node.attributes["dtype"])
    return np.asarray(rng.normal(0, 0.1, shape) if dtype.kind == "f" else np.zeros(shape), dtype)


def _feeds(graph: GraphDef, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Made-up values for all that is fed."""
    feeds = {}
    squeezed = {str(node.inputs[0]) for node in graph.nodes.values() if node.op == "Squeeze"}
    for each in needs_of(graph).fed:
        if each.op == "PlaceholderWithDefault" or each.dtype == "string":
            continue
        if each.dtype is None:  # what is parsed of records: TensorFlow's own example has one number in each
            feeds[each.name] = rng.random((_BATCH, 1), np.float32)
            continue
        dtype = numpy_type(TypeName(each.dtype))
        length = 1 if each.name in squeezed else _LENGTH
        shape = [size or (length if at else _BATCH) for at, size in enumerate(each.shape or ())]
        if dtype.kind == "f":
            value = np.full(shape, 1 if _draws_in_loops(graph) else 0.75) if not shape else rng.random(shape)
        elif dtype.kind == "b":
            value = np.ones(shape)
        else:
            value = rng.integers(0, 2 if shape and shape[-1] == 1 else _IDS, shape)
        feeds[each.name] = np.asarray(value, dtype)
    return feeds


def _draws_in_loops(graph: GraphDef) -> bool:
    return any(node.op in DRAWS and "/while/" in name for name, node in graph.nodes.items())


def census(graphs: Mapping[str, tuple[Path, GraphDef]], python: str | None) -> Iterator[str]:
    """The lines of the tables."""
    counts = {name: Counter(g.nodes[each].op for each in inference(g.nodes)) for name, (_, g) in graphs.items()}
    kinds = {name: set(found) for name, found in counts.items()}
    yield "| graph | nodes | operations | nodes of inference | operations of inference | needed so far |"
    yield "|---|---|---|---|---|---|"
    for name, needed in covered(kinds):
        nodes, found = graphs[name][1].nodes, counts[name]
        ops = len({node.op for node in nodes.values()})
        yield f"| {name} | {len(nodes)} | {ops} | {found.total()} | {len(found)} | {needed} |"
    if python is not None:
        yield ""
        yield from comparisons(graphs, python)
    in_graphs = Counter(op for found in kinds.values() for op in found)
    yield ""
    for number in sorted(set(in_graphs.values()), reverse=True):
        ops = sorted(op for op, count in in_graphs.items() if count == number)
        yield f"- in {number}: {', '.join(f'{op} (not interpreted)' if op not in INTERPRETED else op for op in ops)}"


def comparisons(graphs: Mapping[str, tuple[Path, GraphDef]], python: str) -> Iterator[str]:
    yield "| graph | weights | values compared | largest difference | as a part of its array | refused | unlike |"
    yield "|---|---|---|---|---|---|---|"
    for name, (meta, graph) in sorted(graphs.items()):
        found = compare(meta, graph, python)
        yield (
            f"| {name} | {found.weights} | {found.arrays} arrays, {found.values} values | {found.absolute:.1e} | "
            f"{found.relative:.1e} | {len(found.refused)} | {len(found.unlike)} |"
        )
        for line in (*found.refused[:5], *found.unlike[:5], *([f"worst: {found.worst}"] if found.worst else [])):
            print(f"{name}: {line}", file=sys.stderr)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="[NAME=]FILE.meta")
    parser.add_argument("--reference", metavar="PYTHON", help="one that has TensorFlow 1.15")
    parser.add_argument("--page", type=Path, action="append", help="put the tables between its marks, not on stdout")
    options = parser.parse_args(arguments)
    graphs = {}
    for given in options.files:
        name, _, file = given.rpartition("=")
        graphs[name or Path(file).stem] = Path(file), decode_meta_graph(Path(file).read_bytes())
    text = "\n".join(census(graphs, options.reference)) + "\n"
    if not options.page:
        print(text, end="")
    for path in options.page or ():
        before, _, rest = path.read_text().partition(_BEGIN)
        path.write_text(before + _BEGIN + text + _END + rest.partition(_END)[2])


if __name__ == "__main__":
    main(sys.argv[1:])
