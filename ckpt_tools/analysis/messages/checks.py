"""What the checkpoint itself says about a message.

Each check opens it, measures, and states what it measured. It gives a next step of its own only where the file
proves one that is better than the usual one.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from ckpt_tools.analysis.messages.known import Asked, Told
from ckpt_tools.analysis.messages.nearest import base_of_slot, find_nearest
from ckpt_tools.analysis.messages.text import basename, until_end
from ckpt_tools.analysis.verification import verify
from ckpt_tools.fs import local, paths
from ckpt_tools.lineages.naming import neutral, with_slashes
from ckpt_tools.readers import Checkpoint
from ckpt_tools.readers.location import files_in, prefixes_in
from ckpt_tools.runs.opening import open_meant

_SHAPE = re.compile(r"[\[(]((?: ?\d+ ?,)* ?\d+ ?,?) ?[\])]")
_NEAR = 300
_MOST = 3


def whole(asked: Asked, path: str) -> Told:  # noqa: ARG001 (one signature for all checks)
    """Whether every byte is as it was written."""
    found = verify(path)
    if found.whole:
        how = (
            "every checksum matches"
            if found.format and found.format.startswith(("bundle", "saved", "v1"))
            else "it opens"
        )
        return Told(f"{found.prefix} is whole: {found.tensors_checked} tensors, {how}")
    if found.diagnosis is not None:
        return Told(found.diagnosis.sentence, found.diagnosis.fix)
    return Told(found.findings[0].message, found.findings[0].fix)


def opens(asked: Asked, path: str) -> Told:  # noqa: ARG001
    """What it is."""
    with _opened(path) as checkpoint:
        return Told(_described(checkpoint))


def by_its_name(asked: Asked, path: str) -> Told:
    """What name has to be passed: for messages that are about names."""
    wanted = _file_in(asked)
    with _opened(path) as checkpoint:
        here = local.directory_of(checkpoint.prefix)
        there = _there(here)
        if wanted and wanted != os.path.basename(checkpoint.prefix) and wanted in there:
            prefix = os.path.join(here, wanted)
            return Told(f"{wanted} is in {here}: pass exactly {prefix}", f"ckpt inspect {shlex.quote(prefix)}")
        absent = f"there is no {wanted} in {here}; " if wanted and wanted not in there else ""
        what = f"{absent}{_described(checkpoint)}: pass exactly this name"
        return Told(what, f"ckpt inspect {shlex.quote(checkpoint.prefix)}")


def key(asked: Asked, path: str) -> Told:
    """Whether the name is stored, and which one is meant when it is not."""
    wanted = asked.named("key")
    with _opened(path) as checkpoint:
        if wanted is None:
            return Told(_described(checkpoint))
        return _key(wanted, checkpoint)


def named_object(asked: Asked, path: str) -> Told:
    """Where an object of a program, ``(root).optimizer.iter``, is stored."""
    wanted = asked.named("object")
    with _opened(path) as checkpoint:
        if wanted is None:
            return Told(_described(checkpoint))
        slot = re.match(
            r"\(root\)\.(?P<optimizer>[\w.]+)'s state '(?P<slot>\w+)' for \(root\)\.(?P<variable>\S+)", wanted
        )
        name = (slot["variable"] if slot else wanted).removeprefix("(root)").strip(".").replace(".", "/")
        stored = [key for key in checkpoint.tensors if name and key.startswith(f"{name}/")]
        if slot:
            stored = [key for key in stored if key.split("/.OPTIMIZER_SLOT/", 1)[-1].split("/")[1:2] == [slot["slot"]]]
        if stored:
            return Told(f"{checkpoint.prefix} stores it as {_some(stored)}")
        return Told(
            f"{checkpoint.prefix} stores nothing by the path {name or '(root)'}; {len(checkpoint.tensors)} tensors"
        )


def shape(asked: Asked, path: str) -> Told:
    """Which tensors have the shapes that the message names, or its name."""
    wanted = asked.named("key")
    with _opened(path) as checkpoint:
        tensors = checkpoint.tensors
        said = []
        if wanted is not None and wanted in tensors:
            said.append(f"{wanted} is stored with shape {list(tensors[wanted].shape)}")
        for extent in _shapes(asked):
            names = [name for name, info in tensors.items() if info.shape == extent]
            said.append(f"shape {list(extent)}: {_some(names) if names else 'no tensor'}")
        if not said:
            largest = sorted(tensors.values(), key=lambda info: -info.nbytes)[:_MOST]
            listed = ", ".join(f"{info.name} {list(info.shape)}" for info in largest)
            return Told(f"the largest tensors of {checkpoint.prefix}: {listed or 'none'}")
        return Told(f"in {checkpoint.prefix}, {'; '.join(said)}")


def dtype(asked: Asked, path: str) -> Told:
    """The types that are stored."""
    wanted = asked.named("key")
    with _opened(path) as checkpoint:
        if wanted is not None and wanted in checkpoint.tensors:
            return Told(f"{checkpoint.prefix} stores {wanted} as {checkpoint.tensors[wanted].dtype}")
        counts: dict[str, int] = {}
        for info in checkpoint.tensors.values():
            counts[info.dtype] = counts.get(info.dtype, 0) + 1
        listed = ", ".join(f"{number} of {name}" for name, number in sorted(counts.items(), key=lambda item: -item[1]))
        return Told(f"the tensors of {checkpoint.prefix} by type: {listed or 'none'}")


def layers(asked: Asked, path: str) -> Told:  # noqa: ARG001
    """The layers by the names of their variables; whether the file was written on Windows."""
    with _opened(path) as checkpoint:
        other = [name for name in checkpoint.tensors if with_slashes(checkpoint, name) != name]
        if other:
            said = f"written on Windows by Keras 2.12 to 2.14, which put \\ into the names of groups ({other[0]})"
            fix = f"ckpt export {shlex.quote(path)} fixed.weights.h5"
            return Told(f"{said}: no Keras finds them, export writes them with /", fix)
        names = dict.fromkeys(neutral(name).rpartition("/")[0] for name in checkpoint.tensors)
        names.pop("", None)
        listed = f" under {_counted(len(names))}: {_some(list(names))}" if names else ""
        return Told(f"{checkpoint.prefix} holds {len(checkpoint.tensors)} tensors{listed}")


def group(asked: Asked, path: str) -> Told:
    """Whether an HDF5 file has an object of this name, anywhere."""
    wanted = asked.named("key")
    with _opened(path) as checkpoint:
        if wanted is None:
            return Told(_described(checkpoint))
        parts = wanted.strip("/").split("/")
        holding = [name for name in checkpoint.tensors if _contains(name.split("/"), parts)]
        if holding:
            return Told(f"{checkpoint.prefix} has {wanted}, but elsewhere: {_some(holding)}")
        names = dict.fromkeys(part for name in checkpoint.tensors for part in name.split("/"))
        near = find_nearest(wanted, names).names
        tops = dict.fromkeys(name.split("/")[0] for name in checkpoint.tensors)
        hint = f"the nearest is {near[0]}" if near else f"at its top are {_some(list(tops))}"
        return Told(f"{checkpoint.prefix} ({checkpoint.format}) has no {wanted}; {hint}")


def configuration(asked: Asked, path: str) -> Told:  # noqa: ARG001
    """Whether a Keras file is one of weights only, as far as the places of its weights tell."""
    with _opened(path) as checkpoint:
        what = _described(checkpoint)
        if checkpoint.format == "keras-zip":
            return Told(what)
        if checkpoint.format == "keras-h5" and any(name.startswith("model_weights/") for name in checkpoint.tensors):
            return Told(f"{what}, whose weights are in model_weights, as in a file of a whole model")
        return Told(f"{what}, in which no weight is in model_weights: it looks like a file of weights only")


def _key(wanted: str, checkpoint: Checkpoint) -> Told:
    names = list(checkpoint.tensors)
    if wanted in checkpoint.tensors:
        return Told(
            f"{checkpoint.prefix} does hold {wanted}: the program read another checkpoint, or this one before it was "
            "written again"
        )
    fix = "ckpt backfill {path} --data DIR" if "best" in wanted else None
    base = base_of_slot(wanted)
    said = f"{checkpoint.prefix} holds no {wanted} among its {len(names)} tensors"
    if base in checkpoint.tensors:
        return Told(f"{said}, but {base}: it was saved without this optimizer state or average", fix)
    near = find_nearest(wanted, names)
    if not near.names:
        return Told(f"{said}, and none that is like it", fix)
    why = f" ({'; '.join(near.reasons)})" if near.reasons else ""
    which = "the nearest is" if len(near.names) == 1 else "the nearest are"
    return Told(f"{said}; {which} {', '.join(near.names)}{why}", fix)


@contextmanager
def _opened(path: str) -> Iterator[Checkpoint]:
    with open_meant(path) as checkpoint:
        yield checkpoint


def _described(checkpoint: Checkpoint) -> str:
    count = len(checkpoint.tensors)
    return f"{checkpoint.prefix} is a checkpoint ({checkpoint.format}, {count} tensor{'' if count == 1 else 's'})"


def _file_in(asked: Asked) -> str | None:
    """The last part of the path that the message names."""
    named = asked.named("path")
    name = basename(until_end(named)) if named else ""
    return name if name not in ("", ".", "..") else None


def _there(directory: str) -> Sequence[str]:
    return [*prefixes_in(directory), *files_in(directory)] if paths.is_directory(directory) else []


def _shapes(asked: Asked) -> list[tuple[int, ...]]:
    """The shapes in what was recognised and just around it, each once."""
    if asked.reading.packed:
        return []
    text = asked.reading.text[max(0, asked.match.start() - _NEAR) : asked.match.end() + _NEAR]
    found = dict.fromkeys(
        tuple(int(size) for size in match[1].split(",") if size.strip()) for match in _SHAPE.finditer(text)
    )
    return list(found)[:_MOST]


def _contains(whole: Sequence[str], part: Sequence[str]) -> bool:
    return any(list(whole[n : n + len(part)]) == list(part) for n in range(len(whole) - len(part) + 1))


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more


def _counted(number: int) -> str:
    return "1 name of a layer" if number == 1 else f"{number} names of layers"
