"""The header of a safetensors file.

    u64 little-endian: size of the header   header   data
    header   {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ..., "__metadata__": {"a": "b"}}

It is JSON, begins with ``{`` and may be padded with blanks. The data is that of all tensors without gaps, C order,
little-endian, its places counted from the end of the header.

Source: github.com/huggingface/safetensors (README.md, safetensors/src/tensor.rs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ckpt_tools.errors import CorruptError
from ckpt_tools.format import json_text
from ckpt_tools.format.dtypes import BY_NAME

# The key of the header that is no tensor.
METADATA = "__metadata__"
# More the library does not read.
MAX_HEADER_BYTES = 100_000_000
_MOST_BYTES = 1 << 62
_MOST_DIMENSIONS = 254

# TensorFlow's types by the names that they have there.
DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool", "C64": "complex64"},
    **{"F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn"},
    **{"F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E4M3FNUZ": "float8_e4m3fnuz"},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}
# The bits of an element of those that it does not have.
_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E8M0": 8}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor: ``dtype`` is TensorFlow's name, ``opaque`` for types that it does not have; places in the data.

    ``unknown`` is the name of a type that the library does not know either: then nothing tells its size.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int
    unknown: str | None = None


def decode_header(data: bytes) -> dict[str, StoredTensor]:
    """The tensors of a header, by name, sorted.

    Raises CorruptError when it breaks a rule of the format. Whether the data is there is not looked at.
    """
    if not data.startswith(b"{"):
        raise CorruptError("the header of a safetensors file does not begin with {", offset=8)
    try:
        document: Any = json_text.parse(data.decode(), pairs=_without_twins)
    except ValueError as error:
        raise CorruptError(f"the header is no JSON: {str(error)[:200]}", offset=8) from error
    metadata = document.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CorruptError(f"{METADATA} in the header is no map from text to text", offset=8)
    return {name: _row(name, document[name]) for name in sorted(document)}


def gaps(rows: Mapping[str, StoredTensor], size: int) -> str | None:
    """What is wrong with the places of the tensors in data of ``size`` bytes; None when they fill it."""
    at = 0
    for row in sorted(rows.values(), key=lambda row: (row.start, row.end)):
        if row.start != at:
            what = "overlaps the tensor before it" if row.start < at else f"leaves {row.start - at} bytes to no tensor"
            return f"{row.name!r} {what}"
        at = row.end
    return f"{size - at} bytes behind the last tensor belong to none" if at < size else None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _row(name: str, described: object) -> StoredTensor:
    try:
        name.encode()
    except UnicodeError as error:
        raise CorruptError(f"a name is no text: {name!r}", offset=8) from error
    if not isinstance(described, dict) or not {"dtype", "shape", "data_offsets"} <= described.keys():
        raise CorruptError("its entry in the header is not one of dtype, shape and data_offsets", key=name)
    dtype, shape, places = described["dtype"], described["shape"], described["data_offsets"]
    if not isinstance(dtype, str) or not _are_sizes(shape) or not _are_sizes(places) or len(places) != 2:
        raise CorruptError("its entry in the header makes no sense", key=name)
    if len(shape) > _MOST_DIMENSIONS:
        raise CorruptError(f"has {len(shape)} dimensions", key=name)
    start, end = places
    known = DTYPES.get(dtype, "opaque")
    if start > end:
        raise CorruptError(f"ends at {end}, before it begins at {start}", key=name)
    if known == "opaque" and dtype not in _BITS:
        return StoredTensor(name, known, tuple(shape), start, end, dtype)
    bits = _BITS[dtype] if known == "opaque" else 8 * BY_NAME[known].size
    for length in shape:
        bits *= length
        if bits > 8 * _MOST_BYTES:
            raise CorruptError(f"is larger than anything: {shape}", key=name)
    if bits != 8 * (end - start):
        raise CorruptError(f"takes {end - start} bytes, where {dtype} {shape} has {bits / 8:g}", key=name)
    return StoredTensor(name, known, tuple(shape), start, end)


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each <= _MOST_BYTES for each in value)
