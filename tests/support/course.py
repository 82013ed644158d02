"""A training that keeps its best, in a process that can be killed: ``python course.py KIND DIRECTORY VALUE...``.

The one weight of the model is its metric. Each value is printed once it is saved.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from ckpt_tools.best import BestCheckpoint, BestCheckpointManager, BestSaver


def said(value: float) -> None:
    print("saved", value, flush=True)


def with_keras(kind: str, directory: str, values: Sequence[float]) -> None:
    keras = importlib.import_module(kind)

    course: Iterator[float] = iter(values)

    class Evaluate(keras.callbacks.Callback):
        def on_epoch_end(self, _epoch: int, logs: dict[str, float]) -> None:
            logs["val_auc"] = next(course)
            self.model.set_weights([np.full((1, 1), logs["val_auc"], np.float32)])

    class Say(keras.callbacks.Callback):
        def on_epoch_end(self, _epoch: int, logs: dict[str, float]) -> None:
            said(logs["val_auc"])

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("adam", "mse")
    best = BestCheckpoint(directory, "val_auc")
    start = best.resume(model)
    x = np.zeros((4, 1), np.float32)
    model.fit(x, x, epochs=start + len(values), initial_epoch=start, callbacks=[Evaluate(), best, Say()], verbose=0)


def with_manager(directory: str, values: Sequence[float]) -> None:
    import tensorflow as tf

    weight = tf.Variable(0.0)
    manager = BestCheckpointManager(tf.train.Checkpoint(weight=weight), directory, "auc")
    manager.restore()
    for value in values:
        weight.assign(value)
        manager.save(value, step=manager.state.step + 1)
        said(value)


def with_saver(directory: str, values: Sequence[float]) -> None:
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default(), tf.Session() as session:
        weight = tf.get_variable("weight", [], initializer=tf.zeros_initializer())
        new = tf.placeholder(tf.float32, [])
        assign = tf.assign(weight, new)
        saver = BestSaver(directory, "auc")
        session.run(tf.global_variables_initializer())
        saver.restore(session)
        for value in values:
            session.run(assign, {new: value})
            saver.save(session, value, step=saver.state.step + 1)
            said(value)


def train(kind: str, directory: str, values: Sequence[float]) -> None:
    """One run; it goes on from what is in the directory."""
    if kind == "manager":
        with_manager(directory, values)
    elif kind == "saver":
        with_saver(directory, values)
    else:
        with_keras(kind, directory, values)


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2], [float(value) for value in sys.argv[3:]])
