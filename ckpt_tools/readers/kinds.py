"""What is said of a file: of one that a reader may open, its format; of a stranger, what it is and what to do next."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """``id`` is ``table``, ``hdf5``, ``zip``, ``json`` or ``safetensors`` for what a reader opens, else a stranger's.

    ``sentence`` goes on from "this is"; ``hint`` says what to pass instead.
    """

    id: str
    sentence: str = ""
    hint: str = ""

    @property
    def readable(self) -> bool:
        return not self.sentence


PASS_PREFIX = "pass the prefix (the name without .index), the .index file, or the directory"
PASS_OTHER = "pass a TensorFlow or Keras checkpoint"
UNPACK = "unpack it, then pass the checkpoint inside"
EXPORTED = "pass the checkpoint, SavedModel or Keras file that it was made from"
AS_SAFETENSORS = "load it with the library that wrote it, and save the weights as safetensors or .npz"
