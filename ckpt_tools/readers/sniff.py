"""What a file is, by its first and last bytes: names lie, and most "damaged" checkpoints are other files."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ckpt_tools.format.table import MAGIC
from ckpt_tools.places import File
from ckpt_tools.readers.keras_names import MAPS

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAD_BYTES = 4096

PASS_PREFIX = "pass the prefix (the name without .index), the .index file, or the directory"
_UNPACK = "unpack it, then pass the checkpoint inside"


@dataclass(frozen=True)
class Kind:
    """``id`` is ``table``, ``hdf5``, ``zip`` or ``json`` for what a reader may open, else the name of a stranger.

    ``sentence`` goes on from "this is"; ``hint`` says what to pass instead.
    """

    id: str
    sentence: str = ""
    hint: str = ""

    @property
    def readable(self) -> bool:
        return not self.sentence


_LFS = Kind(
    "git-lfs",
    "a Git LFS pointer, which only names the file that belongs here",
    "fetch the file itself: git lfs install && git lfs pull",
)
_HTML = Kind("html", "an HTML page", "the download saved a web page: download the file itself again (its raw link)")
_STATE = Kind("state", "a 'checkpoint' file, which only names checkpoints", "pass its directory")
_PICKLE = Kind(
    "pickle",
    "a Python pickle (PyTorch writes these), which is never opened because it can run code",
    "pass a TensorFlow or Keras checkpoint",
)
_SAFETENSORS = Kind("safetensors", "a safetensors file", "it holds no TensorFlow checkpoint: open it with safetensors")
_NUMPY = Kind("npy", "a NumPy array", "pass a TensorFlow or Keras checkpoint")
_JSON = Kind("json-text", "a JSON file that names no weights", "pass the file of the weights that lies beside it")
_GRAPH = Kind(
    "graph",
    "a graph of TensorFlow (.meta or .pb), without the values of the variables",
    "pass the checkpoint beside it, or the directory of the SavedModel",
)

# Where the bytes are, the bytes, what they mean.
_SIGNATURES: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"version https://git-lfs.github.com/spec/", _LFS),
    (0, b"\x93NUMPY", _NUMPY),
    (0, b"\x1f\x8b", Kind("gzip", "a gzip archive", _UNPACK)),
    (0, b"BZh", Kind("bzip2", "a bzip2 archive", _UNPACK)),
    (0, b"\xfd7zXZ\0", Kind("xz", "an xz archive", _UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", Kind("zstd", "a zstd archive", _UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("7z", "a 7-Zip archive", _UNPACK)),
    (0, b"Rar!\x1a\x07", Kind("rar", "a RAR archive", _UNPACK)),
    (257, b"ustar", Kind("tar", "a tar archive", _UNPACK)),
    (0, b"GGUF", Kind("gguf", "a GGUF file", "pass a TensorFlow or Keras checkpoint")),
    (4, b"TFL3", Kind("tflite", "a TensorFlow Lite model", "pass the checkpoint or SavedModel it was made from")),
)
_HTML_START = re.compile(rb"\s*(<!doctype\s+html|<html|<\?xml[^>]*>\s*<!doctype\s+html)", re.IGNORECASE)
_STATE_START = re.compile(rb"\s*(all_)?model_checkpoint_paths?\s*:")
_PICKLE_START = re.compile(rb"\x80[\x02-\x05]")
# The first entry of every index and of every file of version 1: an empty key, then a message that begins with its
# first field. It tells a table that was cut off, and so has no magic number, from a stranger.
_TABLE_START = re.compile(rb"\0\0[\x80-\xff]{0,4}[\x01-\x7f][\x08\x0a]", re.DOTALL)
_EVENT_START = re.compile(rb".{8}.{4}\x09.{8}\x1a.brain\.Event:", re.DOTALL)


def sniff(file: File) -> Kind | None:
    """What the file is; None when nothing is known that begins (or, of a table, ends) so."""
    head = file.read(0, min(file.size, _HEAD_BYTES))
    if file.size >= 8 and int.from_bytes(file.read(file.size - 8, 8), "little") == MAGIC:
        return Kind("table")
    if _is_hdf5(file):
        return Kind("hdf5")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Kind("zip")
    for offset, signature, kind in _SIGNATURES:
        if head.startswith(signature, offset):
            return kind
    if not head:
        return Kind("empty", "an empty file", "it was never written, or its download failed: get it again")
    if not head.strip(b"\0"):
        return Kind("zeros", "a file of zeros", "its space was reserved, but it was never written: get it again")
    for pattern, kind in (
        (_TABLE_START, Kind("table")),
        (_HTML_START, _HTML),
        (_STATE_START, _STATE),
        (_PICKLE_START, _PICKLE),
        (_EVENT_START, Kind("events", "a TensorBoard event file", "pass the checkpoint of that run")),
    ):
        if pattern.match(head):
            return kind
    if len(head) > 9 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= file.size - 8:
        return _SAFETENSORS
    if head.lstrip().startswith(b"{"):
        names_weights = b'"weight_map"' in head and b'.h5"' in head  # other libraries have maps of this form too
        return Kind("json") if names_weights or file.path.endswith(MAPS) else _JSON
    # A protocol buffer has no signature.
    if file.path.endswith((".meta", ".pb")):
        return _GRAPH
    return None


def _is_hdf5(file: File) -> bool:
    """HDF5 may begin behind a block of the user: at 0, 512, 1024, 2048 and so on."""
    offset = 0
    while offset + len(HDF5_SIGNATURE) <= file.size:
        if file.read(offset, len(HDF5_SIGNATURE)) == HDF5_SIGNATURE:
            return True
        offset = 2 * offset or 512
    return False
