"""What a zip archive is, by the names in it: nothing is opened, and no name is believed to be harmless."""

from __future__ import annotations

import os
import struct
import zipfile

from ckpt_tools.errors import CorruptError
from ckpt_tools.format.filenames import bundle_part
from ckpt_tools.fs import paths
from ckpt_tools.readers.kinds import AS_SAFETENSORS, EXPORTED, PASS_OTHER, UNPACK, Kind
from ckpt_tools.readers.window import Stream

WEIGHTS = "model.weights.h5"
WEIGHT_MAP = "model.weights.json"


def zip_stranger(file: paths.File) -> Kind | None:
    """What a zip archive is that holds no Keras weights; None for a ``.keras`` file.

    Raises CorruptError when its list of members cannot be read.
    """
    names = _names(file)
    if {WEIGHTS, WEIGHT_MAP} & names:
        return None
    if names and all(name.endswith(".npy") for name in names):
        return Kind("npz", "a NumPy archive (.npz)", PASS_OTHER)
    bases = {os.path.basename(name) for name in names}
    if "data.pkl" in bases and "constants.pkl" in bases:
        return Kind("torchscript", "a TorchScript module, which is never opened because it can run code", EXPORTED)
    if "data.pkl" in bases:
        return Kind("pytorch", "a PyTorch file, which is never opened because it can run code", AS_SAFETENSORS)
    if "com.apple.CoreML" in {part for name in names for part in name.split("/")}:
        return Kind("coreml", "a Core ML package in a zip archive", EXPORTED)
    inside = sorted(part.prefix for part in map(bundle_part, names) if part and part.part == "index" and part.prefix)
    if inside:
        sentence = f"a zip archive with a checkpoint in it ({inside[0]})"
        return Kind("zip", sentence, f"unpack it, then pass {inside[0]} where it lies then")
    return Kind("zip", "a zip archive without Keras weights", UNPACK)


def _names(file: paths.File) -> set[str]:
    """The names of the members; a backslash, as Windows programs write it, counts as a slash."""
    try:
        with zipfile.ZipFile(Stream(file)) as archive:
            return {info.filename.replace("\\", "/") for info in archive.infolist()}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, struct.error, NotImplementedError) as error:
        hint = "copy or download the file again"
        raise CorruptError(f"damaged zip archive: {error}", path=file.path, hint=hint) from error
