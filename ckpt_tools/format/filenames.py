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
# What tells of somebody's runs; see `ckpt_tools.lineages.declared`.
DECLARATION = "ckpt.toml"
# In it: the journal of a change that is under way, or was interrupted; see `ckpt_tools.transactions.journal`.
PENDING = "pending.json"
UNFINISHED_SAVE = "unfinished_temp"
KERAS_ENDINGS = (".h5", ".hdf5", ".keras")
# The maps of weights that are spread over several HDF5 files: of Keras 3, of transformers.
KERAS_MAPS = (".weights.json", ".h5.index.json")

# Data files and shards of version 1 are numbered with five digits; TensorFlow writes more where they do not do.
_DIGITS = r"\d{5,}"
_NUMBERED = rf"(?P<shard>{_DIGITS})-of-(?P<count>{_DIGITS})"
_DATA = rf"data-{_DIGITS}-of-{_DIGITS}"
# The end of a data file's name, for expressions that look for one in a text.
DATA_ENDING = rf"\.{_DATA}"

_PART = re.compile(rf"(?P<prefix>.*)\.(?:(?P<part>index|meta)|data-{_NUMBERED})", re.DOTALL)
_V1_SHARD = re.compile(rf"(?P<prefix>.+)-(?P<shard>{_DIGITS}|\?{{5,}})-of-(?P<count>{_DIGITS})", re.DOTALL)
_V1_ANY_SET = re.compile(r"(?P<prefix>.+)-\?{5}-of-\?{5}", re.DOTALL)
_KERAS_SHARDS = {
    ".weights.json": re.compile(rf"(?P<name>.+)_{_DIGITS}\.weights\.h5", re.DOTALL),
    ".h5.index.json": re.compile(rf"(?P<name>.+)-{_DIGITS}-of-{_DIGITS}\.h5", re.DOTALL),
}
_UNFINISHED_FOLDER = re.compile(r".+_temp(_[0-9a-f]{32})?", re.DOTALL)
_PART_OF_UNFINISHED = re.compile(rf"part-{_DIGITS}-of-{_DIGITS}\.(index|{_DATA})(\.tempstate\d+)?", re.DOTALL)
_PART_OF_OWN_SAVE = re.compile(
    rf".+-\d+(\.(index|{_DATA})(\.tempstate\d+)?|\.weights\.h5|\.keras|_temp(_[0-9a-f]{{32}})?)", re.DOTALL
)
_TEMPORARY = re.compile(r"(?P<name>.+)\.tmp-[0-9a-f]{8}", re.DOTALL)
# Twice where a system without links has an unfinished file copied into place.
_OWN_ENDING = rf"({re.escape(STATE_DIRECTORY)}){{1,2}}"
_UNFINISHED_FILE = re.compile(rf".+\.(h5|hdf5|keras){_OWN_ENDING}", re.DOTALL)
_OWN_UNFINISHED = re.compile(rf"{_TEMPORARY.pattern}|.*\.(index|{_DATA}|h5|hdf5|keras){_OWN_ENDING}", re.DOTALL)
_UNFINISHED = re.compile(r".+\.tempstate\d+|(?:checkpoint|.*\.meta)\.tmp[0-9a-f]{8,32}", re.DOTALL)
# Of savers of others, too: no proof that nobody needs it, but that it is no checkpoint yet.
_DRAFT = re.compile(r".*(_temp(_[0-9a-f]{32})?|-tmp|\.tmp|\.tempstate\d*|\.orbax-checkpoint-tmp.*)", re.DOTALL)


@dataclass(frozen=True)
class BundlePart:
    """What a file is to a bundle: its index, its graph or one of its ``count`` data files.

    ``prefix`` is as it stands in the name, directories included; it may be empty or end in ``/``, as TensorFlow allows.
    """

    prefix: str
    part: Literal["index", "meta", "data"]
    shard: int | None = None
    count: int | None = None


@dataclass(frozen=True)
class ShardOfV1:
    """A file of a sharded checkpoint of version 1, or (``shard`` None) the pattern that stands for all of them.

    ``count`` is text: a set is known by the digits in its name.
    """

    prefix: str
    shard: int | None
    count: str

    @property
    def pattern(self) -> str:
        """What TensorFlow calls the set: ``PREFIX-?????-of-N``."""
        return f"{self.prefix}-?????-of-{self.count}"


# ------------------------------------------------------------------------------------------------ making


def index_name(prefix: str) -> str:
    return f"{prefix}{INDEX}"


def meta_name(prefix: str) -> str:
    return f"{prefix}{META}"


def data_name(prefix: str, shard: int, count: int) -> str:
    """The name of one data file; ``shard`` counts from 0."""
    return f"{prefix}.data-{shard:05d}-of-{count:05d}"


def v1_shard_name(prefix: str, shard: int, count: int) -> str:
    """The name of one shard of a checkpoint of version 1; ``shard`` counts from 0."""
    return f"{prefix}-{shard:05d}-of-{count:05d}"


def unfinished_name(path: str) -> str:
    """A file of a rewrite before it is whole, or committed."""
    return f"{path}{STATE_DIRECTORY}"


def temporary_name(path: str, token: str) -> str:
    """A file before it is put into place; ``token`` is eight hexadecimal digits."""
    return f"{path}.tmp-{token}"


# ------------------------------------------------------------------------------------------------ telling


def bundle_part(name: str) -> BundlePart | None:
    """What a file is to a bundle by its name, or None."""
    match = _PART.fullmatch(name)
    if match is None:
        return None
    if match["part"] is not None:
        return BundlePart(match["prefix"], "index" if match["part"] == "index" else "meta")
    return BundlePart(match["prefix"], "data", int(match["shard"]), int(match["count"]))


def is_data(name: str) -> bool:
    """Whether a name is that of a bundle's data file."""
    part = bundle_part(name)
    return part is not None and part.part == "data"


def shard_of_v1(path: str) -> ShardOfV1 | None:
    """What a path is to a sharded checkpoint of version 1: one of its files, or the pattern of the set; or None."""
    match = _V1_SHARD.fullmatch(path)
    if match is None:
        return None
    shard = None if match["shard"].startswith("?") else int(match["shard"])
    return ShardOfV1(match["prefix"], shard, match["count"])


def v1_set(path: str) -> str | None:
    """``PREFIX-?????-of-N`` for that pattern itself and for the name of any shard of it; None for other names."""
    shard = shard_of_v1(path)
    return shard.pattern if shard else None


def v1_any_set(path: str) -> str | None:
    """The prefix of ``PREFIX-?????-of-?????``, as TensorFlow's own pattern for a set is; None for other names."""
    match = _V1_ANY_SET.fullmatch(path)
    return match["prefix"] if match else None


def keras_map_of(path: str) -> str | None:
    """Where the map is of which a file would be a shard, by its name; None for a name that no shard has."""
    for ending, shard in _KERAS_SHARDS.items():
        if match := shard.fullmatch(path):
            return f"{match['name']}{ending}"
    return None


def keras_map_beside(path: str) -> str | None:
    """Where the map is when ``NAME.weights.h5`` is spread over several files; None for other names."""
    name = path.removesuffix(".weights.h5")
    return f"{name}.weights.json" if name != path else None


def temporary_of(name: str) -> str | None:
    """The name that a file would have got which this project had not yet put into place; None for other names."""
    match = _TEMPORARY.fullmatch(name)
    return match["name"] if match else None


def is_unfinished(name: str) -> bool:
    """Whether a file has a name that only something unfinished has, of TensorFlow's savers or of this project."""
    return bool(_UNFINISHED.fullmatch(name) or _OWN_UNFINISHED.fullmatch(name))


def is_unfinished_keras(name: str) -> bool:
    """Whether a file has the name of a Keras file that was being written anew."""
    return bool(_UNFINISHED_FILE.fullmatch(name))


def is_unfinished_folder(name: str) -> bool:
    """Whether a directory is called as one that a save puts its parts into."""
    return bool(_UNFINISHED_FOLDER.fullmatch(name))


def is_part_of_unfinished(name: str, folder: str) -> bool:
    """Whether a name is one that a save gives to what it puts into a directory of that name."""
    parts = _PART_OF_OWN_SAVE if folder == UNFINISHED_SAVE else _PART_OF_UNFINISHED
    return bool(parts.fullmatch(name))


def is_draft(name: str) -> bool:
    """Whether a file or directory is called as what some saver, known here or not, has not finished."""
    return bool(_DRAFT.fullmatch(name))


def is_events(path: str) -> bool:
    """Whether a file is called as TensorBoard's writers call theirs."""
    return ".tfevents." in path.rpartition("/")[2]
