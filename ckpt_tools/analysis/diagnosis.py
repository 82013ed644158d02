"""What happened to a damaged bundle: the pattern of the damaged tensors tells the causes apart.

one tensor                               bit rot
everything behind the end of the file    cut off
everything from an offset on, all zeros  the space was reserved, the data never came
every tensor that training changes       the index and the data are of two different saves
all of it, and another file fits         a shard has the wrong name
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ckpt_tools.errors import CkptError
from ckpt_tools.findings import Finding
from ckpt_tools.format import checksum
from ckpt_tools.format.bundle import Entry
from ckpt_tools.fs import paths, witness
from ckpt_tools.readers import Bundle, Checkpoint, open_checkpoint
from ckpt_tools.readers.bundle import index_name
from ckpt_tools.readers.location import prefixes_in

_DATA = re.compile(r".+\.data-\d{5}-of-\d{5}", re.DOTALL)
# A few megabytes of a few tensors tell whether a file is the right one.
_SAMPLES, _SAMPLE_BYTES = 3, 1 << 20
_MAX_FILES = 64
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Diagnosis:
    """The probable cause: ``id`` for scripts, a sentence, and what to do (None when nothing helps)."""

    id: str
    sentence: str
    fix: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def diagnose(checkpoint: Checkpoint, damaged: Sequence[str], findings: Iterable[Finding]) -> Diagnosis | None:
    """The cause of the damage to these tensors, None without damage.

    The files are read again, but only what is damaged of them.
    """
    if not any(finding.severity == "damage" for finding in findings):
        return None
    if not isinstance(checkpoint, Bundle):
        cut = any("cut off" in finding.message for finding in findings)
        return Diagnosis("cut-off", "the file was cut off", "copy or download it again") if cut else None
    by_shard: dict[int, list[Entry]] = {}
    for name in damaged:
        for entry in checkpoint.stored(name) if name in checkpoint.entries else ():
            by_shard.setdefault(entry.shard, []).append(entry)
    for number, end in checkpoint.ends().items():
        found = _of_file(checkpoint, number, end) or _of_shard(checkpoint, number, by_shard.get(number, []))
        if found is not None:
            return found
    return None


def torn_index(prefix: str) -> Diagnosis | None:
    """Why an index cannot be read at all, and which other checkpoints of its directory can."""
    path = index_name(prefix)
    if not paths.has_file(path):
        return None
    size = paths.fingerprint(path).size
    what = (
        "the index is empty: TensorFlow empties it before it writes the new one, and was killed in between"
        if size == 0
        else "the index is damaged, so that names and places of the tensors are lost"
    )
    directory, own = os.path.split(prefix)
    whole = witness.once((_whole_in, directory), lambda: list(_whole_in(directory)))
    others = [os.path.join(directory, name) for name in whole if name != own]
    fix = f"go on from another checkpoint here: {', '.join(others)}" if others else None
    return Diagnosis("torn-overwrite" if size == 0 else "index-damaged", what, fix)


def _whole_in(directory: str) -> Iterator[str]:
    """The checkpoints of a directory (of very many the last) that can be opened, with all their data there."""
    for name in prefixes_in(directory or ".")[-_MAX_FILES:]:
        try:
            with open_checkpoint(os.path.join(directory, name)) as found:
                if not any(finding.severity == "damage" for finding in found.outline()):
                    yield name
        except CkptError:
            continue


def _of_file(bundle: Bundle, number: int, end: int) -> Diagnosis | None:
    """What is wrong with a shard as a file."""
    try:
        size = bundle.shard(number).size
    except CkptError:
        missing = [os.path.basename(path) for path in bundle.shard_paths if not paths.has_file(path)]
        count = f"{len(missing)} of {len(bundle.shard_paths)} data files"
        return Diagnosis(
            "missing-shard",
            f"{count} are not here: {', '.join(missing[:8])}",
            "copy them from where the checkpoint was made; an index alone holds no values",
        )
    if size < end:
        name = os.path.basename(bundle.shard_paths[number])
        sentence = f"{name} was cut off at byte {size} of {end}: tensors before that can still be read"
        return Diagnosis("cut-off", sentence, "copy or download it again")
    return None


def _of_shard(bundle: Bundle, number: int, damaged: list[Entry]) -> Diagnosis | None:
    """What is wrong with the bytes of a shard that is long enough."""
    if not damaged:
        return None
    damaged = sorted(damaged, key=lambda entry: entry.offset)
    every = [e for name in bundle.entries for e in bundle.stored(name) if e.shard == number and e.size]
    name = os.path.basename(bundle.shard_paths[number])
    first = damaged[0].offset
    other = _fitting_file(bundle, number, damaged)
    if other is not None:
        return Diagnosis(
            "wrong-shard",
            f"{name} is another file: the bytes that belong here are in {other}",
            f"give each file its own name again: {other} should be {name}",
        )
    zeros = _zeros_from(bundle.shard(number))
    # The last bytes of the tensor in which the zeros begin may be its own.
    if zeros < bundle.shard(number).size and all(entry.offset + entry.size > zeros for entry in damaged):
        return Diagnosis(
            "zeros",
            f"{name} holds only zeros from byte {zeros} on: its space was reserved, but the data never came",
            "copy or download it again",
        )
    if len(damaged) == 1:
        return Diagnosis(
            "bit-rot",
            f"one tensor of {len(every)} in {name} is damaged: bytes changed on the disk or on the way",
            "copy or download the file again; all other tensors are whole",
        )
    behind = [entry for entry in every if entry.offset >= first]
    # Of two saves, the first tensors (an object graph, a constant) may be alike; a quarter of all bytes is not.
    if len(behind) == len(damaged) < len(every) and len(damaged) > 2 and 4 * first > bundle.shard(number).size:
        return Diagnosis(
            "from-offset",
            f"all {len(damaged)} tensors of {name} from byte {first} on are damaged, those before are whole: "
            "the rest is of another file, or was shifted",
            "copy or download it again",
        )
    if 2 * len(damaged) >= len(every):
        return Diagnosis(
            "mixed-saves",
            f"{len(damaged)} of {len(every)} tensors of {name} do not match, at the right sizes: "
            "the index and the data are of two different saves",
            "find the .index and the .data files that were written together",
        )
    return Diagnosis(
        "bit-rot",
        f"{len(damaged)} of {len(every)} tensors in {name} are damaged: bytes changed on the disk or on the way",
        "copy or download the file again; all other tensors are whole",
    )


def _fitting_file(bundle: Bundle, number: int, damaged: list[Entry]) -> str | None:
    """Another data file of the directory in which the damaged tensors would be whole."""
    samples = [entry for entry in damaged if entry.dtype.size and 0 < entry.size <= _SAMPLE_BYTES]
    # Small ones (a step, a flag) are alike in many files.
    samples = sorted(samples, key=lambda entry: -entry.size)[:_SAMPLES]
    if not samples or samples[0].size < 8:
        return None
    own = bundle.shard_paths[number]
    directory = os.path.dirname(own)
    try:
        names = [name for name in paths.list_directory(directory or ".") if _DATA.fullmatch(name)]
    except CkptError:
        return None
    for name in names[:_MAX_FILES]:
        if name != os.path.basename(own) and _fits(os.path.join(directory, name), samples):
            return name
    return None


def _fits(path: str, samples: list[Entry]) -> bool:
    try:
        with paths.open_file(path) as file:
            return all(checksum.masked(file.read(entry.offset, entry.size)) == entry.crc for entry in samples)
    except CkptError:
        return False


def _zeros_from(file: paths.File) -> int:
    """The offset behind the last byte that is not zero."""
    end = file.size
    while end:
        start = max(0, end - _BLOCK)
        kept = file.read(start, end - start).rstrip(b"\0")
        if kept:
            return start + len(kept)
        end = start
    return 0
