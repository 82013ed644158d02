"""What TensorFlow 1.15 itself gives for a graph: the reference of scripts/graph_census.py, run in a Python of its own.

    PYTHON scripts/graph_reference.py FILE.meta INPUTS.npz WANTED.txt OUTPUTS.npz

INPUTS holds the values of ``var|NODE`` (variables), ``feed|NODE:NUMBER``; WANTED the names of outputs, a line each,
and of those to be drawn first and fed from then on ``draw|NODE:NUMBER``. OUTPUTS gets what could be fetched, under the
same names.
Needs TensorFlow 1.15 and nothing else; runs under Python 3.7.
"""

from __future__ import annotations

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf


def values_of(session, names, feeds):
    """The values of some outputs; of one that has none, in a branch that is not taken, nothing."""
    try:
        return dict(zip(names, session.run(names, feeds)))  # noqa: B905 - Python 3.7 has no strict
    except (tf.errors.OpError, ValueError, TypeError) as error:
        if len(names) == 1:
            print(f"{names[0]}: {str(error).splitlines()[0][:200]}")
            return {}
    half = len(names) // 2
    return dict(values_of(session, names[:half], feeds), **values_of(session, names[half:], feeds))


def main(meta: str, inputs: str, wanted: str, outputs: str) -> None:
    tf.compat.v1.logging.set_verbosity("ERROR")
    graph_def = tf.compat.v1.MetaGraphDef()
    with open(meta, "rb") as file:
        graph_def.ParseFromString(file.read())
    for node in graph_def.graph_def.node:
        node.device = ""  # some were made on machines with more of them
    tf.compat.v1.train.import_meta_graph(graph_def, clear_devices=True)
    graph = tf.compat.v1.get_default_graph()
    given = np.load(inputs, allow_pickle=True)
    feeds = {name.partition("|")[2]: given[name] for name in given.files if name.startswith("feed|")}
    with open(wanted) as file:
        names = [line.strip() for line in file if line.strip()]
    found = {}
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    # What is compared are the operations of the graph as it is written.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = -1
    with tf.compat.v1.Session(config=config) as session:
        for name in given.files:
            if name.startswith("var|"):
                variable = graph.get_operation_by_name(name.partition("|")[2])
                assign = next(each for each in variable.outputs[0].consumers() if each.type.startswith("Assign"))
                session.run(assign, {assign.inputs[1]: given[name]})
        for name in names:
            if name.startswith("draw|"):
                try:
                    value = session.run(name[5:], feeds)
                except (tf.errors.OpError, ValueError):
                    continue
                feeds[name[5:]] = value
                found[name] = value
        names = [name for name in names if not name.startswith("draw|")]
        for start in range(0, len(names), 32):
            found.update(values_of(session, names[start : start + 32], feeds))
    np.savez(outputs, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
