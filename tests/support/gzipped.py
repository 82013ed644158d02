"""Keras files whose values are compressed, with an optimizer and with attributes of somebody's own."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import h5py
import numpy as np

WEIGHTS = {
    "layers/dense/vars/0": np.arange(6, dtype=np.float32).reshape(2, 3),
    "layers/dense/vars/1": np.full(300, 0.5, np.float32),
}


def make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    inner = path.with_suffix(".tmp") if path.suffix == ".keras" else path
    with h5py.File(inner, "w") as file:
        for name, value in WEIGHTS.items():
            file.create_dataset(name, data=value, chunks=True, compression="gzip")
            file[name].attrs["of"] = name
        for number, size in enumerate((1, 6, 300, 6, 300)):
            file[f"optimizer/vars/{number}"] = np.ones(size, np.float32)
        file["layers/dropout"] = np.float32(0)
        file.create_group("layers/empty").attrs["theirs"] = "kept"
        file.attrs["theirs"] = "kept"
    if inner != path:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", "{}")
            archive.writestr("config.json", json.dumps({"config": {}}))
            archive.write(inner, "model.weights.h5")
            archive.writestr("assets/words.txt", "a\nb\n")
        inner.unlink()
    return path
