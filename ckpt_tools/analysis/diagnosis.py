"""What happened to a damaged bundle: the pattern of the damaged tensors tells the causes apart.

one tensor                               bit rot
everything behind the end of the file    cut off
everything from an offset on, all zeros  the space was reserved, the data never came
every tensor that training changes       the index and the data are of two different saves
all of it, and another file fits         a shard has the wrong name
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ckpt_tools.errors import CkptError
from ckpt_tools.findings import Finding
from ckpt_tools.format import checksum
from ckpt_tools.format.bundle import Entry
from ckpt_tools.format.filenames import bundle_part, index_name
from ckpt_tools.fs import local, paths, witness
from ckpt_tools.readers import Bundle, Checkpoint, open_checkpoint
from ckpt_tools.readers.location import prefixes_in
from ckpt_tools.readers.renamed import holds

_MAX_FILES = 64
# Fewer zeros than these are chance: in a tensor of nothing else, and at the end of a larger one.
_TELLING, _SECTOR = 8, 512
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
        return Diagnosis("cut-off", "the file is cut off", "copy or download it again") if cut else None
    by_shard: dict[int, list[Entry]] = {}
    for name in damaged:
        for entry in checkpoint.stored(name) if name in checkpoint.entries else ():
            # Of a tensor in several parts only some may be damaged.
            if name not in checkpoint.parts or not _is_whole(checkpoint, entry):
                by_shard.setdefault(entry.shard, []).append(entry)
    for number, end in checkpoint.ends().items():
        lost = by_shard.get(number, [])
        found = _of_file(checkpoint, number, end, lost) or _of_shard(checkpoint, number, lost)
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
        "the index is empty, as when TensorFlow is killed between emptying it and writing the new one"
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


def _is_whole(bundle: Bundle, entry: Entry) -> bool:
    """Whether the bytes of one part are as they were written; False where that cannot be told here."""
    if not entry.dtype.size or not entry.size:
        return not entry.size
    try:
        raw = bundle.shard(entry.shard).read(entry.offset, entry.size)
    except CkptError:
        return False
    return checksum.masked(raw) == entry.crc


def _absent(path: str) -> str:
    name = os.path.basename(path)
    return f"{name} (a directory has this name)" if paths.is_directory(path) else name


def _of_file(bundle: Bundle, number: int, end: int, damaged: list[Entry]) -> Diagnosis | None:
    """What is wrong with a shard as a file; ``damaged`` are its tensors that are known to be, none where no data was
    read."""
    if not end and number not in bundle.missing:
        return None
    try:
        size = bundle.shard(number).size
    except CkptError:
        if (renamed := bundle.renamed) is not None:
            return Diagnosis("renamed-data", renamed.sentence, renamed.command)
        missing = [_absent(bundle.shard_paths[lost]) for lost in bundle.missing]
        count = f"{len(missing)} of {len(bundle.shard_paths)} data files"
        return Diagnosis(
            "missing-shard",
            f"{count} are not here: {', '.join(missing[:8])}",
            "copy them from where the checkpoint was made; an index alone holds no values",
        )
    if size < end:
        name = os.path.basename(bundle.shard_paths[number])
        every = [entry for key in bundle.entries for entry in bundle.stored(key) if entry.shard == number]
        other = _fitting_file(bundle, number, damaged or every)
        if other is not None:
            return _wrong_shard(name, other)
        sentence = f"{name} is cut off at byte {size} of {end}"
        before = [entry for entry in damaged if entry.offset + entry.size <= size]
        if before:
            sentence = f"{name} has {size} bytes of {end}, and {len(before)} of the tensors in them are damaged too"
        elif damaged and len(damaged) < len(every):
            sentence = f"{name} is cut off at byte {size} of {end}: the tensors before that are whole"
        return Diagnosis("cut-off", sentence, "copy or download it again")
    return None


def _wrong_shard(name: str, other: str) -> Diagnosis:
    return Diagnosis(
        "wrong-shard",
        f"{name} is another file: the bytes that belong here are in {other}",
        f"give each file its own name again: {other} should be {name}",
    )


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
        return _wrong_shard(name, other)
    zeros = _zeros_from(bundle.shard(number))
    if _explains(zeros, damaged):
        return Diagnosis(
            "zeros",
            f"{name} holds only zeros from byte {zeros} on, as when space is reserved for data that never come",
            "copy or download it again",
        )
    if len(damaged) == 1:
        return Diagnosis(
            "bit-rot",
            f"one tensor of {len(every)} in {name} is damaged: its bytes are not those that were written",
            "copy or download the file again" + ("; all its other tensors are whole" if len(every) > 1 else ""),
        )
    behind = [entry for entry in every if entry.offset >= first]
    # Of two saves, the first tensors (an object graph, a constant) may be alike; a quarter of all bytes is not.
    if len(behind) == len(damaged) < len(every) and len(damaged) > 2 and 4 * first > bundle.shard(number).size:
        return Diagnosis(
            "from-offset",
            f"all {len(damaged)} tensors of {name} from byte {first} on are damaged, those before are whole, as when "
            "the rest is of another file, or was shifted",
            "copy or download it again",
        )
    if 2 * len(damaged) >= len(every):
        return Diagnosis(
            "mixed-saves",
            f"{len(damaged)} of {len(every)} tensors of {name} do not match, at the right sizes, as when "
            "the index and the data are of two different saves",
            "find the .index and the .data files that were written together",
        )
    return Diagnosis(
        "bit-rot",
        f"{len(damaged)} of {len(every)} tensors in {name} are damaged: their bytes are not those that were written",
        "copy or download the file again; all its other tensors are whole",
    )


def _fitting_file(bundle: Bundle, number: int, damaged: list[Entry]) -> str | None:
    """Another data file of the directory in which the damaged tensors would be whole."""
    own = bundle.shard_paths[number]
    directory = local.directory_of(own)
    try:
        names = [name for name in paths.list_files(directory) if (part := bundle_part(name)) and part.part == "data"]
    except CkptError:
        return None
    for name in names[:_MAX_FILES]:
        if name != os.path.basename(own) and holds(os.path.join(directory, name), damaged):
            return name
    return None


def _explains(zeros: int, damaged: list[Entry]) -> bool:
    """Whether zeros up to the end of the file, from an offset on, are why these tensors are damaged.

    The last bytes of any tensor may be zeros of its own: so that it needs a damaged tensor of nothing but zeros, or one
    that loses a sector to them.
    """
    lost = [entry.offset + entry.size - max(entry.offset, zeros) for entry in damaged]
    return all(size > 0 for size in lost) and any(
        size == entry.size >= _TELLING or size >= _SECTOR for size, entry in zip(lost, damaged, strict=True)
    )


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
