"""Measuring a checkpoint by the graph beside it: ``[graph]`` of a ``ckpt.toml`` says what is fed and what the score is.

Arrays come from files of NumPy below one directory, links that lead out of it are not followed. A value that depends on
what the graph draws (dropout that is not switched off) is not written: it is measured under two seeds, and both have to
agree, or the mean of several is asked for.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ckpt_tools.analysis.repeated import Repeated
from ckpt_tools.errors import CkptError, MismatchError, NotFoundError, UnsafeError
from ckpt_tools.format.graph_def import Output, parse_output
from ckpt_tools.format.npy import decode_npy, decode_npz
from ckpt_tools.fs import paths
from ckpt_tools.graphs.call import Limits
from ckpt_tools.graphs.interpreter import draws_in
from ckpt_tools.graphs.order import plan
from ckpt_tools.lineages.declared.grammar import ArrayFile, GraphRule
from ckpt_tools.lineages.declared.lookup import is_below
from ckpt_tools.operations.graph_measures import measure_of
from ckpt_tools.readers import Checkpoint
from ckpt_tools.runs.run_graph import RunGraph, read_run_graph

_MOST_BYTES = 1 << 31

Feeds = Mapping[Output, np.ndarray]


@dataclass(frozen=True)
class GraphMeasurement(Repeated):
    """``values``: one for each seed of what is drawn; one alone where nothing is. ``files``: the SHA-256 of each file
    that was fed; ``graph`` that of the graph."""

    output: str
    measure: str | None
    graph: str
    files: Mapping[str, str]
    draws: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            **super().to_json(),
            "output": self.output,
            "measure": self.measure,
            "graph": self.graph,
            "files": dict(self.files),
            "draws": list(self.draws),
        }


def measure_by_graph(
    checkpoint: Checkpoint, rule: GraphRule, directory: str, *, seconds: float, repeat: int
) -> GraphMeasurement:
    """Measure a checkpoint; ``directory`` holds the arrays, ``repeat`` is over how many seeds a mean is taken.

    Raises:
        NotFoundError: no graph lies beside the checkpoint, or a file of arrays is missing.
        MismatchError: scores and targets do not fit, or the value depends on what is drawn.
        UnsafeError: a limit, or a file outside of the directory.
        and what `Interpreter.run` raises.
    """
    graph = read_run_graph(checkpoint, limits=Limits(seconds=seconds))
    files = _Files(directory)
    feeds = {parse_output(name): files.value(value) for name, value in rule.feeds}
    targets = files.value(rule.targets) if rule.targets is not None else None
    sliced = {parse_output(name) for name, value in rule.feeds if isinstance(value, ArrayFile)}
    wanted = parse_output(rule.scores or rule.fetch or "")
    draws = draws_in(graph.graph.nodes, list(plan(graph.graph.nodes, [wanted], feeds.keys()).frames))
    seeds = range(max(2, repeat) if draws else 1)
    values = tuple(_once(graph, checkpoint, rule, wanted, feeds, sliced, targets, seed) for seed in seeds)
    if len({*values}) > 1 and repeat < 2:
        raise MismatchError(
            f"{wanted} depends on what {draws[0]} draws ({values[0]:.6g}, then {values[1]:.6g}): nothing written",
            path=graph.path,
            hint="feed what switches it off, such as a keep_prob of 1; or take the mean of several with --repeat N",
        )
    return GraphMeasurement(values, str(wanted), rule.measure, graph.sha256, files.digests, tuple(draws))


def _once(
    graph: RunGraph,
    checkpoint: Checkpoint,
    rule: GraphRule,
    wanted: Output,
    feeds: Feeds,
    sliced: set[Output],
    targets: np.ndarray | None,
    seed: int,
) -> float:
    interpreter = graph.interpreter(checkpoint, draws=np.random.default_rng(seed))
    try:
        if targets is None or rule.measure is None:
            (found,) = interpreter.run([wanted], feeds)
            if found.size != 1 or found.dtype.kind not in "biuf":
                raise MismatchError(f"{wanted} is {found.dtype} {list(found.shape)}, no single number")
            return float(found.reshape(()))
        parts = [interpreter.run([wanted], part)[0] for part in _batches(feeds, sliced, len(targets), rule.batch)]
        if any(not part.ndim for part in parts):
            raise MismatchError(f"{wanted} is a single number, no scores: call it fetch")
        return measure_of(rule.measure, np.concatenate(parts), targets)
    except ValueError as error:
        raise MismatchError(f"the scores of the batches do not fit together: {error}", path=graph.path) from error
    except CkptError as error:
        error.path = error.path or graph.path
        raise


def _batches(feeds: Feeds, sliced: set[Output], rows: int, batch: int | None) -> Iterator[Feeds]:
    for output in sliced:
        if not feeds[output].ndim or len(feeds[output]) != rows:
            raise MismatchError(f"{output} is fed {list(feeds[output].shape)}, and there are {rows} targets")
    step = batch or max(1, rows)
    for start in range(0, rows, step):
        yield {output: value[start : start + step] if output in sliced else value for output, value in feeds.items()}


class _Files:
    """The files of arrays in a directory, each read once."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._read: dict[str, bytes] = {}
        self.digests: dict[str, str] = {}

    def value(self, said: object) -> np.ndarray:
        if not isinstance(said, ArrayFile):
            found = np.asarray(said)
            # As TensorFlow takes Python's numbers.
            return found.astype({"f": np.float32, "i": np.int64}.get(found.dtype.kind, found.dtype))
        path = os.path.join(self._directory, said.path)
        try:
            data = self._data(path, said.path)
            return decode_npz(data, said.member, limit=_MOST_BYTES) if said.member else decode_npy(data)
        except CkptError as error:
            error.path = error.path or path
            raise

    def _data(self, path: str, name: str) -> bytes:
        if path not in self._read:
            if not is_below(paths.real(path), paths.real(self._directory)):
                raise UnsafeError("leads out of the directory of the arrays: not followed", path=path)
            if not paths.is_file(path):
                raise NotFoundError("no such file", path=path, hint="--data DIR says where the arrays of [graph] lie")
            self._read[path] = paths.read_file(path, limit=_MOST_BYTES)
            self.digests[name] = hashlib.sha256(self._read[path]).hexdigest()
        return self._read[path]
