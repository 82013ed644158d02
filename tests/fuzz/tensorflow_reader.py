"""What TensorFlow reads from checkpoints, in a process of its own, which it may well kill.

    python tensorflow_reader.py DIRECTORY...

For each directory, one JSON line about the checkpoint ``m`` in it: the digest of every tensor, null for one that
TensorFlow lists and does not read; or one string, TensorFlow's words when it opens nothing.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import numpy as np
import tensorflow as tf
from oracle import digest


def read(prefix: str) -> dict[str, str | None] | str:
    try:
        reader = tf.train.load_checkpoint(prefix)
        names = reader.get_variable_to_shape_map()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        return str(error)
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = digest(np.asarray(reader.get_tensor(name)))
        except (tf.errors.OpError, RuntimeError, ValueError):
            found[name] = None
    return found


if __name__ == "__main__":
    for directory in sys.argv[1:]:
        print(json.dumps(read(f"{directory}/m")), flush=True)
