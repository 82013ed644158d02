"""How every file of a checkpoint is called: making the names, and telling from a name what a file is.

    PREFIX.index                       the index of a tensor bundle
    PREFIX.data-00000-of-00002         one of its data files (shards)
    PREFIX.meta                        the graph that TensorFlow 1 saves beside it
    PREFIX-00000-of-00002              a shard of a checkpoint of version 1; the set is PREFIX-?????-of-00002
    NAME_00000.weights.h5              one of several files of Keras 3, with the map NAME.weights.json
    NAME-00001-of-00002.h5             one of several files of transformers, with the map NAME.h5.index.json
    checkpoint                         the state file: which of them is the newest

What a save leaves when it is killed, by who wrote it:

    NAME_temp/ NAME_temp_HEX32/        TensorFlow: the parts of a bundle before they are put together
    FILE.tempstateN                    TensorFlow 1: a file that had not yet been given its name
    checkpoint.tmpHEX, X.meta.tmpHEX   TensorFlow: the state file, or a graph, before it is put into place
    unfinished_temp/                   this project's trainer: a save before it is whole
    FILE.tmp-HEX8                      this project: any file before it is put into place
    PREFIX.index.ckpt-tools            this project: the new index of a rewrite before its commit
    PREFIX.data-….ckpt-tools           this project: a data file of a rewrite before it is whole
    NAME.h5.ckpt-tools                 this project: a Keras file before it takes the place of the old one

A name is evidence of what a file is meant to be, never of what it holds. Pure: nothing here looks at a disk.

Sources: tensorflow/core/util/tensor_bundle/naming.cc (bundle), tensorflow/python/checkpoint/checkpoint.py and
tensorflow/python/training/saver.py (temporary names), keras/src/saving/saving_lib.py (sharded weights).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

STATE_FILE = "checkpoint"
INDEX, META = ".index", ".meta"
# What this project keeps beside checkpoints that it changed: the ledger, the journal and the originals.
STATE_DIRECTORY = ".ckpt-tools"
UNFINISHED_SAVE = "unfinished_temp"
KERAS_ENDINGS = (".h5", ".hdf5", ".keras")
# Data files and shards of version 1 are numbered with five digits; TensorFlow writes more where they do not do.
_NUMBERED = r"(?P<shard>\d{5,})-of-(?P<count>\d{5,})"

_PART = re.compile(rf"(?P<prefix>.*)\.(?:(?P<part>index|meta)|data-{_NUMBERED})", re.DOTALL)
_V1_SHARD = re.compile(r"(?P<prefix>.+)-(?:\d{5,}|\?{5,})-of-(?P<count>\d{5,})", re.DOTALL)
_UNFINISHED_FOLDER = re.compile(r".+_temp(_[0-9a-f]{32})?", re.DOTALL)
_PART_OF_UNFINISHED = re.compile(
    r"(part-\d{5,}-of-\d{5,}|ckpt-\d+)\.(index|data-\d{5,}-of-\d{5,})(\.tempstate\d+)?|ckpt-\d+_temp", re.DOTALL
)
_OWN_UNFINISHED = re.compile(
    r".+\.tmp-[0-9a-f]{8}|.*\.(index|data-\d{5,}-of-\d{5,}|h5|hdf5|keras)\.ckpt-tools", re.DOTALL
)
_UNFINISHED_FILE = re.compile(r".+\.(h5|hdf5|keras)\.ckpt-tools", re.DOTALL)
_UNFINISHED = re.compile(r".+\.tempstate\d+|(?:checkpoint|.*\.meta)\.tmp[0-9a-f]{8,32}", re.DOTALL)


@dataclass(frozen=True)
class BundlePart:
    """What a file is to a bundle: its index, its graph or one of its ``count`` data files.

    ``prefix`` is as it stands in the name, directories included; it may be empty or end in ``/``, as TensorFlow allows.
    """

    prefix: str
    part: Literal["index", "meta", "data"]
    shard: int | None = None
    count: int | None = None


def index_name(prefix: str) -> str:
    return f"{prefix}{INDEX}"


def meta_name(prefix: str) -> str:
    return f"{prefix}{META}"


def data_name(prefix: str, shard: int, count: int) -> str:
    """The name of one data file; ``shard`` counts from 0."""
    return f"{prefix}.data-{shard:05d}-of-{count:05d}"


def temporary_index_name(prefix: str) -> str:
    """The index of a rewrite before it is committed."""
    return unfinished_name(index_name(prefix))


def unfinished_name(path: str) -> str:
    """A file of a rewrite before it is whole, or committed."""
    return f"{path}{STATE_DIRECTORY}"


def temporary_name(path: str, token: str) -> str:
    """A file before it is put into place; ``token`` is eight hexadecimal digits."""
    return f"{path}.tmp-{token}"


def bundle_part(name: str) -> BundlePart | None:
    """What a file is to a bundle by its name, or None."""
    match = _PART.fullmatch(name)
    if match is None:
        return None
    if match["part"] is not None:
        return BundlePart(match["prefix"], "index" if match["part"] == "index" else "meta")
    return BundlePart(match["prefix"], "data", int(match["shard"]), int(match["count"]))


def v1_set(path: str) -> str | None:
    """``PREFIX-?????-of-N`` for that pattern itself and for the name of any shard of it; None for other names."""
    match = _V1_SHARD.fullmatch(path)
    return f"{match['prefix']}-?????-of-{match['count']}" if match else None


def is_unfinished(name: str) -> bool:
    """Whether a file has a name that only something unfinished has, of TensorFlow's savers or of this project."""
    return bool(_UNFINISHED.fullmatch(name) or _OWN_UNFINISHED.fullmatch(name))


def is_own_unfinished(name: str) -> bool:
    """Whether a file has a name that only this project gives to what is unfinished."""
    return bool(_OWN_UNFINISHED.fullmatch(name))


def is_unfinished_keras(name: str) -> bool:
    """Whether a file has the name of a Keras file that was being written anew."""
    return bool(_UNFINISHED_FILE.fullmatch(name))


def is_unfinished_folder(name: str) -> bool:
    """Whether a directory is called as one that a save puts its parts into."""
    return bool(_UNFINISHED_FOLDER.fullmatch(name))


def is_part_of_unfinished(name: str) -> bool:
    """Whether a name is one that a save gives to what it puts into such a directory."""
    return bool(_PART_OF_UNFINISHED.fullmatch(name))
