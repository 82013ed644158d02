"""Keras files whose values are compressed, with an optimizer and with attributes of somebody's own."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from made import keras_file

WEIGHTS = {
    "layers/dense/vars/0": np.arange(6, dtype=np.float32).reshape(2, 3),
    "layers/dense/vars/1": np.full(300, 0.5, np.float32),
}


def make(path: Path) -> Path:
    return keras_file(path, _fill, {"assets/words.txt": "a\nb\n"})


def _fill(file: h5py.File) -> None:
    for name, value in WEIGHTS.items():
        file.create_dataset(name, data=value, chunks=True, compression="gzip")
        file[name].attrs["of"] = name
    for number, size in enumerate((1, 6, 300, 6, 300)):
        file[f"optimizer/vars/{number}"] = np.ones(size, np.float32)
    file["layers/dropout"] = np.float32(0)
    file.create_group("layers/empty").attrs["theirs"] = "kept"
    file.attrs["theirs"] = "kept"
