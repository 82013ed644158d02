"""Small checkpoints of every format, made without their libraries where that is possible."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
from checkpoints import build_bundle
from formats_support import slice_proto, table, v1_header, v1_value

from ckpt_tools.format.ordered import encode_slice_key
from ckpt_tools.format.wire import bytes_field
from ckpt_tools.operations.exporting import export

Values = Mapping[str, np.ndarray]
_FLOAT = 1


def h5(path: Path, values: Values) -> Path:
    """As Keras 2 saves weights: the tensor ``a`` is ``a/a:0``."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in values]
        for name, value in values.items():
            file.create_group(name).attrs["weight_names"] = [f"{name}:0".encode()]
            file[f"{name}/{name}:0"] = value
    return path


def keras(path: Path, values: Values) -> Path:
    inner = h5(path.with_name("inner.h5"), values)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(inner, "model.weights.h5")
    inner.unlink()
    return path


def keras_file(path: Path, fill: Callable[[h5py.File], None], members: Mapping[str, str] | None = None) -> Path:
    """A file of Keras with what ``fill`` writes: of HDF5, or a ``.keras`` archive with one, and further members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    inner = path.with_suffix(".tmp") if path.suffix == ".keras" else path
    with h5py.File(inner, "w") as file:
        fill(file)
    if inner != path:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", "{}")
            archive.writestr("config.json", '{"config": {}}')
            archive.write(inner, "model.weights.h5")
            for name, text in (members or {}).items():
                archive.writestr(name, text)
        inner.unlink()
    return path


def safetensors(path: Path, values: Values) -> Path:
    prefix = build_bundle(path.parent.parent / "elsewhere", values)
    export(prefix, str(path))
    return path


def version_1(path: Path, values: Values) -> Path:
    rows, entries = [], {}
    for name, value in sorted(values.items()):
        rows.append((name, _FLOAT, value.shape, [slice_proto(*[None] * value.ndim)]))
        tensor = bytes_field(5, value.tobytes())
        stored = v1_value(name, slice_proto(*[None] * value.ndim), tensor)
        entries[encode_slice_key(name, [(0, -1)] * value.ndim)] = stored
    path.write_bytes(table({b"": v1_header(*rows), **entries}))
    return path


def saved_model(directory: Path, values: Values) -> Path:
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"\x08\x01")
    build_bundle(directory / "variables" / "variables", values)
    return directory
