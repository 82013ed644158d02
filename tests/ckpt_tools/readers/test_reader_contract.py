"""Each reader keeps the contract of all."""

from __future__ import annotations

import json
from pathlib import Path

import made
from checkpoints import build_bundle
from contracts import ReaderContract, Values


class TestBundle(ReaderContract):
    format = "bundle-name"

    def make(self, folder: Path, values: Values) -> Path:
        return Path(build_bundle(folder / "ckpt-1", values))


class TestSavedModel(ReaderContract):
    format = "saved-model"

    def make(self, folder: Path, values: Values) -> Path:
        return made.saved_model(folder / "model", values)


class TestVersion1(ReaderContract):
    format = "v1"

    def make(self, folder: Path, values: Values) -> Path:
        return made.version_1(folder / "old.ckpt", values)


class TestSafetensors(ReaderContract):
    format = "safetensors"
    has_checksums = False

    def make(self, folder: Path, values: Values) -> Path:
        return made.safetensors(folder / "m.safetensors", values)


class TestHdf5(ReaderContract):
    format = "keras-h5"
    has_checksums = False

    def make(self, folder: Path, values: Values) -> Path:
        return made.h5(folder / "model.h5", values)

    def name_of(self, name: str) -> str:
        return f"{name}/{name}:0"


class TestKerasZip(TestHdf5):
    """The archive has a checksum over all of its weights."""

    format = "keras-zip"
    has_checksums = True

    def make(self, folder: Path, values: Values) -> Path:
        return made.keras(folder / "m.keras", values)


class TestShards(TestHdf5):
    """Weights in several files with a map, as Keras 3 and Hugging Face's transformers write them."""

    def make(self, folder: Path, values: Values) -> Path:
        parts = {}
        for number, (name, value) in enumerate(values.items()):
            made.h5(folder / f"m_{number:05}.weights.h5", {name: value})
            parts[f"/{name}/vars"] = f"m_{number:05}.weights.h5"
        (folder / "m.weights.json").write_text(json.dumps({"weight_map": parts}))
        return folder / "m.weights.json"
