"""A small real old experiment with its data, to try every command on: ``ckpt demo``."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import dataclass
from importlib import resources
from typing import Any

from ckpt_tools.errors import UsageError
from ckpt_tools.fs import durable, paths

EXPERIMENT = "best_model/book_ComiRec-DR_b128_lr0.005_d8_len20_k3_ComiRec-DR"


@dataclass(frozen=True)
class Demonstration:
    """The answer of ``ckpt demo``: the paths that were written below ``directory``, and the experiment among them."""

    directory: str
    experiment: str
    written: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"experiment": self.experiment, "written": list(self.written), "findings": []}


def demonstrate(directory: str) -> Demonstration:
    """Write the experiment and its data below a directory, which is made.

    Raises UsageError, before anything is written, when a file of the demo is there already; StorageError.
    """
    packed = resources.files("ckpt_tools.operations").joinpath("data/demo.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        files = {os.path.join(directory, name): archive.read(name) for name in archive.namelist()}
    there = next((path for path in files if paths.exists(path)), None)
    if there is not None:
        raise UsageError(f"{there} is there already, and nothing is overwritten", hint="ckpt demo another-directory")
    for path, content in files.items():
        durable.make_directory(os.path.dirname(path))
        durable.write_atomic(path, content)
    return Demonstration(directory, os.path.join(directory, EXPERIMENT), tuple(files))
