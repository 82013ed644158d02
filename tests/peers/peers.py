"""Checkpoints that other projects' suites left: read, rewritten and undone, beside TensorFlow.

    make test-peers PEERS=DIR

Each tensor bundle below DIR, which is only read:

- read        every tensor has the name, dtype, shape and digest (strings too) that TensorFlow reads
- graph       nodes, children, attributes and slots are those of TensorFlow's own message
- rewritten   ``ckpt backfill --value`` of a copy; TensorFlow reads every tensor that was there bit for bit
- undone      ``ckpt undo``: every file of the copy is again what it was, byte for byte

A bundle that TensorFlow cannot read is counted apart, when `ckpt verify` finds damage too. Exit code 1 when anything
differs, 2 when DIR holds no bundle.
"""

from __future__ import annotations

import contextlib
import glob
import io
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from oracle import GRAPH, digest
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from ckpt_tools import cli
from ckpt_tools.errors import CkptError
from ckpt_tools.format.object_graph import VALUE_SUFFIX, decode_graph
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.readers.bundle import Bundle

# A value that no float32 rounds.
VALUE = 0.15625
# Exit codes of a change that was not made because of the checkpoint: not found, a limit, not supported.
REFUSALS = {3, 4, 7}
# The only tensors that a backfill may change, or add.
WRITTEN = {name + suffix for name in ("best_metric", "best_metric_meaning") for suffix in ("", VALUE_SUFFIX)}

Tensors = dict[str, tuple[str, tuple[int, ...], str]]


class DiffersError(Exception):
    """What this project and TensorFlow do not agree on."""


def bundles(root: Path) -> Iterator[Path]:
    """Every prefix below a directory that has an index, without those that a rewrite keeps."""
    for directory, below, names in os.walk(root):
        below[:] = sorted(name for name in below if name != ".ckpt-tools")
        yield from (Path(directory, name.removesuffix(".index")) for name in sorted(names) if name.endswith(".index"))


def oracle(prefix: Path) -> Tensors:
    """dtype, shape and digest of every tensor, as TensorFlow reads it."""
    reader = tf.train.load_checkpoint(str(prefix))
    dtypes = reader.get_variable_to_dtype_map()
    values = {name: np.asarray(reader.get_tensor(name)) for name in dtypes}
    return {name: (dtypes[name].name, value.shape, digest(value)) for name, value in values.items()}


def ours(checkpoint: Bundle) -> Tensors:
    """The same, as this project reads it."""
    return {name: (info.dtype, info.shape, digest(checkpoint.read(name))) for name, info in checkpoint.tensors.items()}


def compare_graph(checkpoint: Bundle, prefix: Path) -> int:
    """How many nodes were compared. The order of children counts too."""
    message = TrackableObjectGraph.FromString(tf.train.load_checkpoint(str(prefix)).get_tensor(GRAPH))
    found = decode_graph(checkpoint.graph_bytes)
    if len(found) != len(message.nodes):
        raise DiffersError(f"{len(found)} nodes, TensorFlow {len(message.nodes)}")
    for number, (node, theirs) in enumerate(zip(found, message.nodes, strict=True)):
        parts = (
            (list(node.children.items()), [(child.local_name, child.node_id) for child in theirs.children]),
            (
                [(a.name, a.full_name, a.key) for a in node.attributes],
                [(a.name, a.full_name, a.checkpoint_key) for a in theirs.attributes],
            ),
            (
                [(s.variable, s.name, s.node) for s in node.slots],
                [(s.original_variable_node_id, s.slot_name, s.slot_variable_node_id) for s in theirs.slot_variables],
            ),
        )
        if any(mine != other for mine, other in parts):
            raise DiffersError(f"node {number} of the object graph")
    return len(found)


def files(directory: Path) -> dict[str, bytes]:
    """The bytes of every file, without what a change keeps for the undo."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def ckpt(*arguments: str) -> tuple[int, str]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = cli.run(list(arguments))
    return code, output.getvalue().strip()


def rewrite(prefix: Path, before: Tensors) -> str:
    """What became of a copy: ``rewritten and undone``, or the first words of a refusal that changed nothing."""
    with tempfile.TemporaryDirectory(prefix="ckpt-peers-") as temporary:
        copy = Path(temporary, prefix.name)
        for path in [f"{prefix}.index", *glob.glob(f"{glob.escape(str(prefix))}.data-*")]:
            shutil.copyfile(path, copy.parent / os.path.basename(path))
        state = f'model_checkpoint_path: "{prefix.name}"\nall_model_checkpoint_paths: "{prefix.name}"\n'
        (copy.parent / "checkpoint").write_text(state)
        original = files(copy.parent)
        code, output = ckpt(
            "backfill", str(copy), "--value", str(VALUE), "--metric", "recall", "--mode", "max", "--force"
        )
        if code:
            if files(copy.parent) != original:
                raise DiffersError(f"a refused backfill changed the copy: {output}")
            if code not in REFUSALS:
                raise DiffersError(f"backfill: {output}")
            return f"refused, exit code {code}: {output.splitlines()[0].replace(str(copy), 'PREFIX')}"
        after = oracle(copy)
        for name in (before.keys() | after.keys()) - WRITTEN - {GRAPH}:
            if after.get(name) != before.get(name):
                raise DiffersError(f"after the rewrite TensorFlow reads another {name}")
        reader = tf.train.load_checkpoint(str(copy))
        if not any(reader.get_tensor(name) == VALUE for name in WRITTEN & after.keys()):
            raise DiffersError("TensorFlow does not read the value that was written")
        code, output = ckpt("undo", str(copy))
        if code:
            raise DiffersError(f"undo: exit code {code}: {output}")
        if files(copy.parent) != original:
            raise DiffersError("not byte for byte what it was after the undo")
        return "rewritten and undone"


def examine(prefix: Path, counts: Counter[str]) -> None:
    """One bundle; raises DiffersError."""
    try:
        before = oracle(prefix)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        code, _ = ckpt("verify", str(prefix))
        if code not in REFUSALS | {1}:
            raise DiffersError(f"TensorFlow does not read it, ckpt verify ends with {code}: {error}") from error
        counts["bundles that neither reads"] += 1
        return
    try:
        with open_checkpoint(str(prefix)) as checkpoint:
            assert isinstance(checkpoint, Bundle)
            found = ours(checkpoint)
            expected = {name: value for name, value in before.items() if name != GRAPH}
            for name in found.keys() | expected.keys():
                if found.get(name) != expected.get(name):
                    raise DiffersError(f"{name}: {found.get(name)}, TensorFlow {expected.get(name)}")
            counts["bundles read"] += 1
            counts["tensors equal"] += len(found)
            if GRAPH in before:
                counts["object graph nodes equal"] += compare_graph(checkpoint, prefix)
                counts["object graphs equal"] += 1
    except CkptError as error:
        raise DiffersError(f"TensorFlow reads it: {error}") from error
    counts[rewrite(prefix, before)] += 1


def main() -> int:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: make test-peers PEERS=DIR")
    counts: Counter[str] = Counter()
    differing = 0
    for prefix in bundles(Path(sys.argv[1])):
        counts["bundles"] += 1
        try:
            examine(prefix, counts)
        except DiffersError as error:
            differing += 1
            print(f"{prefix}: {error}")
    for what, count in counts.items():
        print(f"{count:8}  {what}")
    print(f"{differing:8}  bundles that differ")
    return 1 if differing else 0 if counts["bundles"] else 2


if __name__ == "__main__":
    sys.exit(main())
