"""The names of HDF5 files that one set of weights is spread over, and of the map that tells which tensor is where.

NAME.weights.json     NAME_00000.weights.h5, NAME_00001.weights.h5 ...    Keras 3 (keras/src/saving/saving_lib.py)
NAME.h5.index.json    NAME-00001-of-00002.h5 ...                          Hugging Face's transformers
"""

from __future__ import annotations

import re

MAPS = (".weights.json", ".h5.index.json")

_SHARDS = {
    ".weights.json": re.compile(r"(?P<name>.+)_\d{5}\.weights\.h5", re.DOTALL),
    ".h5.index.json": re.compile(r"(?P<name>.+)-\d{5}-of-\d{5}\.h5", re.DOTALL),
}


def map_of(path: str) -> str | None:
    """Where the map is of which a file would be a shard, by its name; None for a name that no shard has."""
    for suffix, shard in _SHARDS.items():
        if match := shard.fullmatch(path):
            return f"{match['name']}{suffix}"
    return None
