"""Keeping the best model of a trainer of your own: three lines in it, and a restart forgets nothing.

    BestCheckpoint           a callback for ``model.fit`` of Keras 3 and of tf.keras
    BestCheckpointManager    around a ``tf.train.Checkpoint``
    BestSaver                around the variables of a ``tf.compat.v1`` graph

All three keep, in one directory:

    DIR/best.json     the metric, its direction, the best value (float64), its step and epoch, patience, stopped or not
    DIR/best/         the best checkpoint; a float32 ``best_metric`` is in it
    DIR/latest/       the newest one

A save is a new file or prefix: written under ``unfinished_temp``, fsynced, read back by this project's reader, given
its name, and only then pointed to by ``best.json``; nothing older goes before that is durable. A worse value never
replaces a better one, also not after a restart, and NaN never is a best.

This package is the only one of ``ckpt_tools`` that may import TensorFlow, and does so when it is used, not before.
"""

from ckpt_tools.best.callback import BestCheckpoint
from ckpt_tools.best.manager import BestCheckpointManager
from ckpt_tools.best.saver import BestSaver
from ckpt_tools.best.state import BestState

__all__ = ["BestCheckpoint", "BestCheckpointManager", "BestSaver", "BestState"]
