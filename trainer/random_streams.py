"""Random numbers as pure functions: every draw of a run is addressed by (seed, stream, index).

Nothing about randomness has to be stored for a bit-exact continuation, because nothing is carried from one
step to the next.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class RandomStream(IntEnum):
    """What the numbers are for; two streams of one seed never share a number."""

    INITIAL_WEIGHTS = 0
    BATCHES = 1
    ROUTING = 2
    EVALUATION = 3
    DROPOUT = 4


def generator(seed: int, stream: RandomStream, index: int) -> np.random.Generator:
    """The generator at one address.

    Philox is a counter-based generator (Salmon et al., SC 2011): seed and index are its key, and the stream
    is the high word of its counter, so streams lie 2^192 blocks apart.
    """
    key = np.array([seed, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=[0, 0, 0, int(stream)], key=key))


def truncated_normal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """float32, standard normal without what lies beyond two deviations (``tf.random.truncated_normal``)."""
    values = random.standard_normal(shape, dtype=np.float32)
    while (outside := np.abs(values) > 2).any():
        values[outside] = random.standard_normal(np.count_nonzero(outside), dtype=np.float32)
    return values
