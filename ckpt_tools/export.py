"""The tensors of a checkpoint in formats of other programs.

    OUT.safetensors   u64 size of the header, header (JSON, padded with blanks), the values one after the other
    OUT.npz           a zip archive with one .npy for each tensor; no pickles
    OUT.weights.h5    HDF5: the layout of Keras where there is an object graph, else a dataset for each name

Sources: github.com/huggingface/safetensors (README.md), numpy.lib.format, keras/src/saving/saving_lib.py.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any, Literal

from ckpt_tools import storage
from ckpt_tools.errors import UsageError
from ckpt_tools.experiments import resolve
from ckpt_tools.findings import Finding
from ckpt_tools.graph import ObjectGraph
from ckpt_tools.naming import Named, by_canonical_name, by_stored_name
from ckpt_tools.readers import Checkpoint, open_checkpoint
from ckpt_tools.steady import steady

if TYPE_CHECKING:
    import numpy as np

Names = Literal["canonical", "stored", "keras"]

_SAFETENSORS = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL", "complex64": "C64"},
    **{"float8_e5m2": "F8_E5M2", "float8_e4m3fn": "F8_E4M3"},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
}
# Types that neither numpy's files nor HDF5 have, and the next wider one that holds all their values.
_WIDER = {
    "bfloat16": "float32",
    **dict.fromkeys(
        ("float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2fnuz"), "float32"
    ),
    **dict.fromkeys(("int4", "int2"), "int8"),
    **dict.fromkeys(("uint4", "uint2"), "uint8"),
}
_VARIABLE_ORDER = ("kernel", "embeddings", "recurrent_kernel", "gamma", "beta", "bias")
_LIST_OF_LAYERS = re.compile(r"(?:_layers/\d+|layer(?:_with_weights)?-\d+)(?=/)")


@dataclass(frozen=True)
class Written:
    """One exported tensor: its name in the new file and in the checkpoint, the type it was written with."""

    name: str
    keys: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Export:
    """The answer of ``ckpt export``; tensors that the format cannot hold are in ``findings``."""

    prefix: str
    output: str
    format: str
    written: tuple[Written, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "prefix": self.prefix,
            "output": self.output,
            "format": self.format,
            "written": [asdict(row) for row in self.written],
            "findings": [finding.to_json() for finding in self.findings],
        }


@steady
def export(path: str | os.PathLike[str], output: str, *, names: Names | None = None, force: bool = False) -> Export:
    """Write the tensors of a checkpoint to a new file; its ending says in which format.

    Args:
        path: whatever `readers.locate` takes, or an experiment.
        output: a name that ends in .safetensors, .npz or .weights.h5.
        names: ``canonical`` (the trainer's, where the producer is known), ``stored`` or, for .weights.h5, ``keras``;
            by default keras for .weights.h5 of a checkpoint with an object graph, else canonical.
        force: replace a file that is there.

    Raises:
        UsageError: another ending, names that the format does not have, or the file is there already.
        CorruptError and others: a tensor cannot be read; nothing is written then.
    """
    writer = next((writer for ending, writer in _WRITERS.items() if output.endswith(ending)), None)
    if writer is None:
        raise UsageError(f"{output}: the name must end in {', '.join(_WRITERS)}")
    if os.path.lexists(output) and not force:
        raise UsageError("there is such a file already", path=output, hint="--force replaces it")
    with open_checkpoint(resolve(path)) as checkpoint:
        keras = output.endswith(".weights.h5")
        chosen = names or ("keras" if keras and checkpoint.graph is not None else "canonical")
        if chosen == "keras" and not keras:
            raise UsageError("the names of Keras are for .weights.h5")
        named = _named(checkpoint, chosen)
        findings: list[Finding] = []
        kept = {}
        for name, tensor in named.items():
            reason = _why_not(tensor, output)
            if reason:
                findings.append(Finding("not-exported", "warning", reason, checkpoint.prefix, tensor.keys[0]))
            else:
                kept[name] = tensor
        with storage.created(output, replace=force) as file:
            written = writer(file, kept)
        return Export(
            checkpoint.prefix, output, next(e for e in _WRITERS if output.endswith(e)), tuple(written), tuple(findings)
        )


def _named(checkpoint: Checkpoint, names: Names) -> dict[str, Named]:
    if names == "stored":
        return by_stored_name(checkpoint)
    if names == "canonical":
        return by_canonical_name(checkpoint)
    stored = by_stored_name(checkpoint)
    if checkpoint.graph is None:
        return stored
    return {name: stored[key] for name, key in sorted(keras_layout(checkpoint.graph).items()) if key in stored}


def _why_not(tensor: Named, output: str) -> str | None:
    """The reason why a tensor cannot go into a file of that kind; None when it can."""
    if tensor.dtype in ("variant", "resource", "opaque"):
        return f"values of type {tensor.dtype} cannot be exported"
    if output.endswith(".safetensors") and tensor.dtype not in _SAFETENSORS:
        return f"safetensors has no type {tensor.dtype}"
    if output.endswith(".npz") and tensor.dtype == "string":
        return "numpy keeps strings of varying length only as pickles, which are not written"
    return None


# ----------------------------------------------------------------------------------------- the writers


def _write_safetensors(file: IO[bytes], tensors: Mapping[str, Named]) -> Iterable[Written]:
    import numpy as np

    # Types and shapes must be known before the first value: what is converted is read twice.
    rows = []
    header: dict[str, Any] = {}
    offset = 0
    for name, tensor in tensors.items():
        shape, dtype = tensor.shape, tensor.dtype
        if not tensor.stored:
            shape = tensor.read().shape
        size = int(np.prod(shape, dtype=object)) * _item_size(dtype)
        header[name] = {"dtype": _SAFETENSORS[dtype], "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
        rows.append(Written(name, tensor.keys, dtype, tuple(shape)))
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    file.write(len(encoded).to_bytes(8, "little") + encoded)
    for tensor in tensors.values():
        file.write(np.ascontiguousarray(tensor.read()).tobytes())
    return rows


def _item_size(dtype: str) -> int:
    from ckpt_tools.format.dtypes import BY_NAME

    return BY_NAME[dtype].size


def _write_npz(file: IO[bytes], tensors: Mapping[str, Named]) -> Iterable[Written]:
    import numpy as np

    rows = []
    with zipfile.ZipFile(file, "w") as archive:
        for name, tensor in tensors.items():
            value = _plain(tensor)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, value, allow_pickle=False)
            rows.append(Written(name, tensor.keys, value.dtype.name, value.shape))
    return rows


def _write_h5(file: IO[bytes], tensors: Mapping[str, Named]) -> Iterable[Written]:
    import h5py

    rows = []
    with h5py.File(file, "w") as target:
        for name, tensor in _side_by_side(tensors).items():
            value = tensor.read()
            dtype = tensor.dtype
            if dtype == "string":
                strings = h5py.string_dtype("utf-8")
                target.create_dataset(name, data=value, dtype=strings)
            elif dtype == "bfloat16":
                # As Keras stores it: two opaque bytes, and an attribute that says so.
                target.create_dataset(name, data=value).attrs["dtype"] = "bfloat16"
            else:
                value = _plain(tensor, value)
                dtype = value.dtype.name
                target.create_dataset(name, data=value)
            rows.append(Written(name, tensor.keys, dtype, value.shape))
    return rows


def _side_by_side(tensors: Mapping[str, Named]) -> dict[str, Named]:
    """HDF5 has no ``a`` beside ``a/b``: the former becomes ``a:0``, as Keras calls its variables."""
    groups = {name[:place] for name in tensors for place, letter in enumerate(name) if letter == "/"}
    return {f"{name}:0" if name in groups else name: tensor for name, tensor in tensors.items()}


def _plain(tensor: Named, value: np.ndarray | None = None) -> np.ndarray:
    """The value in a type that numpy itself has."""
    value = tensor.read() if value is None else value
    wider = _WIDER.get(tensor.dtype)
    return value if wider is None else value.astype(wider)


_WRITERS = {".safetensors": _write_safetensors, ".npz": _write_npz, ".weights.h5": _write_h5}


# ----------------------------------------------------------------------------------------- Keras' layout


def keras_layout(graph: ObjectGraph) -> dict[str, str]:
    """Where Keras 3 looks for each weight in a ``.weights.h5``: its path there, and the key that it is stored under.

    Keras goes through the attributes of a model as TensorFlow does, and numbers the variables of each layer:
    ``model/gru/cell/recurrent_kernel`` is ``gru/cell/vars/1``. The layers of a Sequential or functional model are
    called by their class, in order: ``layers/dense/vars/0``, ``layers/dense_1/vars/0``. Optimizers are left out.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    classes: dict[str, str] = {}
    counts: dict[str, int] = {}
    for path, key, full_name in _weights(graph):
        match = _LIST_OF_LAYERS.search(f"{path}/")
        if match and "/" in full_name:
            layer = match[0]
            if layer not in classes:
                base = re.sub(r"_\d+$", "", full_name.split("/")[0])
                classes[layer] = base if base not in counts else f"{base}_{counts[base]}"
                counts[base] = counts.get(base, 0) + 1
            path = f"{path[: match.start()]}layers/{classes[layer]}{path[match.end() :]}"
        parent, _, leaf = path.rpartition("/")
        groups.setdefault(parent, []).append((leaf.removeprefix("_"), key))
    layout = {}
    for parent, variables in groups.items():
        variables.sort(key=lambda pair: (_rank(pair[0]), pair[0]))
        for number, (_, key) in enumerate(variables):
            layout[f"{parent}/vars/{number}" if parent else f"vars/{number}"] = key
    return layout


def _rank(name: str) -> int:
    return _VARIABLE_ORDER.index(name) if name in _VARIABLE_ORDER else len(_VARIABLE_ORDER)


def _weights(graph: ObjectGraph) -> Iterable[tuple[str, str, str]]:
    """(path below the model, key, full name) of every weight, nearest first, without going through an optimizer."""
    start = graph.child("model")
    start = 0 if start is None else start
    seen = {start}
    queue = deque([(start, "")])
    while queue:
        node, path = queue.popleft()
        for attribute in graph.nodes[node].attributes:
            if path:
                yield path, attribute.key, attribute.full_name
        # Named attributes before Keras' own lists of the same objects; layers in their order.
        children = sorted(
            graph.nodes[node].children.items(), key=lambda item: (item[0].startswith("_"), _natural(item[0]))
        )
        for name, child in children:
            if child not in seen and "optimizer" not in name and name not in ("keras_api", "save_counter"):
                seen.add(child)
                queue.append((child, f"{path}/{name}" if path else name))


def _natural(name: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))
