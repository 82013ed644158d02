"""Is a checkpoint whole? Every rule of its format, every checksum of every byte, in one pass over the files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ckpt_tools.analysis.sampling import Selection
from ckpt_tools.analysis.stability import steady
from ckpt_tools.errors import CorruptError
from ckpt_tools.findings import Finding
from ckpt_tools.readers import Checkpoint
from ckpt_tools.readers.common import damage
from ckpt_tools.readers.opening import open_located
from ckpt_tools.runs.experiments import find

if TYPE_CHECKING:
    from ckpt_tools.analysis.diagnosis import Diagnosis

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Verification:
    """The answer of ``ckpt verify``.

    ``format`` is None when the file is too damaged to be opened. ``tensors_checked`` and ``bytes_checked`` count
    what was read; with ``quick`` the former counts tensors whose place was checked, and no data is read. ``part`` says
    which part was to be read (``5%``, ``3/20``), ``chosen`` which tensors that were: then whole means that nothing
    damaged was seen.
    """

    path: str
    prefix: str
    format: str | None
    quick: bool
    part: str | None = None
    tensors: int = 0
    bytes: int = 0
    tensors_checked: int = 0
    bytes_checked: int = 0
    chosen: tuple[str, ...] | None = None
    diagnosis: Diagnosis | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def damaged(self) -> list[str]:
        """The names of the damaged tensors, each once."""
        return list(dict.fromkeys(f.key for f in self.findings if f.severity == "damage" and f.key is not None))

    @property
    def whole(self) -> bool:
        return not any(finding.severity == "damage" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {
            "prefix": self.prefix,
            "format": self.format,
            "quick": self.quick,
            "part": self.part,
            "chosen": None if self.chosen is None else list(self.chosen),
            "whole": self.whole,
            "tensors": self.tensors,
            "tensors_checked": self.tensors_checked,
            "bytes": self.bytes,
            "bytes_checked": self.bytes_checked,
            "damaged": self.damaged,
            "diagnosis": self.diagnosis.to_json() if self.diagnosis else None,
            "findings": [finding.to_json() for finding in self.findings],
        }


@steady
def verify(
    path: str | os.PathLike[str],
    *,
    quick: bool = False,
    part: Selection | None = None,
    progress: OnProgress | None = None,
) -> Verification:
    """Check a checkpoint. Damage is in the answer, never raised.

    Args:
        path: whatever `readers.locate` takes, or an experiment.
        quick: check the index and that all data is there; read no data. Finds files that were cut off.
        part: read these tensors alone (see `analysis.sampling`), and the index and all sizes of files.
        progress: told the bytes read and the bytes there are, often.

    Raises: NotFoundError when there is no checkpoint, UnsafeError, UnsupportedError, StorageError, BusyError.
    """
    located = find(path)
    where = located.path
    try:
        checkpoint = open_located(located)
    except CorruptError as error:
        from ckpt_tools.analysis.diagnosis import torn_index

        said = None if part is None else str(part)
        found = Verification(os.fspath(path), where, None, quick, said, findings=(damage(error),))
        return replace(found, diagnosis=torn_index(where))
    with checkpoint:
        total = sum(info.nbytes for info in checkpoint.tensors.values())
        found = Verification(
            os.fspath(path),
            checkpoint.prefix,
            checkpoint.format,
            quick,
            None if part is None else str(part),
            len(checkpoint.tensors),
            total,
        )
        findings = dict.fromkeys(checkpoint.outline())
        if quick:
            lost = {finding.key for finding in findings if finding.severity == "damage"}
            return replace(
                found,
                tensors_checked=sum(name not in lost for name in checkpoint.tensors),
                diagnosis=_cause(checkpoint, (), findings),
                findings=tuple(findings),
            )
        checked: set[str] = set()
        done = 0
        chosen = None if part is None else part.choose(checkpoint.tensors)
        if chosen is not None:
            total = sum(checkpoint.tensors[name].nbytes for name in chosen)
            if checkpoint.format.startswith("keras"):
                findings[_nothing_to_compare(checkpoint)] = None
        for nbytes, tensor, finding in checkpoint.examine() if chosen is None else checkpoint.examine_some(chosen):
            done += nbytes
            if tensor is not None and tensor in checkpoint.tensors:
                checked.add(tensor)
            if finding is not None:
                findings[finding] = None
            if progress is not None and nbytes:
                progress(done, total)
        bad = {finding.key: None for finding in findings if finding.severity == "damage" and finding.key}
        return replace(
            found,
            tensors_checked=len(checked),
            chosen=None if chosen is None else tuple(chosen),
            bytes_checked=done,
            diagnosis=_cause(checkpoint, tuple(bad), findings),
            findings=tuple(_grouped(checkpoint, findings)),
        )


def _nothing_to_compare(checkpoint: Checkpoint) -> Finding:
    message = "Keras keeps no checksums of single tensors: those that were chosen could be read, and that is all"
    return Finding("no-checksums", "note", message, checkpoint.prefix)


def _cause(checkpoint: Checkpoint, damaged: tuple[str, ...], findings: Iterable[Finding]) -> Diagnosis | None:
    """Why it is damaged; None when it is not."""
    if not any(finding.severity == "damage" for finding in findings):
        return None
    from ckpt_tools.analysis.diagnosis import diagnose  # what is whole does not wait for it

    return diagnose(checkpoint, damaged, findings)


def _grouped(checkpoint: Checkpoint, findings: dict[Finding, None]) -> Iterator[Finding]:
    """All findings; of a file that is missing or cut off, the file's own comes first."""
    yield from sorted(findings, key=lambda finding: (finding.key is not None, finding.key not in checkpoint.tensors))
