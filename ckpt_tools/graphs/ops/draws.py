"""Operations that draw random numbers: not those that TensorFlow would draw, but others of the same law.

Without a generator they are refused: a value that comes out differently each time is no measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ckpt_tools.errors import UnsupportedError
from ckpt_tools.graphs.call import Call, Op
from ckpt_tools.graphs.ops.arrays import wholes


def _generator(call: Call) -> np.random.Generator:
    if call.draws is None:
        raise UnsupportedError(
            "draws random numbers: what depends on them differs each time",
            hint="feed this node a value under [graph.feeds] of ckpt.toml",
        )
    return call.draws


def _drawn(draw: Callable[[np.random.Generator, list[int]], np.ndarray]) -> Op:
    def run(call: Call, shape: np.ndarray) -> np.ndarray:
        generator, dtype = _generator(call), call.dtype("dtype", "float32")
        call.room(wholes(shape), np.dtype(np.float64))
        return draw(generator, wholes(shape)).astype(dtype)

    return run


def _truncated(generator: np.random.Generator, shape: list[int]) -> np.ndarray:
    """A normal draw, again where it is more than two deviations away."""
    found = generator.standard_normal(shape)
    while (far := np.abs(found) > 2).any():
        found[far] = generator.standard_normal(np.count_nonzero(far))
    return found


OPS: Mapping[str, Op] = {
    "RandomStandardNormal": _drawn(lambda generator, shape: generator.standard_normal(shape)),
    "RandomUniform": _drawn(lambda generator, shape: generator.random(shape)),
    "TruncatedNormal": _drawn(_truncated),
}
