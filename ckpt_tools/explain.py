"""The causes behind what TensorFlow, Keras and HDF5 say when a checkpoint cannot be used.

Their messages tell what failed, seldom why: a wrong path is called a bad magic number, a missing data file an altered
graph. Each entry below names the usual cause; given the checkpoint, the cause is looked for in it.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ckpt_tools.errors import CkptError, NotFoundError
from ckpt_tools.experiments import resolve
from ckpt_tools.findings import Finding
from ckpt_tools.naming import by_canonical_name, with_slashes
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.readers.common import damage
from ckpt_tools.verify import verify

_VERIFY, _INSPECT = "ckpt verify {path}", "ckpt inspect {path}"


@dataclass(frozen=True)
class Explanation:
    """``cause`` in a sentence; ``fix`` is the command to run; ``checked`` what the checkpoint itself said, if asked."""

    id: str
    cause: str
    fix: str
    checked: str | None = None
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "cause": self.cause,
            "fix": self.fix,
            "checked": self.checked,
            "findings": [finding.to_json() for finding in self.findings],
        }


# Given the match and the path: what the checkpoint says, and a better fix (None: the usual one).
Check = Callable[[re.Match[str], str], tuple[str, str | None]]


@dataclass(frozen=True)
class _Known:
    id: str
    pattern: str
    cause: str
    fix: str
    check: Check | None = None


def explain(message: str, path: str | os.PathLike[str] | None = None) -> Explanation:
    """The cause of an error message, checked against the checkpoint at ``path`` when it is given.

    Raises NotFoundError when the message is none that is known.
    """
    text = " ".join(message.split())
    where = None if path is None else os.fspath(path)
    for known in _KNOWN:
        match = re.search(known.pattern, text, re.IGNORECASE)
        if match is None:
            continue
        checked: str | None = None
        findings: tuple[Finding, ...] = ()
        fix = known.fix
        if where is not None and known.check is not None:
            try:
                checked, better = known.check(match, where)
                fix = better or fix
            except CkptError as error:
                checked, findings = str(error), (damage(error),)
                fix = error.hint or fix
        return Explanation(known.id, known.cause, fix.format(path=shlex.quote(where or "PATH")), checked, findings)
    raise NotFoundError(
        "this message is not one that is known",
        hint=f"see whether the file is whole: ckpt verify {shlex.quote(where or 'PATH')}",
    )


def _whole(match: re.Match[str], path: str) -> tuple[str, str | None]:  # noqa: ARG001 (one signature for all checks)
    found = verify(path)
    if found.whole:
        return f"{found.prefix} is whole: {found.tensors_checked} tensors, every checksum matches", None
    if found.diagnosis is not None:
        return found.diagnosis.sentence, found.diagnosis.fix
    return found.findings[0].message, found.findings[0].fix


def _opens(match: re.Match[str], path: str) -> tuple[str, str | None]:  # noqa: ARG001
    with open_checkpoint(resolve(path)) as checkpoint:
        said = f"{checkpoint.prefix} is a checkpoint ({checkpoint.format}, {len(checkpoint.tensors)} tensors)"
        return f"{said}: pass exactly this name", f"ckpt inspect {shlex.quote(checkpoint.prefix)}"


def _key(match: re.Match[str], path: str) -> tuple[str, str | None]:
    wanted = match["key"].strip("'\"")
    with open_checkpoint(resolve(path)) as checkpoint:
        names = list(checkpoint.tensors)
        if wanted in names:
            return f"{checkpoint.prefix} does hold {wanted}: the program reads another checkpoint", None
        canonical = by_canonical_name(checkpoint)
        alike = get_close_matches(wanted, [*names, *canonical], n=1, cutoff=0.6)
        hint = f"; the nearest is {alike[0]}" if alike else ""
        fix = "ckpt backfill {path} --data DIR" if "best" in wanted and canonical else None
        return f"{checkpoint.prefix} holds no {wanted} among its {len(names)} tensors{hint}", fix


def _shape(match: re.Match[str], path: str) -> tuple[str, str | None]:  # noqa: ARG001
    with open_checkpoint(resolve(path)) as checkpoint:
        tables = sorted(checkpoint.tensors.values(), key=lambda info: -info.nbytes)[:3]
        listed = ", ".join(f"{info.name} {list(info.shape)}" for info in tables)
        return f"the largest tensors of {checkpoint.prefix}: {listed}", None


def _layers(match: re.Match[str], path: str) -> tuple[str, str | None]:
    with open_checkpoint(resolve(path)) as checkpoint:
        other = [name for name in checkpoint.tensors if with_slashes(checkpoint, name) != name]
        if other:
            said = f"written on Windows by Keras 2.12 to 2.14, which put \\ into the names of groups ({other[0]})"
            return f"{said}: no Keras finds them, export writes them with /", "ckpt export {path} fixed.weights.h5"
    return _shape(match, path)


_KNOWN = (
    _Known(
        "object-graph-missing",
        r"_CHECKPOINTABLE_OBJECT_GRAPH.{0,20}not found",
        "the checkpoint is one of names (TensorFlow 1), and the names that the program wants are not all in it; "
        "this message hides the first one, further up, that says which",
        _INSPECT,
        _opens,
    ),
    _Known(
        "missing-data",
        r"\.data-\d{5}-of-\d{5}.{0,40}No such file",
        "a data file is not where the index is: it was not copied, or only the .index was downloaded",
        _VERIFY,
        _whole,
    ),
    _Known(
        "key-missing",
        r"Key (?P<key>\S+) not found in checkpoint",
        "the program has a variable that the checkpoint does not: it was added or renamed later, or this is the "
        "checkpoint of another model",
        _INSPECT,
        _key,
    ),
    _Known(
        "wrong-file",
        r"not an sstable|bad magic number",
        "nearly always a wrong path, seldom damage: the .data file, the 'checkpoint' file, an archive or a Git LFS "
        "pointer was given where the prefix is wanted",
        _INSPECT,
        _opens,
    ),
    _Known(
        "index-cut-off",
        r"too short to be an sstable",
        "the .index is empty or cut off: the program was killed while it saved, or the download stopped",
        _VERIFY,
        _whole,
    ),
    _Known(
        "checksum",
        r"checksum does not match|crc(32c?)? (mismatch|check failed)|corrupted record",
        "the bytes are not those that were written: bit rot, a file cut off, or index and data of two different saves",
        _VERIFY,
        _whole,
    ),
    _Known(
        "data-cut-off",
        r"Read (less|fewer) bytes than requested|OutOfRange.*(EOF|end of file)",
        "a data file is shorter than its index says: it was cut off",
        _VERIFY,
        _whole,
    ),
    _Known(
        "not-hdf5",
        r"file signature not found",
        "the file is no HDF5, whatever its name says: often a Git LFS pointer, a web page, or a TensorFlow checkpoint",
        _INSPECT,
        _opens,
    ),
    _Known(
        "hdf5-cut-off",
        r"truncated file: eof",
        "the HDF5 file was cut off: the program was killed while it saved, or the download stopped",
        _VERIFY,
        _whole,
    ),
    _Known(
        "hdf5-locked",
        r"unable to lock file",
        "another program has the HDF5 file open, or the file system has no locks",
        _VERIFY,
        _whole,
    ),
    _Known(
        "hdf5-damaged",
        r"bad object header|bad heap|wrong b-tree signature|unable to (read superblock|load object)|address overflowed",
        "the inside of the HDF5 file is damaged",
        _VERIFY,
        _whole,
    ),
    _Known(
        "pickle",
        r"invalid load key|UnpicklingError|allow_pickle=False",
        "the file was opened as a pickle and is none, or is one and must not be opened",
        _INSPECT,
        _opens,
    ),
    _Known(
        "no-match",
        r"Failed to (find any|get) matching files|Couldn't match files for checkpoint|TensorSliceReader constructor"
        r"|not a valid checkpoint|load save_path when it is None|Couldn't find 'checkpoint' file",
        "no checkpoint has this name: the directory was moved and its 'checkpoint' file still holds the old absolute "
        "path, the prefix is misspelt, or the .index is missing",
        _INSPECT,
        _opens,
    ),
    _Known(
        "shape",
        r"shapes? of both tensors to match|is not compatible with supplied shape|[Ss]hape mismatch"
        r"|Shapes .* (are )?incompatible|expects? shape|cannot assign value to variable",
        "the model was built with other sizes than the one that was saved: another number of items, embedding size or "
        "length of history",
        _INSPECT,
        _shape,
    ),
    _Known(
        "type",
        r"Expected to restore a tensor of type|dtype mismatch|expected dtype",
        "the variable has another type than the one that was saved (mixed precision, or float64)",
        _INSPECT,
        _opens,
    ),
    _Known(
        "altered-graph",
        r"mismatch between the current graph|Variable name or other graph key that is missing",
        "TensorFlow says this whenever a restore fails; the cause is in the lines above it: a missing variable, a "
        "missing data file or another shape",
        _VERIFY,
        _whole,
    ),
    _Known(
        "keras3-format",
        r"Keras 3 only supports|File format not supported: filepath",
        "Keras 3 reads .keras and .h5 files, no checkpoints of TensorFlow and no SavedModels",
        "ckpt export {path} model.weights.h5",
        _opens,
    ),
    _Known(
        "legacy-optimizer",
        r"legacy Keras optimizer into a v2\.11\+|legacy optimizer",
        "the optimizer's state was saved by Keras before 2.11, which keeps it in another way",
        "ckpt migrate {path} --to trainer",
        _opens,
    ),
    _Known(
        "optimizer-skipped",
        r"Skipping variable loading for optimizer",
        "the optimizer was not built when the weights were loaded, so that its state was left out: training goes on "
        "with moments of zero",
        "ckpt resume-check {path}",
        _opens,
    ),
    _Known(
        "not-all-used",
        r"not all checkpointed values were used|Unresolved object in checkpoint|assert_consumed|"
        r"Value in checkpoint could not be found in the restored object",
        "the checkpoint holds more than the program restored: harmless for an optimizer that is not needed, else a "
        "sign that variables were restored under other names, or not at all",
        "ckpt resume-check {path}",
        _opens,
    ),
    _Known(
        "layers",
        r"weight file containing \d+ layers|Layer count mismatch|objects could not be loaded"
        r"|expected \d+ (variables|weights), but (received|the saved|it had)|axes don't match array",
        "the model does not have the layers that were saved: its code changed, or the file is of another model",
        _INSPECT,
        _layers,
    ),
    _Known(
        "best-forgotten",
        r"improved from -?inf",
        "after a resume the best value so far was not known, so that the first evaluation counts as the best, "
        "whatever it scores",
        "ckpt backfill {path} --data DIR",
        None,
    ),
    _Known(
        "never-restored",
        r"use(d)? uninitialized value|FailedPrecondition.*uninitialized",
        "nothing was restored into this variable, and it was never initialised",
        _INSPECT,
        _opens,
    ),
    _Known(
        "no-space",
        r"No space left on device|Disk quota exceeded",
        "the disk was full while a checkpoint was saved: the newest one is not complete",
        _VERIFY,
        _whole,
    ),
    _Known(
        "data-loss",
        r"DataLossError|Data loss|Unable to open table file",
        "the checkpoint cannot be read as what it was taken for: a wrong file, or damage",
        _VERIFY,
        _whole,
    ),
)


def known_ids() -> list[str]:
    """The ids of all causes, in the order in which they are tried."""
    return [known.id for known in _KNOWN]
