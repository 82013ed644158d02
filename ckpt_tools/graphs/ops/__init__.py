"""The operations that are interpreted: a table of small functions, each from a `Call` and arrays to arrays.

A function raises ValueError, IndexError or ZeroDivisionError for inputs that TensorFlow refuses too; the interpreter
says of which node. It asks for room before it makes an array that may be larger than its inputs.
"""

from __future__ import annotations

from collections.abc import Mapping

from ckpt_tools.graphs.call import Op
from ckpt_tools.graphs.ops import arrays, draws, elementwise, linear, reductions

OPS: Mapping[str, Op] = {
    **arrays.OPS,
    **draws.OPS,
    **elementwise.OPS,
    **linear.OPS,
    **reductions.OPS,
}
DRAWS = frozenset(draws.OPS)
