"""Tensors as the files of other programs: safetensors, npz, HDF5.

Each writer takes an open file, and the tensors by the names that they get there; it returns a row for each that it
wrote, and for each whose values the format cannot hold its key and the reason.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from ckpt_tools.format.safetensors import DTYPES
from ckpt_tools.lineages.naming import Named

if TYPE_CHECKING:
    import h5py
    import numpy as np

SAFETENSORS = {dtype: name for name, dtype in DTYPES.items()}
# Types that neither numpy's files nor HDF5 have, and the next wider one that holds all their values.
_WIDER = {
    "bfloat16": "float32",
    **dict.fromkeys(
        ("float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2fnuz"), "float32"
    ),
    **dict.fromkeys(("int4", "int2"), "int8"),
    **dict.fromkeys(("uint4", "uint2"), "uint8"),
}
# What HDF5 has for the attributes of an object; Keras cuts longer lists into several (legacy_h5_format.py).
_MOST_ATTRIBUTE_BYTES = 64_512
_MOST_ELEMENTS = 1 << 63
# Of the array that the value is read into, and of a dataset.
_MOST_DIMENSIONS, _MOST_OF_HDF5 = 64, 32


@dataclass(frozen=True)
class Written:
    """One exported tensor: its name in the new file and in the checkpoint, the type it was written with."""

    name: str
    keys: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Content:
    """What a file is to hold.

    ``tensors`` by their names there, ``links`` other names of the same tensors (HDF5 alone), ``layers`` those of Keras'
    legacy format in their order: the name of a layer and those of its weights below it.
    """

    tensors: Mapping[str, Named]
    links: Mapping[str, str]
    layers: Sequence[tuple[str, Sequence[str]]] | None = None


Refused = list[tuple[str, str]]


def refusal(tensor: Named, ending: str) -> str | None:
    """The reason why a tensor cannot go into a file of that kind; None when it can. Values are not looked at."""
    if tensor.dtype in ("variant", "resource", "opaque"):
        return f"values of type {tensor.dtype} cannot be exported"
    if ending == ".safetensors" and tensor.dtype not in SAFETENSORS:
        return f"safetensors has no type {tensor.dtype}"
    if ending == ".npz" and tensor.dtype == "string":
        return "numpy keeps strings of varying length only as pickles, which are not written"
    elements = 1
    for size in tensor.shape:
        # As other programs multiply: from the left, whatever zero comes.
        elements *= max(size, 1)
    if elements * 16 > _MOST_ELEMENTS:
        return f"no other program can hold a tensor of shape {list(tensor.shape)}"
    limit = _MOST_OF_HDF5 if ending.endswith(".h5") else _MOST_DIMENSIONS
    if len(tensor.shape) > limit:
        return f"{len(tensor.shape)} dimensions are over the limit of {limit}"
    return None


def write_safetensors(file: IO[bytes], content: Content) -> tuple[list[Written], Refused]:
    import numpy as np

    # Types and shapes must be known before the first value: what is converted is read twice.
    rows = []
    header: dict[str, Any] = {}
    offset = 0
    for name, tensor in content.tensors.items():
        shape, dtype = tensor.shape, tensor.dtype
        if not tensor.stored:
            shape = tensor.read().shape
        size = int(np.prod(shape, dtype=object)) * _item_size(dtype)
        header[name] = {"dtype": SAFETENSORS[dtype], "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
        rows.append(Written(name, tensor.keys, dtype, tuple(shape)))
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    file.write(len(encoded).to_bytes(8, "little") + encoded)
    for tensor in content.tensors.values():
        file.write(np.ascontiguousarray(tensor.read()).tobytes())
    return rows, []


def _item_size(dtype: str) -> int:
    from ckpt_tools.format.dtypes import BY_NAME

    return BY_NAME[dtype].size


def write_npz(file: IO[bytes], content: Content) -> tuple[list[Written], Refused]:
    import numpy as np

    rows = []
    with zipfile.ZipFile(file, "w") as archive:
        for name, tensor in content.tensors.items():
            value = _plain(tensor)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, value, allow_pickle=False)
            rows.append(Written(name, tensor.keys, value.dtype.name, value.shape))
    return rows, []


def write_h5(file: IO[bytes], content: Content) -> tuple[list[Written], Refused]:
    import h5py
    import numpy as np

    rows: list[Written] = []
    refused: Refused = []
    with h5py.File(file, "w") as target:
        for name, tensor in content.tensors.items():
            value = tensor.read()
            dtype = tensor.dtype
            if dtype == "string":
                if any(b"\0" in element for element in value.flat):
                    reason = "HDF5 ends a string at its first zero byte, and this one goes on"
                    refused.append((tensor.keys[0], reason))
                    continue
                target.create_dataset(name, data=value, dtype=h5py.string_dtype("utf-8"))
            elif dtype == "bfloat16":
                # As Keras stores it: two opaque bytes, and an attribute that says so.
                target.create_dataset(name, data=value).attrs["dtype"] = "bfloat16"
            else:
                value = _plain(tensor, value)
                dtype = value.dtype.name
                target.create_dataset(name, data=value)
            rows.append(Written(name, tensor.keys, dtype, value.shape))
        for link, name in content.links.items():
            if name in target:
                target[link] = target[name]
        if content.layers is not None:
            # What readers of this format convert for older versions of Keras is not to be converted.
            target.attrs["backend"] = np.bytes_(b"tensorflow")
            target.attrs["keras_version"] = np.bytes_(b"2.10.0")
            _write_names(target, "layer_names", [name for name, _ in content.layers if name != TOP_LEVEL])
            for name, weights in content.layers:
                _write_names(target.require_group(name), "weight_names", weights)
    return rows, refused


TOP_LEVEL = "top_level_model_weights"
"""The group of a legacy file for the weights that are a model's own."""


def _write_names(group: h5py.Group, attribute: str, names: Sequence[str]) -> None:
    import numpy as np

    data = np.array([name.encode() for name in names]) if names else np.array([], "S1")
    pieces = [data]
    while any(piece.nbytes > _MOST_ATTRIBUTE_BYTES for piece in pieces):
        pieces = np.array_split(data, len(pieces) + 1)
    for number, piece in enumerate(pieces):
        group.attrs[attribute if len(pieces) == 1 else f"{attribute}{number}"] = piece


def side_by_side(names: Sequence[str]) -> dict[str, str]:
    """HDF5 has no ``a`` beside ``a/b``: the former becomes ``a:0``, as Keras calls its variables."""
    groups = {name[:place] for name in names for place, letter in enumerate(name) if letter == "/"}
    taken = {*names, *groups}
    found = {}
    for name in names:
        new = name
        while new in groups or (new != name and new in taken):
            new += ":0"
        taken.add(new)
        found[name] = new
    return found


def _plain(tensor: Named, value: np.ndarray | None = None) -> np.ndarray:
    """The value in a type that numpy itself has."""
    value = tensor.read() if value is None else value
    wider = _WIDER.get(tensor.dtype)
    return value if wider is None else value.astype(wider)


Writer = Callable[[IO[bytes], Content], tuple[list[Written], Refused]]
WRITERS: dict[str, Writer] = {
    ".safetensors": write_safetensors,
    ".npz": write_npz,
    ".weights.h5": write_h5,
    ".h5": write_h5,
}
