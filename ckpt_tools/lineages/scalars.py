"""Single numbers in checkpoints: read exactly, whatever their type, without numpy.

Importing numpy would take longer than everything else that an inspection does.
"""

from __future__ import annotations

import math
import struct

from ckpt_tools.readers.base import Checkpoint, TensorInfo

_CODES = {
    **{"float16": "e", "float32": "f", "float64": "d", "half": "e", "bool": "?"},
    **{
        "int8": "b",
        "int16": "h",
        "int32": "i",
        "int64": "q",
        "uint8": "B",
        "uint16": "H",
        "uint32": "I",
        "uint64": "Q",
    },
}
_BFLOAT16 = "bfloat16"


def is_number(info: TensorInfo) -> bool:
    """Whether a tensor is one number of a type that has an order: no complex one, no string, no table."""
    return info.shape in ((), (1,)) and (info.dtype in _CODES or info.dtype == _BFLOAT16)


def read_number(checkpoint: Checkpoint, key: str) -> int | float | bool:
    """The value of a tensor that `is_number`: an integer exactly, of 64 bits too. Raises what reading raises."""
    info = checkpoint.tensors[key]
    raw = b"".join(checkpoint.chunks(key))
    if info.dtype == _BFLOAT16:
        # The upper half of a float32.
        return float(struct.unpack("<f", b"\0\0" + raw)[0])
    value: int | float | bool = struct.unpack(f"<{_CODES[info.dtype]}", raw)[0]
    return value


def as_step(value: int | float | bool) -> int | None:
    """A number of updates, None for what is no whole number: a step that is NaN, infinite or a truth value is none."""
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        return None
    return int(value)


def is_close(one: float, other: float) -> bool:
    """Whether two values are the same, or one is the other as a float32 holds it."""
    return math.isclose(one, other, rel_tol=1e-6)


def is_start_value(value: int | float | bool) -> bool:
    """Whether a value is one that variables for a best metric are created with, rather than one that was measured.

    0, -1, NaN, the infinities, the largest floats, and the round numbers that stand for infinity: powers of ten from
    10^4 on, and as many nines.
    """
    number = abs(float(value))
    if value in (0, -1) or not math.isfinite(number) or number in _LARGEST:
        return True
    return 9999 <= number <= 1e38 and any(math.isclose(number, start, rel_tol=1e-7) for start in _ROUND)


_LARGEST = (
    struct.unpack("<f", b"\xff\xff\x7f\x7f")[0],
    struct.unpack("<d", b"\xff" * 6 + b"\xef\x7f")[0],
    2.0**31,
    2.0**63,
)
_ROUND = tuple(start for power in range(4, 39) for start in (10.0**power, 10.0**power - 1))
