"""The graph that a trainer of TensorFlow 1 left beside a checkpoint (``PREFIX.meta``), with its variables."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ckpt_tools.errors import CkptError, NotFoundError
from ckpt_tools.format.filenames import meta_name
from ckpt_tools.format.graph_def import GraphDef, Node, decode_meta_graph
from ckpt_tools.fs import paths
from ckpt_tools.graphs.call import Limits
from ckpt_tools.graphs.interpreter import Interpreter
from ckpt_tools.graphs.weights import Stored, own_name, part_of, stored_names
from ckpt_tools.readers import Checkpoint
from ckpt_tools.runs.opening import has_graph

# Constants of a graph, vocabularies and initial embeddings among them, come to some 10^8 bytes at most: a message of
# 2 GB is the largest that there can be.
_MAX_BYTES = 1 << 29


@dataclass(frozen=True)
class RunGraph:
    """``sha256`` is that of the file at ``path``; ``limits`` are those of each time that it is run."""

    path: str
    sha256: str
    graph: GraphDef
    limits: Limits = field(default_factory=Limits)

    @cached_property
    def _names(self) -> Mapping[str, Stored]:
        return stored_names(self.graph.nodes)

    def interpreter(self, checkpoint: Checkpoint, *, draws: np.random.Generator | None = None) -> Interpreter:
        """The graph with the variables of a checkpoint, each read when it is wanted."""
        return Interpreter(
            self.graph.nodes, lambda node: self._value(checkpoint, node), limits=self.limits, draws=draws
        )

    def _value(self, checkpoint: Checkpoint, node: Node) -> np.ndarray:
        stored = self._names.get(node.name, Stored(own_name(node)))
        if stored.key not in checkpoint.tensors:
            raise NotFoundError(f"the checkpoint holds no {stored.key!r:.200}", path=checkpoint.prefix)
        return part_of(checkpoint.read(stored.key), stored)


def read_run_graph(checkpoint: Checkpoint, *, limits: Limits | None = None) -> RunGraph:
    """The graph beside a checkpoint.

    Raises NotFoundError when there is none, CorruptError, UnsafeError for one that is over a limit.
    """
    path = meta_name(checkpoint.prefix)
    if not has_graph(checkpoint):
        raise NotFoundError(
            "there is no graph beside the checkpoint: trainers of TensorFlow 1 write one, others none", path=path
        )
    data = paths.read_file(path, limit=_MAX_BYTES)
    try:
        graph = decode_meta_graph(data)
    except CkptError as error:
        error.path = error.path or path
        raise
    return RunGraph(path, hashlib.sha256(data).hexdigest(), graph, limits or Limits())
